"""Making a bridge, with pyroute2: the part of networking that happens once a boot, and so is not in a hurry.

ip link add mini0 address 02:42:ac:1d:00:01 mtu 1500 type bridge stp_state 0
sysctl -w net.ipv6.conf.mini0.accept_ra=0
ip address add 172.29.0.1/16 broadcast 172.29.255.255 dev mini0
nft …                                                                   (nat.py)
ip link set mini0 up
sysctl -w net.ipv4.ip_forward=1

A network with IPv6 has besides
ip address add fd5f:1:2:1::1/64 dev br-5f… nodad
sysctl -w net.ipv6.conf.all.forwarding=1
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from engine.errors import Conflict, RuntimeFault, Unsupported, UsageError
from engine.runtime.network import nat
from engine.runtime.network.attach import mac_of
from engine.runtime.network.bridge import IP6_FORWARD, IP_FORWARD
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.netlink import Netlink, routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Log

    Step = tuple[str, Callable[[], object]]

_AF_INET, _AF_INET6 = 2, 10
_NODAD = 2  # IFA_F_NODAD


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
        check_free(network.name, _subnets(network), index)
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
    if network.ipv6:
        yield from _ipv6_steps(route, network, network.ipv6)


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


def _ipv6_steps(route: IPRoute, network: Network, ipv6: dict[str, Any]) -> Iterator[Step]:
    index = route.link_lookup(ifname=network.bridge)[0]
    disable = f"/proc/sys/net/ipv6/conf/{network.bridge}/disable_ipv6"
    if not os.path.exists(disable):
        raise Unsupported(
            f"network {network.name} has IPv6, and this kernel has none", "make the network without --ipv6"
        )
    yield from _sysctl(disable, "0")
    # The link's own address, too, is there at once: without it the kernel cannot ask where a container is.
    yield from _sysctl(f"/proc/sys/net/ipv6/conf/{network.bridge}/accept_dad", "0")
    address, prefix = ipv6["gateway"], Subnet(ipv6["subnet"]).prefix
    if (address, prefix) not in _addresses(route, index, _AF_INET6):
        yield (
            f"ip address add {address}/{prefix} dev {network.bridge} nodad",
            partial(route.addr, "add", index=index, address=address, prefixlen=prefix, family=_AF_INET6, flags=_NODAD),
        )


def _addresses(route: IPRoute, index: int, family: int = _AF_INET) -> list[tuple[str, int]]:
    """The addresses of an interface, each with its prefix length, in the kernel's order."""
    key = "IFA_LOCAL" if family == _AF_INET else "IFA_ADDRESS"
    return [(a.get(key), a["prefixlen"]) for a in route.get_addr(index=index, family=family)]


def _start_steps(route: IPRoute, network: Network) -> Iterator[Step]:
    """Forwarding is for the whole host, so it is set where a network needs it only."""
    index = route.link_lookup(ifname=network.bridge)[0]
    yield f"ip link set {network.bridge} up", partial(route.link, "set", index=index, state="up")
    if not network.internal:
        yield from _sysctl(IP_FORWARD, "1")
        if network.ipv6:
            yield from _sysctl(IP6_FORWARD, "1")


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


def _subnets(network: Network) -> list[Subnet]:
    return [Subnet(network.subnet), *([Subnet(network.ipv6["subnet"])] if network.ipv6 else [])]


def check_free(name: str, subnets: list[Subnet], bridge_index: int = 0) -> None:
    """Raises Conflict where the host has a way to a part of a subnet other than the bridge: it would lose that."""
    with Netlink() as netlink:
        for subnet in subnets:
            for destination, interface in routes(netlink, subnet.bits):
                if interface != bridge_index and _blocks(destination, subnet):
                    raise Conflict(
                        f"the subnet {subnet} of network {name} overlaps the host's route to {destination}",
                        "choose a free one, for instance --subnet 10.88.0.0/16, or MINI_SUBNET of the default network",
                    )


def _blocks(destination: str, subnet: Subnet) -> bool:
    """A route to more than /8 (a VPN's to half of everything) leaves room; IPv6's multicast and link-local ones do not count."""
    try:
        return Subnet(destination, smallest=0).overlaps(subnet)
    except UsageError:
        return False


def _refused(network: Network, code: int) -> Exception:
    reason = os.strerror(code)
    if code == errno.EPERM:
        return Unsupported(f"making the bridge {network.bridge} needs root (CAP_NET_ADMIN)", "run mini as root")
    if code == errno.EOPNOTSUPP:
        return Unsupported(
            f"this kernel cannot make a bridge: {reason}", "load its module (modprobe bridge), or use --network host"
        )
    return RuntimeFault("network", f"cannot set up the bridge {network.bridge}: {reason}", code)
