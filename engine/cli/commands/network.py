"""`mini network` …"""

from __future__ import annotations

from engine.cli import formats, templates, values
from engine.cli.each import each
from engine.cli.templates import Row
from engine.context import Context
from engine.errors import NotFound
from engine.runtime.network.model import Endpoint, Networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.network.model import Network

HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "CreatedAt": "CREATED AT",
    "Internal": "INTERNAL",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Labels": "LABELS",
}
_RAW_QUIET = "network_id: {{.ID}}"
_RAW = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"


def networks(context: Context) -> Networks:
    return Networks(context.paths, context.bridge, context.subnet)


def create(
    context: Context,
    name: str,
    attachable: bool,
    aux_addresses: list[str],
    driver: str,
    gateways: list[str],
    internal: bool,
    ip_ranges: list[str],
    ipam_driver: str,
    ipam_options: list[str],
    ipv6: bool,
    labels: list[str],
    options: list[str],
    subnets: list[str],
) -> None:
    from engine.system import networks
    from engine.system.netrequest import Request

    if ipam_driver not in ("default", ""):
        raise NotFound(
            f'plugin "{ipam_driver}" not found', "addresses are given out by mini itself: --ipam-driver default"
        )
    request = Request(
        name, driver, subnets, gateways, ip_ranges, aux_addresses, internal, ipv6, attachable,
        values.mapping(labels), values.mapping(options), values.mapping(ipam_options),
    )  # fmt: skip
    print(networks.create(context, request).id)


def connect(
    context: Context,
    network: str,
    container: str,
    aliases: list[str],
    driver_options: list[str],
    gateway_priority: int,
    ip: str | None,
    ip6: str | None,
    links: list[str],
) -> None:
    from engine.containers import connecting, netoptions

    asked = netoptions.endpoint_config() | {
        "Aliases": aliases or None,
        "Links": links or None,
        "DriverOpts": netoptions.driver_options(driver_options) or None,
        "GwPriority": gateway_priority,
    }
    netoptions.addresses(asked, ip, ip6)
    connecting.connect(context, network, container, asked)


def disconnect(context: Context, network: str, container: str, force: bool) -> None:
    from engine.containers import connecting

    connecting.disconnect(context, network, container, force)


def remove(context: Context, network: list[str], force: bool) -> int:
    from engine.system import networks

    def act(name: str) -> None:
        try:
            networks.remove(context, name)
        except NotFound:
            if not force:
                raise
        else:
            print(name, flush=True)

    return each(network, act)


def reload(context: Context) -> None:
    from engine.system import networks

    for name in networks.reload(context):
        print(name)


def list_(context: Context, filter: list[str], format: str | None, no_trunc: bool, quiet: bool) -> None:
    known = networks(context)
    chosen = known.list_()
    if filter:
        from engine.system.netlisting import Filters

        filters = Filters(context, filter)
        chosen = [network for network in chosen if filters.match(network)]
    rows = [_row(known.inspect(network), not no_trunc) for network in sorted(chosen, key=_natural)]
    templates.show(
        rows, ("ID", "Name", "Driver", "Scope"), HEADERS, format, "ID" if quiet else None, _RAW_QUIET if quiet else _RAW
    )


def inspect(context: Context, name: str) -> dict[str, Any]:
    """Docker's inspect object, with the running containers that are on the network."""
    from engine.runtime.network import endpoints
    from engine.system.networks import is_active

    known = networks(context)
    network = known.get(name)
    found = endpoints.read_all(context.paths.endpoints(network.name))
    there = [(o, e["Name"], Endpoint.from_json(e)) for o, e in found.items() if is_active(context, o)]
    return known.inspect(network, there)


def _row(network: dict[str, Any], truncate: bool) -> Row:
    fields = {
        "ID": network["Id"][:12] if truncate else network["Id"],
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "CreatedAt": formats.local_time(formats.seconds_of(network["Created"])),
        "Internal": _text(network.get("Internal")),
        "IPv4": _text(network["IPAM"]["Config"] != []),
        "IPv6": _text(network.get("EnableIPv6")),
        "Labels": formats.labels(network.get("Labels")),
    }
    return Row("*network.networkContext", fields, network.get("Labels") or {})


def _natural(network: Network) -> list[tuple[bool, int, str]]:
    """Docker's order: s2 before s10."""
    parts: list[str] = []
    for char in network.name:
        if parts and parts[-1][-1].isdigit() == char.isdigit():
            parts[-1] += char
        else:
            parts.append(char)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _text(value: Any) -> str:
    return "true" if value else "false"
