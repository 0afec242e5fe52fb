"""The proxy of published ports on the loopback interface: what TCP and UDP promise holds through it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from engine.runtime.loop import Loop
from engine.runtime.network import proxy
from tests.support.conformance import until

pytestmark = [pytest.mark.requires("linux", "netns"), pytest.mark.timeout(120)]


class Stand:
    """A proxy in a loop that a thread runs, and threads that serve behind it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._listeners: list[proxy.Listener] = []
        self._claims: list[object] = []
        self._wake, self._waker = os.pipe()
        self._ended = False
        self.loop.watch(self._wake, select.POLLIN, self._woken)
        self._thread = threading.Thread(target=self._run)

    def _woken(self, fd: int, _events: int) -> None:
        os.read(fd, 1)

    def _run(self) -> None:
        while not self._ended:
            self.loop.step()

    def published(self, protocol: str, target: tuple[str, int], address: str = "127.0.0.1") -> int:
        """The port at which the proxy takes what is for `target`."""
        claimed = proxy.claim(protocol, address, 0)
        self._claims.append(claimed)
        self._listeners.append(proxy.Listener(self.loop, claimed, target))
        if not self._thread.is_alive():
            self._thread.start()
        return int(claimed.getsockname()[1])

    def in_loop(self, act: Callable[[], object]) -> None:
        """Waits until the loop's thread has done it."""
        done = threading.Event()

        def due() -> None:
            act()
            done.set()

        self.loop.at(0, due)
        os.write(self._waker, b"x")
        assert done.wait(60)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def close(self) -> None:
        if self._thread.is_alive():
            self.in_loop(self._close_listeners)
            self._ended = True
            os.write(self._waker, b"x")
            self._thread.join()
        for claimed in self._claims:
            claimed.close()  # type: ignore[attr-defined]
        os.close(self._wake)
        os.close(self._waker)


@pytest.fixture
def stand() -> Iterator[Stand]:
    descriptors = len(os.listdir("/proc/self/fd"))
    stand = Stand()
    yield stand
    stand.close()
    # a server's thread has not quite ended
    until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)


def _serve(handle: Callable[[socket.socket], None], times: int = 1, family: int = socket.AF_INET) -> tuple[str, int]:
    server = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)

    def run() -> None:
        with server:
            for _ in range(times):
                client, _ = server.accept()
                with client:
                    handle(client)

    threading.Thread(target=run, daemon=True).start()
    address, port = server.getsockname()[:2]
    return address, port


def _read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_side_that_is_done_still_hears_the_other(stand: Stand, family: int) -> None:
    """Half-close: the server answers when it has read all, which it knows by the end of what the client sends."""
    data = os.urandom(5 << 20)

    def handle(client: socket.socket) -> None:
        everything = _read_all(client)
        client.sendall(hashlib.sha256(everything).digest() + everything)

    port = stand.published("tcp", _serve(handle, family=family))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = _read_all(client)
    assert answer == hashlib.sha256(data).digest() + data


def test_the_servers_end_is_the_clients_end(stand: Stand) -> None:
    port = stand.published("tcp", _serve(lambda client: client.sendall(b"bye")))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        assert _read_all(client) == b"bye"


def test_many_connections_at_once(stand: Stand) -> None:
    barrier = threading.Barrier(50)

    def handle(client: socket.socket) -> None:
        threading.Thread(
            target=lambda c: (barrier.wait(), c.sendall(c.recv(99)), c.close()), args=(client.dup(),)
        ).start()

    port = stand.published("tcp", _serve(handle, times=50))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(50)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    for number, client in enumerate(clients):
        assert client.recv(99) == b"%d" % number
        client.close()


def test_what_nobody_reads_stays_with_the_sender(stand: Stand) -> None:
    """Back-pressure: the proxy holds a pipe of it, not all that a fast sender has."""
    go = threading.Event()
    sums = []

    def handle(client: socket.socket) -> None:
        go.wait(60)
        sums.append(len(_read_all(client)))

    port = stand.published("tcp", _serve(handle))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.setblocking(False)
        sent, idle = 0, 0
        while idle < 20:
            try:
                sent += client.send(bytes(1 << 16))
                idle = 0
            except BlockingIOError:
                idle += 1
                time.sleep(0.02)
        assert sent < 64 << 20
        client.setblocking(True)
        go.set()
        client.shutdown(socket.SHUT_WR)
        _read_all(client)
    assert sums == [sent]


