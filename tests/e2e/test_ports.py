"""Published ports with packets: from another host, from this one, from other containers and from the container itself.

A server in the container answers with the address that it sees its client at: the true one from elsewhere, the network's
gateway where the proxy or masquerading is between, never 127.0.0.1.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_networks import Peer
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = [pytest.mark.requires("linux", "root", "netns", "iproute2", "nft"), pytest.mark.timeout(300)]

_SERVE = """\
import socket, threading
def tcp(server):
    while True:
        client, peer = server.accept()
        client.sendall(peer[0].removeprefix("::ffff:").encode())
        client.close()
def udp(server):
    while True:
        _, peer = server.recvfrom(99)
        server.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.bind(("::", 80))
threading.Thread(target=udp, args=(datagrams,)).start()
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
tcp(server)
"""
_ASK = """\
import socket, sys
kind, address, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
if kind == "tcp":
    client = socket.create_connection((address, port), timeout=seconds)
else:
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(seconds)
    client.connect((address, port))
    client.send(b"?")
print(client.recv(99).decode(), end="")
"""
HERE, HERE6, THERE, THERE6 = "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"  # this host and the peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def _serve(mini: Mini, image: Image, *options: str) -> str:
    container = mini.detached(*options, image.name, "python3", "-c", _SERVE)
    while "ready" not in mini.run("logs", container).stdout:
        assert mini.inspect(container)["State"]["Running"], mini.run("logs", container)
    return container


def _sleep(mini: Mini, image: Image, *options: str) -> str:
    return mini.detached(*options, image.name, "sleep", "1000")


class Asker:
    """Who asks: this host (None), a network namespace by a process in it, or a container by its name."""

    def __init__(self, mini: Mini, peer: Peer | None = None) -> None:
        self.mini, self.peer = mini, peer

    def __call__(self, who: str, kind: str, address: str, port: int, seconds: float = 30) -> str | None:
        """What the server says; None where there was no answer. Where none is expected, fewer seconds will do."""
        words = ["python3", "-c", _ASK, kind, address, str(port), str(seconds)]
        if who == "peer":
            assert self.peer
            words = ["nsenter", "-t", str(self.peer.process.pid), "-n", *words]
        elif who != "host":
            result = self.mini.run("exec", who, *words, check=False)
            return result.stdout or None
        return subprocess.run(words, capture_output=True, text=True).stdout or None


def _elements() -> list[str]:
    """`MAP KEY` of every element, as nft has it."""
    ruleset = json.loads(subprocess.run(["nft", "-j", "list", "ruleset"], check=True, capture_output=True).stdout)
    found = []
    for item in ruleset["nftables"]:
        for element in item.get("map", {}).get("elem", ()):
            key = element[0].get("elem", {}).get("val", element[0])["concat"]
            found.append(" ".join([item["map"]["name"], *map(str, key)]))
    return sorted(found)


def _monitor(mini: Mini, container: str) -> int:
    with open(f"{mini.root}/containers/{container}/state.json") as file:
        return int(json.load(file)["MonitorPid"])


# --- who reaches what, and how the server sees them ----------------------------------------------------------------


def test_every_form_from_everywhere(mini: Mini, host_image: Image, peer: Peer) -> None:
    forms = [
        "8080:80", "8080:80/udp", "127.0.0.1:8081:80", "127.0.0.1:8081:80/udp", f"{HERE}:8082:80", f"{HERE}:8082:80/udp",
        "[::1]:8083:80", "[::1]:8083:80/udp", "[::]:8084:80", "[::]:8084:80/udp", f"[{HERE6}]:8085:80",
        f"[{HERE6}]:8085:80/udp", "0.0.0.0:8086:80", "8090-8099:80", "published=8087,target=80",
    ]  # fmt: skip
    server = _serve(mini, host_image, "--name", "server", *(w for form in forms for w in ("-p", form)))
    sibling = _sleep(mini, host_image, "--name", "sibling")
    gateway = mini.inspect(server)["NetworkSettings"]["Gateway"]
    expected: dict[tuple[str, str, int], str | None] = {
        ("peer", HERE, 8080): THERE,
        ("peer", HERE6, 8080): gateway,  # the container has no IPv6: the proxy
        ("host", "127.0.0.1", 8080): gateway,
        ("host", "127.0.0.9", 8080): gateway,
        ("host", "::1", 8080): gateway,
        ("host", HERE, 8080): HERE,
        ("host", HERE6, 8080): gateway,
        ("sibling", HERE, 8080): gateway,
        ("sibling", gateway, 8080): gateway,
        ("server", HERE, 8080): gateway,
        ("server", gateway, 8080): gateway,
        ("host", "127.0.0.1", 8081): gateway,
        ("host", "::1", 8081): None,
        ("host", HERE, 8081): None,
        ("peer", HERE, 8081): None,
        ("sibling", HERE, 8081): None,
        ("sibling", gateway, 8081): None,
        ("peer", HERE, 8082): THERE,
        ("host", HERE, 8082): HERE,
        ("sibling", HERE, 8082): gateway,
        ("host", "127.0.0.1", 8082): None,
        ("sibling", gateway, 8082): None,
        ("host", "::1", 8083): gateway,
        ("host", "127.0.0.1", 8083): None,
        ("peer", HERE6, 8083): None,
        ("peer", HERE6, 8084): gateway,
        ("peer", HERE, 8084): None,
        ("peer", HERE6, 8085): gateway,
        ("host", "::1", 8085): None,
    }
    ask = Asker(mini, peer)
    rows = [(kind, *row) for row in expected for kind in ("tcp", "udp")]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda row: ask(row[1], row[0], row[2], row[3], 30 if expected[row[1:]] else 1), rows))
    assert dict(zip(rows, said, strict=True)) == {row: expected[row[1:]] for row in rows}
    assert ask("peer", "tcp", HERE, 8086) == THERE and ask("peer", "tcp", HERE6, 8086, 1) is None
    assert ask("peer", "tcp", HERE, 8087) == THERE
    assert ask("peer", "tcp", HERE, 8090) == THERE and ask("peer", "tcp", HERE, 8091, 1) is None
    assert sibling


def test_ipv6_keeps_the_true_address(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "--ipv6", "six")
    server = _serve(mini, host_image, "--name", "server", "--network", "six", "-p", "8080:80", "-p", "8080:80/udp")
    _sleep(mini, host_image, "--name", "sibling", "--network", "six")
    _sleep(mini, host_image, "--name", "stranger")
    six = mini.inspect(server)["NetworkSettings"]["Networks"]["six"]
    gateway, gateway6 = six["Gateway"], six["IPv6Gateway"]
    ask = Asker(mini, peer)
    for kind in ("tcp", "udp"):
        assert ask("peer", kind, HERE6, 8080) == THERE6
        assert ask("peer", kind, HERE, 8080) == THERE
        assert ask("host", kind, "::1", 8080) == gateway6
        assert ask("host", kind, "127.0.0.1", 8080) == gateway
        assert ask("host", kind, HERE6, 8080) == HERE6
        for container in ("sibling", "server"):
            assert ask(container, kind, HERE6, 8080) == gateway6
            assert ask(container, kind, HERE, 8080) == gateway
        assert ask("stranger", kind, HERE, 8080) == gateway, "from another network"


def test_an_internal_network_publishes_nothing_and_its_containers_reach_no_port(
    mini: Mini, host_image: Image, peer: Peer
) -> None:
    mini.run("network", "create", "--internal", "cell")
    _serve(mini, host_image, "--network", "cell", "-p", "8070:80")
    inmate = _sleep(mini, host_image, "--network", "cell", "--name", "inmate")
    _serve(mini, host_image, "-p", "8080:80")
    ask = Asker(mini, peer)
    assert ask("host", "tcp", "127.0.0.1", 8070, 1) is None and not any("8070" in e for e in _elements())
    gateway = mini.inspect(inmate)["NetworkSettings"]["Networks"]["cell"]["Gateway"] or "0.0.0.0"
    assert ask("inmate", "tcp", gateway, 8080, 1) is None
    assert ask("peer", "tcp", HERE, 8080) == THERE


# --- what must not be reached --------------------------------------------------------------------------------------


def test_what_is_published_at_localhost_stays_there(mini: Mini, host_image: Image, peer: Peer) -> None:
    """CVE-2020-8558, CVE-2025-54388: a neighbour that sends us packets for 127.0.0.1, or for the container itself."""
    server = _serve(mini, host_image, "-p", "127.0.0.1:8081:80", "-p", "127.0.0.1:8081:80/udp")
    ask = Asker(mini, peer)
    enter = ["nsenter", "-t", str(peer.process.pid), "-n"]
    subprocess.run([*enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"], check=True)
    peer.ip("route flush table local type local dev lo")
    peer.ip("route add 127.0.0.1/32 via 192.0.2.1 src 192.0.2.2")
    peer.ip(f"route add {mini.address(server)}/32 via {HERE}")
    subprocess.run(["nft", "-f", "-"], check=True, text=True, input=(
        "table ip watch {\nchain pre {\ntype filter hook prerouting priority -300;\n"
                "ip daddr 127.0.0.1 iifname outer6 counter\n}\n}\n"
    ))  # fmt: skip
    for damage in ("", "nft flush table inet mini", "nft delete table inet mini"):
        if damage:
            subprocess.run(damage.split(), check=True)
            mini.run("network", "reload")
        for kind in ("tcp", "udp"):
            assert ask("peer", kind, "127.0.0.1", 8081, 1) is None
            assert ask("peer", kind, mini.address(server), 80, 1) is None
            assert ask("host", kind, "127.0.0.1", 8081) is not None
    counted = subprocess.run(["nft", "list", "table", "ip", "watch"], capture_output=True, text=True).stdout
    subprocess.run(["nft", "delete", "table", "ip", "watch"], check=True)
    assert "packets 0 " not in counted, "the packets did arrive"
    assert {p.read_text() for p in Path("/proc/sys/net/ipv4/conf").glob("*/route_localnet")} == {"0\n"}
    assert _elements() == []


def test_an_administrators_drop_holds(mini: Mini, host_image: Image, peer: Peer) -> None:
    _serve(mini, host_image, "-p", "8080:80")
    ask = Asker(mini, peer)
    assert ask("peer", "tcp", HERE, 8080) == THERE
    rules = (
        "table inet admin {\n"
        "chain f {\ntype filter hook forward priority 10;\niifname outer6 meta l4proto tcp ct original proto-dst 8080 drop\n}\n"
        "chain i {\ntype filter hook input priority 10;\niifname lo tcp dport 8080 drop\n}\n}\n"
    )
    subprocess.run(["nft", "-f", "-"], check=True, text=True, input=rules)
    try:
        assert ask("peer", "tcp", HERE, 8080, 1) is None
        assert ask("host", "tcp", "127.0.0.1", 8080, 1) is None
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "admin"], check=True)
    assert ask("peer", "tcp", HERE, 8080) == THERE


# --- whose a port is -----------------------------------------------------------------------------------------------


def test_a_port_in_use_names_who_has_it(mini: Mini, host_image: Image) -> None:
    _sleep(mini, host_image, "--name", "first", "-p", "8080:80")
    second = mini.run("run", "-d", "--name", "second", "-p", "8080:81", host_image.name, "true", check=False)
    assert second.code == 125
    assert "driver failed programming external connectivity on endpoint second (" in second.stderr
    assert "Bind for 0.0.0.0:8080 failed: port is already allocated" in second.stderr
    assert "container first has port 8080/tcp" in second.stderr
    state = mini.inspect("second")["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 128) and "already allocated" in state["Error"]
    assert mini.run("start", "second", check=False).code == 1
    mini.run("stop", "-t", "0", "first")
    mini.run("start", "second")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        result = mini.run("run", "--rm", "-p", f"{port}:80", host_image.name, "true", check=False)
        assert f"listen tcp4 0.0.0.0:{port}: bind: address already in use" in result.stderr
        assert f"(process {os.getpid()}) has port {port}/tcp" in result.stderr
    mini.run("run", "--rm", "-p", f"{port}:80", host_image.name, "true")
    elsewhere = mini.run("run", "--rm", "-p", "192.0.2.77:8080:80", host_image.name, "true", check=False)
    assert "bind: cannot assign requested address" in elsewhere.stderr


def test_a_paused_container_keeps_its_port(mini: Mini, host_image: Image) -> None:
    container = _sleep(mini, host_image, "-p", "8080:80")
    mini.run("pause", container)
    assert mini.run("port", container, "80").lines == ["0.0.0.0:8080", "[::]:8080"]
    assert mini.run("run", "--rm", "-p", "8080:80", host_image.name, "true", check=False).code == 125
    mini.run("unpause", container)


def test_twenty_at_once_get_ports_of_their_own(mini: Mini, host_image: Image) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        containers = list(pool.map(lambda _: _sleep(mini, host_image, "-p", "80", "-p", "81/udp"), range(20)))
    ports: list[str] = []
    for container in containers:
        published = mini.inspect(container)["NetworkSettings"]["Ports"]
        for bindings in published.values():
            assert [b["HostIp"] for b in bindings] == ["0.0.0.0", "::"]
            assert len({b["HostPort"] for b in bindings}) == 1
        ports += [f"{port} {bindings[0]['HostPort']}" for port, bindings in published.items()]
    assert len(set(ports)) == 40


def test_200_ports_of_one_container_are_one_change(mini: Mini, host_image: Image, peer: Peer) -> None:
    many = mini.run("--debug", "run", "-d", "-p", "20000-20199:20000-20199", host_image.name, "sleep", "1000")
    assert len([line for line in many.stderr.splitlines() if "add element" in line]) == 1
    assert len(_elements()) == 200
    one = mini.run("--debug", "run", "-d", "-p", "8080:80", host_image.name, "sleep", "1000")
    (command,) = [line for line in one.stderr.splitlines() if "element" in line]
    assert command.count(" : ") == 1, "it writes its own alone"
    assert not any("add rule inet mini " in line or "add map" in line for line in one.stderr.splitlines())
    mini.run("stop", "-t", "0", many.out)
    assert _elements() == ["any4 tcp 8080"]


# --- changes -------------------------------------------------------------------------------------------------------


def test_ports_of_a_container_that_runs_are_changed(mini: Mini, host_image: Image, peer: Peer) -> None:
    server = _serve(mini, host_image, "-p", "8080:80")
    ask = Asker(mini, peer)
    mini.run("update", "--publish-add", "8081:80", "--publish-add", "8081:80/udp", server)
    assert ask("peer", "tcp", HERE, 8081) == THERE and ask("peer", "udp", HERE, 8081) == THERE
    assert ask("host", "tcp", "::1", 8081) is not None
    mini.run("update", "--publish-rm", "8080:80", "--publish-add", "8080:90", server)
    assert ask("peer", "tcp", HERE, 8080, 1) is None
    assert mini.run("port", server).lines == [
        "80/tcp -> 0.0.0.0:8081", "80/tcp -> [::]:8081", "80/udp -> 0.0.0.0:8081", "80/udp -> [::]:8081",
        "90/tcp -> 0.0.0.0:8080", "90/tcp -> [::]:8080",
    ]  # fmt: skip
    before = mini.inspect(server)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["update", "-m", "300m", "--publish-rm", "80", "--publish-add", f"{port}:80", server]
        refused = mini.run(*words, check=False)
    assert refused.code == 1 and "address already in use" in refused.stderr
    assert mini.inspect(server) == before
    assert ask("peer", "tcp", HERE, 8081) == THERE
    assert "is not published" in mini.run("update", "--publish-rm", "7", server, check=False).stderr
    mini.run("update", "--publish-rm", "80", "--publish-rm", "80/udp", "--publish-rm", "90", server)
    assert _elements() == [] and ask("host", "tcp", "127.0.0.1", 8081, 1) is None
    mini.run("stop", "-t", "0", server)
    mini.run("update", "--publish-add", "8082:80", server)
    assert mini.run("port", server).lines == []
    mini.run("start", server)
    while (seen := ask("peer", "tcp", HERE, 8082)) is None:
        time.sleep(0.1)
    assert seen == THERE


def test_a_container_without_ports_gets_its_first_while_it_runs(mini: Mini, host_image: Image, peer: Peer) -> None:
    server = _serve(mini, host_image)
    mini.run("update", "--publish-add", "8080:80", server)
    ask = Asker(mini, peer)
    assert ask("peer", "tcp", HERE, 8080) == THERE
    assert ask("host", "tcp", "127.0.0.1", 8080) == mini.inspect(server)["NetworkSettings"]["Gateway"]


def test_ports_follow_a_container_to_another_network(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "front")
    server = _serve(mini, host_image, "--network", "front", "-p", "8080:80")
    ask = Asker(mini, peer)
    assert ask("peer", "tcp", HERE, 8080) == THERE
    mini.run("network", "connect", "bridge", server)
    mini.run("network", "disconnect", "front", server)
    assert ask("peer", "tcp", HERE, 8080) == THERE
    assert (
        ask("host", "tcp", "127.0.0.1", 8080)
        == mini.inspect(server)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    )
    mini.run("network", "disconnect", "bridge", server)
    assert ask("peer", "tcp", HERE, 8080, 1) is None and _elements() == []


def test_each_life_has_its_ports(mini: Mini, host_image: Image, peer: Peer) -> None:
    server = _serve(mini, host_image, "--restart", "always", "-p", "8080:80", "-p", "81")
    ask = Asker(mini, peer)
    for life in (1, 2):
        os.kill(mini.inspect(server)["State"]["Pid"], signal.SIGKILL)
        while mini.inspect(server)["RestartCount"] < life or not (seen := ask("peer", "tcp", HERE, 8080)):
            time.sleep(0.1)
        assert seen == THERE
        assert len([e for e in _elements() if "8080" in e]) == 1
    mini.run("stop", "-t", "0", server)
    assert _elements() == [] and ask("host", "tcp", "127.0.0.1", 8080, 1) is None


# --- what somebody took away, and what a killed monitor left -------------------------------------------------------


@pytest.mark.parametrize("repair", ["reload", "a start"])
def test_flushed_rules_are_put_back(mini: Mini, host_image: Image, peer: Peer, repair: str) -> None:
    server = _serve(mini, host_image, "-p", "8080:80", "-p", "8080:80/udp")
    ask, before = Asker(mini, peer), _elements()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert ask("peer", "tcp", HERE, 8080) == mini.inspect(server)["NetworkSettings"]["Gateway"], "the proxy stands in"
    if repair == "reload":
        mini.run("network", "reload")
    else:
        mini.run("run", "--rm", host_image.name, "true")
    assert _elements() == before
    assert ask("peer", "tcp", HERE, 8080) == THERE and ask("peer", "udp", HERE, 8080) == THERE
    subprocess.run(["nft", "flush", "map", "inet", "mini", "any4"], check=True)
    assert "published ports" in mini.run("network", "reload").lines
    assert _elements() == before and mini.run("network", "reload").lines == []


def test_what_a_killed_monitor_left_is_withdrawn(mini: Mini, host_image: Image) -> None:
    container = _sleep(mini, host_image, "-p", "8080:80")
    os.kill(_monitor(mini, container), signal.SIGKILL)
    while mini.run("ps", "-q").lines:
        time.sleep(0.05)
    assert _elements() == []
    # and where nobody has looked: the next who gets the port replaces what is there
    container = _sleep(mini, host_image, "-p", "8080:80")
    keep = subprocess.run(["nft", "list", "map", "inet", "mini", "any4"], capture_output=True, text=True).stdout
    mini.run("rm", "-f", container)
    subprocess.run(["nft", "-f", "-"], input=keep, text=True, check=True)
    assert "published port" in mini.run("fsck", check=False).stdout
    other = _sleep(mini, host_image, "-p", "8080:80")
    listed = subprocess.run(["nft", "list", "map", "inet", "mini", "any4"], capture_output=True, text=True).stdout
    assert other in listed and container not in listed
    subprocess.run(["nft", "-f", "-"], input=keep.replace("8080", "8099"), text=True, check=True)
    mini.run("fsck", "--repair")
    assert _elements() == ["any4 tcp 8080"]


# --- settings ------------------------------------------------------------------------------------------------------


def test_the_address_where_none_is_named(mini: Mini, host_image: Image, peer: Peer) -> None:
    environ = {"MINI_PUBLISH_ADDRESS": "127.0.0.1"}
    server = mini.run("run", "-d", "-p", "8080:80", host_image.name, "sleep", "1000", env=environ).out
    assert mini.run("port", server).lines == ["80/tcp -> 127.0.0.1:8080"] and _elements() == []
    wide = mini.run("run", "-d", "-p", "0.0.0.0:8081:80", host_image.name, "sleep", "1000", env=environ).out
    assert mini.run("port", wide).lines == ["80/tcp -> 0.0.0.0:8081"]
    mini.run("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "shy")
    shy = mini.detached("--network", "shy", "-p", "8082:80", host_image.name, "sleep", "1000")
    assert mini.run("port", shy).lines == ["80/tcp -> 127.0.0.1:8082"]
    wrong = mini.run("run", "--rm", "-p", "80", host_image.name, "true", env={"MINI_PUBLISH_ADDRESS": "x"}, check=False)
    assert "invalid address for published ports: x" in wrong.stderr and wrong.code == 125


def test_many_descriptors_are_the_monitors_alone(mini: Mini, host_image: Image) -> None:
    words = ["sh", "-c", 'ulimit -Sn 300; exec "$@"', "sh", "./mini", "run", "-d", "-p", "21000-21399:80-479"]
    done = subprocess.run([*words, host_image.name, "sleep", "1000"], env=mini.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    limits = Path(f"/proc/{mini.inspect(done.stdout.strip())['State']['Pid']}/limits").read_text()
    inside = mini.run("exec", done.stdout.strip(), "sh", "-c", "ulimit -Sn").out
    assert "Max open files            300 " in limits and inside == "300"
