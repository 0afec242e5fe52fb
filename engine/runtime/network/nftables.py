"""nf_tables without an external program: tables, chains, maps and rules as netlink messages, and transactions of them.

What a rule consists of: expressions.py.

A transaction is carried out whole or not at all, and names the generation of the rules that it was computed from
(NFNL_BATCH_GENID, Linux 4.12): where somebody changed them meanwhile, it is computed anew. A rule is recognized by its comment.
Formats: linux/netfilter/nfnetlink.h and nf_tables.h, whose numbers are in network byte order.
"""

from __future__ import annotations

import errno
import struct

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.network.expressions import ACCEPT, NFPROTO_INET, constant
from engine.runtime.network.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    Change,
    Netlink,
    attribute,
    attribute_list,
    attributes,
    be32,
    nested,
    string,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.runtime.network.netlink import Log

PREROUTING_HOOK, FORWARD_HOOK, OUTPUT_HOOK, POSTROUTING_HOOK = 0, 2, 3, 4  # NF_INET_*

_BATCH_BEGIN, _BATCH_END, _BATCH_GENID = 16, 17, 1
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE, _DELRULE, _GETGEN = 0, 2, 3, 6, 7, 8, 16
_NEWSET, _NEWSETELEM, _GETSETELEM, _DELSETELEM = 9, 12, 13, 14
_ERESTART = 85  # errno.ERESTART, which Python knows on Linux only
_ATTEMPTS = 16

# attributes of tables, chains, hooks, rules, sets and data: NFTA_*
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_HOOKNUM, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7
_LIST_ELEM, _DATA_VALUE = 1, 1
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE = 1, 2, 3, 4
_SET_KEY_LEN, _SET_DATA_TYPE, _SET_DATA_LEN, _SET_ID = 5, 6, 7, 10
_SET_IS_MAP = 0x8  # NFT_SET_MAP
_ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS_LIST = 1, 2, 3
_ELEMENT_KEY, _ELEMENT_DATA, _ELEMENT_USERDATA = 1, 2, 6
_MESSAGE_ELEMENTS = 256  # so many fit into an attribute of 64 KiB
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


class Map:
    """A map of a table from keys to values that are concatenations. `types`: those of nft, for both, and their lengths in bytes."""

    __slots__ = ("key_len", "key_type", "name", "number", "text", "value_len", "value_type")

    def __init__(self, number: int, name: str, text: str) -> None:
        """`text` is nft's, for instance "inet_proto . inet_service : ipv4_addr . inet_service"; `number` in one transaction."""
        key, _, value = text.partition(" : ")
        self.number, self.name, self.text = number, name, text
        self.key_type, self.key_len = _concatenation(key)
        self.value_type, self.value_len = _concatenation(value)


# datatypes of nft (number, bytes), by which `nft list` knows how to show them; a part of a concatenation fills 4 bytes
_TYPES = {"ipv4_addr": (7, 4), "ipv6_addr": (8, 16), "inet_proto": (12, 4), "inet_service": (13, 4)}


def _concatenation(text: str) -> tuple[int, int]:
    number = length = 0
    for part in text.split(" . "):
        number = number << 6 | _TYPES[part][0]
        length += _TYPES[part][1]
    return number, length