def test_nobody_there_is_a_reset_not_an_empty_answer(stand: Stand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = free.getsockname()
    port = stand.published("tcp", target)
    # it may come before the connection is known to be one
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.recv(1)


def test_a_reset_is_passed_on(stand: Stand) -> None:
    def handle(client: socket.socket) -> None:
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    port = stand.published("tcp", _serve(handle))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_connections_over_the_bound_wait(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_CONNECTIONS", 2)
    port = stand.published("tcp", _serve(lambda client: client.sendall(_read_all(client)), times=4))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(4)]
    for client in clients:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
    assert [_read_all(client) for client in clients] == [b"hello"] * 4
    for client in clients:
        client.close()


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Answers with the client's port, as it sees it, and what it said."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def run() -> None:
        with server:
            while (received := server.recvfrom(1 << 16))[0] != b"end":
                server.sendto(str(received[1][1]).encode() + b" " + received[0], received[1])

    threading.Thread(target=run, daemon=True).start()
    yield server.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"end", server.getsockname())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_datagrams_of_each_client_come_back_to_it(stand: Stand, echo: tuple[str, int], address: str) -> None:
    port = stand.published("udp", echo, address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(20)]
    seen = []
    for number, client in enumerate(clients):
        client.settimeout(60)
        client.connect((address, port))
        client.send(b"%d" % number)
    for number, client in enumerate(clients):
        source, _, text = client.recv(99).partition(b" ")
        assert text == b"%d" % number
        seen.append(source)
        client.send(b"again")
        assert client.recv(99) == source + b" again", "the same client comes from the same port"
        client.close()
    assert len(set(seen)) == 20


def test_an_answer_comes_from_the_address_that_was_asked(stand: Stand, echo: tuple[str, int]) -> None:
    port = stand.published("udp", echo, "0.0.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.connect(("127.0.0.7", port))  # takes datagrams from there only
        client.send(b"x")
        assert client.recv(99).endswith(b" x")


def test_clients_over_the_bound_and_idle_ones_are_forgotten(
    stand: Stand, echo: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "MAX_CLIENTS", 2)
    monkeypatch.setattr(proxy, "UDP_IDLE", 2.0)
    port = stand.published("udp", echo)
    before = len(os.listdir("/proc/self/fd"))
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
    for client in clients:
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        client.send(b"x")
        assert client.recv(99).endswith(b" x")
    assert len(os.listdir("/proc/self/fd")) - before - len(clients) <= 2
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + len(clients))
    for client in clients:
        client.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_claimed_port_is_nobody_elses(protocol: str) -> None:
    with contextlib.closing(proxy.claim(protocol, "0.0.0.0", 0)) as claimed:
        port = claimed.getsockname()[1]
        for address in ("0.0.0.0", "127.0.0.1"):
            with pytest.raises(OSError) as raised:
                proxy.claim(protocol, address, port)
            assert raised.value.errno == errno.EADDRINUSE
        proxy.claim(protocol, "::", port).close()
    with pytest.raises(OSError) as raised:
        proxy.claim(protocol, "192.0.2.99", 0)
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_what_is_closed_is_watched_no_more(stand: Stand) -> None:
    """Also where a connection is open: its end would have the port watched again, whose number is another's by then."""
    held = threading.Event()
    claimed = proxy.claim("tcp", "127.0.0.1", 0)

    def handle(client: socket.socket) -> None:
        client.sendall(b"hello")
        held.wait(20)

    target = _serve(handle)
    stand.published("tcp", target)  # has the loop run
    listeners: list[proxy.Listener] = []
    stand.in_loop(lambda: listeners.append(proxy.Listener(stand.loop, claimed, target)))
    with socket.create_connection(claimed.getsockname(), timeout=20) as client:
        assert client.recv(5) == b"hello"
        stand.in_loop(listeners[0].close)
        with socket.create_connection(claimed.getsockname(), timeout=20) as waiting:
            # for whoever has the claim now
            stand.in_loop(lambda: None)
            accepted, _ = claimed._accept()  # type: ignore[attr-defined]
            os.close(accepted)
            waiting.close()
    held.set()
    claimed.close()
