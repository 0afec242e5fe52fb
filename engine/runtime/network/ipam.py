"""Addresses of a network, one symbolic link a lease: `leases/172.29.0.2 -> <container id>`, IPv6 the same way.

symlink(2) is the whole transaction: it makes the name and its content in one step or fails with EEXIST. So two
processes never get the same address, and one that is killed leaves a whole lease (which is collected when its owner is
gone) or none; there is no file to be half-written, and no lock.
"""

from __future__ import annotations

import _socket
import os

from engine.errors import Conflict, UsageError
from engine.files import make_dirs, remove_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FORM = "write it as 172.29.0.0/16, with a prefix of 8 to 30 bits, or as fd00:1:2:3::/64, with one of 8 to 126"


class Subnet:
    """A subnet in numbers. UsageError for what is not `A.B.C.D/N` or `X::/N` with room for a gateway and a container."""

    __slots__ = ("bits", "first", "last", "prefix")

    def __init__(self, text: str, smallest: int = 2) -> None:
        """`smallest`: as many bits must be left for hosts."""
        address, _, length = text.partition("/")
        number = number_of(address)
        self.bits = bits_of(address)
        if number is None or not (length.isascii() and length.isdigit() and 8 <= int(length) <= self.bits - smallest):
            raise UsageError(f"invalid subnet {text!r}", _FORM)
        self.prefix = int(length)
        size = 1 << (self.bits - self.prefix)
        self.first = number & ~(size - 1)
        self.last = self.first + size - 1

    def __contains__(self, address: str) -> bool:
        number = number_of(address)
        return number is not None and bits_of(address) == self.bits and self.first <= number <= self.last

    def __str__(self) -> str:
        return f"{self.text(self.first)}/{self.prefix}"

    def text(self, number: int) -> str:
        """The address of that number, in its shortest form."""
        return _socket.inet_ntop(_family(self.bits), number.to_bytes(self.bits // 8, "big"))

    def overlaps(self, other: Subnet) -> bool:
        return self.bits == other.bits and self.first <= other.last and other.first <= self.last

    @property
    def gateway(self) -> str:
        """Docker's choice where nobody makes one: the first address."""
        return self.text(self.first + 1)

    @property
    def broadcast(self) -> str:
        return self.text(self.last)

    @property
    def own(self) -> tuple[str, ...]:
        """The addresses that stand for the subnet itself: its first, and IPv4's broadcast address."""
        return (self.text(self.first), self.broadcast) if self.bits == 32 else (self.text(self.first),)


def reserve(
    directory: str,
    subnet: str,
    gateway: str,
    owner: str,
    wanted: str | None = None,
    ip_range: str = "",
    reserved: Iterable[str] = (),
) -> str:
    """Leases `wanted`, or the lowest address of `ip_range` (by default all of the subnet) that is free, to `owner`.

    Safe against any concurrency. The subnet's own addresses, the gateway and those `reserved` are never given out. A
    `wanted` that `owner` (a container's ID) holds already is given again. Raises UsageError for a `wanted` outside the
    subnet; Conflict where it is taken or none is left: the caller may `release` those in `leases` whose owners are no more,
    and ask again.
    """
    net = Subnet(subnet)
    taken = {gateway, *net.own, *reserved}
    if wanted is not None:
        return _reserve_wanted(directory, net, taken, owner, wanted)
    try:
        taken.update(os.listdir(directory))
    except FileNotFoundError:
        make_dirs(directory)
    span = Subnet(ip_range, smallest=0) if ip_range else net
    for number in range(span.first, span.last + 1):
        address = net.text(number)
        if address not in taken and _lease(directory, address, owner):
            return address
    raise Conflict(
        f"no available {'IPv4' if net.bits == 32 else 'IPv6'} addresses on the subnet {ip_range or subnet}",
        "remove containers that are no longer needed (mini rm), or use a network with a larger subnet",
    )


def _reserve_wanted(directory: str, net: Subnet, taken: set[str], owner: str, wanted: str) -> str:
    if wanted not in net:
        raise UsageError(
            f"Invalid address {wanted}: It does not belong to any of this network's subnets", f"choose one in {net}"
        )
    wanted = net.text(number_of(wanted) or 0)
    if wanted in taken:
        raise Conflict("Address already in use", f"{wanted} is kept by the network of {net} itself")
    make_dirs(directory)
    while not _lease(directory, wanted, owner):
        try:
            holder = os.readlink(f"{directory}/{wanted}")
        except FileNotFoundError:  # released in between
            continue
        if holder == owner:
            break
        raise Conflict("Address already in use", f"{wanted} is leased to container {holder[:12]}")
    return wanted


def _lease(directory: str, address: str, owner: str) -> bool:
    try:
        os.symlink(owner, f"{directory}/{address}")
    except FileExistsError:
        return False
    return True


def leases(directory: str) -> dict[str, str]:
    """Every lease as address → owner; none where the directory does not exist."""
    found = {}
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}
    for name in names:
        try:
            found[name] = os.readlink(f"{directory}/{name}")
        except OSError:  # released in between, or not a lease
            pass
    return found


def release(directory: str, owner: str, address: str | None = None) -> None:
    """Gives back the leases of `owner`: all of them, or the one of `address` (no directory scan). Idempotent."""
    if address is None:
        held = [a for a, holder in leases(directory).items() if holder == owner]
    else:
        held = [address] if _holder(directory, address) == owner else []
    for name in held:
        remove_file(f"{directory}/{name}")


def _holder(directory: str, address: str) -> str | None:
    try:
        return os.readlink(f"{directory}/{address}")
    except OSError:
        return None


def number_of(address: str) -> int | None:
    """An IPv4 or IPv6 address as a number; None for what is none."""
    try:
        return int.from_bytes(_socket.inet_pton(_family(bits_of(address)), address), "big")
    except (OSError, ValueError):
        return None


def bits_of(address: str) -> int:
    """32, or 128 for what is written as an IPv6 address."""
    return 128 if ":" in address else 32


def _family(bits: int) -> int:
    return _socket.AF_INET if bits == 32 else _socket.AF_INET6
