"""`mini volume create`, `ls` and `rm`."""

from __future__ import annotations

from engine.cli import formats, templates, values
from engine.cli.each import each
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
}
# What Docker has a field for and counts only in `system df`.
_NOT_COUNTED = {"Links": "N/A", "Size": "N/A", "Status": "N/A"}


def create(context: Context, name: str | None, driver: str, label: list[str]) -> None:
    print(Volumes(context.paths).create(name, values.mapping(label), driver).name)


def list_(context: Context, format: str | None, quiet: bool) -> None:
    rows = [row(volume) for volume in Volumes(context.paths).list_()]
    templates.show(rows, ("Driver", "Name"), HEADERS, format, "Name" if quiet else None)


def row(volume: Volume) -> dict[str, str]:
    """Docker's fields of one line."""
    return {
        "Driver": volume.driver,
        "Name": volume.name,
        "Labels": formats.labels(volume.labels),
        "Mountpoint": volume.path,
        "Scope": "local",
        **_NOT_COUNTED,
    }


def remove(context: Context, volume: list[str], force: bool) -> int:
    from engine.containers.lifecycle import remove_volume

    return each(volume, lambda name: remove_volume(context, name, force), echo=True)
