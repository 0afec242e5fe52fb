"""What `network create` asks for, checked and laid out as Docker's client does it (cli, command/network/create.go)."""

from __future__ import annotations

from engine.errors import Conflict, NotFound, Unsupported, UsageError
from engine.runtime.network.ipam import Subnet, bits_of, number_of
from engine.runtime.network.model import BRIDGE_OPTION, MTU_OPTION, TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SWITCHES = ("enable_icc", "enable_ip_masquerade")


class Pool:
    """A subnet, and what is said of its addresses. Empty texts for what the user leaves to mini."""

    __slots__ = ("aux", "gateway", "ip_range", "subnet")

    def __init__(self, subnet: str = "") -> None:
        self.subnet = subnet
        self.gateway = self.ip_range = ""
        self.aux: dict[str, str] = {}

    def gateway_address(self) -> str:
        """The one asked for, or the first that is free, as in Docker: of the range, where there is one."""
        if self.gateway:
            return self.gateway
        net = Subnet(self.subnet)
        span = Subnet(self.ip_range, smallest=0) if self.ip_range else net
        taken = {*net.own, *self.aux.values()}
        for number in range(span.first, span.last + 1):
            if net.text(number) not in taken:
                return net.text(number)
        raise Conflict("failed to allocate gateway (): No available addresses on this pool")

    def to_docker(self) -> dict[str, Any]:
        """As IPAM.Config has it."""
        found: dict[str, Any] = {"Subnet": self.subnet}
        if self.ip_range:
            found["IPRange"] = self.ip_range
        if self.gateway:
            found["Gateway"] = self.gateway
        if self.aux:
            found["AuxiliaryAddresses"] = self.aux
        return found


class Request:
    """`network create NAME`. UsageError where gateways, ranges and addresses do not belong to a subnet."""

    __slots__ = ("attachable", "driver", "internal", "ipam_options", "ipv6", "labels", "name", "options", "pools")

    def __init__(
        self,
        name: str,
        driver: str = "bridge",
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ip_ranges: Sequence[str] = (),
        aux: Sequence[str] = (),
        internal: bool = False,
        ipv6: bool = False,
        attachable: bool = False,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
        ipam_options: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.driver = driver
        self.internal = internal
        self.ipv6 = ipv6
        self.attachable = attachable
        self.labels = labels or {}
        self.options = options or {}
        self.ipam_options = ipam_options or {}
        self.pools = _pools(subnets, gateways, ip_ranges, aux)

    def pool(self, version: int) -> Pool:
        """That of IPv4 or IPv6; one in which all is left to mini where none was asked for."""
        bits = 32 if version == 4 else 128
        return next((p for p in self.pools if bits_of(p.subnet) == bits), Pool())

    def ipam(self) -> list[dict[str, Any]]:
        return [pool.to_docker() for pool in self.pools if pool.subnet]


def _pools(subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], aux: Sequence[str]) -> list[Pool]:
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise UsageError("every ip-range or gateway must have a corresponding subnet")
    pools: list[Pool] = []
    for text in subnets:
        net = _subnet(text)
        if any(net.overlaps(_subnet(pool.subnet)) for pool in pools):
            raise UsageError("multiple overlapping subnet configuration is not supported")
        pools.append(Pool(text))
    for what, values in (("range", ranges), ("gateway", gateways)):
        for value in values:
            pool = _pool_of(pools, value, what)
            field = "ip_range" if what == "range" else "gateway"
            if getattr(pool, field):
                raise UsageError(
                    f"cannot configure multiple {what}s ({value}, {getattr(pool, field)}) on the same subnet"
                )
            setattr(pool, field, value)
    for item in aux:
        name, _, address = item.partition("=")
        _pool_of(pools, address, "aux-address").aux[name] = address
    return pools


def _pool_of(pools: list[Pool], address: str, what: str) -> Pool:
    for pool in pools:
        if address.partition("/")[0] in Subnet(pool.subnet, smallest=0):
            return pool
    raise UsageError(f"no matching subnet for {what} {address}")


def _subnet(text: str) -> Subnet:
    try:
        return Subnet(text, smallest=0)
    except UsageError as e:
        raise UsageError(f"Invalid subnet {text} : invalid CIDR address: {text}", e.hint) from None


def check(request: Request) -> None:
    """What the daemon refuses, in its words; and what mini does not have."""
    _check_driver(request.driver)
    if len({bits_of(pool.subnet) for pool in request.pools}) < len(request.pools):
        raise UsageError("bridge driver doesn't support multiple subnets")
    for pool in request.pools:
        if _subnet(pool.subnet).prefix > bits_of(pool.subnet) - 2:
            raise Conflict("failed to allocate gateway (): No available addresses on this pool", "take a larger subnet")
        net = Subnet(pool.subnet)
        if pool.gateway and (number_of(pool.gateway) is None or pool.gateway in (*net.own, *pool.aux.values())):
            raise Conflict(f"failed to allocate gateway ({pool.gateway}): Address already in use")
    _check_options(request.options)


def _check_driver(driver: str) -> None:
    if driver in ("host", "null", "none"):
        raise Conflict(f'only one instance of "{driver}" network is allowed')
    if driver in ("macvlan", "ipvlan", "overlay"):
        raise Unsupported(
            f"the network driver {driver} is not supported", "mini's networks are bridges: --driver bridge"
        )
    if driver != "bridge":
        raise NotFound(f'plugin "{driver}" not found', "mini's networks are bridges: --driver bridge")


def _check_options(options: dict[str, str]) -> None:
    mtu = options.get(MTU_OPTION)
    if mtu and not (mtu.isascii() and mtu.isdigit()):
        raise UsageError(f'failed to parse {MTU_OPTION} value: {mtu} (strconv.Atoi: parsing "{mtu}": invalid syntax)')
    for name in _SWITCHES:
        key = f"{BRIDGE_OPTION}.{name}"
        if (value := options.get(key)) is not None and value not in TRUE + FALSE:
            raise UsageError(
                f'failed to parse {key} value: {value} (strconv.ParseBool: parsing "{value}": invalid syntax)'
            )
    for version in ("ipv4", "ipv6"):
        mode = options.get(f"{BRIDGE_OPTION}.gateway_mode_{version}", "nat")
        if mode != "nat":
            raise Unsupported(f"the gateway mode {mode} is not supported", "mini's networks have the mode nat")
    if options.get(f"{BRIDGE_OPTION}.inhibit_ipv4", "false") not in FALSE:
        raise Unsupported("a bridge without an address (inhibit_ipv4) is not supported")
