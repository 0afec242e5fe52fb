"""The resolver of a container: 127.0.0.11 in its network namespace, answered by its monitor.

    container                        kernel                          monitor (in the host's network namespace)
      │ to 127.0.0.11:53 ──────▶ nat: to 127.0.0.11:PORT ──────▶ sockets that were made inside
      │                                                            ├─ a name or an address on its networks: the answer (names.py)
      │                                                            ├─ only internal networks: there is no such name
      │ ◀───────────────────────────────────────────────────────── └─ asked of the host's nameservers, UDP or TCP as it came

The port is one that the kernel chose, so that a nameserver in the container can have port 53, as Docker does it. The nameservers
are asked one after the other, the host's own from where the host is, those of `--dns` from inside, to whom they may be local.
"""

from __future__ import annotations

import _socket
import os
import select
import struct
import time

from engine.errors import MiniError
from engine.runtime.namespaces import VisitNetwork
from engine.runtime.network import dnsmessage
from engine.runtime.network import expressions as expr
from engine.runtime.network import nftables as nft
from engine.runtime.network.dnsmessage import Query
from engine.runtime.network.netlink import log_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.runtime.loop import Loop
    from engine.runtime.network.names import Names
    from engine.runtime.network.netlink import Change, Log

    Reply = Callable[[bytes], None]

ADDRESS = "127.0.0.11"
PATIENCE = 4.0  # seconds for a nameserver to answer, as Docker gives it
MAX_SERVERS = 3  # as resolv.conf(5)
MAX_PENDING = 256  # questions that wait for nameservers; over that the answer is SERVFAIL
MAX_CLIENTS = 64  # connections over TCP
_MAX_DATAGRAM = 65535
_PORT = 53
_TABLE = nft.Table(expr.NFPROTO_IPV4, "mini-dns")


class Upstream:
    """A nameserver to ask; `inside` from the container's network namespace rather than the host's."""

    __slots__ = ("address", "inside")

    def __init__(self, address: str, inside: bool = False) -> None:
        self.address = address
        self.inside = inside


def open_inside(pid: int, log: Log | None = None) -> tuple[_socket.socket, _socket.socket]:
    """The resolver's UDP and TCP sockets in the network namespace of `pid`, and the rules there that lead to them.

    The calling thread visits that namespace. Raises OSError, Unsupported, RuntimeFault.
    """
    with VisitNetwork(f"/proc/{pid}/ns/net"):
        udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        udp.bind((ADDRESS, 0))
        tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        tcp.bind((ADDRESS, 0))
        tcp.listen(MAX_CLIENTS)
        nft.transact(lambda _: _rules(udp.getsockname()[1], tcp.getsockname()[1]), log_inside(pid, log))
    return udp, tcp


def _rules(udp: int, tcp: int) -> list[Change]:
    changes = [_TABLE.create(), _TABLE.chain("output", "nat", nft.OUTPUT_HOOK, -100, "-100")]
    address = _socket.inet_pton(_socket.AF_INET, ADDRESS)
    for name, number, port in (("udp", _socket.IPPROTO_UDP, udp), ("tcp", _socket.IPPROTO_TCP, tcp)):
        text = f"ip daddr {ADDRESS} {name} dport {_PORT} dnat to {ADDRESS}:{port}"
        expressions = (
            *expr.destination(address),
            *expr.destination_port(number, _PORT),
            *expr.translate(address, port),
        )
        changes.append(_TABLE.add(nft.Rule("output", "", text, *expressions)))
    return changes


