"""`mini ps`."""

from __future__ import annotations

import sys
import time

from engine.cli import formats, templates
from engine.cli.templates import Row
from engine.containers import views
from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

TYPE = "*formatter.ContainerContext"
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Ports": "PORTS",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}
# What Docker's formatter has for a container of which it knows nothing.
_NO_CONTAINER = {"Command": '""', "LocalVolumes": "0", "Size": "0B", "Platform": None}
_RAW = """\
container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
"""
_RAW_SIZED = _RAW + "size: {{.Size}}\n"


def main(
    context: Context,
    all: bool,
    filter: list[str],
    format: str | None,
    last: int,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
    size: bool,
) -> None:
    size = _checked(format) or size if format else size
    if format and quiet:
        print("WARNING: Ignoring custom format, because both --format and --quiet are set.", file=sys.stderr)
        format = None
    found = _chosen(context, all, filter, 1 if latest else last)
    now = time.time()
    rows = [row(c, now, truncate=not no_trunc) for c in found]
    if not quiet and size:
        from engine.containers import listing

        for shown, container in zip(rows, found, strict=True):
            written, with_image = listing.sizes(context, container)
            shown["Size"] = f"{formats.size(written)} (virtual {formats.size(with_image)})"
    columns = (*COLUMNS, "Size") if size else COLUMNS
    templates.show(rows, columns, HEADERS, format, "ID" if quiet else None, _RAW_SIZED if size else _RAW)


def _checked(format: str) -> bool:
    """Whether the template asks for the size, which takes long. UsageError for one that cannot be executed on no container."""
    asked = _Asked(TYPE, dict.fromkeys(HEADERS, "") | _NO_CONTAINER, {})
    template = templates.parse(format, "failed to parse template: ")
    templates.execute(template, asked.struct(), "failed to execute template: ")
    return asked.size


class _Asked(Row):
    """Notes whether its size is asked for."""

    __slots__ = ("size",)

    def __init__(self, go_type: str, fields: dict[str, Any], labels: dict[str, str]) -> None:
        super().__init__(go_type, fields, labels)
        self.size = False

    def __getitem__(self, name: str) -> Any:
        self.size = self.size or name == "Size"
        return super().__getitem__(name)


def _chosen(context: Context, all: bool, filter: list[str], last: int) -> list[dict[str, Any]]:
    """Those that pass the filters; without -a, -n and a filter for states, those that run; with -n the newest of them."""
    filters = None
    if filter:
        from engine.containers import listing

        filters = listing.Filters(context, filter)
        all = all or filters.names_states
    found = views.list_(context, running=not all and last <= 0)
    if filters:
        found = [c for c in found if filters.match(c)]
    if last > 0:
        return found[:last]
    return found if all else [c for c in found if c["State"]["Running"]]


def row(container: dict[str, Any], now: float, truncate: bool) -> Row:
    """Docker's fields of one line, from the inspect object."""
    config, state = container["Config"], container["State"]
    image = config["Image"]
    mounts = container.get("Mounts") or []
    sources = [m.get("Name") or m.get("Source") or "" for m in mounts]
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    fields = {
        "ID": container["Id"][:12] if truncate else container["Id"],
        "Image": formats.short_id(image) if truncate and image.startswith("sha256:") else image,
        "Command": formats.command(container["Path"], container["Args"] or [], truncate),
        "CreatedAt": formats.local_time(formats.seconds_of(container["Created"])),
        "RunningFor": formats.ago(container["Created"], now),
        "Labels": formats.labels(config.get("Labels")),
        "LocalVolumes": str(sum(m["Type"] == "volume" for m in mounts)),
        "Mounts": ",".join(formats.ellipsis(s, 15) if truncate else s for s in sources),
        "Names": container["Name"].removeprefix("/"),
        "Networks": ",".join(sorted(networks)),
        "Platform": None,
        "Ports": ports(container["NetworkSettings"].get("Ports") or {}),
        "Size": "0B",
        "State": state["Status"],
        "Status": formats.status(state, now),
    }
    return Row(TYPE, fields, config.get("Labels") or {})


def ports(published: dict[str, Any]) -> str:
    """Docker's column: neighbours that are exposed, or are published at their own numbers, as one range, then the others."""
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    shown: list[str] = []
    others: list[str] = []
    for inner, address, outer, protocol in sorted(_each_port(published)):
        if address and outer != inner:
            others.append(f"{formats.host_port(address, outer)}->{inner}/{protocol}")
            continue
        key = (address, protocol)
        first, last = groups.get(key, (inner, inner))
        if inner > last + 1:
            shown.append(_group(key, first, last))
            first = inner
        groups[key] = (first, inner)
    shown += [_group(key, first, last) for key, (first, last) in groups.items()]
    return ", ".join(shown + others)


def _each_port(published: dict[str, Any]) -> Iterator[tuple[int, str, int, str]]:
    """(container's port, host's address, host's port, protocol); no address for one that is exposed only."""
    for port, bindings in published.items():
        number, _, protocol = port.partition("/")
        for binding in bindings or ({"HostIp": "", "HostPort": "0"},):
            yield int(number), binding["HostIp"], int(binding["HostPort"]), protocol


def _group(key: tuple[str, str], first: int, last: int) -> str:
    address, protocol = key
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{formats.host_port(address, numbers)}->{numbers}/{protocol}" if address else f"{numbers}/{protocol}"
