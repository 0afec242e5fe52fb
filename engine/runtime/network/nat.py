"""mini's table in the packet filter, written to nf_tables as transactions, with no external program.

    table inet mini {
        chain forward {
            type filter hook forward priority filter; policy accept;
            ct state established,related accept
            ct status dnat accept                           to a published port (portrules.py)
            iifname != "mini0" oifname "mini0" drop         a network: nobody opens a connection into it from outside
        }
        chain internal {
            type filter hook forward priority filter - 1; policy accept;
            iifname "br-5f…" oifname != "br-5f…" drop       an internal network: nor out of it, to whatever port
        }
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            ip saddr 172.29.0.0/16 oifname != "mini0" masquerade
            ip saddr 172.29.0.0/16 oifname "mini0" ct status dnat masquerade      to a port of its own network's
            ip6 saddr fd5f:1:2:1::/64 oifname != "br-5f…" masquerade
        }
    }

One table for all minis of a host: a rule carries its bridge's name in its comment, and a bridge belongs to one network.
An `accept` ends this chain only: what an administrator's chain drops stays dropped. Every change is one
transaction (nftables.py).
"""

from __future__ import annotations

from engine.runtime.network import expressions as expr
from engine.runtime.network import nftables as nft
from engine.runtime.network import portrules
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.portrules import PORTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Change, Log, Netlink

TABLE = nft.Table(expr.NFPROTO_INET, "mini")
FORWARD, INTERNAL, POSTROUTING = "forward", "internal", "postrouting"


def rules(network: Network) -> list[nft.Rule]:
    """What the packet filter must hold for a network with a bridge. An internal one has no way out, and no NAT."""
    bridge = network.bridge
    wanted = [
        nft.Rule(FORWARD, "", "ct status dnat accept", *expr.translated(), expr.verdict(expr.ACCEPT)),
        nft.Rule(FORWARD, "", "ct state established,related accept", *expr.established(), expr.verdict(expr.ACCEPT)),
        *portrules.rules(),
        _drop(bridge, expr.UNEQUAL, expr.EQUAL),
    ]
    if not network.allows("enable_icc"):
        # what goes from port to port of the bridge is not forwarded: those are isolated by a flag of theirs (attach.py)
        wanted.append(_drop(bridge, expr.EQUAL, expr.EQUAL))
    if network.internal:
        wanted.append(_drop(bridge, expr.EQUAL, expr.UNEQUAL, INTERNAL))
        return wanted
    for subnet in (network.subnet, *([network.ipv6["subnet"]] if network.ipv6 else [])):
        # a container that asks for a port of its own network's has to be answered by the host, which it asked
        wanted.append(_masquerade(bridge, subnet, expr.EQUAL, expr.translated()))
        if network.allows("enable_ip_masquerade"):
            wanted.append(_masquerade(bridge, subnet, expr.UNEQUAL))
    return wanted


_SIGN = {expr.EQUAL: "", expr.UNEQUAL: "!= "}


def _drop(bridge: str, coming: int, going: int, chain: str = FORWARD) -> nft.Rule:
    """Of what comes from the bridge (EQUAL) or from elsewhere (UNEQUAL), and goes to the bridge or elsewhere."""
    return nft.Rule(
        chain,
        bridge,
        f'iifname {_SIGN[coming]}"{bridge}" oifname {_SIGN[going]}"{bridge}" drop',
        *expr.interface(expr.IIFNAME, coming, bridge),
        *expr.interface(expr.OIFNAME, going, bridge),
        expr.verdict(expr.DROP),
    )


def _masquerade(bridge: str, subnet: str, going: int, which: tuple[bytes, ...] = ()) -> nft.Rule:
    family = "ip6" if ":" in subnet else "ip"
    return nft.Rule(
        POSTROUTING,
        bridge,
        f'{family} saddr {subnet} oifname {_SIGN[going]}"{bridge}"{" ct status dnat" if which else ""} masquerade',
        *expr.source(Subnet(subnet)),
        *expr.interface(expr.OIFNAME, going, bridge),
        *which,
        expr.expression("masq"),
    )


def present(network: Network) -> bool:
    """Whether all of the network's rules are in the kernel: one question to it. Unsupported without nf_tables."""
    with nft.connect() as netlink:
        found = {(chain, comment) for chain, _, comment in TABLE.installed(netlink)}
    return all((rule.chain, rule.comment) in found for rule in rules(network))


def install(network: Network, log: Log | None = None) -> None:
    """Puts the network's rules in place, and takes away older ones of its bridge, in one transaction. Idempotent."""
    wanted = rules(network)
    expected = {(rule.chain, rule.comment) for rule in wanted}

    def changes(netlink: Netlink) -> list[Change]:
        installed = TABLE.installed(netlink)
        found = {(chain, comment) for chain, _, comment in installed}
        missing = expected - found
        # these are in an order, so that none is put between the others
        anew = [PORTS] if any(chain == PORTS for chain, _ in missing) else []
        old = [
            TABLE.remove(chain, handle)
            for chain, handle, comment in installed
            if chain in anew or (nft.owner_of(comment) == network.bridge and (chain, comment) not in expected)
        ]
        # what every network shares comes before what one has: an accept before the drops
        add = [
            TABLE.add(rule, first=rule.chain == FORWARD and not rule.owner)
            for rule in wanted
            if (rule.chain, rule.comment) in missing or rule.chain in anew
        ]
        return frame() + old + add

    nft.transact(changes, log)


def uninstall(network: Network, log: Log | None = None) -> None:
    """Removes the rules of the network's bridge, and with the last network's the table. Idempotent."""

    def changes(netlink: Netlink) -> list[Change]:
        installed = TABLE.installed(netlink)
        others = {nft.owner_of(comment) for _, _, comment in installed} - {network.bridge, ""}
        if installed and not others:
            return [TABLE.delete()]
        return [TABLE.remove(c, h) for c, h, comment in installed if nft.owner_of(comment) == network.bridge]

    nft.transact(changes, log)


def frame() -> list[Change]:
    """The table and its chains; nothing happens where they exist."""
    return [
        TABLE.create(),
        TABLE.chain(FORWARD, "filter", nft.FORWARD_HOOK, 0, "filter"),
        TABLE.chain(INTERNAL, "filter", nft.FORWARD_HOOK, -1, "filter - 1", hook_name=FORWARD),
        TABLE.chain(POSTROUTING, "nat", nft.POSTROUTING_HOOK, 100, "srcnat"),
        *portrules.frame(TABLE),
    ]
