"""nf_tables without an external program: tables, chains, rules and expressions as netlink messages, and transactions of them.

A transaction is carried out whole or not at all, and names the generation of the rules that it was computed from
(NFNL_BATCH_GENID, Linux 4.12): where somebody changed them meanwhile, it is computed anew. A rule is recognized by its comment.
Formats: linux/netfilter/nfnetlink.h and nf_tables.h, whose numbers are in network byte order.
"""

from __future__ import annotations

import errno
import struct

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    Change,
    Netlink,
    attribute,
    attributes,
    nested,
    string,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.network.netlink import Log

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10
FORWARD_HOOK, OUTPUT_HOOK, POSTROUTING_HOOK = 2, 3, 4  # NF_INET_*
DROP, ACCEPT = 0, 1
EQUAL, UNEQUAL = 0, 1
IIFNAME, OIFNAME, NFPROTO, L4PROTO = 6, 7, 15, 16  # NFT_META_*
ESTABLISHED, RELATED = 2, 4  # bits of conntrack's state
REGISTER_1, REGISTER_2 = 1, 2

_BATCH_BEGIN, _BATCH_END, _BATCH_GENID = 16, 17, 1
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE, _DELRULE, _GETGEN = 0, 2, 3, 6, 7, 8, 16
_ERESTART = 85  # errno.ERESTART, which Python knows on Linux only
_ATTEMPTS = 16

# attributes of tables, chains, hooks, rules, expressions, data and verdicts: NFTA_*
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_HOOKNUM, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7
_LIST_ELEM, _EXPR_NAME, _EXPR_DATA, _DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE = 1, 1, 2, 1, 2, 1
_REG_VERDICT = 0
_CT_STATE = 0
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2  # NFT_PAYLOAD_*
_SADDR_OFFSET, _SADDR6_OFFSET, _DADDR_OFFSET, _DPORT_OFFSET = 12, 8, 16, 2
_AF_INET = 2
_NAT_DESTINATION = 1  # NFT_NAT_DNAT
_IFNAMSIZ = 16
_UDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT of libnftnl, which `nft list` shows

_HINT = (
    "it needs the modules nf_tables, nft_masq and nft_ct (modprobe nf_tables); "
    "without them, run with --network host or --network none"
)


class Rule:
    """A rule as it should be: `owner` is the bridge it is for (empty: every network's), `text` its nft notation.

    Owner and text are also its comment, by which it is recognized.
    """

    __slots__ = ("chain", "expressions", "owner", "text")

    def __init__(self, chain: str, owner: str, text: str, *expressions: bytes) -> None:
        self.chain = chain
        self.owner = owner
        self.text = text
        self.expressions = expressions

    @property
    def comment(self) -> str:
        text = self.text.replace('"', "")
        return f"{self.owner}: {text}" if self.owner else text


