"""The proxy of a container's published ports: claims them on the host, and serves what the packet filter does not translate.

    127.0.0.1, ::1                      never translated (portrules.py)
    IPv6, to a container without it     cannot be translated
    everything, after somebody flushed the rules, until they are put back

A port is claimed by a socket that listens on it: who is second hears so from the kernel, whoever it is. In the monitor's loop a
connection that arrives there is joined to another one, from the host to the container, which sees its gateway as the client.
TCP goes through a pipe (splice(2)): no byte of it comes into this process. What is written faster than read waits in the sender.

    client ══ socket ── splice ─▶ pipe ── splice ─▶ socket ══ container        and the same backwards
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.loop import Loop

    Address = tuple[str, int]

MAX_CONNECTIONS = 1024  # of a port; further ones wait in the kernel's queue
MAX_CLIENTS = 1024  # over UDP, of a port; for another one the longest silent is forgotten
UDP_IDLE = 90.0  # seconds, as Docker's proxy
_BACKLOG = 4096
_PIPE_SIZE, _F_SETPIPE_SZ = 1 << 20, 1031
_ROUNDS = 16  # before another connection has its turn
_MAX_DATAGRAM = 65535
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_PKTINFO_SPACE = 64
_NONBLOCK = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def claim(protocol: str, address: str, port: int) -> _socket.socket:
    """A socket that has the host's port from now on, for "tcp" one that listens. Port 0: one that is free, by the kernel's choice.

    OSError EADDRINUSE where somebody has it, EADDRNOTAVAIL for an address that is not the host's.
    """
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind = _socket.SOCK_STREAM if protocol == "tcp" else _socket.SOCK_DGRAM
    claimed = _socket.socket(family, kind | _NONBLOCK)
    try:
        if family == _socket.AF_INET6:
            claimed.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # connections of a life before that are not quite over are no hindrance; another who listens is
            claimed.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        elif family == _socket.AF_INET6:
            claimed.setsockopt(_socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            claimed.setsockopt(_socket.IPPROTO_IP, _IP_PKTINFO, 1)
        claimed.bind((address, port))
        if protocol == "tcp":
            claimed.listen(_BACKLOG)
    except BaseException:
        claimed.close()
        raise
    return claimed


class Listener:
    """Serves a claimed port in a monitor's loop, for the container's `target`, which may change; until `close`."""

    def __init__(self, loop: Loop, claimed: _socket.socket, target: Address) -> None:
        self.loop = loop
        self.target = target
        self._claimed = claimed
        self._connections: set[_Connection] = set()
        self._flows: dict[object, _Flow] = {}
        self._is_stream = claimed.type == _socket.SOCK_STREAM
        self._is_closed = False
        self._watch()

    def close(self) -> None:
        """Of the connections, too; the claim itself is the caller's."""
        self._is_closed = True
        self.loop.forget(self._claimed.fileno())
        for connection in list(self._connections):
            connection.close()
        for flow in list(self._flows.values()):
            flow.close()

    def _watch(self) -> None:
        self.loop.watch(self._claimed.fileno(), select.POLLIN, self._accept if self._is_stream else self._datagrams)

    def _accept(self, fd: int, _events: int) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            return self.loop.forget(fd)
        try:
            accepted, _ = self._claimed._accept()  # type: ignore[attr-defined]
        except OSError as e:
            return self.loop.refused(fd, e)
        client = _socket.socket(fileno=accepted)
        client.setblocking(False)
        try:
            self._connections.add(_Connection(self.loop, client, self.target, self._ended))
        except OSError:
            _reset(client)

    def _ended(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if not self._is_closed:
            self._watch()

    def _datagrams(self, fd: int, _events: int) -> None:
        for _ in range(_ROUNDS):
            try:
                data, ancillary, _, sender = self._claimed.recvmsg(_MAX_DATAGRAM, _PKTINFO_SPACE)
            except OSError:
                return
            # what was asked at one of the host's addresses is answered from there
            key = (sender, *((level, kind, bytes(value)) for level, kind, value in ancillary))
            flow = self._flows.get(key)
            try:
                if flow is None:
                    flow = self._flow(key, sender, [(level, kind, _from(kind, v)) for level, kind, v in ancillary])
                flow.send(data)
            except OSError:  # nobody listens in the container
                continue

    def _flow(self, key: object, sender: Address, ancillary: list[tuple[int, int, bytes]]) -> _Flow:
        if len(self._flows) >= MAX_CLIENTS:
            min(self._flows.values(), key=lambda f: f.last).close()

        def answer(data: bytes) -> None:
            self._claimed.sendmsg([data], ancillary, 0, sender)

        flow = self._flows[key] = _Flow(self.loop, self.target, answer, lambda: self._flows.pop(key, None))
        return flow


def _from(kind: int, info: bytes) -> bytes:
    """The address that a datagram was for, as the one that its answer comes from; by whatever interface it has to go."""
    if kind == _IP_PKTINFO:
        return struct.pack("=i", 0) + info[4:8] + bytes(4)
    return info[:16] + struct.pack("=i", 0)


def _reset(connection: _socket.socket) -> None:
    """Closes it so that the other side does not take it for a complete answer."""
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class _Way:
    """One direction of a connection: a pipe between two sockets, with `held` bytes in it."""

    __slots__ = ("done", "ended", "held", "read", "source", "target", "write")

    def __init__(self, source: _socket.socket, target: _socket.socket) -> None:
        self.source, self.target = source, target
        self.read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self.write, _F_SETPIPE_SZ, _PIPE_SIZE)
        except PermissionError:  # more than a user may have (fs.pipe-max-size)
            pass
        self.held = 0
        self.ended = False  # the source has said its last
        self.done = False  # the target has been told so

    def pump(self) -> None:
        """Moves what can be moved now. Raises OSError where either side is gone."""
        for _ in range(_ROUNDS):
            if not self._fill() or not self._drain():
                break
        if self.ended and not self.held and not self.done:
            self.target.shutdown(_socket.SHUT_WR)
            self.done = True

    def _fill(self) -> bool:
        """Whether there is something in the pipe."""
        if not self.held and not self.ended:
            try:
                self.held = os.splice(self.source.fileno(), self.write, _PIPE_SIZE, flags=_SPLICE)
            except BlockingIOError:
                return False
            self.ended = not self.held
        return self.held > 0

    def _drain(self) -> bool:
        """Whether all of it could be written."""
        try:
            self.held -= os.splice(self.read, self.target.fileno(), self.held, flags=_SPLICE)
        except BlockingIOError:
            pass
        return not self.held

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


