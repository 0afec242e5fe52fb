"""`mini exec`, the client's half: it asks the container's monitor, whose child does the work (execsession.py), and relays.

The client enters nothing of the container's and looks at nothing in it. So it imports little, and need not execute itself again
from a protected interpreter, as who makes or joins a container must (process/protect.py): the monitor's is.
docs/decisions/0012 has the measurement.
"""

from __future__ import annotations

import os

from engine import host
from engine.containers import records
from engine.errors import Conflict, MiniError, RuntimeFault, UsageError
from engine.runtime import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.options import ExecOptions
    from engine.containers.records import Record
    from engine.containers.terminal import Streams
    from engine.context import Context


def exec_(
    ctx: Context, name: str, command: list[str], options: ExecOptions, streams: Streams | None = None
) -> int | None:
    """Exit code of the command, None with `detach`. Conflict where the container does not run."""
    host.require_container_host()
    environment = _environment(ctx, options)
    record = records.find(ctx.paths, name)
    try:
        fd = attach.connect(ctx.paths.container_run(record.id), attach.EXEC_SOCKET).detach()
        # imported while the monitor forks
        from engine.containers import terminal

        streams = streams or terminal.Streams()
        if not options.detach:
            terminal.check_terminal(streams, options.interactive, options.tty)
        if options.workdir and not options.workdir.startswith("/"):
            raise UsageError(f"the working directory '{options.workdir}' is invalid, it needs to be an absolute path")
        request = {
            "container": name,
            "command": command,
            "size": streams.size() if options.tty and not options.detach else None,
            "options": {
                "interactive": options.interactive,
                "tty": options.tty,
                "env": environment,
                "user": options.user,
                "workdir": options.workdir,
                "privileged": options.privileged,
            },
        }
        _ask(fd, request)
        started = terminal.wait_started(fd)
    except OSError as e:
        # no socket, nobody who listens, or its end before it had accepted us
        raise _unserved(ctx, record, name) from e
    except (UsageError, RuntimeFault) as e:
        # Docker's codes for a command that the container cannot run as asked: unknown user, no such directory
        e.exit_code = 1 if options.detach else e.exit_code or 126
        raise
    if options.detach:
        os.close(fd)
        return None
    session = terminal.Session(
        fd, streams, tty=options.tty, stdin=options.interactive, sig_proxy=False, detach_keys=options.detach_keys
    )
    code = session.relay()
    if code is None:
        from engine import events

        events.container(record, "exec_detach", execID=started["ID"])
    return code


def _ask(fd: int, request: dict[str, Any]) -> None:
    """Raises OSError where the monitor is gone, or its error where it refuses whoever comes: one that cannot fork."""
    try:
        attach.send_all(fd, attach.json_frame(attach.EXEC, request))
    except OSError:
        answer = attach.read_frame(fd)
        if answer and answer[0] == attach.ERROR:
            from engine import lean

            raise attach.error_from_payload(lean.loads(answer[1])) from None
        raise


def _environment(ctx: Context, options: ExecOptions) -> list[str]:
    """`-e NAME` and `--env-file` mean this process's environment and files, so they are looked up here."""
    if not (options.env or options.env_files):
        return []
    from engine.containers import config

    return config.environment(options.env, options.env_files, ctx.environ)


def _unserved(ctx: Context, record: Record, name: str) -> MiniError:
    """Why a container's monitor does not serve us."""
    from engine.containers.views import refresh

    state = refresh(ctx, record)
    if not records.is_alive(state, "Pid"):
        # it is ending at this moment
        state["Running"] = False
    refuse(record, name, state)
    return MiniError(
        f"the monitor of container {record.id} serves no exec: another version of mini started it",
        f"mini restart {record.name}",
    )


def refuse(record: Record, name: str, state: dict[str, Any]) -> None:
    """Conflict, in Docker's words, where a container in this state can have no further process. `name` is the user's."""
    if state["Paused"]:
        raise Conflict(f"Container {name} is paused, unpause the container before exec")
    if state["Restarting"]:
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    if not state["Running"]:
        raise Conflict(f"Container {record.id} is not running", f"mini start {record.name} starts it")