class Resolver:
    """Serves the sockets of `open_inside` in a monitor's loop, until `close`."""

    def __init__(
        self,
        loop: Loop,
        udp: _socket.socket,
        tcp: _socket.socket,
        names: Names,
        upstreams: Sequence[Upstream],
        namespace: str,
    ) -> None:
        """`namespace` is the container's network namespace as a path, for the nameservers that are asked from inside."""
        self.loop = loop
        self.names = names
        self.upstreams = upstreams[:MAX_SERVERS]
        self.namespace = namespace
        self._udp, self._tcp = udp, tcp
        self._pending: set[_Forward] = set()
        self._clients: set[_Client] = set()
        self._turn = 0
        loop.watch(udp.fileno(), select.POLLIN, self._datagram)
        loop.watch(tcp.fileno(), select.POLLIN, self._connection)

    def close(self) -> None:
        for pending in list(self._pending):
            pending.close()
        for client in list(self._clients):
            client.close()
        for listening in (self._udp, self._tcp):
            self.loop.forget(listening.fileno())
            listening.close()

    def resolve(self, data: bytes, reply: Reply, over_tcp: bool) -> None:
        """Calls `reply` with the answer, now or later; never for what is no question."""
        try:
            query = Query(data)
        except ValueError:
            return
        if not query.plain:
            return reply(dnsmessage.failure(query, dnsmessage.NOTIMP))
        try:
            known = self._known(query)
            outside = known is None and self.names.outside()
        except (MiniError, OSError):  # no descriptor, a file that is damaged or has just gone
            return reply(dnsmessage.failure(query, dnsmessage.SERVFAIL))
        if known is not None:
            limit = _MAX_DATAGRAM if over_tcp else dnsmessage.PLAIN_UDP
            return reply(dnsmessage.answer(query, known, limit))
        if not outside:
            return reply(dnsmessage.failure(query, dnsmessage.NXDOMAIN))
        if len(self._pending) >= MAX_PENDING or not self.upstreams:
            return reply(dnsmessage.failure(query, dnsmessage.SERVFAIL))
        _Forward(self, query, data, reply, over_tcp).start()

    def _known(self, query: Query) -> list[bytes] | None:
        """The records of the answer, where it is for us to give. A name of ours without records of that type has none: outside
        it might be somebody else's."""
        if query.kind == dnsmessage.PTR:
            address = dnsmessage.reversed_address(query.name)
            name = self.names.name_of(address) if address else None
            try:
                return [dnsmessage.encode_name(name)] if name else None
            except ValueError:  # a container may be called what DNS has no form for: 64 letters, two dots
                return []
        found = self.names.addresses(query.name)
        if found is None:
            return None
        family = {dnsmessage.A: _socket.AF_INET, dnsmessage.AAAA: _socket.AF_INET6}.get(query.kind)
        addresses = found[query.kind == dnsmessage.AAAA] if family else []
        # several containers of one name share the work: each is the first in turn
        self._turn += 1
        first = self._turn % len(addresses) if addresses else 0
        return [_socket.inet_pton(family, a) for a in addresses[first:] + addresses[:first]] if family else []

    def _datagram(self, fd: int, _events: int) -> None:
        try:
            data, sender = self._udp.recvfrom(_MAX_DATAGRAM)
        except OSError:
            return
        self.resolve(data, lambda answer: self._send(answer, sender), over_tcp=False)

    def _send(self, answer: bytes, to: tuple[str, int]) -> None:
        try:
            self._udp.sendto(answer, to)
        except OSError:  # the client is gone, or too slow: it asks again
            pass

    def _connection(self, fd: int, _events: int) -> None:
        try:
            accepted, _ = self._tcp._accept()  # type: ignore[attr-defined]
        except OSError as e:
            return self.loop.refused(fd, e)
        if len(self._clients) >= MAX_CLIENTS:
            return os.close(accepted)
        _Client(self, accepted, self._clients)

    def track(self, forward: _Forward) -> None:
        self._pending.add(forward)

    def done(self, forward: _Forward) -> None:
        self._pending.discard(forward)