class _Connection:
    """Two connections joined: a client's, and one to the container. Each side's end is passed on by itself (half-close)."""

    def __init__(
        self, loop: Loop, client: _socket.socket, target: Address, ended: Callable[[_Connection], None]
    ) -> None:
        self._loop, self._client, self._ended = loop, client, ended
        family = _socket.AF_INET6 if ":" in target[0] else _socket.AF_INET
        self._server = _socket.socket(family, _socket.SOCK_STREAM | _NONBLOCK)
        self._ways: tuple[_Way, ...] = ()
        try:
            self._server.connect(target)
        except BlockingIOError:
            pass
        except OSError:
            self._server.close()
            raise
        loop.watch(self._server.fileno(), select.POLLOUT, self._connected)

    def close(self, reset: bool = False) -> None:
        for connection in (self._client, self._server):
            self._loop.forget(connection.fileno())
            if reset:
                _reset(connection)
            connection.close()
        for way in self._ways:
            way.close()
        self._ended(self)

    def _connected(self, _fd: int, _events: int) -> None:
        if self._server.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            return self.close(reset=True)
        try:
            for connection in (self._client, self._server):
                connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            outward = _Way(self._client, self._server)
            self._ways = (outward,)
            self._ways = (outward, _Way(self._server, self._client))
        except OSError:
            return self.close(reset=True)
        self._ready(0, 0)

    def _ready(self, _fd: int, _events: int) -> None:
        try:
            for way in self._ways:
                way.pump()
        except OSError:
            return self.close(reset=True)
        if all(way.done for way in self._ways):
            return self.close()
        there, back = self._ways
        self._loop.watch(self._client.fileno(), _wanted(there, back), self._ready)
        self._loop.watch(self._server.fileno(), _wanted(back, there), self._ready)


def _wanted(reading: _Way, writing: _Way) -> int:
    """What to wait for at a socket that is the source of one way and the target of the other."""
    events = 0
    if not reading.ended and not reading.held:
        events |= select.POLLIN
    if writing.held:
        events |= select.POLLOUT
    return events


class _Flow:
    """One UDP client: a socket of its own towards the container, by whose port the answers are known to be for it."""

    def __init__(
        self, loop: Loop, target: Address, answer: Callable[[bytes], None], forgotten: Callable[[], object]
    ) -> None:
        self._loop, self._answer, self._forgotten = loop, answer, forgotten
        self.last = time.monotonic()
        family = _socket.AF_INET6 if ":" in target[0] else _socket.AF_INET
        self._socket = _socket.socket(family, _socket.SOCK_DGRAM | _NONBLOCK)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        loop.watch(self._socket.fileno(), select.POLLIN, self._readable)
        loop.at(self.last + UDP_IDLE, self._due)

    def send(self, data: bytes) -> None:
        self.last = time.monotonic()
        self._socket.send(data)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._loop.cancel(self._due)
        self._socket.close()
        self._forgotten()

    def _readable(self, _fd: int, _events: int) -> None:
        for _ in range(_ROUNDS):
            try:
                data = self._socket.recv(_MAX_DATAGRAM)
                self.last = time.monotonic()
                self._answer(data)
            except OSError:  # nothing more, or nobody who listens
                return

    def _due(self) -> None:
        if time.monotonic() < self.last + UDP_IDLE:
            return self._loop.at(self.last + UDP_IDLE, self._due)
        self.close()
