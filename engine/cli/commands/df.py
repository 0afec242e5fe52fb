"""`mini system df`, with Docker's columns and one line more: what else is in the data root."""

from __future__ import annotations

import time

from engine.cli import formats, templates
from engine.cli.commands import images, ps, volume
from engine.context import Context
from engine.system.diskusage import ImageUsage, Kind, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_IMAGES = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
_CONTAINERS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
_VOLUMES = ("Name", "Links", "Size")
_CACHE = ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED")
_OTHER = {"Name": "DIRECTORY", "Size": "SIZE"}


def main(context: Context, format: str | None, verbose: bool) -> None:
    usage = Usage(context)
    if verbose:
        _show_all(usage, format)
        return
    templates.show([_row(kind) for kind in usage.kinds], tuple(HEADERS), HEADERS, format, None)


def _row(kind: Kind) -> dict[str, str]:
    reclaimable = formats.exact_size(kind.reclaimable)
    if kind.size and kind.name != "Build Cache":
        reclaimable += f" ({kind.reclaimable * 100 // kind.size}%)"
    return {
        "Type": kind.name,
        "TotalCount": str(kind.total),
        "Active": str(kind.active),
        "Size": formats.exact_size(kind.size),
        "Reclaimable": reclaimable,
    }


def _show_all(usage: Usage, format: str | None) -> None:
    now = time.time()
    truncate = format != "json"
    lines = {
        "Images": [line for used in usage.images for line in _image_lines(used, now, truncate)],
        "Containers": [
            ps.row(container, now, truncate) | {"Size": formats.size(size)} for container, size in usage.containers
        ],
        "Volumes": [
            volume.row(found) | {"Links": str(links), "Size": formats.exact_size(size)}
            for found, links, size in usage.volumes
        ],
        "BuildCache": [],
        "Other": [{"Name": name, "Size": formats.exact_size(size)} for name, size in usage.other],
    }
    if format and format != "table":
        print(templates.one(format, lines))
        return
    for title, key, columns, headers in (
        ("Images space usage:", "Images", _IMAGES, images.HEADERS),
        ("Containers space usage:", "Containers", _CONTAINERS, ps.HEADERS),
        ("Local Volumes space usage:", "Volumes", _VOLUMES, volume.HEADERS),
        ("Build cache usage: 0B", "BuildCache", _CACHE, dict(zip(_CACHE, _CACHE, strict=True))),
        ("Other space usage:", "Other", tuple(_OTHER), _OTHER),
    ):
        print(f"{title}\n")
        templates.show(lines[key], columns, headers, None, None)
        if key != "Other":
            print()


def _image_lines(used: ImageUsage, now: float, truncate: bool) -> Sequence[dict[str, Any]]:
    image = used.image
    created = formats.seconds_of(image.created)
    return [
        {
            "Repository": name,
            "Tag": tag,
            "Digest": digest,
            "ID": image.short_id if truncate else image.id,
            "CreatedSince": formats.ago(image.created, now) if created else "N/A",
            "CreatedAt": formats.local_time(created),
            "Size": formats.size(used.shared + used.unique),
            "SharedSize": formats.size(used.shared),
            "UniqueSize": formats.size(used.unique),
            "Containers": str(used.containers),
        }
        for name, tag, digest in images.names(image, False)
    ]
