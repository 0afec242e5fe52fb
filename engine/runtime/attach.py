"""The wire between a monitor and its clients: attach.sock for those of the container's streams, exec.sock for further commands.

    client                                monitor
      │── HELLO stdin, output ───────────────▶│   two bytes, 1 for what is wanted; from who connects to attach.sock
      │◀───────────── STEP text … ────────────│   with --debug: what is done to start the container
      │◀───────────── STARTED {"Id": …} ──────│   or ERROR {kind, message, hint, …}: the container did not start
      │◀───────── STDOUT / STDERR bytes ──────│   in the order the container wrote them
      │── STDIN bytes … STDIN_EOF ───────────▶│
      │── RESIZE rows, columns ──────────────▶│   terminal only
      │── SIGNAL number ─────────────────────▶│   for the container's PID 1
      │── FOLLOW ────────────────────────────▶│   the container's config or networks have changed
      │◀────────────────────────── FOLLOWED ──│   and the monitor has carried it out, or ERROR
      │◀───────────── EXIT {"code": 0} ───────│   after the last byte of output, and after clean-up

    client                                monitor's child, forked for whoever connects to exec.sock
      │── EXEC {"command": […], …} ──────────▶│   what it holds: containers/execution.py
      │◀── STARTED {"Pid": …, "ID": …} ───────│   or ERROR; from here on as above, with the command in init's place

A frame is one byte of type, four of length (big endian), then the payload. A stream socket; either side may vanish at any time.
"""

from __future__ import annotations

import _socket  # socket adds 3 ms of imports (enum, selectors) to every run, for names that are not needed here
import os
import struct

from engine import errors, lean
from engine.errors import MiniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HELLO, STDIN, STDIN_EOF, RESIZE, SIGNAL, EXEC, FOLLOW = 1, 2, 3, 4, 5, 6, 7
STARTED, ERROR, STDOUT, STDERR, EXIT, STEP, FOLLOWED = 16, 17, 18, 19, 20, 21, 22

HEADER = struct.Struct("!BI")
CHUNK = 65536
MAX_PAYLOAD = 1 << 20
# of an EXEC or an answer: a command line has up to 2 MiB (execve(2)), JSON writes a byte of it in up to six
MAX_DOCUMENT = 1 << 24

ATTACH_SOCKET, EXEC_SOCKET = "attach.sock", "exec.sock"


def frame(kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


def json_frame(kind: int, value: Any) -> bytes:
    return frame(kind, lean.dumps(value))


def resize_frame(rows: int, columns: int) -> bytes:
    return frame(RESIZE, struct.pack("!HH", rows, columns))


def take_frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Takes every complete frame out of `buffer`. Raises ValueError on a length that no peer of ours sends."""
    while len(buffer) >= HEADER.size:
        kind, length = HEADER.unpack_from(buffer)
        if length > MAX_PAYLOAD:
            raise ValueError(f"a frame of {length} bytes")
        end = HEADER.size + length
        if len(buffer) < end:
            return
        payload = bytes(buffer[HEADER.size : end])
        del buffer[:end]
        yield kind, payload


def read_frame(fd: int) -> tuple[int, bytes] | None:
    """One frame of a blocking descriptor, and nothing of what follows it; None at the end of file."""
    header = _read_exactly(fd, HEADER.size)
    if header is None:
        return None
    kind, length = HEADER.unpack(header)
    if length > MAX_DOCUMENT:
        raise ValueError(f"a frame of {length} bytes")
    payload = _read_exactly(fd, length)
    return None if payload is None else (kind, payload)


def _read_exactly(fd: int, length: int) -> bytes | None:
    data = b""
    while len(data) < length:
        more = os.read(fd, length - len(data))
        if not more:
            return None
        data += more
    return data


def send_all(fd: int, data: bytes) -> None:
    """Writes all of it to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def tell(fd: int, data: bytes) -> None:
    """`send_all`, where it does not matter whether the client is still there."""
    try:
        send_all(fd, data)
    except OSError:
        return


def error_payload(error: MiniError) -> dict[str, Any]:
    """An error as data that crosses a process boundary without losing what it is."""
    value: dict[str, Any] = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, errors.RuntimeFault):
        value |= {"step": error.step, "errno": error.errno, "path": error.path}
    return value


def error_from_payload(value: dict[str, Any]) -> MiniError:
    kind: Any = getattr(errors, value["kind"], MiniError)
    arguments = [value["message"], value["hint"]]
    if issubclass(kind, errors.RuntimeFault):
        arguments = [value["step"], value["message"], value["errno"], value["path"], value["hint"]]
    error: MiniError = kind(*arguments)
    return error


def listen(directory: str, name: str = ATTACH_SOCKET) -> _socket.socket:
    """A socket in `directory`, mode 0600. Bound through a descriptor: sun_path holds 107 bytes, a data root may be longer."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        mask = os.umask(0o177)
        try:
            listener.bind(f"/proc/self/fd/{handle}/{name}")
        finally:
            os.umask(mask)
        listener.listen(64)
        listener.setblocking(False)
        return listener
    finally:
        os.close(handle)


def connect(directory: str, name: str = ATTACH_SOCKET) -> _socket.socket:
    """Connects to the monitor that serves `directory`. OSError where none does."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        client.connect(f"/proc/self/fd/{handle}/{name}")
        return client
    finally:
        os.close(handle)