class _Client:
    """A connection over TCP: messages with their length before them, answered one after the other (RFC 7766)."""

    def __init__(self, resolver: Resolver, fd: int, among: set[_Client]) -> None:
        self._resolver, self._fd, self._among = resolver, fd, among
        self._inbox = bytearray()
        os.set_blocking(fd, False)
        among.add(self)
        resolver.loop.watch(fd, select.POLLIN, self._readable)

    def close(self) -> None:
        if self in self._among:
            self._among.discard(self)
            self._resolver.loop.forget(self._fd)
            os.close(self._fd)

    def _readable(self, fd: int, _events: int) -> None:
        try:
            data = os.read(fd, _MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.close()
        self._inbox += data
        while len(self._inbox) >= 2:
            end = 2 + int.from_bytes(self._inbox[:2], "big")
            if len(self._inbox) < end:
                return
            message = bytes(self._inbox[2:end])
            del self._inbox[:end]
            self._resolver.resolve(message, self._answer, over_tcp=True)

    def _answer(self, answer: bytes) -> None:
        if self not in self._among:
            return
        try:
            os.write(self._fd, len(answer).to_bytes(2, "big") + answer)
        except OSError:  # a client that does not read its answers
            self.close()


class _Forward:
    """One question on its way to the nameservers, in order, until one has an answer."""

    def __init__(self, resolver: Resolver, query: Query, data: bytes, reply: Reply, over_tcp: bool) -> None:
        self._resolver, self._query, self._reply, self._over_tcp = resolver, query, reply, over_tcp
        # an ID and a port (the kernel's choice) of our own, so that nobody who knows the client's can answer in the server's place
        self._id = os.urandom(2)
        self._data = self._id + data[2:]
        self._servers = list(resolver.upstreams)
        self._socket: _socket.socket | None = None
        self._inbox = b""
        self._last: bytes | None = None

    def start(self) -> None:
        self._resolver.track(self)
        self._next()

    def close(self) -> None:
        self._hang_up()
        self._resolver.done(self)

    def _next(self) -> None:
        """Asks the next nameserver; after the last one gives what there is."""
        self._hang_up()
        while self._servers:
            server = self._servers.pop(0)
            try:
                self._socket = self._connect(server)
            except OSError:
                continue
            wanted = select.POLLOUT if self._over_tcp else select.POLLIN
            self._resolver.loop.watch(self._socket.fileno(), wanted, self._ready)
            self._resolver.loop.at(time.monotonic() + PATIENCE, self._next)
            return
        self._finish(self._last or dnsmessage.failure(self._query, dnsmessage.SERVFAIL))

    def _connect(self, server: Upstream) -> _socket.socket:
        """A socket that is connected takes datagrams from this nameserver only."""
        if not server.inside:
            return self._connected(server.address)
        with VisitNetwork(self._resolver.namespace):
            return self._connected(server.address)

    def _connected(self, address: str) -> _socket.socket:
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        kind = _socket.SOCK_STREAM if self._over_tcp else _socket.SOCK_DGRAM
        connection = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            connection.connect((address, _PORT))
            if not self._over_tcp:
                connection.send(self._data)
        except BlockingIOError:  # TCP: it is on its way
            pass
        except OSError:
            connection.close()
            raise
        return connection

    def _ready(self, fd: int, events: int) -> None:
        assert self._socket
        try:
            if events & select.POLLOUT:
                self._socket.send(len(self._data).to_bytes(2, "big") + self._data)
                return self._resolver.loop.watch(fd, select.POLLIN, self._ready)
            received = self._socket.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            return self._next()
        if not self._over_tcp:
            return self._received(received)
        self._inbox += received
        if len(self._inbox) >= 2 and len(self._inbox) >= 2 + int.from_bytes(self._inbox[:2], "big"):
            return self._received(self._inbox[2 : 2 + int.from_bytes(self._inbox[:2], "big")])
        if not received:
            self._next()

    def _received(self, answer: bytes) -> None:
        """A nameserver that is in trouble or refuses is no answer as long as there is another one to ask."""
        if len(answer) < 12 or answer[:2] != self._id or not answer[2] & 0x80:
            return
        (flags,) = struct.unpack_from("!H", answer, 2)
        if flags & 0xF in (dnsmessage.SERVFAIL, dnsmessage.NOTIMP, dnsmessage.REFUSED):
            self._last = answer
            return self._next()
        self._finish(answer)

    def _finish(self, answer: bytes) -> None:
        self.close()
        self._reply(self._query.id.to_bytes(2, "big") + answer[2:])

    def _hang_up(self) -> None:
        self._resolver.loop.cancel(self._next)
        if self._socket:
            self._resolver.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._inbox = b""
