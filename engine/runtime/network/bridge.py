"""The bridge of a network: there and complete before a container is attached to it.

`ensure` asks the kernel four cheap questions; only where an answer is wrong (first use after a boot, a flushed packet
filter) `setup` is imported, and with it pyroute2.
"""

from __future__ import annotations

import _socket
import fcntl
import struct

from engine.errors import UsageError
from engine.files import FileLock
from engine.runtime.network import nat, netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Log

IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"
IP6_FORWARD = "/proc/sys/net/ipv6/conf/all/forwarding"
IF_INET6 = "/proc/net/if_inet6"
_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B  # netdevice(7)
_IFNAMSIZ = 16


def ensure(network: Network, lock_path: str, log: Log | None = None) -> None:
    """Makes the network's bridge, its gateway address, forwarding and packet filter rules, or what of it is missing.

    Nothing to do for the drivers host and null. Idempotent; `lock_path` is held while something is changed. Raises
    Unsupported (no root, no nf_tables), Conflict (the subnet is in use on the host), RuntimeFault.
    """
    if network.driver != "bridge" or ready(network):
        return
    with FileLock(lock_path):
        if not ready(network):
            from engine.runtime.network import setup

            setup.create(network, log)


def ready(network: Network) -> bool:
    """Whether bridge, addresses, forwarding and rules are as they must be. Raises Unsupported without nf_tables."""
    check_ifname(network.bridge)
    if not _has_gateway(network) or not (network.internal or _is_on(IP_FORWARD)):
        return False
    if network.ipv6 and not (_has_gateway6(network) and (network.internal or _is_on(IP6_FORWARD))):
        return False
    return nat.present(network)


def remove(network: Network, log: Log | None = None) -> None:
    """Takes down the network's bridge and its rules, and with the last network's rules mini's table. Idempotent."""
    if network.driver != "bridge":
        return
    check_ifname(network.bridge)
    with netlink.Netlink() as route:
        route.apply([netlink.delete_link(network.bridge)], log)
    nat.uninstall(network, log)


def check_ifname(name: str) -> None:
    """Raises UsageError for what the kernel takes for no interface name (dev_valid_name)."""
    if not 0 < len(name.encode()) < _IFNAMSIZ or name in (".", "..") or any(c in "/:\"'" or c.isspace() for c in name):
        raise UsageError(f"invalid interface name {name!r}", "at most 15 bytes, without slash, colon, quote or space")


def _has_gateway(network: Network) -> bool:
    """The bridge is up, and its first address is the gateway's."""
    request = struct.pack("16s24x", network.bridge.encode())
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        (flags,) = struct.unpack_from("=H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
        address = fcntl.ioctl(sock, _SIOCGIFADDR, request)[20:24]
        mask = fcntl.ioctl(sock, _SIOCGIFNETMASK, request)[20:24]
    except OSError:  # ENODEV, EADDRNOTAVAIL
        return False
    finally:
        sock.close()
    length = int.from_bytes(mask, "big").bit_count()
    return bool(flags & netlink.IFF_UP) and address == netlink.inet(network.gateway) and length == network.prefix


def _has_gateway6(network: Network) -> bool:
    """if_inet6: address, index, prefix, scope, flags, name, the address in hex without colons."""
    wanted = netlink.inet((network.ipv6 or {})["gateway"]).hex()
    try:
        with open(IF_INET6) as file:
            return any(line.startswith(wanted) and line.split()[-1] == network.bridge for line in file)
    except FileNotFoundError:
        return False


def _is_on(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(1) != b"0"
    except OSError:
        return False
