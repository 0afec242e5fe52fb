"""`--network` and what belongs to it → NetworkMode and NetworkSettings.Networks, refused in Docker's words (cli, opts/network.go).

--network NAME                                       or, each with its own settings:
--network name=NAME,alias=A,ip=IP,ip6=IP,mac-address=MAC,driver-opt=K=V,gw-priority=N
"""

from __future__ import annotations

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engine.containers.options import CreateOptions

DEFAULT = "bridge"
PREDEFINED = ("bridge", "default", "host", "none")
CONTAINER = "container:"


def endpoint_config() -> dict[str, Any]:
    """Docker's EndpointConfig, what is wanted of one network, with nothing asked for."""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
    }


def is_user_defined(network: str) -> bool:
    return network not in PREDEFINED and not network.startswith(CONTAINER)


def mode(options: CreateOptions) -> str:
    """HostConfig.NetworkMode: the first network."""
    if not options.networks:
        return DEFAULT
    first = parse(options.networks[0])[0]
    return DEFAULT if first == "default" else first


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """(network, EndpointConfig) of one `--network`. UsageError for a word that means nothing."""
    config = endpoint_config()
    if "=" not in text:
        return text.strip(), config
    name = ""
    for field in text.split(","):
        key, equals, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not equals or not key:
            raise UsageError(f"invalid field {field}")
        if key == "name":
            name = value
        elif key == "alias":
            config["Aliases"] = [*(config["Aliases"] or []), value]
        elif key in ("ip", "ip6"):
            addresses(config, **{key: value})
        elif key == "mac-address":
            config["MacAddress"] = value
        elif key == "driver-opt":
            config["DriverOpts"] = (config["DriverOpts"] or {}) | driver_options(
                [value], "invalid key value pair format"
            )
        elif key == "gw-priority":
            config["GwPriority"] = _integer(value)
        else:
            raise UsageError(f"invalid field key {key}")
    if not name:
        raise UsageError("network name/id is not specified")
    return name, config


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"invalid gw-priority ({text}): invalid syntax") from None


def driver_options(values: Sequence[str], complaint: str = "invalid key/value pair format") -> dict[str, str]:
    found = {}
    for value in values:
        key, equals, setting = value.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{complaint} in driver options")
        found[key.strip()] = setting.strip()
    return found


def addresses(config: dict[str, Any], ip: str | None = None, ip6: str | None = None) -> None:
    """Wanted addresses into an EndpointConfig."""
    for key, value in (("IPv4Address", ip), ("IPv6Address", ip6)):
        if value:
            config["IPAMConfig"] = (config["IPAMConfig"] or {}) | {key: value}


def settings(options: CreateOptions) -> dict[str, dict[str, Any]]:
    """EndpointConfig by network as it was named. `--ip` and its like are for the first. UsageError in Docker's words."""
    found: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(options.networks or (DEFAULT,)):
        network, config = parse(text)
        if number == 0:
            _add_plain(network, config, options)
        _check(network, config)
        network = DEFAULT if network == "default" else network
        if network in found:
            raise UsageError(f'network "{network}" is specified multiple times')
        found[network] = config
    if len({is_user_defined(network) for network in found}) > 1:
        raise UsageError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    if len(found) > 1 and not is_user_defined(next(iter(found))):
        raise UsageError(f"Container cannot be connected to network endpoints: {', '.join(sorted(found))}")
    return {} if next(iter(found)).startswith(CONTAINER) else found


def _add_plain(network: str, config: dict[str, Any], options: CreateOptions) -> None:
    """`--ip`, `--network-alias` …: each in one of the two places only."""
    wanted = config["IPAMConfig"] or {}
    for plain, own, what in (
        (options.network_aliases, config["Aliases"], "--network-alias and per-network alias"),
        (options.ip, wanted.get("IPv4Address"), "--ip and per-network IPv4 address"),
        (options.ip6, wanted.get("IPv6Address"), "--ip6 and per-network IPv6 address"),
        (options.mac_address, config["MacAddress"], "--mac-address and per-network MAC address"),
    ):
        if plain and own:
            raise UsageError(f"conflicting options: cannot specify both {what}")
    if options.network_aliases:
        config["Aliases"] = list(options.network_aliases)
    if options.links and is_user_defined(network):
        config["Links"] = list(options.links)
    addresses(config, options.ip, options.ip6)
    config["MacAddress"] = options.mac_address or config["MacAddress"]


def _check(network: str, config: dict[str, Any]) -> None:
    if not network:
        raise UsageError("no name set for network")
    if config["Aliases"] and not is_user_defined(network):
        raise UsageError("network-scoped aliases are only supported for user-defined networks")
    if (mac := config["MacAddress"]) and not _is_mac(mac):
        raise UsageError(f"{mac} is not a valid mac address")
    check_addresses(config)
    if config["IPAMConfig"] and not is_user_defined(network) and not network.startswith(CONTAINER):
        raise UsageError("user specified IP address is supported on user defined networks only")


def check_addresses(config: dict[str, Any]) -> None:
    if not config["IPAMConfig"]:
        return
    from engine.runtime.network.ipam import bits_of, number_of

    for key, address in config["IPAMConfig"].items():
        family, bits = ("IPv4", 32) if key == "IPv4Address" else ("IPv6", 128)
        if bits_of(address) != bits or number_of(address) is None:
            raise UsageError(f"invalid {family} address: {address}")


def _is_mac(text: str) -> bool:
    """Six bytes in hex with colons or hyphens between them, as Go's net.ParseMAC reads those of Ethernet."""
    parts = text.replace("-", ":").split(":")
    return len(parts) == 6 and all(len(p) == 2 and not p.strip("0123456789abcdefABCDEF") for p in parts)


def link(text: str) -> tuple[str, str]:
    """(container, alias) of `--link NAME[:ALIAS]`. UsageError in Docker's words."""
    name, colon, alias = text.partition(":")
    if ":" in alias or not text:
        raise UsageError(f"bad format for links: {text}")
    return name, alias if colon else name.rpartition("/")[2]


def links(options: CreateOptions) -> list[str] | None:
    """HostConfig.Links: those of a container on the default network, as `/NAME:ALIAS`."""
    if is_user_defined(mode(options)):
        return None
    return ["/{}:{}".format(*link(text)) for text in options.links] or None
