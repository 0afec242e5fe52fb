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
An `accept` ends this chain only: what an administrator's chain drops stays dropped. Every change is one
transaction (nftables.py).
"""

from __future__ import annotations

from engine.runtime.network import nftables as nft
from engine.runtime.network.ipam import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.network.model import Network
    from engine.runtime.network.netlink import Change, Log, Netlink

TABLE = nft.Table(nft.NFPROTO_INET, "mini")
FORWARD, POSTROUTING = "forward", "postrouting"


def rules(network: Network) -> list[nft.Rule]:
    """What the packet filter must hold for a network with a bridge. An internal one has no way out, and no NAT."""
    bridge = network.bridge
    wanted = [
        nft.Rule(FORWARD, "", "ct state established,related accept", *nft.established(), nft.verdict(nft.ACCEPT)),
        nft.Rule(
            FORWARD,
            bridge,
            f'iifname != "{bridge}" oifname "{bridge}" drop',
            *nft.interface(nft.IIFNAME, nft.UNEQUAL, bridge),
            *nft.interface(nft.OIFNAME, nft.EQUAL, bridge),
            nft.verdict(nft.DROP),
        ),
    ]
    if network.internal:
        leaving = nft.Rule(
            FORWARD,
            bridge,
            f'iifname "{bridge}" oifname != "{bridge}" drop',
            *nft.interface(nft.IIFNAME, nft.EQUAL, bridge),
            *nft.interface(nft.OIFNAME, nft.UNEQUAL, bridge),
            nft.verdict(nft.DROP),
        )
        return [*wanted, leaving]
    masquerade = nft.Rule(
        POSTROUTING,
        bridge,
        f'ip saddr {network.subnet} oifname != "{bridge}" masquerade',
        *nft.source(Subnet(network.subnet)),
        *nft.interface(nft.OIFNAME, nft.UNEQUAL, bridge),
        nft.expression("masq"),
    )
    return [*wanted, masquerade]


def present(network: Network) -> bool:
    """Whether all of the network's rules are in the kernel: one question to it. Unsupported without nf_tables."""
    with nft.connect() as netlink:
        found = {comment for _, _, comment in TABLE.installed(netlink)}
    return all(rule.comment in found for rule in rules(network))


def install(network: Network, log: Log | None = None) -> None:
    """Puts the network's rules in place, and takes away older ones of its bridge, in one transaction. Idempotent."""
    wanted = rules(network)

    def changes(netlink: Netlink) -> list[Change]:
        installed = TABLE.installed(netlink)
        found = {comment for _, _, comment in installed}
        expected = {rule.comment for rule in wanted}
        old = [
            TABLE.remove(c, h)
            for c, h, comment in installed
            if nft.owner_of(comment) == network.bridge and comment not in expected
        ]
        return frame() + old + [TABLE.add(rule) for rule in wanted if rule.comment not in found]

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
        TABLE.chain(POSTROUTING, "nat", nft.POSTROUTING_HOOK, 100, "srcnat"),
    ]
