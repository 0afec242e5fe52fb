"""`mode=non-blocking`: what keeps the log may be slow, or hang, and the container's output does not wait for it.

    monitor ──(a packet a piece, never waits)──▶ socket of max-buffer-size ──▶ child process ──▶ driver

The kernel's buffer between the two is the ring that Docker has in memory: where it is full, the newest output is lost.
"""

from __future__ import annotations

import _socket
import os

from engine.runtime.subprocesses import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.logs.writer import Driver

# linux/socket.h: as SO_SNDBUF, but beyond net.core.wmem_max
_SO_SNDBUFFORCE = 32
# one packet at least goes through, however small the buffer: a piece, and what the kernel adds
_SMALLEST = 40960
_PACKET = 1 << 17
_STREAMS = ("stdout", "stderr")


class Buffer:
    """A driver that hands on to another one, which `open_driver` opens in the child."""

    def __init__(self, open_driver: Callable[[], Driver], size: int) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        wanted = max(size, _SMALLEST)
        try:
            ours.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, wanted)
        except PermissionError:
            ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, wanted)
        ours.setblocking(False)
        self._socket = ours
        self._pid = fork(lambda: _serve(theirs.fileno(), open_driver), keep=theirs.fileno())
        theirs.close()

    def append(self, piece: bytes, stream: str) -> None:
        """Where the buffer is full, or whoever reads it has failed, the piece is lost."""
        try:
            self._socket.send(bytes((_STREAMS.index(stream),)) + piece)
        except OSError:
            return

    def close(self) -> None:
        """Waits until what is in the buffer is written, as Docker does."""
        self._socket.close()
        os.waitpid(self._pid, 0)


def _serve(fd: int, open_driver: Callable[[], Driver]) -> None:
    """Until the monitor has closed its end, or was killed."""
    driver = open_driver()
    while packet := os.read(fd, _PACKET):
        try:
            driver.append(packet[1:], _STREAMS[packet[0]])
        except OSError:
            continue
    driver.close()
