"""Addresses of a network, one symbolic link a lease: `leases/172.29.0.2 -> <container id>`.

symlink(2) is the whole transaction: it makes the name and its content in one step or fails with EEXIST. So two
processes never get the same address, and one that is killed leaves a whole lease (which is collected when its owner is
gone) or none; there is no file to be half-written, and no lock.
"""

from __future__ import annotations

import _socket
import os

from engine.errors import Conflict, UsageError
from engine.files import make_dirs, remove_file


class Subnet:
    """An IPv4 subnet in numbers. UsageError for what is not `A.B.C.D/N` with room for a gateway and a container."""

    __slots__ = ("first", "last", "prefix")

    def __init__(self, text: str) -> None:
        address, _, length = text.partition("/")
        number = _number(address)
        if number is None or not length.isdecimal() or not 8 <= int(length) <= 30:
            raise UsageError(f"invalid subnet {text!r}", "write it as 172.29.0.0/16, with a prefix of 8 to 30 bits")
        self.prefix = int(length)
        size = 1 << (32 - self.prefix)
        self.first = number & ~(size - 1)
        self.last = self.first + size - 1

    def __contains__(self, address: str) -> bool:
        number = _number(address)
        return number is not None and self.first <= number <= self.last

    def __str__(self) -> str:
        return f"{_text(self.first)}/{self.prefix}"

    @property
    def gateway(self) -> str:
        """Docker's choice where nobody makes one: the first address."""
        return _text(self.first + 1)

    @property
    def broadcast(self) -> str:
        return _text(self.last)


def reserve(directory: str, subnet: str, gateway: str, owner: str, wanted: str | None = None) -> str:
    """Leases `wanted`, or the lowest address that is free, to `owner` (a container's ID). Safe against any concurrency.

    The network's own address, the gateway and the broadcast address are never given out. A `wanted` that `owner` holds
    already is given again. Raises UsageError for a `wanted` outside the subnet; Conflict where it is taken or none is
    left: the caller may `release` those in `leases` whose owners are no more, and ask again.
    """
    net = Subnet(subnet)
    if wanted is not None:
        return _reserve_wanted(directory, net, gateway, owner, wanted)
    try:
        taken = set(os.listdir(directory))
    except FileNotFoundError:
        make_dirs(directory)
        taken = set()
    taken.add(gateway)
    for number in range(net.first + 1, net.last):
        address = _text(number)
        if address not in taken and _lease(directory, address, owner):
            return address
    raise Conflict(
        f"no available IPv4 addresses on the subnet {subnet}",
        "remove containers that are no longer needed (mini rm), or use a network with a larger subnet",
    )


def _reserve_wanted(directory: str, net: Subnet, gateway: str, owner: str, wanted: str) -> str:
    if wanted not in net:
        raise UsageError(f"no configured subnet contains the IP address {wanted}", f"choose one in {net}")
    if wanted in (gateway, _text(net.first), net.broadcast):
        raise Conflict(f"address {wanted} is the network's own (gateway, network or broadcast address of {net})")
    make_dirs(directory)
    while not _lease(directory, wanted, owner):
        try:
            holder = os.readlink(f"{directory}/{wanted}")
        except FileNotFoundError:  # released in between
            continue
        if holder == owner:
            break
        raise Conflict(f"address already in use: {wanted} is leased to container {holder[:12]}")
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


def _number(address: str) -> int | None:
    try:
        return int.from_bytes(_socket.inet_pton(_socket.AF_INET, address), "big")
    except (OSError, ValueError):
        return None


def _text(number: int) -> str:
    return _socket.inet_ntop(_socket.AF_INET, number.to_bytes(4, "big"))