class Table:
    """One table: the messages that make and change it, and what is in it."""

    __slots__ = ("_family", "_family_name", "name")

    def __init__(self, family: int, name: str) -> None:
        self._family = family
        self._family_name = "inet" if family == NFPROTO_INET else "ip"
        self.name = name

    def __str__(self) -> str:
        """As in `nft list table …`."""
        return f"{self._family_name} {self.name}"

    def create(self) -> Change:
        """Nothing happens where it exists."""
        return self._change(_NEWTABLE, NLM_F_CREATE, string(_TABLE_NAME, self.name), f"nft add table {self}")

    def delete(self) -> Change:
        return self._change(_DELTABLE, 0, string(_TABLE_NAME, self.name), f"nft delete table {self}")

    def chain(self, name: str, kind: str, hook: int, priority: int, priority_name: str) -> Change:
        """A base chain, called as its hook; nothing happens where it exists."""
        where = nested(_CHAIN_HOOK, be32(_HOOK_HOOKNUM, hook), be32(_HOOK_PRIORITY, priority & 0xFFFFFFFF))
        body = string(_CHAIN_TABLE, self.name) + string(_CHAIN_NAME, name) + where
        body += be32(_CHAIN_POLICY, ACCEPT) + string(_CHAIN_TYPE, kind)
        kind_of = f"type {kind} hook {name} priority {priority_name}; policy accept;"
        return self._change(_NEWCHAIN, NLM_F_CREATE, body, f"nft add chain {self} {name} '{{ {kind_of} }}'")

    def add(self, rule: Rule) -> Change:
        text = rule.comment.encode() + b"\0"
        body = string(_RULE_TABLE, self.name) + string(_RULE_CHAIN, rule.chain)
        body += nested(_RULE_EXPRESSIONS, *(nested(_LIST_ELEM, e) for e in rule.expressions))
        body += attribute(_RULE_USERDATA, bytes((_UDATA_COMMENT, len(text))) + text)
        command = f"nft add rule {self} {rule.chain} '{rule.text}'"
        return self._change(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, command)

    def remove(self, chain: str, handle: bytes) -> Change:
        body = string(_RULE_TABLE, self.name) + string(_RULE_CHAIN, chain) + attribute(_RULE_HANDLE, handle)
        number = int.from_bytes(handle, "big")
        return self._change(_DELRULE, 0, body, f"nft delete rule {self} {chain} handle {number}")

    def installed(self, netlink: Netlink) -> list[tuple[str, bytes, str]]:
        """(chain, handle, comment) of every rule; none where there is no such table."""
        body = struct.pack(">BBH", self._family, 0, 0) + string(_RULE_TABLE, self.name)
        try:
            answers = netlink.dump(_SUBSYSTEM << 8 | _GETRULE, body)
        except OSError as e:
            raise _not_readable(e) from e
        found = []
        for answer in answers:
            rule = attributes(answer[4:])
            chain = rule[_RULE_CHAIN].rstrip(b"\0").decode()
            found.append((chain, rule[_RULE_HANDLE], _comment(rule.get(_RULE_USERDATA, b""))))
        return found

    def _change(self, message: int, flags: int, body: bytes, command: str) -> Change:
        header = struct.pack(">BBH", self._family, 0, 0)
        return Change(_SUBSYSTEM << 8 | message, flags, header + body, command)


# --- transactions --------------------------------------------------------------------------------------------------


def transact(compute: Callable[[Netlink], list[Change]], log: Log | None = None) -> None:
    """Carries out what `compute` makes of the rules as they are; where they change meanwhile, of what they are then."""
    with connect() as netlink:
        for _ in range(_ATTEMPTS):
            generation = generation_of(netlink)
            changes = compute(netlink)
            if not changes or commit(netlink, changes, generation):
                break
        else:
            raise RuntimeFault("nat", "the packet filter's rules kept changing while mini's were written")
        if log:
            for change in changes:
                log(change.command)


def commit(netlink: Netlink, changes: list[Change], generation: bytes) -> bool:
    """One transaction: all or nothing. False where the rules are no longer of that generation.

    Raises Unsupported where the kernel lacks a part of nf_tables, RuntimeFault for any other refusal.
    """
    header = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    begin = (_BATCH_BEGIN, NLM_F_REQUEST, header + attribute(_BATCH_GENID, generation))
    body = [(c.kind, c.flags | NLM_F_REQUEST, c.body) for c in changes]
    failure = netlink.transaction([begin, *body, (_BATCH_END, NLM_F_REQUEST, header)])
    if failure is None:
        return True
    index, code, reason = failure
    if code == _ERESTART:
        return False
    command = changes[index - 1].command if 0 < index <= len(changes) else "nft"
    if code in (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT):
        raise Unsupported(f"this kernel cannot do `{command}`: {reason}", _HINT)
    raise RuntimeFault("nat", f"cannot write the packet filter's rules (`{command}`): {reason}", code)


def connect() -> Netlink:
    """Unsupported where the kernel has no nf_tables."""
    try:
        return Netlink(NETLINK_NETFILTER)
    except OSError as e:
        if e.errno == errno.EPROTONOSUPPORT:
            raise Unsupported("this kernel has no nf_tables, which bridge networks need", _HINT) from e
        raise


def generation_of(netlink: Netlink) -> bytes:
    """The generation of the namespace's rules (NFTA_GEN_ID), as the kernel wrote it."""
    try:
        answer = netlink.get(_SUBSYSTEM << 8 | _GETGEN, struct.pack(">BBH", 0, 0, 0))
    except OSError as e:
        raise _not_readable(e) from e
    return attributes(answer[4:])[1]


def _not_readable(e: OSError) -> Exception:
    if e.errno == errno.EPERM:
        return Unsupported("reading the packet filter's rules needs root (CAP_NET_ADMIN)", "run mini as root")
    # nfnetlink answers EINVAL for a subsystem that no module provides.
    if e.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return Unsupported("this kernel has no nf_tables, which the bridge network's NAT needs", _HINT)
    return e


