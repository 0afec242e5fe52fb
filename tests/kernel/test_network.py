"""Bridge, veth, leases and NAT on the real kernel, with packets. Every test has a host of its own: a network namespace.

The test process visits the namespaces (setns) to open sockets there: a socket stays where it was made.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Conflict, MiniError, RuntimeFault, Unsupported
from engine.paths import Paths
from engine.runtime.network import attach, bridge, expressions, ipam, nat, netlink, nftables
from engine.runtime.network.model import Endpoint, Network, Networks
from tests.support import netns
from tests.support.conformance import until

pytestmark = pytest.mark.requires("root", "netns", "nft", "iproute2")

PORT = 7000


class Host:
    """A host and what runs on it: processes that do nothing but hold a network namespace."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(str(root))
        self.lock = self.paths.lock("network")
        self.networks = Networks(self.paths, "minitest0", "172.29.0.0/16")
        self._holders: list[int] = []

    def namespace(self) -> int:
        """The pid of a process in a new network namespace."""
        pid = netns.hold()
        self._holders.append(pid)
        return pid

    def end(self, pid: int) -> None:
        self._holders.remove(pid)
        netns.end(pid)

    def close(self) -> None:
        for pid in list(self._holders):
            self.end(pid)

    def container(self, network: Network | None = None) -> tuple[int, Endpoint]:
        """A new namespace, attached to the network with a leased address."""
        network = network or self.networks.get("bridge")
        bridge.ensure(network, self.lock)
        pid = self.namespace()
        address = ipam.reserve(self.paths.leases(network.name), network.subnet, network.gateway, f"container-{pid}")
        return pid, attach.attach(network, pid, address, None, f"veth{pid}")

    def outside_world(self) -> int:
        """Another host, 198.51.100.2, that knows no way back to the containers. This host is 198.51.100.1 to it."""
        pid = self.namespace()
        _run(f"ip link add up0 type veth peer name up1 netns {pid}")
        _run("ip address add 198.51.100.1/24 dev up0")
        _run("ip link set up0 up")
        for command in ("ip address add 198.51.100.2/24 dev up1", "ip link set up1 up"):
            _run(f"nsenter -t {pid} -n {command}")
        return pid


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with netns.another():
        host = Host(tmp_path / "root")
        try:
            yield host
        finally:
            host.close()


def _run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(_run("ip -j link show up"))}


def _rules() -> list[str]:
    """The rules of every table, one string each, without handles."""
    lines = _run("nft list ruleset").splitlines()
    return [line.strip() for line in lines if " comment " in line]


@contextlib.contextmanager
def _listening(pid: int | None) -> Iterator[socket.socket]:
    """A server in that namespace (None: the host's). The kernel completes connections before they are accepted."""

    def listen() -> socket.socket:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", PORT))
        server.listen()
        server.settimeout(30)
        return server

    with netns.inside(pid or os.getpid(), listen) as server:
        yield server


def _connect(pid: int | None, address: str, seconds: float = 30) -> socket.socket:
    return netns.inside(pid or os.getpid(), lambda: socket.create_connection((address, PORT), timeout=seconds))


def _seen_from(server: socket.socket, pid: int | None, address: str) -> str:
    """Who the server sees when somebody in the namespace of `pid` connects to `address` and sends a word."""
    with _connect(pid, address) as client:
        connection, peer = server.accept()
        with connection:
            client.sendall(b"word")
            connection.settimeout(30)
            assert connection.recv(4) == b"word"
            connection.sendall(b"back")
            assert client.recv(4) == b"back"
            return str(peer[0])


def _cannot_connect(pid: int | None, address: str) -> bool:
    try:
        _connect(pid, address, 0.4).close()
    except OSError:
        return True
    return False


# --- packets -------------------------------------------------------------------------------------------------------


def test_containers_and_host_reach_each_other(host: Host) -> None:
    (first, one), (second, two) = host.container(), host.container()
    assert (one.address, two.address) == ("172.29.0.2", "172.29.0.3")
    with _listening(second) as server:
        assert _seen_from(server, first, two.address) == one.address
        assert _seen_from(server, None, two.address) == "172.29.0.1"
        assert _seen_from(server, second, "127.0.0.1") == "127.0.0.1", "lo is up"
    with _listening(None) as server:
        assert _seen_from(server, first, "172.29.0.1") == one.address


