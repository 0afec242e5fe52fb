"""Networks of the user's: who reaches whom, what a container has of several, what changes while it runs, and what is mended."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_killed import mend
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.killer import Killer, points
from tests.support.runner import Mini, Result

pytestmark = [pytest.mark.requires("linux", "root", "netns", "iproute2", "nft"), pytest.mark.timeout(300)]

PORT = 7070
# answers with the address that it sees its client at
_SERVE = f"""\
import socket, sys
server = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client, peer = server.accept()
    client.sendall(peer[0].removeprefix("::ffff:").encode())
    client.close()
"""
_ASK = "import socket, sys; print(socket.create_connection((sys.argv[1], {}), timeout=float(sys.argv[2])).recv(99).decode())"


def _serve(mini: Mini, image: Image, *options: str) -> str:
    """A container that serves; its ID."""
    container = mini.detached(*options, image.name, "python3", "-c", _SERVE)
    while "ready" not in mini.run("logs", container).stdout:
        assert mini.inspect(container)["State"]["Running"], mini.run("logs", container)
    return container


def _ask(mini: Mini, container: str, address: str, seconds: float = 10) -> Result:
    """What the server at the address says to the container; an exit code where it is not reached."""
    return mini.run("exec", container, "python3", "-c", _ASK.format(PORT), address, str(seconds), check=False)


def _sleep(mini: Mini, image: Image, *options: str) -> str:
    return mini.detached(*options, image.name, "sleep", "1000")


def _address(mini: Mini, container: str, network: str, key: str = "IPAddress") -> str:
    address: str = mini.inspect(container)["NetworkSettings"]["Networks"][network][key]
    assert address
    return address


def _inside(mini: Mini, container: str, *command: str) -> Any:
    """`ip -j …` in the container's network namespace, as JSON."""
    pid = str(mini.inspect(container)["State"]["Pid"])
    out = subprocess.run(["nsenter", "-t", pid, "-n", "ip", "-j", *command], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def _interfaces(mini: Mini, container: str) -> dict[str, list[str]]:
    """Addresses by interface, without those of a link alone."""
    return {
        link["ifname"]: [a["local"] for a in link["addr_info"] if a["scope"] == "global"]
        for link in _inside(mini, container, "address")
        if link["ifname"].startswith("eth")
    }


def _gateways(mini: Mini, container: str, family: str = "-4") -> list[str]:
    return [route["gateway"] for route in _inside(mini, container, family, "route", "show", "default")]


class Peer:
    """Another host, 192.0.2.2 and 2001:db8::2, which knows no way to the containers; this one is .1 and ::1 to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; read go; exec python3 -c \"$1\"", "sh", _SERVE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.process.stdout.readline()
        _ip(f"link add outer6 type veth peer name peer0 netns {self.process.pid}")
        for command in ("address add 192.0.2.1/24 dev outer6", "address add 2001:db8::1/64 dev outer6 nodad"):
            _ip(command)
        _ip("link set outer6 up")
        for command in (
            "address add 192.0.2.2/24 dev peer0",
            "address add 2001:db8::2/64 dev peer0 nodad",
            "link set peer0 up",
        ):
            self.ip(command)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def ip(self, command: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.process.pid), "-n", "ip", *command.split()], check=True)

    def ask(self, address: str, seconds: float = 10) -> Result:
        command = [
            "nsenter",
            "-t",
            str(self.process.pid),
            "-n",
            "python3",
            "-c",
            _ASK.format(PORT),
            address,
            str(seconds),
        ]
        return Result(subprocess.run(command, capture_output=True, check=False))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        subprocess.run(["ip", "link", "delete", "outer6"], capture_output=True)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def test_networks_are_isolated_from_each_other(mini: Mini, host_image: Image) -> None:
    mini.run("network", "create", "red")
    mini.run("network", "create", "blue")
    server = _serve(mini, host_image, "--network", "red", "--name", "server")
    address = _address(mini, server, "red")
    friend, stranger, default = (
        _sleep(mini, host_image, "--network", "red"),
        _sleep(mini, host_image, "--network", "blue"),
        _sleep(mini, host_image),
    )
    assert _ask(mini, friend, address).out == _address(mini, friend, "red")
    assert _ask(mini, friend, "server").code == 0
    for other in (stranger, default):
        assert _ask(mini, other, address, 0.5).code != 0
        assert (
            "not known" in _ask(mini, other, "server").stderr or "failure in name" in _ask(mini, other, "server").stderr
        )
    # one that is on both is no way from one to the other
    both = _sleep(mini, host_image, "--network", "red", "--network", "blue")
    assert _ask(mini, both, address).out == _address(mini, both, "red")
    assert _ask(mini, stranger, address, 0.5).code != 0


def test_an_internal_network_has_no_way_out(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "--internal", "cell")
    server = _serve(mini, host_image, "--network", "cell")
    inmate = _sleep(mini, host_image, "--network", "cell", "--cap-add", "NET_ADMIN")
    assert _gateways(mini, inmate) == []
    assert _ask(mini, inmate, _address(mini, server, "cell")).code == 0
    assert _ask(mini, inmate, "192.0.2.2", 0.5).code != 0
    # and one that makes itself a route: it is the packet filter that holds
    pid = str(mini.inspect(inmate)["State"]["Pid"])
    gateway = _address(mini, inmate, "cell", "Gateway")
    subprocess.run(["nsenter", "-t", pid, "-n", "ip", "route", "add", "default", "via", gateway], check=True)
    with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("1")
    assert _ask(mini, inmate, "192.0.2.2", 0.5).code != 0
    peer.ip("route add default via 192.0.2.1")
    assert peer.ask(_address(mini, server, "cell"), 0.5).code != 0


def test_without_icc_containers_reach_the_outside_only(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "lonely")
    server = _serve(mini, host_image, "--network", "lonely")
    other = _sleep(mini, host_image, "--network", "lonely")
    assert _ask(mini, other, _address(mini, server, "lonely"), 0.5).code != 0
    assert _ask(mini, other, "192.0.2.2").out == "192.0.2.1"


def test_without_masquerading_the_outside_sees_the_container(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "-o", "com.docker.network.bridge.enable_ip_masquerade=false", "open")
    container = _sleep(mini, host_image, "--network", "open")
    peer.ip("route add default via 192.0.2.1")
    assert _ask(mini, container, "192.0.2.2").out == _address(mini, container, "open")


@pytest.mark.parametrize("subnet", [[], ["--subnet", "fd42:1::/64"]], ids=["chosen", "asked for"])
def test_ipv6(mini: Mini, host_image: Image, peer: Peer, subnet: list[str]) -> None:
    mini.run("network", "create", "--ipv6", *subnet, "six")
    (network,) = mini.run("network", "inspect", "six").json()
    assert network["EnableIPv6"] and network["IPAM"]["Config"][1]["Subnet"].startswith("fd42:1:" if subnet else "fd")
    server = _serve(mini, host_image, "--network", "six")
    client = _sleep(mini, host_image, "--network", "six")
    addresses = [_address(mini, c, "six", "GlobalIPv6Address") for c in (server, client)]
    assert len(set(addresses)) == 2
    assert _ask(mini, client, addresses[0]).out == addresses[1]
    # the host reaches it; other hosts see the host, and do not reach the container
    with subprocess.Popen(["python3", "-c", _ASK.format(PORT), addresses[0], "10"], stdout=subprocess.PIPE) as process:
        assert process.communicate()[0].decode().strip() == _address(mini, client, "six", "IPv6Gateway")
    assert _ask(mini, client, "2001:db8::2").out == "2001:db8::1"
    assert _ask(mini, client, "192.0.2.2").out == "192.0.2.1"
    peer.ip("-6 route add default via 2001:db8::1")
    assert peer.ask(addresses[0], 0.5).code != 0
    assert f"{addresses[1]}\t{client[:12]}\n" in mini.run("exec", client, "cat", "/etc/hosts").stdout
    # CVE-2020-13401: nobody makes itself a router, neither the container's nor the host's
    assert mini.run("exec", client, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").out == "0"
    with open(f"/proc/sys/net/ipv6/conf/br-{network['Id'][:12]}/accept_ra") as file:
        assert file.read() == "0\n"


def test_an_administrators_drop_holds(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "net")
    container = _sleep(mini, host_image, "--network", "net")
    assert _ask(mini, container, "192.0.2.2").code == 0
    try:
        for command in (
            ["add", "table", "ip", "admin"],
            ["add", "chain", "ip", "admin", "forward", "{ type filter hook forward priority 10; policy accept; }"],
            ["add", "rule", "ip", "admin", "forward", "ip", "daddr", "192.0.2.2", "drop"],
        ):
            subprocess.run(["nft", *command], check=True)
        assert _ask(mini, container, "192.0.2.2", 0.5).code != 0
        mini.run("network", "reload")
        assert _ask(mini, container, "192.0.2.2", 0.5).code != 0
    finally:
        subprocess.run(["nft", "delete", "table", "ip", "admin"], check=True)


def test_flushed_rules_and_a_deleted_bridge_are_put_back(mini: Mini, host_image: Image, peer: Peer) -> None:
    mini.run("network", "create", "one")
    (one,) = mini.run("network", "inspect", "one").json()
    bridge = f"br-{one['Id'][:12]}"
    server = _serve(mini, host_image, "--network", "one")
    client = _sleep(mini, host_image, "--network", "one")
    stranger = _sleep(mini, host_image)
    address = _address(mini, server, "one")
    assert mini.run("network", "reload").out == ""

    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert _ask(mini, stranger, address).code == 0, "nothing isolates them now"
    assert mini.run("network", "reload").lines == ["bridge", "one"]
    assert _ask(mini, stranger, address, 0.5).code != 0
    assert _ask(mini, client, "192.0.2.2").out == "192.0.2.1"

    _ip(f"link delete {bridge}")
    assert _ask(mini, client, address, 0.5).code != 0
    assert mini.run("network", "reload").lines == ["one"]
    # on a slow machine the client may still hold that nobody answers for the address
    until(lambda: _ask(mini, client, address).code == 0)
    assert _ask(mini, client, "192.0.2.2").out == "192.0.2.1"

    subprocess.run(["nft", "flush", "ruleset"], check=True)
    mini.run("run", "--rm", "--network", "one", host_image.name, "true")
    assert _ask(mini, stranger, address, 0.5).code != 0, "the next start puts back what its network needs"


def test_several_networks(mini: Mini, host_image: Image) -> None:
    for name, subnet in (("a", "10.61.0.0/24"), ("b", "10.62.0.0/24"), ("c", "10.63.0.0/24")):
        mini.run("network", "create", "--subnet", subnet, *(["--internal"] if name == "a" else []), name)
    asked = "name=c,alias=sea,ip=10.63.0.50,mac-address=02:42:01:02:03:04"
    container = _sleep(mini, host_image, "--network", "a", "--network", "b", "--network", asked)
    assert _interfaces(mini, container) == {"eth0": ["10.61.0.2"], "eth1": ["10.62.0.2"], "eth2": ["10.63.0.50"]}
    assert _gateways(mini, container) == ["10.62.0.1"], (
        "an internal one leads nowhere, and of the others the first by name"
    )
    settings = mini.inspect(container)["NetworkSettings"]
    assert list(settings["Networks"]) == ["a", "b", "c"]
    assert settings["Networks"]["c"]["MacAddress"] == "02:42:01:02:03:04"
    assert settings["Networks"]["c"]["Aliases"] == ["sea", container[:12]]
    other = _sleep(mini, host_image, "--network", "name=b", "--network", "name=c,gw-priority=7")
    assert _gateways(mini, other) == ["10.63.0.1"]
    hosts = mini.run("exec", container, "cat", "/etc/hosts").lines[-3:]
    assert hosts == [f"{address}\t{container[:12]}" for address in ("10.61.0.2", "10.62.0.2", "10.63.0.50")]


def test_connected_and_disconnected_while_it_runs(mini: Mini, host_image: Image, peer: Peer) -> None:
    for name, subnet in (("x", "10.61.0.0/24"), ("y", "10.62.0.0/24")):
        mini.run("network", "create", "--subnet", subnet, name)
    server = _serve(mini, host_image, "--network", "y", "--name", "server")
    it = _sleep(mini, host_image, "--network", "x", "--name", "it")
    assert _ask(mini, it, "server", 1).code != 0

    mini.run("network", "connect", "--ip", "10.62.0.77", "--alias", "alias", "y", "it")
    assert _interfaces(mini, it) == {"eth0": ["10.61.0.2"], "eth1": ["10.62.0.77"]}
    assert _ask(mini, it, "server").out == "10.62.0.77"
    assert (
        "10.62.0.77"
        in mini.run("exec", server, "python3", "-c", "import socket; print(socket.gethostbyname('alias'))").out
    )
    assert _gateways(mini, it) == ["10.61.0.1"]
    (shown,) = mini.run("network", "inspect", "y").json()
    assert {c["Name"]: c["IPv4Address"] for c in shown["Containers"].values()}["it"] == "10.62.0.77/24"

    mini.run("network", "disconnect", "x", "it")
    assert _interfaces(mini, it) == {"eth1": ["10.62.0.77"]}
    assert _gateways(mini, it) == ["10.62.0.1"]
    assert _ask(mini, it, "192.0.2.2").out == "192.0.2.1"
    hosts = mini.run("exec", "it", "cat", "/etc/hosts").stdout
    assert "10.61.0.2" not in hosts and f"10.62.0.77\t{it[:12]}" in hosts

    mini.run("restart", "-t", "0", "it")
    assert _interfaces(mini, it) == {"eth0": ["10.62.0.77"]}, "it begins with what it has been left with"
    mini.run("network", "disconnect", "y", "it")
    assert _interfaces(mini, it) == {} and _gateways(mini, it) == []
    mini.run("network", "connect", "x", "it")
    assert _ask(mini, it, "192.0.2.2").out == "192.0.2.1"
    mini.run("network", "disconnect", "x", "it")
    mini.run("restart", "-t", "0", "it")
    assert list(mini.inspect(it)["NetworkSettings"]["Networks"]) == ["x"], (
        "left with none it begins with its first, as in Docker"
    )
    assert list(_interfaces(mini, it)) == ["eth0"]


def test_a_stopped_container_is_connected_for_its_next_life(mini: Mini, host_image: Image) -> None:
    mini.run("network", "create", "later")
    mini.run("create", "--name", "it", host_image.name, "sleep", "1000")
    mini.run("network", "connect", "later", "it")
    mini.run("network", "disconnect", "bridge", "it")
    mini.run("start", "it")
    assert list(_interfaces(mini, "it")) == ["eth0"] and list(mini.inspect("it")["NetworkSettings"]["Networks"]) == [
        "later"
    ]
    refused = mini.run("network", "rm", "later", check=False)
    assert refused.code == 1 and "has active endpoints" in refused.stderr
    mini.run("stop", "-t", "0", "it")
    mini.run("network", "rm", "later")
    assert "network later not found" in mini.run("start", "it", check=False).stderr


def test_an_address_is_kept_from_life_to_life(mini: Mini, host_image: Image) -> None:
    """`--restart` begins anew while others take addresses."""
    mini.run("network", "create", "--subnet", "10.61.0.0/24", "net")
    it = mini.detached("--restart", "always", "--network", "net", host_image.name, "sleep", "0.3")
    _sleep(mini, host_image, "--network", "net")
    while mini.inspect(it)["RestartCount"] < 2:
        pass
    (network,) = mini.run("network", "inspect", "net").json()
    leases = os.listdir(f"{mini.root}/networks/net/leases")
    assert sorted(leases) == ["10.61.0.2", "10.61.0.3"], network


def test_links(mini: Mini, host_image: Image) -> None:
    """On the default network by /etc/hosts, on others by a name that the container alone resolves."""
    default = _serve(mini, host_image, "--name", "one")
    linked = _sleep(mini, host_image, "--link", "one:uno")
    address = _address(mini, default, "bridge")
    assert f"{address}\tuno {default[:12]} one" in mini.run("exec", linked, "cat", "/etc/hosts").lines
    mini.run("network", "create", "net")
    server = _serve(mini, host_image, "--network", "net", "--name", "two")
    linked, other = (
        _sleep(mini, host_image, "--network", "net", "--link", "two:due"),
        _sleep(mini, host_image, "--network", "net"),
    )
    assert _ask(mini, linked, "due").out == _address(mini, linked, "net") != _address(mini, server, "net")
    assert _ask(mini, other, "due").code != 0


def test_subnets_are_chosen_free_of_the_hosts_routes(mini: Mini, host_image: Image) -> None:
    _ip("link add busy0 type bridge")
    try:
        _ip("address add 172.18.5.1/24 dev busy0")
        _ip("link set busy0 up")
        taken = []
        for name in ("s1", "s2"):
            mini.run("network", "create", name)
            taken.append(mini.run("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name).out)
        assert taken == ["172.17.0.0/16", "172.19.0.0/16"]
        refused = mini.run("network", "create", "--subnet", "172.18.0.0/16", "s3", check=False)
        assert refused.code == 1 and "overlaps the host's route to 172.18.5.0/24" in refused.stderr
        assert mini.run("network", "ls", "-q", "--filter", "name=s3").out == ""
    finally:
        _ip("link delete busy0")


def test_ranges_and_reserved_addresses(mini: Mini, host_image: Image) -> None:
    mini.run(
        "network", "create", "--subnet", "10.61.0.0/24", "--ip-range", "10.61.0.128/30", "--gateway", "10.61.0.254",
        "--aux-address", "router=10.61.0.129", "net",
    )  # fmt: skip
    given = {_address(mini, _sleep(mini, host_image, "--network", "net"), "net") for _ in range(3)}
    assert given == {"10.61.0.128", "10.61.0.130", "10.61.0.131"}
    refused = mini.run("run", "--rm", "--network", "net", host_image.name, "true", check=False)
    assert refused.code == 125 and "no available IPv4 addresses" in refused.stderr
    for address in ("10.61.0.129", "10.61.0.254", "10.61.0.130"):
        refused = mini.run("run", "--rm", "--network", "net", "--ip", address, host_image.name, "true", check=False)
        assert refused.code == 125 and "Address already in use" in refused.stderr
    assert mini.run("run", "--rm", "--network", "net", "--ip", "10.61.0.9", host_image.name, "true").code == 0


def test_concurrent_commands(mini: Mini, host_image: Image) -> None:
    """Eight create the same name, eight others; containers take the same wanted address; removals meet starts."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def create(name: str) -> int:
            return mini.run("network", "create", name, check=False).code

        same = list(pool.map(create, ["same"] * 6))
        assert sorted(same) == [0, 1, 1, 1, 1, 1]
        assert list(pool.map(create, [f"n{i}" for i in range(6)])) == [0] * 6
        shown = mini.run("network", "inspect", *(f"n{i}" for i in range(6))).json()
        assert len({network["IPAM"]["Config"][0]["Subnet"] for network in shown}) == 6

        def start(_: int) -> int:
            return mini.run("run", "--rm", "--network", "same", host_image.name, "true", check=False).code

        removed = pool.submit(mini.run, "network", "rm", "n0", "n1", "n2")
        assert list(pool.map(start, range(4))) == [0] * 4
        removed.result()
    mini.run("network", "prune", "-f")
    assert mini.run("network", "ls", "-q", "--filter", "type=custom").out == ""
    assert mini.run("network", "reload").out == ""


@pytest.mark.parametrize(
    "command", ["network create net", "network rm net", "network connect net it", "network disconnect net it"]
)
def test_killed(fresh_mini: Mini, host_image: Image, command: str) -> None:
    """SIGKILL at any step: what is there is whole, and what was asked for can be had."""
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)

    def prepare() -> None:
        mini.remove_containers()
        mini.remove_networks()
        if "create" not in command:
            mini.run("network", "create", "net")
        if " it" in command:
            networks = ["--network", "net"] if "disconnect" in command else []
            mini.run("run", "-d", "--name", "it", *networks, host_image.name, "sleep", "100")

    prepare()
    with Killer(mini.environ) as killer:
        total = killer.run(0, *command.split())
        assert total >= 3
        for step in points(total, 8):
            prepare()
            killer.run(step, *command.split())
            mend(mini, step)
            again = mini.run(*command.split(), check=False)
            done = ("already exists", "not found", "is not connected")
            assert again.code == 0 or any(words in again.stderr for words in done), again
            if "connect" in command:
                shown = mini.inspect("it")["NetworkSettings"]["Networks"]
                assert ("net" in shown) == (" connect" in command)
                assert len(_interfaces(mini, "it")) == len(shown)
            elif "create" in command:
                assert mini.run("run", "--rm", "--network", "net", host_image.name, "echo", "well").out == "well"


