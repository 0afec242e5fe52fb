"""Making a bridge, with pyroute2: the part of networking that happens once a boot, and so is not in a hurry.

ip link add mini0 address 02:42:ac:1d:00:01 mtu 1500 type bridge stp_state 0
sysctl -w net.ipv6.conf.mini0.accept_ra=0
ip address add 172.29.0.1/16 broadcast 172.29.255.255 dev mini0
nft …                                                                   (nat.py)
ip link set mini0 up
sysctl -w net.ipv4.ip_forward=1
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from engine.errors import Conflict, RuntimeFault, Unsupported
from engine.runtime.network import nat
from engine.runtime.network.attach import mac_of
from engine.runtime.network.bridge import IP_FORWARD
from engine.runtime.network.ipam import Subnet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Log

    Step = tuple[str, Callable[[], object]]

_AF_INET = 2
_RT_TABLE_MAIN = 254


def create(network: Network, log: Log | None = None) -> None:
    """Brings the network's bridge and rules to where they must be, from whatever is there. The caller holds the lock.

    The address comes before the rules, the rules before anything is forwarded: no packet passes unfiltered. Raises
    Conflict for a subnet that the host reaches elsewhere, Unsupported, RuntimeFault.
    """
    try:
        with IPRoute() as route:
            _do(_link_steps(route, network), log)
            nat.install(network, log)
            _do(_start_steps(route, network), log)
    except NetlinkError as e:
        raise _refused(network, e.code) from e


def _do(steps: Iterator[Step], log: Log | None) -> None:
    for command, change in steps:
        if log:
            log(command)
        change()


def _link_steps(route: IPRoute, network: Network) -> Iterator[Step]:
    bridge = network.bridge
    link = _link(route, bridge)
    index = link["index"] if link else 0
    if not index or (network.gateway, network.prefix) not in _addresses(route, index):
        _check_subnet_free(route, network, index)
    if link is None:
        mac = mac_of(network.gateway)
        # A fixed MAC: otherwise the bridge's changes with its ports, and stale ARP entries drop packets.
        yield (
            f"ip link add {bridge} address {mac} mtu {network.mtu} type bridge stp_state 0",
            partial(route.link, "add", ifname=bridge, kind="bridge", address=mac, mtu=network.mtu, br_stp_state=0),
        )
    elif _kind(link) != "bridge":
        raise Conflict(
            f"the interface {bridge} exists and is not a bridge", "choose another bridge name with MINI_BRIDGE"
        )
    # CVE-2020-13401: a container's router advertisement must not configure the host.
    yield from _sysctl(f"/proc/sys/net/ipv6/conf/{bridge}/accept_ra", "0", optional=True)
    yield from _address_steps(route, network)


def _address_steps(route: IPRoute, network: Network) -> Iterator[Step]:
    """The gateway's address as the first; others may follow it, but where it is not the first none can stay."""
    index = route.link_lookup(ifname=network.bridge)[0]
    address, prefix = network.gateway, network.prefix
    broadcast = Subnet(network.subnet).broadcast
    present = _addresses(route, index)
    if present[:1] == [(address, prefix)]:
        return
    if present:
        yield f"ip -4 address flush dev {network.bridge}", partial(route.flush_addr, index=index, family=_AF_INET)
    yield (
        f"ip address add {address}/{prefix} broadcast {broadcast} dev {network.bridge}",
        partial(route.addr, "add", index=index, address=address, prefixlen=prefix, broadcast=broadcast),
    )


def _addresses(route: IPRoute, index: int) -> list[tuple[str, int]]:
    """The IPv4 addresses of an interface, each with its prefix length, in the kernel's order."""
    return [(a.get("IFA_LOCAL"), a["prefixlen"]) for a in route.get_addr(index=index, family=_AF_INET)]


def _start_steps(route: IPRoute, network: Network) -> Iterator[Step]:
    index = route.link_lookup(ifname=network.bridge)[0]
    yield f"ip link set {network.bridge} up", partial(route.link, "set", index=index, state="up")
    yield from _sysctl(IP_FORWARD, "1")


def _sysctl(path: str, value: str, optional: bool = False) -> Iterator[Step]:
    """The step that writes a kernel setting, none where it has the value; `optional`: none where it does not exist."""
    try:
        with open(path) as file:
            if file.read().strip() == value:
                return
    except FileNotFoundError:
        if optional:
            return
        raise Unsupported(f"{path} does not exist: is /proc mounted") from None
    name = path.removeprefix("/proc/sys/").replace("/", ".")
    yield f"sysctl -w {name}={value}", partial(_write, path, value)


def _write(path: str, value: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as e:
        raise Unsupported(
            f"cannot write {value} to {path}: {os.strerror(e.errno or 0)}",
            "inside a container run it with --privileged, or set it on the host; --network host needs none of it",
        ) from e


def _link(route: IPRoute, name: str) -> Any:
    try:
        return route.link("get", ifname=name)[0]
    except NetlinkError as e:
        if e.code == errno.ENODEV:
            return None
        raise


def _kind(link: Any) -> str | None:
    info = link.get("IFLA_LINKINFO")
    return info.get("IFLA_INFO_KIND") if info else None


def _check_subnet_free(route: IPRoute, network: Network, bridge_index: int) -> None:
    """Raises Conflict where the host has a way to a part of the subnet other than the bridge: it would lose that."""
    subnet = Subnet(network.subnet)
    for entry in route.get_routes(family=_AF_INET, table=_RT_TABLE_MAIN):
        destination, length = entry.get("RTA_DST"), entry["dst_len"]
        if not destination or length < 8 or entry.get("RTA_OIF") == bridge_index:
            continue
        first = int.from_bytes(bytes(map(int, destination.split("."))), "big")
        if first <= subnet.last and subnet.first <= first + (1 << (32 - length)) - 1:
            raise Conflict(
                f"the subnet {subnet} of network {network.name} overlaps the host's route to {destination}/{length}",
                "choose a free one, for instance MINI_SUBNET=10.88.0.0/16",
            )


def _refused(network: Network, code: int) -> Exception:
    reason = os.strerror(code)
    if code == errno.EPERM:
        return Unsupported(f"making the bridge {network.bridge} needs root (CAP_NET_ADMIN)", "run mini as root")
    if code == errno.EOPNOTSUPP:
        return Unsupported(
            f"this kernel cannot make a bridge: {reason}", "load its module (modprobe bridge), or use --network host"
        )
    return RuntimeFault("network", f"cannot set up the bridge {network.bridge}: {reason}", code)
