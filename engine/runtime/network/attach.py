"""A container on a network: a veth pair, one end at the bridge, the other the container's eth0.

One message makes the pair: names, MAC, MTU, the host's end up and at the bridge, the peer born inside the container's
network namespace (down: veth_open refuses while the pair is not complete). A netlink socket opened in that namespace
(setns(2) there and back; a socket stays where it was made) then brings up lo and eth0 and sets address and route.
"""

from __future__ import annotations

import _socket
import errno
import os

from engine.errors import Conflict, RuntimeFault, Unsupported
from engine.runtime.namespaces import VisitNetwork
from engine.runtime.network import netlink
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.model import Endpoint
from engine.runtime.network.netlink import Change, Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Log

_LO_INDEX = 1  # the kernel makes it first in every namespace


def attach(
    network: Network,
    pid: int,
    address: str,
    mac: str | None,
    host_ifname: str,
    container_ifname: str = "eth0",
    log: Log | None = None,
    address6: str = "",
    default: tuple[bool, bool] = (True, True),
) -> Endpoint:
    """Connects the network namespace of `pid` to the network's bridge, which `bridge.ensure` made ready.

    `mac` None: Docker's, from the address. `address6` empty: no IPv6. `default`: whether the default routes of IPv4 and
    IPv6 lead here; an internal network has none. A pair of that name at the same bridge is of this container's former life,
    whose namespace the kernel is still taking down: it is replaced. When this raises, no interface is left behind. The
    calling thread visits the other namespace. Raises Conflict (`host_ifname` is another's), Unsupported, RuntimeFault.
    """
    subnet = Subnet(network.subnet)
    endpoint = Endpoint(
        network.name, network.id, os.urandom(32).hex(), address, subnet.prefix, network.gateway,
        mac or mac_of(address), container_ifname, host_ifname,
    )  # fmt: skip
    if address6 and network.ipv6:
        endpoint.address6, endpoint.gateway6 = address6, network.ipv6["gateway"]
        endpoint.prefix6 = Subnet(network.ipv6["subnet"]).prefix
    log_inside = netlink.log_inside(pid, log)
    try:
        with Netlink() as outside, _inside(pid, log_inside, bool(address6)) as inside:
            master = netlink.link_index(outside, network.bridge)
            _make_pair(outside, master, _veth(network, master, pid, endpoint), host_ifname, log)
            try:
                if not network.allows("enable_icc"):
                    outside.apply([netlink.isolate_port(host_ifname)], log)
                to_gateway = (False, False) if network.internal else default
                _configure(inside, subnet.broadcast, endpoint, to_gateway, log_inside)
            except OSError:
                outside.apply([netlink.delete_link(host_ifname)])
                raise
    except OSError as e:
        raise _failure(network, host_ifname, e) from e
    return endpoint


def set_default(pid: int, ifname: str, gateways: list[str], log: Log | None = None) -> None:
    """Leads the default routes in the network namespace of `pid` to these gateways, wherever they led. Raises RuntimeFault."""
    log_inside = netlink.log_inside(pid, log)
    try:
        with _inside(pid) as inside:
            index = netlink.link_index(inside, ifname)
            inside.apply([netlink.default_route(index, ifname, g, replace=True) for g in gateways], log_inside)
    except OSError as e:
        raise RuntimeFault(
            "network", f"cannot change the default route of process {pid}: {e.strerror}", e.errno or 0
        ) from e


def veth_name(container_id: str, ifname: str = "eth0") -> str:
    """The host's end of a container's interface: 40 bits of its ID, and eth0's number; a name has no room for more."""
    number = ifname[len(ifname.rstrip("0123456789")) :]
    return "veth" + container_id[: 11 - len(number)] + number


def host_ends(container_id: str, names: Iterable[str] | None = None) -> list[str]:
    """The host's ends of a container's interfaces among `names`, by default those of all interfaces there are."""
    if names is None:
        names = (name for _, name in _socket.if_nameindex())
    return [n for n in names if n in (veth_name(container_id, n[-1:]), veth_name(container_id, n[-2:]))]


def detach(host_ifname: str, log: Log | None = None) -> None:
    """Deletes the pair by the host's end; nothing happens where it is gone (it dies with the container's namespace)."""
    with Netlink() as outside:
        outside.apply([netlink.delete_link(host_ifname)], log)


def loopback_up(pid: int, log: Log | None = None) -> None:
    """Brings up lo in the network namespace of `pid`: all that `--network none` has. Raises RuntimeFault."""
    log_inside = netlink.log_inside(pid, log)
    try:
        with _inside(pid, log_inside, ipv6=False) as inside:
            inside.apply([netlink.link_up(_LO_INDEX, "lo")], log_inside)
    except OSError as e:
        raise RuntimeFault("network", f"cannot bring up lo of process {pid}: {e.strerror}", e.errno or 0) from e


