"""The resolver in a container's network namespace, asked by dig; the nameserver behind it is dnsmasq."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.loop import Loop
from engine.runtime.network import dns, endpoints
from engine.runtime.network.dns import Upstream
from engine.runtime.network.names import Names
from tests.support import netns
from tests.support.conformance import until

pytestmark = pytest.mark.requires("root", "netns", "nft", "dig", "dnsmasq")

WEB = "1" * 64
OTHER = "2" * 64


class Stand:
    """A network namespace as a host, one in it as a container with a resolver that a thread serves."""

    def __init__(self, root: Path) -> None:
        self.networks = str(root / "networks")
        self.programs: list[subprocess.Popen[bytes]] = []
        self._thread: threading.Thread | None = None
        self.container = netns.hold()
        _run(f"nsenter -t {self.container} -n ip link set lo up")

    def network(self, name: str, internal: bool = False) -> None:
        os.makedirs(f"{self.networks}/{name}/endpoints")
        Path(f"{self.networks}/{name}/network.json").write_text(json.dumps({"internal": internal}))

    def endpoint(
        self, network: str, owner: str, name: str, address: str, aliases: tuple[str, ...] = (), six: str = ""
    ) -> None:
        value = {"Name": name, "Aliases": list(aliases), "address": address, "address6": six}
        endpoints.write(f"{self.networks}/{network}/endpoints", owner, value)

    def serve(self, *upstreams: Upstream) -> None:
        """From now on, in a thread that stays in the host's namespace."""
        udp, tcp = dns.open_inside(self.container)
        loop = Loop()
        names = Names(self.networks, WEB)
        resolver = dns.Resolver(loop, udp, tcp, names, upstreams, f"/proc/{self.container}/ns/net")
        wake, self._stop = os.pipe()
        stopping: list[int] = []
        loop.watch(wake, 1, lambda fd, _: stopping.append(fd))

        def run() -> None:
            while not stopping:
                loop.step()
            resolver.close()
            os.close(wake)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def nameserver(self, address: str, *options: str, inside: bool = False) -> None:
        enter = ["nsenter", "-t", str(self.container), "-n"] if inside else []
        command = ["dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]
        command += ["--bind-interfaces", f"--listen-address={address}", *options]
        self.programs.append(subprocess.Popen([*enter, *command]))
        ask = f"{' '.join(enter)} dig +short +tries=1 +time=1 @{address} ready.test"
        until(lambda: "192.0.2.1" in _run(ask, check=False))

    def dig(self, *words: str, server: str = dns.ADDRESS) -> str:
        return _run(f"nsenter -t {self.container} -n dig +tries=1 +time=10 @{server} {' '.join(words)}", check=False)

    def short(self, *words: str) -> list[str]:
        return self.dig("+short", *words).split()

    def close(self) -> None:
        if self._thread:
            os.write(self._stop, b"x")
            self._thread.join()
            os.close(self._stop)
        for program in self.programs:
            program.kill()
            program.wait()
        netns.end(self.container)


def _run(command: str, check: bool = True) -> str:
    return subprocess.run(command.split(), check=check, capture_output=True, text=True).stdout


READY = "--address=/ready.test/192.0.2.1"


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with netns.another():
        stand = Stand(tmp_path)
        try:
            yield stand
        finally:
            stand.close()


@pytest.fixture
def neighbours(stand: Stand) -> Stand:
    stand.network("shop")
    stand.endpoint("shop", WEB, "web", "172.30.0.2", (WEB[:12],))
    stand.endpoint("shop", OTHER, "db", "172.30.0.3", (OTHER[:12], "database", "all"), "fd01::3")
    return stand


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_names_aliases_and_ids(neighbours: Stand, transport: str) -> None:
    neighbours.serve()
    for name in ("db", "DB", "db.shop", "database", OTHER[:12]):
        assert neighbours.short(transport, name) == ["172.30.0.3"], name
    assert neighbours.short(transport, "db", "AAAA") == ["fd01::3"]
    assert neighbours.short(transport, "-x", "172.30.0.3") == ["db.shop."]
    assert neighbours.short(transport, "-x", "fd01::3") == ["db.shop."]


def test_a_name_without_an_address_of_that_family(neighbours: Stand) -> None:
    """No error and no address: a resolver that heard NXDOMAIN would not ask for the other family."""
    neighbours.serve()
    said = neighbours.dig("web", "AAAA")
    assert "status: NOERROR" in said and "ANSWER: 0" in said


def test_an_alias_of_several_is_shared(neighbours: Stand) -> None:
    neighbours.endpoint("shop", "3" * 64, "db2", "172.30.0.4", ("all",))
    neighbours.serve()
    answers = [neighbours.short("all") for _ in range(4)]
    assert {tuple(sorted(a)) for a in answers} == {("172.30.0.3", "172.30.0.4")}
    assert {a[0] for a in answers} == {"172.30.0.3", "172.30.0.4"}


def test_more_than_a_datagram_holds_comes_over_tcp(neighbours: Stand) -> None:
    for n in range(100):
        neighbours.endpoint("shop", f"{n:064}", f"c{n}", f"172.30.1.{n}", ("many",))
    neighbours.serve()
    assert "flags: qr tc" in neighbours.dig("+ignore", "+noedns", "many")
    assert len(neighbours.short("+noedns", "many")) == 100


def test_who_comes_and_goes(neighbours: Stand) -> None:
    neighbours.nameserver("127.0.0.1", READY)
    neighbours.serve(Upstream("127.0.0.1"))
    assert "status: NXDOMAIN" not in neighbours.dig("db")
    directory = f"{neighbours.networks}/shop/endpoints"
    neighbours.endpoint("shop", "4" * 64, "late", "172.30.0.9")
    assert neighbours.short("late") == ["172.30.0.9"]
    neighbours.endpoint("shop", "4" * 64, "renamed", "172.30.0.9")
    assert neighbours.short("renamed") == ["172.30.0.9"]
    assert neighbours.short("late") == []
    os.remove(f"{directory}/{'4' * 64}")
    assert neighbours.short("renamed") == []


def test_names_of_networks_that_it_is_not_on(neighbours: Stand) -> None:
    neighbours.network("secret")
    neighbours.endpoint("secret", OTHER, "vault", "172.31.0.2")
    neighbours.serve()
    assert neighbours.short("vault") == []
    assert neighbours.short("-x", "172.31.0.2") == []


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_names_of_elsewhere_are_asked_of_the_host_s_nameserver(neighbours: Stand, transport: str) -> None:
    """On the host's loopback, where no container reaches."""
    neighbours.nameserver("127.0.0.1", READY, "--address=/example.test/192.0.2.7", "--txt-record=t.test,hello")
    neighbours.serve(Upstream("127.0.0.1"))
    assert neighbours.short(transport, "example.test") == ["192.0.2.7"]
    assert neighbours.short(transport, "t.test", "TXT") == ['"hello"']
    assert "status: REFUSED" in neighbours.dig(transport, "nowhere.invalid")


def test_the_next_nameserver_is_asked(neighbours: Stand) -> None:
    neighbours.nameserver("127.0.0.1", READY)
    neighbours.nameserver("127.0.0.2", READY, "--address=/example.test/192.0.2.8")
    nobody = Upstream("127.0.0.9")  # refused at once: nothing listens there
    neighbours.serve(nobody, Upstream("127.0.0.1"), Upstream("127.0.0.2"))
    assert neighbours.short("example.test") == ["192.0.2.8"]


def test_a_silent_nameserver_costs_its_patience_only(neighbours: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "PATIENCE", 2.0)  # which the one that answers has, too
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.3", 53))
    neighbours.nameserver("127.0.0.2", READY, "--address=/example.test/192.0.2.8")
    neighbours.serve(Upstream("127.0.0.3"), Upstream("127.0.0.2"))
    assert neighbours.short("example.test") == ["192.0.2.8"]
    silent.close()


def test_nobody_to_ask(neighbours: Stand) -> None:
    neighbours.serve(Upstream("127.0.0.9"))
    assert "status: SERVFAIL" in neighbours.dig("example.test")


def test_a_nameserver_in_the_container_itself(neighbours: Stand) -> None:
    """`--dns 127.0.0.1`, and port 53 is free for it."""
    neighbours.nameserver("127.0.0.1", READY, "--address=/example.test/192.0.2.9", inside=True)
    neighbours.serve(Upstream("127.0.0.1", inside=True))
    assert neighbours.short("example.test") == ["192.0.2.9"]
    assert neighbours.short("db") == ["172.30.0.3"]


def test_an_internal_network_resolves_nothing_outside(stand: Stand) -> None:
    """CVE-2024-29018: a question that is passed on is a way out."""
    stand.network("inner", internal=True)
    stand.endpoint("inner", WEB, "web", "172.30.0.2")
    stand.endpoint("inner", OTHER, "db", "172.30.0.3")
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind(("127.0.0.3", 53))
    stand.serve(Upstream("127.0.0.3"))
    assert stand.short("db") == ["172.30.0.3"]
    for transport in ("+notcp", "+tcp"):
        assert "status: NXDOMAIN" in stand.dig(transport, "stolen-data.example.test")
        assert "status: NXDOMAIN" in stand.dig(transport, "-x", "192.0.2.1")
    asked.setblocking(False)
    with pytest.raises(BlockingIOError):
        asked.recv(512)
    asked.close()


def test_nonsense_is_not_answered_and_does_no_harm(neighbours: Stand) -> None:
    neighbours.serve()
    client, stream = netns.inside(
        neighbours.container,
        lambda: (socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.create_connection((dns.ADDRESS, 53))),
    )
    for data in (b"", b"x", b"\xff" * 600, bytes(12)):
        client.sendto(data, (dns.ADDRESS, 53))
    stream.sendall(b"\0\0\0\x05hello\xff\xff")
    stream.close()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(512)
    client.close()
    assert neighbours.short("db") == ["172.30.0.3"]


def test_files_that_are_damaged_or_gone_fail_the_question_only(neighbours: Stand) -> None:
    neighbours.serve()
    assert neighbours.short("db") == ["172.30.0.3"]
    (network,) = os.listdir(neighbours.networks)
    broken = Path(neighbours.networks, network, "endpoints", "9" * 64)
    description = Path(neighbours.networks, network, "network.json")
    whole = description.read_text()
    broken.write_text("{")
    for transport in ("+notcp", "+tcp"):
        assert "status: SERVFAIL" in neighbours.dig(transport, "db")
    broken.unlink()
    for text in ("", "{"):
        description.write_text(text)
        assert "status: SERVFAIL" in neighbours.dig("example.test")
    description.unlink()
    assert "status: SERVFAIL" in neighbours.dig("example.test")
    assert neighbours.short("db") == ["172.30.0.3"]
    description.write_text(whole)


def test_a_name_that_dns_has_no_form_for(neighbours: Stand) -> None:
    """A container may be called so; who asks whose address it is gets no name, and goes on."""
    for number, name in enumerate(("x" * 64, "two..dots"), 50):
        (network,) = os.listdir(neighbours.networks)
        neighbours.endpoint(network, str(number) * 32, name, f"172.30.0.{number}")
    neighbours.serve()
    for number in (50, 51):
        assert "status: NOERROR" in neighbours.dig("-x", f"172.30.0.{number}")
    assert neighbours.short("db") == ["172.30.0.3"]
