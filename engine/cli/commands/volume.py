"""`mini volume create`, `ls`, `rm`, `export` and `import`."""

from __future__ import annotations

from engine.cli import formats, templates, values
from engine.cli.each import each
from engine.cli.templates import Row
from engine.context import Context
from engine.storage.volumes import Volume, Volumes

HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Labels": "LABELS",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
    "Group": "GROUP",
    "Availability": "AVAILABILITY",
}
# What Docker has a field for and counts only in `system df`, or for volumes of a cluster.
_NOT_COUNTED = dict.fromkeys(("Links", "Size", "Status", "Group", "Availability"), "N/A")
_RAW, _RAW_QUIET = "name: {{.Name}}\ndriver: {{.Driver}}\n", "name: {{.Name}}"


def create(context: Context, name: str | None, driver: str, label: list[str], opt: list[str]) -> None:
    print(Volumes(context.paths).create(name, values.mapping(label), driver, values.mapping(opt)).name)


def list_(context: Context, filter: list[str], format: str | None, quiet: bool) -> None:
    from engine.containers import volumes

    rows = [row(volume) for volume in volumes.list_(context, filter)]
    templates.show(rows, ("Driver", "Name"), HEADERS, format, "Name" if quiet else None, _RAW_QUIET if quiet else _RAW)


def row(volume: Volume) -> Row:
    """Docker's fields of one line."""
    fields = {
        "Driver": volume.driver,
        "Name": volume.name,
        "Labels": formats.labels(volume.labels),
        "Mountpoint": volume.path,
        "Scope": "local",
        **_NOT_COUNTED,
    }
    return Row("*formatter.volumeContext", fields, volume.labels)


def remove(context: Context, volume: list[str], force: bool) -> int:
    from engine.containers.lifecycle import remove_volume

    return each(volume, lambda name: remove_volume(context, name, force), echo=True)


def export(context: Context, volume: str, output: str | None) -> None:
    from engine.cli.output import Output
    from engine.containers import volumes

    with Output(output) as fd:
        volumes.export(context, volume, fd)


def import_(context: Context, volume: str, source: str) -> None:
    import sys

    from engine.containers import volumes

    volumes.import_(context, volume, sys.stdin.fileno() if source == "-" else source)