def test_what_it_says_with_debug(mini: Mini, host_image: Image) -> None:
    """Every change as the command that would do it, before the container begins."""
    said = mini.run("--debug", "network", "create", "--subnet", "10.61.0.0/24", "net").stderr.splitlines()
    bridge = next(line.split()[3] for line in said if line.startswith("ip link add"))
    assert f"nft add rule inet mini postrouting 'ip saddr 10.61.0.0/24 oifname != \"{bridge}\" masquerade'" in said
    said = mini.run("--debug", "run", "--rm", "--network", "net", host_image.name, "true").stderr.splitlines()
    assert any(line.startswith("ip link add veth") and f"master {bridge}" in line for line in said)
    assert any(line.endswith("ip route add default via 10.61.0.1 dev eth0") for line in said)
    assert any(line.startswith("nsenter") and "ip daddr 127.0.0.11 udp dport 53 dnat to" in line for line in said)
    said = mini.run("--debug", "network", "rm", "net").stderr.splitlines()
    assert f"ip link delete {bridge}" in said


def test_many_started_at_once(mini: Mini, host_image: Image) -> None:
    """Each has an address, a MAC and an endpoint of its own (250 on one bridge: tests/kernel/test_network.py)."""
    mini.run("network", "create", "--subnet", "10.61.0.0/24", "net")
    command = ["run", "-d", "--network", "net", host_image.name, "sleep", "1000"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: mini.run(*command, timeout=200).out, range(24)))
    (network,) = mini.run("network", "inspect", "net").json()
    assert set(network["Containers"]) == set(made)
    for key in ("IPv4Address", "MacAddress", "EndpointID"):
        assert len({c[key] for c in network["Containers"].values()}) == len(made)
