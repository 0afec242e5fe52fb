"""Netlink by hand: the few messages that every container needs, without the 250 ms that importing pyroute2 takes.

    nlmsghdr   len u32, type u16, flags u16, seq u32, port u32        netlink(7)
    ├─ header of the family: ifinfomsg, ifaddrmsg, rtmsg (rtnetlink(7)); nfgenmsg (nfnetlink.h)
    └─ attributes: len u16, type u16, value, padding to 4 bytes; nested ones have NLA_F_NESTED in their type

A change is data before it is done: a `Change` holds the message and the `ip` or `nft` command that would do the same.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Log = Callable[[str], None]

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

# netlink(7)
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_ROOT, NLM_F_MATCH = 0x1, 0x4, 0x100, 0x200
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP, NLM_F_DUMP_INTR = NLM_F_ROOT | NLM_F_MATCH, 0x10
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLA_F_NESTED, _NLA_TYPE_MASK = 0x8000, 0x3FFF

# rtnetlink(7)
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_GETROUTE = 16, 17, 18, 20, 24, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_PID = 1, 3, 4, 10, 18, 19
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 5, 4, 33
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_F_NODAD = 1, 2, 4, 2
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
IFF_UP = 1
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 3, 0, 1

# A dump that a concurrent change interrupts is asked for again; more often than this somebody rewrites without pause.
_DUMP_ATTEMPTS = 16
_BUFFER = 1 << 16  # the kernel fills at most 32 KiB of it with a list


class Change:
    """One netlink message that changes something. `command` is the `ip` or `nft` command that does the same.

    `tolerate` are errors that mean: it is already so (EEXIST for an addition, ENODEV for a removal).
    """

    __slots__ = ("body", "command", "flags", "kind", "tolerate")

    def __init__(self, kind: int, flags: int, body: bytes, command: str, tolerate: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.command = command
        self.tolerate = tolerate


class Netlink:
    """A netlink socket of the network namespace in which it is made, and for its whole life: setns(2) does not move it.

    A context manager. Not for two threads at once.
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
        self._sequence = 0
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # older than Linux 4.12: errors come without the kernel's explanation
                pass

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def apply(self, changes: Sequence[Change], log: Log | None = None) -> None:
        """Sends all changes at once, in order, and checks every answer.

        Not atomic: the kernel goes on after a failure (`transaction` is atomic). Raises OSError for the first that
        failed, with the kernel's reason and, as its path, the command.
        """
        if log:
            for change in changes:
                log(change.command)
        first = self._sequence + 1
        self._send((c.kind, c.flags | NLM_F_REQUEST | NLM_F_ACK, c.body) for c in changes)
        failed: OSError | None = None
        for change in changes:
            code, reason = self._acknowledgement(first)
            first += 1
            if code and code not in change.tolerate and failed is None:
                failed = OSError(code, reason, change.command)
        if failed:
            raise failed

    def get(self, kind: int, body: bytes) -> bytes:
        """The body of the one object asked for. Raises OSError (ENODEV, ENOENT: no such object)."""
        self._send([(kind, NLM_F_REQUEST, body)])
        for answer, _, payload in self._messages():
            if answer == NLMSG_ERROR:
                code, reason = _error(payload, 0)
                raise OSError(code, reason)
            return payload
        raise OSError(errno.EPROTO, "netlink: an empty answer")

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all objects that match, consistent: a list torn by a concurrent change is asked for again."""
        for _ in range(_DUMP_ATTEMPTS):
            bodies = self._dump_once(kind, body)
            if bodies is not None:
                return bodies
        raise OSError(errno.EINTR, "netlink: the list kept changing while it was read")

    def _dump_once(self, kind: int, body: bytes) -> list[bytes] | None:
        self._send([(kind, NLM_F_REQUEST | NLM_F_DUMP, body)])
        bodies: list[bytes] = []
        torn = False
        while True:
            for answer, flags, payload in self._messages():
                torn = torn or bool(flags & NLM_F_DUMP_INTR)
                if answer in (NLMSG_DONE, NLMSG_ERROR):  # both carry an errno; a list that fails half-way ends in DONE
                    code, reason = _error(payload, flags)
                    if code:
                        raise OSError(code, reason)
                    return None if torn else bodies
                bodies.append(payload)

    def transaction(self, messages: Sequence[tuple[int, int, bytes]]) -> tuple[int, int, str] | None:
        """Sends messages that the kernel carries out all or none of, such as a batch of nf_tables.

        None: done. Otherwise the first failure as (index in `messages`, errno, reason). The kernel answers before
        sendto(2) returns, so that nothing needs to be awaited, and only failures need to be answered.
        """
        first = self._sequence + 1
        self._send(messages)
        failures: list[tuple[int, int, str]] = []
        while True:
            try:
                data = self._socket.recv(_BUFFER, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return min(failures, default=None)
            length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data)
            if kind == NLMSG_ERROR and sequence >= first:
                code, reason = _error(data[16:length], flags)
                if code:
                    failures.append((sequence - first, code, reason))

    def _send(self, messages: Iterable[tuple[int, int, bytes]]) -> None:
        parts = []
        for kind, flags, body in messages:
            self._sequence += 1
            parts.append(struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)
        self._socket.sendto(b"".join(parts), (0, 0))

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """The (type, flags, body) of one datagram's messages, without those that answer an earlier request."""
        data = self._socket.recv(_BUFFER)
        at = 0
        while at + 16 <= len(data):
            length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
            if sequence == self._sequence:
                yield kind, flags, data[at + 16 : at + length]
            at += (length + 3) & ~3

    def _acknowledgement(self, sequence: int) -> tuple[int, str]:
        """(errno or 0, reason) for the request of that sequence number."""
        while True:
            data = self._socket.recv(_BUFFER)
            length, kind, flags, answered, _ = struct.unpack_from("=IHHII", data)
            if kind == NLMSG_ERROR and answered == sequence:
                return _error(data[16:length], flags)