def test_outward_with_the_hosts_address_and_not_inward(host: Host) -> None:
    container, endpoint = host.container()
    world = host.outside_world()
    with _listening(world) as server:
        assert _seen_from(server, container, "198.51.100.2") == "198.51.100.1"
    _run(f"nsenter -t {world} -n ip route add 172.29.0.0/16 via 198.51.100.1")
    with _listening(container) as server:
        assert _cannot_connect(world, endpoint.address)
        _run("nft flush ruleset")
        assert _seen_from(server, world, endpoint.address) == "198.51.100.2", "it is the rule that kept it out"


def test_networks_are_kept_apart(host: Host) -> None:
    other = Network("other", "b" * 64, "bridge", "", bridge="minitest1", subnet="172.30.0.0/24")
    first, one = host.container()
    second, two = host.container(other)
    with _listening(second) as server:
        assert _cannot_connect(first, two.address)
        assert _seen_from(server, None, two.address) == "172.30.0.1"
    with _listening(first):
        assert _cannot_connect(second, one.address)


def test_an_internal_network_has_no_way_out(host: Host) -> None:
    inner = Network("inner", "b" * 64, "bridge", "", bridge="minitest1", subnet="172.30.0.0/24", internal=True)
    (first, one), (second, two) = host.container(inner), host.container(inner)
    world = host.outside_world()
    _run(f"nsenter -t {world} -n ip route add 172.30.0.0/24 via 198.51.100.1")
    assert "default" not in _run(f"nsenter -t {first} -n ip route")
    # a privileged container makes itself a way: the packet filter holds
    _run(f"nsenter -t {first} -n ip route add default via 172.30.0.1")
    Path(bridge.IP_FORWARD).write_text("1")
    with _listening(world) as server:
        assert _cannot_connect(first, "198.51.100.2")
        _run("nft flush ruleset")
        assert _seen_from(server, first, "198.51.100.2") == one.address
    bridge.ensure(inner, host.lock)
    with _listening(second) as server:
        assert _seen_from(server, first, two.address) == one.address


def test_an_administrators_drop_holds(host: Host) -> None:
    container, _ = host.container()
    world = host.outside_world()
    _run("nft add table ip admin")
    hook = "{ type filter hook forward priority 100; policy accept; }"
    subprocess.run(["nft", f"add chain ip admin forward {hook}"], check=True)
    with _listening(world) as server:
        assert _seen_from(server, container, "198.51.100.2") == "198.51.100.1"
        _run("nft add rule ip admin forward ip daddr 198.51.100.2 drop")
        assert _cannot_connect(container, "198.51.100.2")


# --- what the container has ----------------------------------------------------------------------------------------


def test_the_containers_interface(host: Host) -> None:
    pid, endpoint = host.container()

    def shown() -> Any:
        return json.loads(_run(f"nsenter -t {pid} -n ip -j address show dev eth0"))

    # the kernel has a worker tell it (net/core/link_watch.c)
    until(lambda: shown()[0]["operstate"] == "UP")
    [eth0] = shown()
    assert (eth0["address"], eth0["mtu"]) == ("02:42:ac:1d:00:02", 1500)
    [address] = eth0["addr_info"]
    assert (address["local"], address["prefixlen"], address["broadcast"]) == ("172.29.0.2", 16, "172.29.255.255")
    [default] = json.loads(_run(f"nsenter -t {pid} -n ip -j route show default"))
    assert (default["gateway"], default["dev"]) == ("172.29.0.1", "eth0")
    expected = ("02:42:ac:1d:00:02", "172.29.0.1", 16, "eth0", f"veth{pid}")
    assert (endpoint.mac, endpoint.gateway, endpoint.prefix, endpoint.ifname, endpoint.host_ifname) == expected


def test_a_mac_of_choice(host: Host) -> None:
    network = host.networks.get("bridge")
    bridge.ensure(network, host.lock)
    pid = host.namespace()
    attach.attach(network, pid, "172.29.0.9", "02:00:00:00:00:aa", "vethmac")
    assert "02:00:00:00:00:aa" in _run(f"nsenter -t {pid} -n ip link show dev eth0")


def test_router_advertisements_change_nothing(host: Host) -> None:
    """CVE-2020-13401, on both sides: the container's interface has no IPv6, the bridge takes no advertisement."""
    pid, _ = host.container()
    read = Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").read_text
    assert netns.inside(pid, read) == "1\n"
    assert Path("/proc/sys/net/ipv6/conf/minitest0/accept_ra").read_text() == "0\n"


def test_none_has_loopback_alone(host: Host) -> None:
    pid = host.namespace()
    attach.loopback_up(pid)
    assert netns.inside(pid, _links) == {"lo"}


