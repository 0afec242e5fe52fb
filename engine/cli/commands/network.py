"""`mini network ls` and `inspect`."""

from __future__ import annotations

from engine.cli import formats, templates
from engine.cli.templates import Row
from engine.context import Context
from engine.runtime.network.model import Endpoint, Networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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


def list_(context: Context, format: str | None, no_trunc: bool, quiet: bool) -> None:
    known = networks(context)
    rows = [_row(known.inspect(network), not no_trunc) for network in known.list_()]
    templates.show(
        rows, ("ID", "Name", "Driver", "Scope"), HEADERS, format, "ID" if quiet else None, _RAW_QUIET if quiet else _RAW
    )


def inspect(context: Context, name: str) -> dict[str, Any]:
    """Docker's inspect object, with the running containers that are on the network."""
    from engine.runtime.network import endpoints

    known = networks(context)
    network = known.get(name)
    found = endpoints.read_all(context.paths.endpoints(network.name))
    return known.inspect(network, [(owner, e["Name"], Endpoint.from_json(e)) for owner, e in found.items()])


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


def _text(value: Any) -> str:
    return "true" if value else "false"
