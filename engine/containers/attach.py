"""`mini attach`: one more client at the streams of a running container, through its monitor's socket.

What the container wrote before is in its log; a client gets what is written from now on, as in Docker.
"""

from __future__ import annotations

from engine import events
from engine.containers import records
from engine.containers.terminal import DETACH_KEYS, Session, Streams, check_terminal
from engine.containers.views import refresh
from engine.errors import Conflict, Interrupted, MiniError
from engine.runtime import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.containers.records import Record
    from engine.context import Context

_STATES = {
    "paused": "You cannot attach to a paused container, unpause it first",
    "restarting": "You cannot attach to a restarting container, wait until it is running",
}


def attach_to(
    ctx: Context,
    name: str,
    stdin: bool = True,
    sig_proxy: bool = True,
    detach_keys: bytes = DETACH_KEYS,
    streams: Streams | None = None,
) -> int | None:
    """Until the container ends: its exit code; None where the user detached. Conflict where it does not run."""
    record = records.find(ctx.paths, name)
    state = refresh(ctx, record)
    if state["Status"] != "running":
        raise Conflict(_STATES.get(state["Status"], "You cannot attach to a stopped container, start it first"))
    settings = record.config["Config"]
    streams = streams or Streams()
    tty = settings["Tty"]
    check_terminal(streams, stdin, tty)
    fd = _connect(ctx, record)
    stdin = stdin and settings["OpenStdin"]
    attach.send_all(fd, attach.frame(attach.HELLO, bytes([stdin, True])))
    if tty and (size := streams.size()):
        # another size first, so that a program that draws the whole screen does so for who has just come
        attach.send_all(fd, attach.resize_frame(size[0] + 1, size[1] + 1) + attach.resize_frame(*size))
    events.container(record, "attach")
    session = Session(
        fd,
        streams,
        tty=tty,
        stdin=stdin,
        sig_proxy=sig_proxy and not tty,
        detach_keys=detach_keys,
        signalled=lambda number: events.container(record, "kill", signal=str(number)),
    )
    try:
        code = session.relay()
    except Interrupted:
        raise
    except MiniError:
        # it ended before its monitor had accepted the connection
        from engine.containers.usecases import last_exit_code

        return last_exit_code(ctx, record)
    if code is None:
        events.container(record, "detach")
    return code


def _connect(ctx: Context, record: Record) -> int:
    try:
        return attach.connect(ctx.paths.container_run(record.id)).detach()
    except OSError:
        raise Conflict("You cannot attach to a stopped container, start it first") from None