def _error(payload: bytes, flags: int) -> tuple[int, str]:
    """(errno or 0, reason) of an nlmsgerr. The kernel's own words, where it has any (NLMSGERR_ATTR_MSG, Linux 4.12)."""
    (code,) = struct.unpack_from("=i", payload)
    reason = os.strerror(-code) if code else ""
    if code and flags & NLM_F_ACK_TLVS:
        skip = 20
        if not flags & NLM_F_CAPPED:
            (original,) = struct.unpack_from("=I", payload, 4)
            skip = 4 + ((original + 3) & ~3)
        if words := attributes(payload[skip:]).get(NLMSGERR_ATTR_MSG):
            reason = f"{reason} ({words.rstrip(bytes(1)).decode(errors='replace')})"
    return -code, reason


def log_inside(pid: int, log: Log | None) -> Log | None:
    """A log for changes in the network namespace of `pid`: the commands that would do the same from the host's."""
    return (lambda command: log(f"nsenter -t {pid} -n {command}")) if log else None


# --- attributes ----------------------------------------------------------------------------------------------------


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) & 3)


def string(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """In the host's byte order, as rtnetlink has its numbers (nf_tables: `nat.be32`)."""
    return struct.pack("=HHI", 8, kind, value)


def be32(kind: int, value: int) -> bytes:
    """An attribute that is a number in network byte order, as nf_tables has them."""
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, b"".join(parts))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data` by type; the last one wins where one is repeated (use `attribute_list` for lists)."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found.append((kind & _NLA_TYPE_MASK, data[at + 4 : at + length]))
        at += (length + 3) & ~3
    return found


# --- links, addresses, routes --------------------------------------------------------------------------------------


def ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """struct ifinfomsg: the flags that `change` masks become `flags`."""
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def link_index(netlink: Netlink, name: str) -> int:
    """The interface's index in the socket's namespace. OSError ENODEV where there is none."""
    body = netlink.get(RTM_GETLINK, ifinfo() + string(IFLA_IFNAME, name))
    (index,) = struct.unpack_from("=i", body, 4)
    return int(index)


def link_master(netlink: Netlink, name: str) -> int | None:
    """The index of the bridge that the interface is a port of, 0 without one; None where there is no such interface."""
    try:
        body = netlink.get(RTM_GETLINK, ifinfo() + string(IFLA_IFNAME, name))
    except OSError as e:
        if e.errno == errno.ENODEV:
            return None
        raise
    found = attributes(body[16:]).get(IFLA_MASTER)
    return int.from_bytes(found, sys.byteorder) if found else 0


def link_up(index: int, name: str) -> Change:
    return Change(RTM_NEWLINK, 0, ifinfo(index, IFF_UP, IFF_UP), f"ip link set {name} up")


def delete_link(name: str) -> Change:
    return Change(
        RTM_DELLINK, 0, ifinfo() + string(IFLA_IFNAME, name), f"ip link delete {name}", tolerate=(errno.ENODEV,)
    )


def set_master(name: str, bridge_index: int, bridge: str) -> Change:
    body = ifinfo(flags=IFF_UP, change=IFF_UP) + string(IFLA_IFNAME, name) + u32(IFLA_MASTER, bridge_index)
    return Change(RTM_NEWLINK, 0, body, f"ip link set {name} up master {bridge}")


def isolate_port(name: str) -> Change:
    """The bridge passes nothing between ports that are isolated (Linux 4.18)."""
    data = nested(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_ISOLATED, b"\1"))
    body = ifinfo() + string(IFLA_IFNAME, name)
    body += nested(IFLA_LINKINFO, string(IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return Change(RTM_NEWLINK, 0, body, f"ip link set {name} type bridge_slave isolated on")


def hairpin_port(name: str) -> Change:
    """The bridge also passes back through the port what has come from it: with br_netfilter it is translated in the bridge."""
    data = nested(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_MODE, b"\1"))
    body = ifinfo() + string(IFLA_IFNAME, name)
    body += nested(IFLA_LINKINFO, string(IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return Change(RTM_NEWLINK, 0, body, f"ip link set {name} type bridge_slave hairpin on", tolerate=(errno.ENODEV,))


def add_address(index: int, name: str, address: str, prefix: int, broadcast: str = "") -> Change:
    """IPv4 with its broadcast address. IPv6 without asking the neighbours first (DAD): the lease has decided whose it is."""
    packed = inet(address)
    flags = IFA_F_NODAD if len(packed) == 16 else 0
    body = struct.pack("=BBBBi", _family(packed), prefix, flags, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if flags:
        command = f"ip address add {address}/{prefix} dev {name} nodad"
    else:
        body += attribute(IFA_BROADCAST, inet(broadcast))
        command = f"ip address add {address}/{prefix} broadcast {broadcast} dev {name}"
    return Change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, command, tolerate=(errno.EEXIST,))


def default_route(index: int, name: str, gateway: str, replace: bool = False) -> Change:
    """`replace`: instead of the one that is there."""
    packed = inet(gateway)
    body = struct.pack(
        "=BBBBBBBBI", _family(packed), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
    )
    body += attribute(RTA_GATEWAY, packed) + u32(RTA_OIF, index)
    family = "-6 " if len(packed) == 16 else ""
    verb = "replace" if replace else "add"
    command = f"ip {family}route {verb} default via {gateway} dev {name}"
    return Change(RTM_NEWROUTE, NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL), body, command)


def routes(netlink: Netlink, bits: int) -> list[tuple[str, int]]:
    """(destination "A.B.C.D/N", index of the interface) of every route in the main table, without default ones."""
    family = _socket.AF_INET if bits == 32 else _socket.AF_INET6
    found = []
    for body in netlink.dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
        length, table = body[1], body[4]
        values = attributes(body[12:])
        if table != RT_TABLE_MAIN or not length or RTA_DST not in values:
            continue
        destination = _socket.inet_ntop(family, values[RTA_DST])
        found.append((f"{destination}/{length}", int.from_bytes(values.get(RTA_OIF, b""), sys.byteorder)))
    return found


def inet(address: str) -> bytes:
    """The 4 bytes of a dotted quad, the 16 of an IPv6 address; ValueError for anything else."""
    try:
        return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    except OSError:
        raise ValueError(f"not an IP address: {address!r}") from None


def _family(packed: bytes) -> int:
    return _socket.AF_INET6 if len(packed) == 16 else _socket.AF_INET
