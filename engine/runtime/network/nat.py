"""mini's table in the packet filter, written to nf_tables as transactions, with no external program.

    table inet mini {
        chain forward {
            type filter hook forward priority filter; policy accept;
            ct state established,related accept
            iifname != "mini0" oifname "mini0" drop         a network: nobody opens a connection into it from outside
        }
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            ip saddr 172.29.0.0/16 oifname != "mini0" masquerade
        }
    }

One table for all minis of a host: a rule carries its bridge's name in its comment, and a bridge belongs to one network.
An `accept` ends this chain only: what an administrator's chain drops stays dropped. Every transaction names the
generation of the rules that it was computed from (NFNL_BATCH_GENID, Linux 4.12), or is computed anew.
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

    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Log

TABLE = "mini"
FORWARD, POSTROUTING = "forward", "postrouting"

_NFPROTO_INET, _NFPROTO_IPV4 = 1, 2
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
_NF_INET_FORWARD, _NF_INET_POST_ROUTING, _PRIORITY_FILTER, _PRIORITY_SRCNAT = 2, 4, 0, 100
_NF_DROP, _NF_ACCEPT = 0, 1
_REG_VERDICT, _REG_1 = 0, 1
_META_IIFNAME, _META_OIFNAME, _META_NFPROTO = 6, 7, 15
_CMP_EQ, _CMP_NEQ = 0, 1
_CT_STATE, _CT_ESTABLISHED, _CT_RELATED = 0, 2, 4
_NETWORK_HEADER, _SADDR_OFFSET = 1, 12
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


def rules(network: Network) -> list[Rule]:
    """What the packet filter must hold for a network with a bridge. An internal one has no way out, and no NAT."""
    bridge = network.bridge
    wanted = [
        Rule(FORWARD, "", "ct state established,related accept", *_established(), _verdict(_NF_ACCEPT)),
        Rule(
            FORWARD,
            bridge,
            f'iifname != "{bridge}" oifname "{bridge}" drop',
            *_interface(_META_IIFNAME, _CMP_NEQ, bridge),
            *_interface(_META_OIFNAME, _CMP_EQ, bridge),
            _verdict(_NF_DROP),
        ),
    ]
    if network.internal:
        leaving = Rule(
            FORWARD,
            bridge,
            f'iifname "{bridge}" oifname != "{bridge}" drop',
            *_interface(_META_IIFNAME, _CMP_EQ, bridge),
            *_interface(_META_OIFNAME, _CMP_NEQ, bridge),
            _verdict(_NF_DROP),
        )
        return [*wanted, leaving]
    masquerade = Rule(
        POSTROUTING,
        bridge,
        f'ip saddr {network.subnet} oifname != "{bridge}" masquerade',
        *_source(Subnet(network.subnet)),
        *_interface(_META_OIFNAME, _CMP_NEQ, bridge),
        _expression("masq"),
    )
    return [*wanted, masquerade]


def present(network: Network) -> bool:
    """Whether all of the network's rules are in the kernel: one question to it. Unsupported without nf_tables."""
    with _netlink() as netlink:
        found = {comment for _, _, comment in _installed(netlink)}
    return all(rule.comment in found for rule in rules(network))


def install(network: Network, log: Log | None = None) -> None:
    """Puts the network's rules in place, and takes away older ones of its bridge, in one transaction. Idempotent."""
    wanted = rules(network)

    def changes(netlink: Netlink) -> list[Change]:
        installed = _installed(netlink)
        found = {comment for _, _, comment in installed}
        expected = {rule.comment for rule in wanted}
        old = [
            _delete_rule(c, h)
            for c, h, comment in installed
            if _owner(comment) == network.bridge and comment not in expected
        ]
        return _frame() + old + [_add_rule(rule) for rule in wanted if rule.comment not in found]

    _transact(changes, log)


def uninstall(network: Network, log: Log | None = None) -> None:
    """Removes the rules of the network's bridge, and with the last network's the table. Idempotent."""

    def changes(netlink: Netlink) -> list[Change]:
        installed = _installed(netlink)
        others = {_owner(comment) for _, _, comment in installed} - {network.bridge, ""}
        if installed and not others:
            return [_change(_DELTABLE, 0, string(_TABLE_NAME, TABLE), f"nft delete table inet {TABLE}")]
        return [_delete_rule(c, h) for c, h, comment in installed if _owner(comment) == network.bridge]

    _transact(changes, log)


# --- transactions --------------------------------------------------------------------------------------------------


def _transact(compute: Callable[[Netlink], list[Change]], log: Log | None) -> None:
    with _netlink() as netlink:
        for _ in range(_ATTEMPTS):
            generation = _generation(netlink)
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


def _netlink() -> Netlink:
    try:
        return Netlink(NETLINK_NETFILTER)
    except OSError as e:
        if e.errno == errno.EPROTONOSUPPORT:
            raise Unsupported("this kernel has no nf_tables, which the bridge network's NAT needs", _HINT) from e
        raise


def _generation(netlink: Netlink) -> bytes:
    """The generation of the namespace's rules (NFTA_GEN_ID), as the kernel wrote it."""
    try:
        answer = netlink.get(_SUBSYSTEM << 8 | _GETGEN, struct.pack(">BBH", 0, 0, 0))
    except OSError as e:
        raise _not_readable(e) from e
    return attributes(answer[4:])[1]


def _installed(netlink: Netlink) -> list[tuple[str, bytes, str]]:
    """(chain, handle, comment) of every rule in mini's table; none where there is no table."""
    body = struct.pack(">BBH", _NFPROTO_INET, 0, 0) + string(_RULE_TABLE, TABLE)
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


