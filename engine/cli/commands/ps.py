"""`mini ps`."""

from __future__ import annotations

import time

from engine.cli import formats, templates
from engine.containers import views
from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    "Ports": "PORTS",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}


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
    found = _chosen(context, all, filter, 1 if latest else last)
    now = time.time()
    rows = [row(c, now, truncate=not no_trunc) for c in found]
    if not quiet and (size or ".Size" in (format or "")):
        from engine.containers import listing

        for shown, container in zip(rows, found, strict=True):
            written, with_image = listing.sizes(context, container)
            shown["Size"] = f"{formats.size(written)} (virtual {formats.size(with_image)})"
    columns = (*COLUMNS, "Size") if size else COLUMNS
    templates.show(rows, columns, HEADERS, format, "ID" if quiet else None)


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


def row(container: dict[str, Any], now: float, truncate: bool) -> dict[str, str]:
    """Docker's fields of one line, from the inspect object."""
    config, state = container["Config"], container["State"]
    image = config["Image"]
    mounts = container.get("Mounts") or []
    sources = [m.get("Name") or m.get("Source") or "" for m in mounts]
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return {
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
        "Ports": "",
        "Size": "0B",
        "State": state["Status"],
        "Status": formats.status(state, now),
    }