# --- making, repairing, removing -----------------------------------------------------------------------------------


def test_ensure_is_idempotent_and_quiet_when_all_is_there(host: Host) -> None:
    network = host.networks.get("bridge")
    first: list[str] = []
    second: list[str] = []
    bridge.ensure(network, host.lock, first.append)
    bridge.ensure(network, host.lock, second.append)
    assert second == []
    assert [command.split()[0] for command in first].count("ip") == 3
    assert len(_rules()) == len(nat.rules(network))


def test_the_plan_is_the_commands_that_do_the_same(host: Host) -> None:
    """What --debug prints, run by a shell on another host, gives the same bridge, rules and container."""
    network = host.networks.get("bridge")
    pid = host.namespace()
    plan: list[str] = []
    bridge.ensure(network, host.lock, plan.append)
    attach.attach(network, pid, "172.29.0.2", None, "vethplan", log=plan.append)
    own = _state(pid)
    twin = host.namespace()
    script = "set -e\n" + "\n".join(plan).replace(str(pid), str(twin))

    def elsewhere() -> Any:
        subprocess.run(["sh", "-c", script], check=True, capture_output=True)
        return _state(twin)

    assert netns.inside(host.namespace(), elsewhere) == own


def _state(pid: int) -> Any:
    """Links, addresses, routes on both sides, and the rules, without what the kernel numbers."""
    links = {}
    for side, prefix in (("host", ""), ("container", f"nsenter -t {pid} -n ")):
        for link in json.loads(_run(f"{prefix}ip -j -d address show")):
            if link["ifname"].startswith(("mini", "veth", "eth")):
                addresses = sorted((a["local"], a["prefixlen"]) for a in link["addr_info"] if a["family"] == "inet")
                kind = link["linkinfo"]["info_kind"]
                mac = link["address"] if link["ifname"] != "vethplan" else None  # the host end's is random
                links[side, link["ifname"]] = (
                    kind,
                    mac,
                    link["mtu"],
                    link.get("master"),
                    "UP" in link["flags"],
                    addresses,
                )
    route = _run(f"nsenter -t {pid} -n ip route show default").strip()
    ruleset = [line.split(" comment ")[0].rstrip() for line in _run("nft list ruleset").splitlines()]
    return links, route, ruleset, Path(bridge.IP_FORWARD).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "nft delete table inet mini",
        "nft flush chain inet mini postrouting",
        "ip link set minitest0 down",
        "ip address flush dev minitest0",
        "ip link delete minitest0",
        "ip address flush dev minitest0; ip address add 172.29.0.1/24 dev minitest0",
        "ip address flush dev minitest0; ip address add 172.29.0.7/16 dev minitest0; "
        "ip address add 172.29.0.1/16 dev minitest0",
        "sysctl -qw net.ipv4.ip_forward=0",
    ],
)
def test_what_somebody_else_took_away_is_put_back(host: Host, damage: str) -> None:
    network = host.networks.get("bridge")
    bridge.ensure(network, host.lock)
    before = (_rules(), _links(), _run("ip -4 -o address show dev minitest0"))
    assert before[0] and "minitest0" in before[1] and "172.29.0.1/16" in before[2]
    for command in damage.split("; "):
        _run(command)
    bridge.ensure(network, host.lock)
    rules, links, address = _rules(), _links(), _run("ip -4 -o address show dev minitest0")
    assert (sorted(rules), links) == (sorted(before[0]), before[1])
    assert address.split()[2:6] == before[2].split()[2:6] and len(address.splitlines()) == 1
    assert Path(bridge.IP_FORWARD).read_text() == "1\n"


def test_another_subnet_takes_the_place_of_the_old_one(host: Host) -> None:
    bridge.ensure(host.networks.get("bridge"), host.lock)
    bridge.ensure(Networks(host.paths, "minitest0", "172.31.0.0/24").get("bridge"), host.lock)
    assert [line.split()[3] for line in _run("ip -4 -o address show dev minitest0").splitlines()] == ["172.31.0.1/24"]
    assert all("ip saddr 172.31.0.0/24" in rule for rule in _rules() if "masquerade" in rule)
    assert any("masquerade" in rule for rule in _rules())


