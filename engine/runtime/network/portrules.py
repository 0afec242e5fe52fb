"""Published ports in the packet filter: elements of four maps, so that the thousandth port costs as the first.

    map ports4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }   an address of the host was named
    map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }                 0.0.0.0: all of them
    chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local jump ports }    from elsewhere
    chain output { type nat hook output priority -100; fib daddr type local jump ports }              from this host
    chain ports {
        ip daddr 127.0.0.0/8 return
        …
        dnat ip to ip daddr . meta l4proto . th dport map @ports4
        dnat ip to meta l4proto . th dport map @any4
    }

and `ports6`, `any6` alike. What is for or from a loopback address is never translated: no setting has to let it out of `lo`
(route_localnet, CVE-2020-8558), and no container sees 127.0.0.1 as its client (CVE-2021-20199). A port that is published at such an
address has no element at all, so that nothing can open it to others (CVE-2025-54388). The proxy serves it (proxy.py).
"""

from __future__ import annotations

import errno

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.network import expressions as expr
from engine.runtime.network import nftables as nft
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.netlink import inet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.runtime.network.netlink import Change, Log, Netlink

PREROUTING, OUTPUT, PORTS = "prerouting", "output", "ports"
PROTOCOLS = {"tcp": 6, "udp": 17}  # IPPROTO_*
ANY = ("0.0.0.0", "::")
_LOOPBACK = (Subnet("127.0.0.0/8"), Subnet("::1/128", smallest=0))
# a link's own addresses: what comes from one cannot be passed on to another link
_LINK_LOCAL = Subnet("fe80::/10")

_MAPS = {
    name: nft.Map(number, name, text)
    for number, (name, text) in enumerate(
        {
            "ports4": "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
            "any4": "inet_proto . inet_service : ipv4_addr . inet_service",
            "ports6": "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
            "any6": "inet_proto . inet_service : ipv6_addr . inet_service",
        }.items(),
        start=1,
    )
}


def frame(table: nft.Table) -> list[Change]:
    """Chains and maps; nothing happens where they exist."""
    return [
        table.chain(PREROUTING, "nat", nft.PREROUTING_HOOK, -100, "dstnat"),
        table.chain(OUTPUT, "nat", nft.OUTPUT_HOOK, -100, "-100"),
        table.plain_chain(PORTS),
        *(table.map(m) for m in _MAPS.values()),
    ]


def rules() -> list[nft.Rule]:
    """The same for every network. Those of the chain `ports` are in order, and come and go together."""
    jumps = [
        nft.Rule(chain, "", "fib daddr type local jump ports", *expr.to_host(), expr.verdict(expr.JUMP, PORTS))
        for chain in (PREROUTING, OUTPUT)
    ]
    return [*jumps, *_returns(), *(_translation(map) for map in _MAPS.values())]


def _returns() -> list[nft.Rule]:
    found = []
    for subnet, directions in ((_LOOPBACK[0], "ds"), (_LOOPBACK[1], "ds"), (_LINK_LOCAL, "d")):
        for direction in directions:
            text = f"{'ip' if subnet.bits == 32 else 'ip6'} {direction}addr {subnet} return"
            match = expr.destined(subnet) if direction == "d" else expr.source(subnet)
            found.append(nft.Rule(PORTS, "", text, *match, expr.verdict(expr.RETURN)))
    return found


def _translation(map: nft.Map) -> nft.Rule:
    version, named = int(map.name[-1]), map.name.startswith("ports")
    family = "ip" if version == 4 else "ip6"
    key = f"{family} daddr . meta l4proto . th dport" if named else "meta l4proto . th dport"
    return nft.Rule(
        PORTS, "", f"dnat {family} to {key} map @{map.name}", *expr.translate_by(map, version, with_address=named)
    )


def is_loopback(address: str) -> bool:
    return any(address in subnet for subnet in _LOOPBACK)