class Element:
    """One element of a map. `owner` is its comment, by which it is found again; `text` as nft has it."""

    __slots__ = ("key", "map", "owner", "text", "value")

    def __init__(self, map: Map, key: bytes, value: bytes, owner: str, text: str) -> None:
        self.map, self.key, self.value, self.owner, self.text = map, key, value, owner, text


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

    def chain(
        self, name: str, kind: str, hook: int, priority: int, priority_name: str, hook_name: str | None = None
    ) -> Change:
        """A base chain, called as its hook unless that is named; nothing happens where it exists."""
        where = nested(_CHAIN_HOOK, be32(_HOOK_HOOKNUM, hook), be32(_HOOK_PRIORITY, priority & 0xFFFFFFFF))
        body = string(_CHAIN_TABLE, self.name) + string(_CHAIN_NAME, name) + where
        body += be32(_CHAIN_POLICY, ACCEPT) + string(_CHAIN_TYPE, kind)
        kind_of = f"type {kind} hook {hook_name or name} priority {priority_name}; policy accept;"
        return self._change(_NEWCHAIN, NLM_F_CREATE, body, f"nft add chain {self} {name} '{{ {kind_of} }}'")

    def plain_chain(self, name: str) -> Change:
        """One that rules jump to; nothing happens where it exists."""
        body = string(_CHAIN_TABLE, self.name) + string(_CHAIN_NAME, name)
        return self._change(_NEWCHAIN, NLM_F_CREATE, body, f"nft add chain {self} {name}")

    def add(self, rule: Rule, first: bool = False) -> Change:
        """After the chain's other rules, or before them."""
        body = string(_RULE_TABLE, self.name) + string(_RULE_CHAIN, rule.chain)
        body += nested(_RULE_EXPRESSIONS, *(nested(_LIST_ELEM, e) for e in rule.expressions))
        body += attribute(_RULE_USERDATA, _userdata(rule.comment))
        command = f"nft {'insert' if first else 'add'} rule {self} {rule.chain} '{rule.text}'"
        return self._change(_NEWRULE, NLM_F_CREATE | (0 if first else NLM_F_APPEND), body, command)

    def map(self, map: Map) -> Change:
        """Nothing happens where it exists."""
        body = string(_SET_TABLE, self.name) + string(_SET_NAME, map.name) + be32(_SET_FLAGS, _SET_IS_MAP)
        body += be32(_SET_KEY_TYPE, map.key_type) + be32(_SET_KEY_LEN, map.key_len)
        body += be32(_SET_DATA_TYPE, map.value_type) + be32(_SET_DATA_LEN, map.value_len) + be32(_SET_ID, map.number)
        return self._change(_NEWSET, NLM_F_CREATE, body, f"nft add map {self} {map.name} '{{ type {map.text}; }}'")

    def add_elements(self, elements: Sequence[Element]) -> list[Change]:
        """A message for each map. EEXIST where a key is there."""
        return self._elements(_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, "add", elements)

    def remove_elements(self, elements: Sequence[Element]) -> list[Change]:
        """ENOENT where one is not there."""
        return self._elements(_DELSETELEM, 0, "delete", elements)

    def _elements(self, message: int, flags: int, verb: str, elements: Sequence[Element]) -> list[Change]:
        by_map: dict[str, list[Element]] = {}
        for element in elements:
            by_map.setdefault(element.map.name, []).append(element)
        changes = []
        for name, members in by_map.items():
            for start in range(0, len(members), _MESSAGE_ELEMENTS):
                part = members[start : start + _MESSAGE_ELEMENTS]
                body = string(_ELEMENTS_TABLE, self.name) + string(_ELEMENTS_SET, name)
                body += nested(_ELEMENTS_LIST, *(nested(_LIST_ELEM, _element(e, verb == "add")) for e in part))
                command = f"nft {verb} element {self} {name} '{{ {', '.join(e.text for e in part)} }}'"
                changes.append(self._change(message, flags, body, command))
        return changes

    def elements(self, netlink: Netlink, map: Map) -> list[tuple[bytes, bytes, str]]:
        """(key, value, owner) of all elements; none where there is no such map."""
        body = struct.pack(">BBH", self._family, 0, 0) + string(_ELEMENTS_TABLE, self.name)
        try:
            answers = netlink.dump(_SUBSYSTEM << 8 | _GETSETELEM, body + string(_ELEMENTS_SET, map.name))
        except OSError as e:
            if e.errno == errno.ENOENT:
                return []
            raise _not_readable(e) from e
        found = []
        for answer in answers:
            for _, data in attribute_list(attributes(answer[4:]).get(_ELEMENTS_LIST, b"")):
                element = attributes(data)
                key, value = (attributes(element[kind])[_DATA_VALUE] for kind in (_ELEMENT_KEY, _ELEMENT_DATA))
                found.append((key, value, _comment(element.get(_ELEMENT_USERDATA, b""))))
        return found

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


def _userdata(comment: str) -> bytes:
    text = comment.encode() + b"\0"
    return bytes((_UDATA_COMMENT, len(text))) + text


def _element(element: Element, with_value: bool) -> bytes:
    body = constant(_ELEMENT_KEY, element.key)
    if with_value:
        body += constant(_ELEMENT_DATA, element.value) + attribute(_ELEMENT_USERDATA, _userdata(element.owner))
    return body


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