def test_two_minis_share_the_table_and_the_last_one_takes_it_away(host: Host) -> None:
    mine = host.networks.get("bridge")
    other = Network("bridge", "b" * 64, "bridge", "", bridge="minitest1", subnet="172.30.0.0/24")
    bridge.ensure(mine, host.lock)
    bridge.ensure(other, host.lock + "-of-another")
    assert sum("established" in rule for rule in _rules()) == 1
    bridge.remove(mine)
    bridge.remove(mine)
    assert _links() == {"lo"} or "minitest0" not in _links()
    assert bridge.ready(other)
    bridge.remove(other)
    assert _run("nft list ruleset") == ""
    assert "minitest1" not in _run("ip link")


def test_many_at_once_make_one_of_each(host: Host) -> None:
    """Some share a lock and a network, others have networks of their own under locks of their own."""
    networks = [
        Network(f"n{i}", f"{i}" * 64, "bridge", "", bridge=f"minitest{i}", subnet=f"172.30.{i}.0/24") for i in range(4)
    ]
    children = []
    for network in [*networks, *networks]:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                bridge.ensure(network, f"{host.lock}-{network.name}")
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * len(children)
    assert all(bridge.ready(network) for network in networks)
    texts = {(rule.chain, rule.comment) for network in networks for rule in nat.rules(network)}
    assert len(_rules()) == len(texts)


def test_detach_leaves_nothing_and_is_idempotent(host: Host) -> None:
    pid, endpoint = host.container()
    assert endpoint.host_ifname in _links()
    attach.detach(endpoint.host_ifname)
    attach.detach(endpoint.host_ifname)
    assert endpoint.host_ifname not in _run("ip link")
    assert "eth0" not in _run(f"nsenter -t {pid} -n ip link")


def test_a_failed_attach_leaves_nothing(host: Host) -> None:
    network = host.networks.get("bridge")
    bridge.ensure(network, host.lock)
    pid = host.namespace()
    network.gateway = "192.0.2.1"  # not on the link: the default route is refused after the pair was made
    with pytest.raises(RuntimeFault, match=r"ip route add default via 192\.0\.2\.1"):
        attach.attach(network, pid, "172.29.0.2", None, "vethfails")
    assert "vethfails" not in _run("ip link")
    assert "eth0" not in _run(f"nsenter -t {pid} -n ip link")


def test_attaching_to_a_dead_process_or_without_a_bridge_is_told(host: Host) -> None:
    network = host.networks.get("bridge")
    pid = host.namespace()
    with pytest.raises(RuntimeFault, match="minitest0"):
        attach.attach(network, pid, "172.29.0.2", None, "vethx")
    bridge.ensure(network, host.lock)
    host.end(pid)
    with pytest.raises(MiniError):
        attach.attach(network, pid, "172.29.0.2", None, "vethx")
    assert "vethx" not in _run("ip link")


def test_a_pair_of_the_containers_former_life_is_replaced(host: Host) -> None:
    old, endpoint = host.container()
    new = host.namespace()
    attach.attach(host.networks.get("bridge"), new, endpoint.address, None, endpoint.host_ifname)
    assert "eth0" not in _run(f"nsenter -t {old} -n ip link")
    with _listening(new) as server:
        assert _seen_from(server, None, endpoint.address) == "172.29.0.1"


def test_an_interface_of_somebody_else_is_left_alone(host: Host) -> None:
    network = host.networks.get("bridge")
    bridge.ensure(network, host.lock)
    _run("ip link add vethother type veth peer name vethanother")
    with pytest.raises(Conflict, match="vethother"):
        attach.attach(network, host.namespace(), "172.29.0.2", None, "vethother")
    assert "vethother" in _run("ip link")


def test_a_bridge_name_that_is_taken_by_something_else(host: Host) -> None:
    _run("ip link add minitest0 type veth peer name other")
    with pytest.raises(Conflict, match="minitest0 exists and is not a bridge"):
        bridge.ensure(host.networks.get("bridge"), host.lock)


def test_a_subnet_that_the_host_reaches_elsewhere(host: Host) -> None:
    _run("ip link add lan type veth peer name lan-peer")
    _run("ip address add 172.29.40.1/24 dev lan")
    _run("ip link set lan up")
    with pytest.raises(Conflict, match=r"172\.29\.0\.0/16 .* overlaps the host's route to 172\.29\.40\.0/24"):
        bridge.ensure(host.networks.get("bridge"), host.lock)
    assert "minitest0" not in _run("ip link")
    free = Networks(host.paths, "minitest0", "172.30.0.0/16").get("bridge")
    bridge.ensure(free, host.lock)
    with pytest.raises(Conflict, match="overlaps"):
        bridge.ensure(host.networks.get("bridge"), host.lock)
    assert bridge.ready(free)