def _not_readable(e: OSError) -> Exception:
    if e.errno == errno.EPERM:
        return Unsupported("reading the packet filter's rules needs root (CAP_NET_ADMIN)", "run mini as root")
    # nfnetlink answers EINVAL for a subsystem that no module provides.
    if e.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return Unsupported("this kernel has no nf_tables, which the bridge network's NAT needs", _HINT)
    return e


# --- messages ------------------------------------------------------------------------------------------------------


def _change(message: int, flags: int, body: bytes, command: str) -> Change:
    return Change(_SUBSYSTEM << 8 | message, flags, struct.pack(">BBH", _NFPROTO_INET, 0, 0) + body, command)


def _frame() -> list[Change]:
    """The table and its chains; nothing happens where they exist."""
    return [
        _change(_NEWTABLE, NLM_F_CREATE, string(_TABLE_NAME, TABLE), f"nft add table inet {TABLE}"),
        _chain(FORWARD, "filter", _NF_INET_FORWARD, _PRIORITY_FILTER, "filter"),
        _chain(POSTROUTING, "nat", _NF_INET_POST_ROUTING, _PRIORITY_SRCNAT, "srcnat"),
    ]


def _chain(name: str, kind: str, hook: int, priority: int, priority_name: str) -> Change:
    where = nested(_CHAIN_HOOK, be32(_HOOK_HOOKNUM, hook), be32(_HOOK_PRIORITY, priority))
    body = string(_CHAIN_TABLE, TABLE) + string(_CHAIN_NAME, name) + where
    body += be32(_CHAIN_POLICY, _NF_ACCEPT) + string(_CHAIN_TYPE, kind)
    kind_of = f"type {kind} hook {name} priority {priority_name}; policy accept;"
    return _change(_NEWCHAIN, NLM_F_CREATE, body, f"nft add chain inet {TABLE} {name} '{{ {kind_of} }}'")


def _add_rule(rule: Rule) -> Change:
    text = rule.comment.encode() + b"\0"
    body = string(_RULE_TABLE, TABLE) + string(_RULE_CHAIN, rule.chain)
    body += nested(_RULE_EXPRESSIONS, *(nested(_LIST_ELEM, e) for e in rule.expressions))
    body += attribute(_RULE_USERDATA, bytes((_UDATA_COMMENT, len(text))) + text)
    command = f"nft add rule inet {TABLE} {rule.chain} '{rule.text}'"
    return _change(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, command)


def _delete_rule(chain: str, handle: bytes) -> Change:
    body = string(_RULE_TABLE, TABLE) + string(_RULE_CHAIN, chain) + attribute(_RULE_HANDLE, handle)
    number = int.from_bytes(handle, "big")
    return _change(_DELRULE, 0, body, f"nft delete rule inet {TABLE} {chain} handle {number}")


def _comment(userdata: bytes) -> str:
    """The comment among a rule's user data: type, length, value, each length one byte (libnftnl's udata)."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == _UDATA_COMMENT:
            return userdata[at + 2 : at + 2 + length].rstrip(b"\0").decode(errors="replace")
        at += 2 + length
    return ""


def _owner(comment: str) -> str:
    owner, separator, _ = comment.partition(": ")
    return owner if separator else ""


# --- expressions ---------------------------------------------------------------------------------------------------


def be32(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value)


def _expression(name: str, *data: bytes) -> bytes:
    return string(_EXPR_NAME, name) + (nested(_EXPR_DATA, *data) if data else b"")


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(_DATA_VALUE, value))


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", be32(1, _REG_1), be32(2, operator), _value(3, value))


def _mask(mask: bytes) -> bytes:
    data = (be32(1, _REG_1), be32(2, _REG_1), be32(3, len(mask)), _value(4, mask), _value(5, bytes(len(mask))))
    return _expression("bitwise", *data)


def _interface(key: int, operator: int, name: str) -> tuple[bytes, bytes]:
    load = _expression("meta", be32(1, _REG_1), be32(2, key))
    return load, _compare(operator, name.encode().ljust(_IFNAMSIZ, b"\0"))


def _source(subnet: Subnet) -> tuple[bytes, ...]:
    """`ip saddr SUBNET`; in an inet table that begins with `meta nfproto ipv4`."""
    mask = (0xFFFFFFFF << (32 - subnet.prefix) & 0xFFFFFFFF).to_bytes(4, "big")
    return (
        _expression("meta", be32(1, _REG_1), be32(2, _META_NFPROTO)),
        _compare(_CMP_EQ, bytes((_NFPROTO_IPV4,))),
        _expression("payload", be32(1, _REG_1), be32(2, _NETWORK_HEADER), be32(3, _SADDR_OFFSET), be32(4, 4)),
        _mask(mask),
        _compare(_CMP_EQ, subnet.first.to_bytes(4, "big")),
    )


def _established() -> tuple[bytes, ...]:
    """`ct state established,related`; conntrack's state is a number in the host's byte order."""
    return (
        _expression("ct", be32(1, _REG_1), be32(2, _CT_STATE)),
        _mask(struct.pack("=I", _CT_ESTABLISHED | _CT_RELATED)),
        _compare(_CMP_NEQ, bytes(4)),
    )


def _verdict(code: int) -> bytes:
    return _expression("immediate", be32(1, _REG_VERDICT), nested(2, nested(_DATA_VERDICT, be32(_VERDICT_CODE, code))))
