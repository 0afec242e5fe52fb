"""What a rule of nf_tables consists of: expressions, each the bytes of its netlink attribute, named as `nft` writes them.

A rule is a sequence of them; nftables.py carries it to the kernel. linux/netfilter/nf_tables.h, whose numbers are in network byte
order.
"""

from __future__ import annotations

import struct

from engine.runtime.network.ipam import Subnet
from engine.runtime.network.netlink import attribute, be32, nested, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.network.nftables import Map

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10
DROP, ACCEPT, JUMP, RETURN = 0, 1, -3, -5
EQUAL, UNEQUAL = 0, 1
IIFNAME, OIFNAME, NFPROTO, L4PROTO = 6, 7, 15, 16  # NFT_META_*
ESTABLISHED, RELATED = 2, 4  # bits of conntrack's state
DNAT_STATUS = 0x20  # IPS_DST_NAT, a bit of conntrack's status
LOCAL = 2  # RTN_LOCAL, a type of addresses
REGISTER_1, REGISTER_2 = 1, 2
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2  # NFT_PAYLOAD_*

_EXPR_NAME, _EXPR_DATA, _DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 1, 2, 1, 2, 1, 2
_REG_VERDICT = 0
_REGISTER_WORD = 8  # NFT_REG32_00: registers of 16 bytes are also four of 4 bytes each
_CT_STATE, _CT_STATUS = 0, 2
_FIB_ADDRTYPE, _FIB_DADDR = 3, 2
_SADDR_OFFSET, _SADDR6_OFFSET, _DADDR_OFFSET, _DADDR6_OFFSET, _DPORT_OFFSET = 12, 8, 16, 24, 2
_AF_INET = 2
_NAT_DESTINATION = 1  # NFT_NAT_DNAT
_IFNAMSIZ = 16


def expression(name: str, *data: bytes) -> bytes:
    return string(_EXPR_NAME, name) + (nested(_EXPR_DATA, *data) if data else b"")


def constant(kind: int, value: bytes) -> bytes:
    """NFTA_DATA_VALUE: what is compared with, loaded, or an element's key."""
    return nested(kind, attribute(_DATA_VALUE, value))


def compare(operator: int, value: bytes) -> bytes:
    return expression("cmp", be32(1, REGISTER_1), be32(2, operator), constant(3, value))


def _mask(mask: bytes) -> bytes:
    parts = (
        be32(1, REGISTER_1),
        be32(2, REGISTER_1),
        be32(3, len(mask)),
        constant(4, mask),
        constant(5, bytes(len(mask))),
    )
    return expression("bitwise", *parts)


def interface(key: int, operator: int, name: str) -> tuple[bytes, bytes]:
    load = expression("meta", be32(1, REGISTER_1), be32(2, key))
    return load, compare(operator, name.encode().ljust(_IFNAMSIZ, b"\0"))


def source(subnet: Subnet) -> tuple[bytes, ...]:
    """`ip saddr SUBNET` or `ip6 saddr SUBNET`; in an inet table these begin with `meta nfproto`."""
    return _inside(subnet, _SADDR_OFFSET, _SADDR6_OFFSET)


def destined(subnet: Subnet) -> tuple[bytes, ...]:
    """`ip daddr SUBNET` or `ip6 daddr SUBNET`, in an inet table."""
    return _inside(subnet, _DADDR_OFFSET, _DADDR6_OFFSET)


def _inside(subnet: Subnet, offset4: int, offset6: int) -> tuple[bytes, ...]:
    length = subnet.bits // 8
    mask = ((1 << subnet.bits) - (1 << subnet.bits - subnet.prefix)).to_bytes(length, "big")
    field = (be32(2, NETWORK_HEADER), be32(3, offset4 if length == 4 else offset6), be32(4, length))
    return (
        *protocol(4 if length == 4 else 6),
        expression("payload", be32(1, REGISTER_1), *field),
        _mask(mask),
        compare(EQUAL, subnet.first.to_bytes(length, "big")),
    )


def protocol(version: int) -> tuple[bytes, ...]:
    """`meta nfproto ipv4` or `ipv6`."""
    number = NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6
    return expression("meta", be32(1, REGISTER_1), be32(2, NFPROTO)), compare(EQUAL, bytes((number,)))


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


def translate_by(map: Map, version: int, with_address: bool) -> tuple[bytes, ...]:
    """`dnat ip to ip daddr . meta l4proto . th dport map @MAP`, or ip6; without the address, `meta l4proto . th dport`.

    The parts of the key lie side by side in registers, those of the value likewise: an address, then a port.
    """
    length, offset = (4, _DADDR_OFFSET) if version == 4 else (16, _DADDR6_OFFSET)
    key: list[bytes] = []
    word = _REGISTER_WORD
    if with_address:
        key += protocol(version)
        key.append(expression("payload", be32(1, word), be32(2, NETWORK_HEADER), be32(3, offset), be32(4, length)))
        word += length // 4
    key.append(expression("meta", be32(1, word), be32(2, L4PROTO)))
    port = (be32(2, TRANSPORT_HEADER), be32(3, _DPORT_OFFSET), be32(4, 2))
    key.append(expression("payload", be32(1, word + 1), *port))
    look_up = expression("lookup", string(1, map.name), be32(2, REGISTER_1), be32(3, REGISTER_1), be32(4, map.number))
    family = NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6
    to = (be32(1, _NAT_DESTINATION), be32(2, family), be32(3, REGISTER_1), be32(5, _REGISTER_WORD + length // 4))
    return (*key, look_up, expression("nat", *to))


def load(register: int, value: bytes) -> bytes:
    return expression("immediate", be32(1, register), constant(2, value))


def established() -> tuple[bytes, ...]:
    """`ct state established,related`."""
    return _has_bits(_CT_STATE, ESTABLISHED | RELATED)


def translated() -> tuple[bytes, ...]:
    """`ct status dnat`: to a connection that goes to a published port."""
    return _has_bits(_CT_STATUS, DNAT_STATUS)


def _has_bits(key: int, bits: int) -> tuple[bytes, ...]:
    """Any of them; conntrack's numbers are in the host's byte order."""
    return (
        expression("ct", be32(1, REGISTER_1), be32(2, key)),
        _mask(struct.pack("=I", bits)),
        compare(UNEQUAL, bytes(4)),
    )


def to_host() -> tuple[bytes, ...]:
    """`fib daddr type local`: to one of the host's own addresses."""
    return (
        expression("fib", be32(1, REGISTER_1), be32(2, _FIB_ADDRTYPE), be32(3, _FIB_DADDR)),
        compare(EQUAL, struct.pack("=I", LOCAL)),
    )


def verdict(code: int, chain: str = "") -> bytes:
    """`chain` is where JUMP goes."""
    parts = [be32(_VERDICT_CODE, code & 0xFFFFFFFF), *([string(_VERDICT_CHAIN, chain)] if chain else [])]
    return expression("immediate", be32(1, _REG_VERDICT), nested(2, nested(_DATA_VERDICT, *parts)))