def test_without_privileges_it_is_told(host: Host) -> None:
    bridge.ensure(host.networks.get("bridge"), host.lock)
    network = host.networks.get("bridge")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            try:
                nat.present(network)
            except Unsupported as e:
                code = 0 if "root" in e.message else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_transaction_is_refused_when_the_rules_changed_meanwhile(host: Host) -> None:
    bridge.ensure(host.networks.get("bridge"), host.lock)
    with netlink.Netlink(netlink.NETLINK_NETFILTER) as filter_:
        generation = nftables.generation_of(filter_)
        _run("nft add table ip admin")
        assert not nftables.commit(filter_, nat.frame(), generation)
        assert nftables.commit(filter_, nat.frame(), nftables.generation_of(filter_))


def test_a_transaction_is_all_or_nothing(host: Host) -> None:
    bridge.ensure(host.networks.get("bridge"), host.lock)
    before = _rules()
    added = nat.TABLE.add(nftables.Rule(nat.FORWARD, "x", "accept", expressions.verdict(1)))
    impossible = nat.TABLE.add(nftables.Rule("nosuchchain", "x", "accept", expressions.verdict(1)))
    with netlink.Netlink(netlink.NETLINK_NETFILTER) as filter_:
        with pytest.raises(Unsupported, match="nosuchchain"):
            nftables.commit(filter_, [added, impossible], nftables.generation_of(filter_))
    assert _rules() == before


def test_250_containers_on_one_bridge(host: Host) -> None:
    network = Network("full", "c" * 64, "bridge", "", bridge="minitest2", subnet="172.30.0.0/24")
    bridge.ensure(network, host.lock)
    pids = [host.namespace() for _ in range(250)]
    children = []
    for part in range(5):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for pid in pids[part * 50 : part * 50 + 50]:
                    address = ipam.reserve(
                        host.paths.leases("full"), network.subnet, network.gateway, f"container-{pid}"
                    )
                    attach.attach(network, pid, address, None, f"veth{pid}")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    leases = ipam.leases(host.paths.leases("full"))
    assert set(leases.values()) == {f"container-{pid}" for pid in pids} and len(leases) == 250
    address_of = {owner: address for address, owner in leases.items()}
    for first, last in ((pids[0], pids[249]), (pids[120], pids[0])):
        with _listening(last) as server:
            assert _seen_from(server, first, address_of[f"container-{last}"]) == address_of[f"container-{first}"]


def test_ports_without_icc_are_isolated(host: Host) -> None:
    options = {"com.docker.network.bridge.enable_icc": "false"}
    network = Network("lonely", "d" * 64, "bridge", "", bridge="minitest3", subnet="172.30.1.0/24", options=options)
    (first, _), (second, two) = host.container(network), host.container(network)
    with _listening(second) as server:
        assert _cannot_connect(first, two.address)
        # nor by way of the bridge's own interface
        _run(f"nsenter -t {first} -n ip route add {two.address}/32 via 172.30.1.1")
        assert _cannot_connect(first, two.address)
        assert _seen_from(server, None, two.address) == "172.30.1.1"


def test_ipv6(host: Host) -> None:
    ipv6 = {"subnet": "fd42:7::/64", "gateway": "fd42:7::1", "ip_range": "", "aux": {}}
    network = Network("six", "e" * 64, "bridge", "", bridge="minitest4", subnet="172.30.2.0/24", ipv6=ipv6)
    assert not bridge.ready(network)
    bridge.ensure(network, host.lock)
    assert bridge.ready(network)
    pid = host.namespace()
    attach.attach(network, pid, "172.30.2.2", None, "vethsix", address6="fd42:7::2")
    addresses = json.loads(_run(f"nsenter -t {pid} -n ip -j -6 address show dev eth0"))[0]["addr_info"]
    assert "fd42:7::2" in [a["local"] for a in addresses]
    assert "via fd42:7::1" in _run(f"nsenter -t {pid} -n ip -6 route show default")
    assert netns.inside(pid, lambda: Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").read_text()) == "0\n"
    assert any("ip6 saddr fd42:7::/64" in rule for rule in _rules())
    _run("ip -6 address delete fd42:7::1/64 dev minitest4")
    assert not bridge.ready(network)
    bridge.ensure(network, host.lock)
    assert bridge.ready(network)
    attach.set_default(pid, "eth0", ["172.30.2.9", "fd42:7::9"])
    assert "via fd42:7::9" in _run(f"nsenter -t {pid} -n ip -6 route show default")
    assert "via 172.30.2.9" in _run(f"nsenter -t {pid} -n ip route show default")
