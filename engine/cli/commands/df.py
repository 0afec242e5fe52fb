"""`mini system df`, with Docker's columns and one line more: what else is in the data root."""

from __future__ import annotations

import time

from engine.cli import formats, templates
from engine.cli.commands import images, ps, volume
from engine.cli.templates import Row
from engine.context import Context
from engine.system.diskusage import ImageUsage, Kind, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_RAW = """\
type: {{.Type}}
total: {{.TotalCount}}
active: {{.Active}}
size: {{.Size}}
reclaimable: {{.Reclaimable}}
"""
_TYPES = {
    "Images": "*formatter.diskUsageImagesContext",
    "Containers": "*formatter.diskUsageContainersContext",
    "Local Volumes": "*formatter.diskUsageVolumesContext",
    "Build Cache": "*formatter.diskUsageBuilderContext",
}
_IMAGES = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
_CONTAINERS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
_VOLUMES = ("Name", "Links", "Size")
_CACHE = ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED")
_OTHER_TYPE = "*formatter.otherContext"
_OTHER = {"Name": "DIRECTORY", "Size": "SIZE"}


def main(context: Context, format: str | None, verbose: bool) -> None:
    usage = Usage(context)
    if verbose:
        _show_all(usage, format)
        return
    templates.show([_row(kind) for kind in usage.kinds], tuple(HEADERS), HEADERS, format, None, _RAW)


def _row(kind: Kind) -> Row:
    reclaimable = formats.exact_size(kind.reclaimable)
    if kind.size and kind.name != "Build Cache":
        reclaimable += f" ({kind.reclaimable * 100 // kind.size}%)"
    fields = {
        "Type": kind.name,
        "TotalCount": str(kind.total),
        "Active": str(kind.active),
        "Size": formats.exact_size(kind.size),
        "Reclaimable": reclaimable,
    }
    return Row(_TYPES.get(kind.name, "*formatter.diskUsageContext"), fields)


def _show_all(usage: Usage, format: str | None) -> None:
    now = time.time()
    is_table = not format or format == "table"
    lines: dict[str, list[Row]] = {
        "Images": [line for used in usage.images for line in _image_lines(used, now, is_table)],
        "Containers": [_with(ps.row(c, now, is_table), Size=formats.size(size)) for c, size in usage.containers],
        "Volumes": [
            _with(volume.row(found), Links=str(links), Size=formats.exact_size(size))
            for found, links, size in usage.volumes
        ],
        "BuildCache": [],
        "Other": [Row(_OTHER_TYPE, {"Name": name, "Size": formats.exact_size(size)}) for name, size in usage.other],
    }
    if format and not is_table:
        print(_by_template(format, lines), end="")
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


def _by_template(format: str, lines: dict[str, list[Row]]) -> str:
    """One text for all of it, without a line feed of its own, as in Docker."""
    from engine.cli.gotemplate.values import List, Struct

    kinds = {}
    for kind, rows in lines.items():
        kinds[kind] = List(row.struct() for row in rows)
        kinds[kind].go_type = "[]" + (rows[0].go_type if rows else _OTHER_TYPE)
    value = Struct("*formatter.diskUsageContext", kinds)
    template = templates.parse("{{json .}}" if format == "json" else format.removeprefix("table").strip(" "))
    return templates.execute(template, value, prefix="")


def _with(row: Row, **fields: str) -> Row:
    row.update(fields)
    return row


def _image_lines(used: ImageUsage, now: float, truncate: bool) -> Sequence[Row]:
    image = used.image
    created = formats.seconds_of(image.created)
    return [
        Row(
            images.TYPE,
            {
                "Repository": name,
                "Tag": tag,
                "Digest": "" if digest == images.NONE else digest,
                "ID": image.short_id if truncate else image.id,
                "CreatedSince": formats.ago(image.created, now) if created else "N/A",
                "CreatedAt": formats.local_time(created),
                "Size": formats.size(used.shared + used.unique),
                "SharedSize": formats.size(used.shared),
                "UniqueSize": formats.size(used.unique),
                "Containers": str(used.containers),
                "VirtualSize": formats.exact_size(used.shared + used.unique),
            },
        )
        for name, tag, digest in images.names(image, False)
    ]