def mac_of(address: str) -> str:
    """Docker's MAC for an address: 02:42 (locally administered) and the four bytes of the IP."""
    return "02:42:" + netlink.inet(address).hex(":")


def _inside(pid: int, log: Log | None = None, ipv6: bool | None = None) -> Netlink:
    """A netlink socket in the network namespace of `pid`. With `ipv6` given, new interfaces there have it or not.

    None takes a router advertisement, by which a neighbour would become the container's router (CVE-2020-13401).
    """
    with VisitNetwork(f"/proc/{pid}/ns/net"):
        if ipv6 is not None:
            _set_default_sysctl("disable_ipv6", "0" if ipv6 else "1", log)
        if ipv6:
            _set_default_sysctl("accept_ra", "0", log)
        return Netlink()


def _set_default_sysctl(name: str, value: str, log: Log | None) -> None:
    """Of interfaces that are made from now on; the kernel reads /proc/sys/net for the namespace of the caller."""
    if log:
        log(f"sysctl -w net.ipv6.conf.default.{name}={value}")
    _write_if_present(f"/proc/sys/net/ipv6/conf/default/{name}", value.encode())


def _write_if_present(path: str, value: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without IPv6
        return
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def _veth(network: Network, master: int, pid: int, endpoint: Endpoint) -> Change:
    host, container, mac = endpoint.host_ifname, endpoint.ifname, endpoint.mac
    peer = b"".join(
        (
            netlink.ifinfo(),
            netlink.string(netlink.IFLA_IFNAME, container),
            netlink.attribute(netlink.IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))),
            netlink.u32(netlink.IFLA_MTU, network.mtu),
            netlink.u32(netlink.IFLA_NET_NS_PID, pid),
        )
    )
    kind = netlink.nested(
        netlink.IFLA_LINKINFO,
        netlink.string(netlink.IFLA_INFO_KIND, "veth"),
        netlink.nested(netlink.IFLA_INFO_DATA, netlink.nested(netlink.VETH_INFO_PEER, peer)),
    )
    body = netlink.ifinfo(flags=netlink.IFF_UP, change=netlink.IFF_UP)
    body += netlink.string(netlink.IFLA_IFNAME, host) + netlink.u32(netlink.IFLA_MTU, network.mtu)
    body += netlink.u32(netlink.IFLA_MASTER, master) + kind
    command = (
        f"ip link add {host} mtu {network.mtu} master {network.bridge} up type veth "
        f"peer name {container} address {mac} mtu {network.mtu} netns {pid}"
    )
    return Change(netlink.RTM_NEWLINK, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body, command)


def _make_pair(outside: Netlink, master: int, pair: Change, host: str, log: Log | None) -> None:
    try:
        outside.apply([pair], log)
    except OSError as e:
        if e.errno != errno.EEXIST or netlink.link_master(outside, host) not in (master, None):
            raise
        outside.apply([netlink.delete_link(host), pair], log)


def _configure(
    inside: Netlink, broadcast: str, endpoint: Endpoint, default: tuple[bool, bool], log: Log | None
) -> None:
    name = endpoint.ifname
    index = netlink.link_index(inside, name)
    changes = [
        netlink.link_up(_LO_INDEX, "lo"),
        netlink.add_address(index, name, endpoint.address, endpoint.prefix, broadcast),
    ]
    if endpoint.address6:
        changes.append(netlink.add_address(index, name, endpoint.address6, endpoint.prefix6))
    changes.append(netlink.link_up(index, name))
    if default[0]:
        changes.append(netlink.default_route(index, name, endpoint.gateway))
    if default[1] and endpoint.address6:
        changes.append(netlink.default_route(index, name, endpoint.gateway6))
    inside.apply(changes, log)


def _failure(network: Network, host_ifname: str, e: OSError) -> Exception:
    reason = e.strerror or os.strerror(e.errno or 0)
    if e.errno == errno.EEXIST:
        return Conflict(f"cannot make the interface {host_ifname}: {reason}", f"ip link delete {host_ifname}")
    if e.errno == errno.EPERM:
        return Unsupported("connecting a container to a network needs root (CAP_NET_ADMIN)", "run mini as root")
    if e.errno == errno.EOPNOTSUPP:
        return Unsupported(f"this kernel has no veth interfaces: {reason}", "load its module: modprobe veth")
    during = f" (`{e.filename}`)" if e.filename else ""
    return RuntimeFault(
        "network", f"cannot connect to network {network.name} by {network.bridge}: {reason}{during}", e.errno or 0
    )
