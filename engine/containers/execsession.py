"""The monitor's half of `mini exec`: a process that the container's monitor forks for one command.

    client (execution.py)      monitor           its child, this module                    the command
      │── connect ────────────▶│── fork ──────────▶│ descriptors of the monitor closed
      │── EXEC ──────────────────────────────────▶│── joins the container ─────────────────▶│
      │◀──────────────────────────────── STARTED ─│── start ───────────────────────────────▶│ execve(2)
      │◀───────────────────── STDOUT, … and EXIT ─│◀──────────────────────────────── exit ──╯
      │                        │◀───────── exit ──╯

The same loop as a container's monitor, without log and socket: the command goes on when its client dies, as Docker's does.
"""

from __future__ import annotations

import os
import select

from engine import events, lean
from engine.containers import bundle, config, lifecycle
from engine.containers.execution import refuse
from engine.containers.options import ExecOptions
from engine.containers.views import refresh
from engine.errors import Conflict, RuntimeFault
from engine.runtime import attach
from engine.runtime.monitor import Monitor, Stdio, fork_for
from engine.runtime.process import exec as execs
from engine.runtime.process.launch import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.oci.runtime import Process
    from engine.runtime.loop import Loop
    from engine.runtime.process.launch import InitProcess


def attend(ctx: Context, record: Record, listener: _socket.socket, loop: Loop) -> None:
    """In the monitor: from now on whoever connects gets a process, in every state of the container, also between two lives."""

    def accept(_fd: int, _events: int) -> None:
        try:
            client, _ = listener._accept()  # type: ignore[attr-defined]  # typeshed has only socket's subclass
        except OSError as e:
            return loop.refused(listener.fileno(), e)
        try:
            pid = fork_for(client, lambda fd: _serve(ctx, record, fd), f"{record.directory}/exec.log")
        except OSError as e:
            text = f"cannot fork for the exec: {os.strerror(e.errno or 0).lower()}"
            error = RuntimeFault("fork", text, e.errno or 0)
            return attach.tell(client, attach.json_frame(attach.ERROR, attach.error_payload(error)))
        finally:
            os.close(client)
        # there is a free descriptor: the one just closed
        loop.watch(os.pidfd_open(pid), select.POLLIN, lambda pidfd, _: reap(pid, pidfd))

    def reap(pid: int, pidfd: int) -> None:
        loop.forget(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)

    loop.watch(listener.fileno(), select.POLLIN, accept)


def _serve(ctx: Context, record: Record, client: int) -> None:
    """From the client's EXEC to the command's EXIT. Raises why it did not start."""
    asked = attach.read_frame(client)
    if asked is None:
        return
    request = lean.loads(asked[1])
    command, options = request["command"], ExecOptions(**request["options"])
    # since the container was started, it may have been renamed or updated
    record.reload()
    state = refresh(ctx, record)
    refuse(record, request["container"], state)
    process = _process(ctx, record, state, command, options, request["size"])
    told = _Told(record, command)
    told.event("exec_create")
    stdio = Stdio(options.tty, options.interactive)
    child = _spawn(ctx, record, state, process, stdio.inner, options.privileged)
    stdio.close_inner()
    child.start()
    told.event("exec_start")
    # where the client is gone, the command goes on
    attach.tell(client, attach.json_frame(attach.STARTED, {"Pid": child.pid, "ID": told.id}))
    monitor = Monitor(child, stdio, None, None, stdin_once=True)
    monitor.add_client(client, options.interactive, True)
    code = exit_code(monitor.run())
    told.died(code)
    monitor.finish(attach.frame(attach.EXIT, str(code).encode()))


def spawn_inside(
    ctx: Context, record: Record, state: dict[str, Any], argv: list[str], stdio: tuple[int, int, int]
) -> InitProcess:
    """A process in a running container, ready to start, with the container's own user, environment and limits."""
    process = _process(ctx, record, state, argv, ExecOptions(), None)
    return _spawn(ctx, record, state, process, stdio, privileged=False)


class _Told:
    """One exec in the event log: Docker gives it an ID of its own, and its command line in the action."""

    def __init__(self, record: Record, command: list[str]) -> None:
        self._record = record
        self._command = f"{command[0]} {' '.join(command[1:])}"
        self.id = os.urandom(32).hex()

    def event(self, action: str) -> None:
        events.container(self._record, f"{action}: {self._command}", execID=self.id)

    def died(self, code: int) -> None:
        self._record.reload()
        events.container(self._record, "exec_die", execID=self.id, exitCode=str(code))


def _process(
    ctx: Context,
    record: Record,
    state: dict[str, Any],
    command: list[str],
    options: ExecOptions,
    size: tuple[int, int] | None,
) -> Process:
    """The container's own process with the options over it (moby, daemon/exec_linux.go)."""
    inspect = record.config
    settings = inspect["Config"] | {"Tty": options.tty}
    settings["WorkingDir"] = options.workdir or settings["WorkingDir"]
    settings["Env"] = config.merge_env(settings["Env"] or (), options.env)
    limits = inspect["HostConfig"]
    if options.privileged:
        limits = limits | {"Privileged": True}
    try:
        root = os.open(f"/proc/{state['Pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        # it has ended since its state was read
        raise Conflict(f"Container {record.id} is not running") from None
    try:
        user = options.user if options.user is not None else settings["User"]
        who = lifecycle.find_user(root, user, limits["GroupAdd"] or () if options.user is None else ())
    finally:
        os.close(root)
    return bundle.process(settings, limits, who, command, bundle.environment(settings, who.home), size)


def _spawn(
    ctx: Context,
    record: Record,
    state: dict[str, Any],
    process: Process,
    stdio: tuple[int, int, int] | None,
    privileged: bool,
) -> InitProcess:
    program = None
    if not privileged:
        limits = record.config["HostConfig"]
        program = lifecycle.seccomp_filter(ctx, limits, process["capabilities"]["bounding"])
    cgroup = lifecycle.cgroup_of(ctx, record)
    return execs.spawn(state["Pid"], process, stdio=stdio, cgroup=cgroup, seccomp=program)