def element(protocol: str, host: tuple[str, int], to: tuple[str, int], owner: str) -> nft.Element | None:
    """What leads a host's address and port to a container's; None where the proxy alone can: loopback, another family."""
    address, port = host
    version = 6 if ":" in address else 4
    if is_loopback(address) or (":" in to[0]) != (version == 6) or not to[0]:
        return None
    named = address not in ANY
    key = (inet(address) if named else b"") + _word(bytes((PROTOCOLS[protocol],))) + _word(port.to_bytes(2, "big"))
    value = inet(to[0]) + _word(to[1].to_bytes(2, "big"))
    text = " . ".join([*([address] if named else []), protocol, str(port)]) + f" : {to[0]} . {to[1]}"
    return nft.Element(_MAPS[f"{'ports' if named else 'any'}{version}"], key, value, owner, text)


def _word(value: bytes) -> bytes:
    """A part of a concatenation fills words of 4 bytes."""
    return value.ljust(4, b"\0")


def change(table: nft.Table, old: Sequence[nft.Element], new: Sequence[nft.Element], log: Log | None = None) -> None:
    """Takes away `old` and adds `new` in one transaction, whose size is theirs, however many others there are.

    The caller has claimed the keys of `new`: what somebody who was killed left of them is replaced.
    """
    if not (old or new):
        return
    plain = [*table.remove_elements(old), *table.add_elements(new)]
    try:
        return nft.transact(lambda _: plain, log)
    except Unsupported:  # ENOENT: one that was to go is gone
        pass
    except RuntimeFault as e:
        if e.errno != errno.EEXIST:
            raise
    keys = {(e.map.name, e.key) for e in (*old, *new)}

    def changes(netlink: Netlink) -> list[Change]:
        found = present(table, netlink, lambda e: (e.map.name, e.key) in keys)
        return [*table.remove_elements(found), *table.add_elements(new)]

    nft.transact(changes, log)


def remove(table: nft.Table, is_gone: Callable[[str], bool]) -> list[str]:
    """Takes away all elements of owners that are gone; those owners."""
    found: list[nft.Element] = []

    def changes(netlink: Netlink) -> list[Change]:
        found[:] = present(table, netlink, lambda e: is_gone(e.owner))
        return table.remove_elements(found)

    nft.transact(changes)
    return sorted({e.owner for e in found})


def put_back(table: nft.Table, wanted: Iterable[nft.Element], log: Log | None = None) -> int:
    """Adds those of `wanted` that are missing, and says how many were."""
    expected = {(e.map.name, e.key): e for e in wanted}
    missing: list[nft.Element] = []

    def changes(netlink: Netlink) -> list[Change]:
        there = present(table, netlink, lambda e: (e.map.name, e.key) in expected)
        right = {(e.map.name, e.key) for e in there if _is_same(e, expected[e.map.name, e.key])}
        missing[:] = [e for key, e in expected.items() if key not in right]
        wrong = [e for e in there if (e.map.name, e.key) not in right]
        return [*table.remove_elements(wrong), *table.add_elements(missing)]

    if expected:
        nft.transact(changes, log)
    return len(missing)


def _is_same(one: nft.Element, other: nft.Element) -> bool:
    return (one.value, one.owner) == (other.value, other.owner)


def present(table: nft.Table, netlink: Netlink, match: Callable[[nft.Element], bool]) -> list[nft.Element]:
    """The elements that are in the maps now."""
    return [
        e
        for map in _MAPS.values()
        for key, value, owner in table.elements(netlink, map)
        if match(e := nft.Element(map, key, value, owner, _text(map, key)))
    ]


def _text(map: nft.Map, key: bytes) -> str:
    protocol = {number: name for name, number in PROTOCOLS.items()}.get(key[-8], str(key[-8]))
    address = _address(key[:-8])
    return " . ".join([*([address] if address else []), protocol, str(int.from_bytes(key[-4:-2], "big"))])


def _address(packed: bytes) -> str:
    return Subnet(f"{'::' if len(packed) == 16 else '0.0.0.0'}/8").text(int.from_bytes(packed, "big")) if packed else ""