def _comment(userdata: bytes) -> str:
    """The comment among a rule's user data: type, length, value, each length one byte (libnftnl's udata)."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == _UDATA_COMMENT:
            return userdata[at + 2 : at + 2 + length].rstrip(b"\0").decode(errors="replace")
        at += 2 + length
    return ""


def owner_of(comment: str) -> str:
    owner, separator, _ = comment.partition(": ")
    return owner if separator else ""


# --- expressions ---------------------------------------------------------------------------------------------------


def be32(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value)


def expression(name: str, *data: bytes) -> bytes:
    return string(_EXPR_NAME, name) + (nested(_EXPR_DATA, *data) if data else b"")


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(_DATA_VALUE, value))


def compare(operator: int, value: bytes) -> bytes:
    return expression("cmp", be32(1, REGISTER_1), be32(2, operator), _value(3, value))


def _mask(mask: bytes) -> bytes:
    data = (be32(1, REGISTER_1), be32(2, REGISTER_1), be32(3, len(mask)), _value(4, mask), _value(5, bytes(len(mask))))
    return expression("bitwise", *data)


def interface(key: int, operator: int, name: str) -> tuple[bytes, bytes]:
    load = expression("meta", be32(1, REGISTER_1), be32(2, key))
    return load, compare(operator, name.encode().ljust(_IFNAMSIZ, b"\0"))


def source(subnet: Subnet) -> tuple[bytes, ...]:
    """`ip saddr SUBNET` or `ip6 saddr SUBNET`; in an inet table these begin with `meta nfproto`."""
    protocol, offset = (NFPROTO_IPV4, _SADDR_OFFSET) if subnet.bits == 32 else (NFPROTO_IPV6, _SADDR6_OFFSET)
    length = subnet.bits // 8
    mask = ((1 << subnet.bits) - (1 << subnet.bits - subnet.prefix)).to_bytes(length, "big")
    return (
        expression("meta", be32(1, REGISTER_1), be32(2, NFPROTO)),
        compare(EQUAL, bytes((protocol,))),
        expression("payload", be32(1, REGISTER_1), be32(2, NETWORK_HEADER), be32(3, offset), be32(4, length)),
        _mask(mask),
        compare(EQUAL, subnet.first.to_bytes(length, "big")),
    )


def destination(address: bytes) -> tuple[bytes, ...]:
    """`ip daddr ADDRESS`, in an ip table."""
    field = expression("payload", be32(1, REGISTER_1), be32(2, NETWORK_HEADER), be32(3, _DADDR_OFFSET), be32(4, 4))
    return field, compare(EQUAL, address)


def destination_port(protocol: int, port: int) -> tuple[bytes, ...]:
    """`tcp dport PORT`, or udp's; `protocol` is its IPPROTO_ number."""
    return (
        expression("meta", be32(1, REGISTER_1), be32(2, L4PROTO)),
        compare(EQUAL, bytes((protocol,))),
        expression("payload", be32(1, REGISTER_1), be32(2, TRANSPORT_HEADER), be32(3, _DPORT_OFFSET), be32(4, 2)),
        compare(EQUAL, port.to_bytes(2, "big")),
    )


def translate(address: bytes, port: int) -> tuple[bytes, ...]:
    """`dnat to ADDRESS:PORT`, IPv4."""
    to = (be32(1, _NAT_DESTINATION), be32(2, _AF_INET), be32(3, REGISTER_1), be32(5, REGISTER_2))
    return load(REGISTER_1, address), load(REGISTER_2, port.to_bytes(2, "big")), expression("nat", *to)


def load(register: int, value: bytes) -> bytes:
    return expression("immediate", be32(1, register), _value(2, value))


def established() -> tuple[bytes, ...]:
    """`ct state established,related`; conntrack's state is a number in the host's byte order."""
    return (
        expression("ct", be32(1, REGISTER_1), be32(2, _CT_STATE)),
        _mask(struct.pack("=I", ESTABLISHED | RELATED)),
        compare(UNEQUAL, bytes(4)),
    )


def verdict(code: int) -> bytes:
    return expression("immediate", be32(1, _REG_VERDICT), nested(2, nested(_DATA_VERDICT, be32(_VERDICT_CODE, code))))
