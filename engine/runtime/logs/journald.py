"""The `journald` driver: a datagram a line to systemd's journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

    MESSAGE=text\\n  PRIORITY=6\\n  CONTAINER_ID_FULL=…\\n …       a value without a line feed
    NAME\\n  length, 8 bytes, little-endian  value\\n             any value

What is too big for a datagram goes as a sealed memfd, passed in an empty one. The fields are those of Docker (moby,
daemon/logger/journald/journald.go).
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import time

from engine.runtime.logs.writer import Partials
from engine.times import timestamp

SOCKET = "/run/systemd/journal/socket"
_PRIORITY = {"stdout": "6", "stderr": "3"}  # LOG_INFO, LOG_ERR
# linux/fcntl.h: F_ADD_SEALS, and SEAL | SHRINK | GROW | WRITE
_F_ADD_SEALS, _SEALS = 1033, 1 | 2 | 4 | 8


class Journal:
    """Sends each line with `fields`, and of a part of a line whose it is. Lines that nobody takes are lost."""

    def __init__(self, fields: dict[str, str], address: str = SOCKET) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self._address = address
        self._partials = Partials()
        # with the ordinal, a reader can tell whether it has all that one life of the container has said
        epoch = {"CONTAINER_LOG_EPOCH": os.urandom(32).hex()}
        self._fields = b"".join(_field(name, value.encode()) for name, value in (fields | epoch).items())
        self._ordinal = 0

    def append(self, piece: bytes, stream: str) -> None:
        """Sends a piece of output (logs.cut), line by line; waits where the journal does not keep up."""
        for line, moment, partial in self._partials.lines(piece, stream, time.time_ns()):
            self._ordinal += 1
            own = {
                "PRIORITY": _PRIORITY[stream],
                "SYSLOG_TIMESTAMP": timestamp(moment),
                "CONTAINER_LOG_ORDINAL": str(self._ordinal),
            }
            if partial:
                identity, ordinal, last = partial
                own |= {"CONTAINER_PARTIAL_ID": identity, "CONTAINER_PARTIAL_ORDINAL": str(ordinal)}
                own |= {"CONTAINER_PARTIAL_LAST": "true"} if last else {
                    "CONTAINER_PARTIAL_LAST": "false", "CONTAINER_PARTIAL_MESSAGE": "true",
                }  # fmt: skip
            self._send(_field("MESSAGE", line) + b"".join(_field(n, v.encode()) for n, v in own.items()) + self._fields)

    def close(self) -> None:
        self._socket.close()

    def _send(self, entry: bytes) -> None:
        try:
            # by the address, not connected: a journal that was started again is found again
            self._socket.sendto(entry, self._address)
        except OSError as e:
            if e.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                self._send_memfd(entry)

    def _send_memfd(self, entry: bytes) -> None:
        import fcntl

        try:
            fd = os.memfd_create("journal-data", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return
        try:
            os.write(fd, entry)
            # the journal maps it only if nobody can change it any more
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            passed = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))]
            self._socket.sendmsg([b""], passed, 0, self._address)
        except OSError:
            return
        finally:
            os.close(fd)


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def field_name(text: str) -> str:
    """A name that the journal accepts, of an attribute's: A-Z, 0-9 and _, which it may not begin with."""
    letters = (c.upper() if "a" <= c <= "z" else c if "A" <= c <= "Z" or "0" <= c <= "9" else "_" for c in text)
    return "".join(letters).lstrip("_")
