"""`mini exec`: one more process in a running container, with a monitor of its own for its streams.

The same monitor loop as a container's, without log and socket: the command goes on when its client dies, as Docker's does.
"""

from __future__ import annotations

import os

from engine import events, host
from engine.containers import bundle, config, lifecycle, records
from engine.containers.options import ExecOptions
from engine.containers.terminal import Session, Streams, check_terminal, wait_started
from engine.containers.views import refresh
from engine.errors import Conflict, RuntimeFault, UsageError
from engine.runtime import attach
from engine.runtime.monitor import Monitor, Stdio, fork_monitor
from engine.runtime.process import exec as execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.oci.runtime import Process
    from engine.runtime.process.launch import InitProcess


def exec_(ctx: Context, name: str, command: list[str], options: ExecOptions, streams: Streams) -> int | None:
    """Exit code of the command, None with `detach`. Conflict where the container does not run."""
    host.require_container_host()
    record = records.find(ctx.paths, name)
    state = refresh(ctx, record)
    if state["Paused"]:
        raise Conflict(f"Container {name} is paused, unpause the container before exec")
    if state["Restarting"]:
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    if not state["Running"]:
        raise Conflict(f"Container {record.id} is not running", f"mini start {record.name} starts it")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(f"the working directory '{options.workdir}' is invalid, it needs to be an absolute path")
    attached = not options.detach
    if attached:
        check_terminal(streams, options.interactive, options.tty)
    told = _Told(record, command)
    try:
        size = streams.size() if options.tty and attached else None
        process = _process(ctx, record, state, command, options, size)
        told.event("exec_create")
        fd = fork_monitor(
            lambda client: _supervise(ctx, record, state, process, options, client, told),
            f"{record.directory}/monitor.log",
        )
        wait_started(fd)
    except (UsageError, RuntimeFault) as e:
        # Docker's code for a command that the container cannot run as asked: unknown user, no such directory
        e.exit_code = e.exit_code or 126
        raise
    if not attached:
        os.close(fd)
        return None
    keys = options.detach_keys
    code = Session(fd, streams, tty=options.tty, stdin=options.interactive, sig_proxy=False, detach_keys=keys).relay()
    if code is None:
        told.event("exec_detach")
    return code


class _Told:
    """One exec in the event log: Docker gives it an ID of its own, and its command line in the action."""

    def __init__(self, record: Record, command: list[str]) -> None:
        self._record = record
        self._command = f"{command[0]} {' '.join(command[1:])}"
        self._id = os.urandom(32).hex()

    def event(self, action: str) -> None:
        shown = f"{action}: {self._command}" if action in ("exec_create", "exec_start") else action
        events.container(self._record, shown, execID=self._id)

    def died(self, code: int) -> None:
        self._record.reload()
        events.container(self._record, "exec_die", execID=self._id, exitCode=str(code))


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
    settings["Env"] = config.merge_env(
        settings["Env"] or (), config.environment(options.env, options.env_files, ctx.environ)
    )
    limits = inspect["HostConfig"]
    if options.privileged:
        limits = limits | {"Privileged": True}
    root = os.open(f"/proc/{state['Pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = options.user if options.user is not None else settings["User"]
        who = lifecycle.find_user(root, user, limits["GroupAdd"] or () if options.user is None else ())
    finally:
        os.close(root)
    return bundle.process(settings, limits, who, command, bundle.environment(settings, who.home), size)


def spawn_inside(
    ctx: Context, record: Record, state: dict[str, Any], argv: list[str], stdio: tuple[int, int, int]
) -> InitProcess:
    """A process in a running container, ready to start, with the container's own user, environment and limits."""
    process = _process(ctx, record, state, argv, ExecOptions(), None)
    return _spawn(ctx, record, state, process, stdio, privileged=False)


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
    cgroup = lifecycle.cgroup_of(ctx, record.id)
    return execs.spawn(state["Pid"], process, stdio=stdio, cgroup=cgroup, seccomp=program)


def _supervise(
    ctx: Context,
    record: Record,
    state: dict[str, Any],
    process: Process,
    options: ExecOptions,
    client: int,
    told: _Told,
) -> None:
    """The work of the exec's monitor process. Raises why the command did not start."""
    stdio = Stdio(options.tty, options.interactive)
    child = _spawn(ctx, record, state, process, stdio.inner, options.privileged)
    stdio.close_inner()
    child.start()
    told.event("exec_start")
    attach.send_all(client, attach.json_frame(attach.STARTED, {"Pid": child.pid}))
    monitor = Monitor(child, stdio, None, None, stdin_once=True)
    monitor.add_client(client, options.interactive, True)
    code = lifecycle.exit_code(monitor.run())
    told.died(code)
    monitor.finish(attach.frame(attach.EXIT, str(code).encode()))
