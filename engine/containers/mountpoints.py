"""What a container has mounted, as Docker's `Mounts` has it: of `-v`, `--mount`, `--volumes-from`, and the image's VOLUMEs.

Volumes are made here, and looked up; what of them is mounted how is `bundle`'s.
"""

from __future__ import annotations

import os

from engine import files
from engine.containers import config, records
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from engine.containers.options import CreateOptions
    from engine.context import Context

    Points = dict[str, dict[str, Any]]


def parse_mounts(options: CreateOptions) -> list[dict[str, Any]]:
    """`--mount`s as HostConfig.Mounts has them. UsageError in Docker's words; nothing is made."""
    if not options.mounts:
        return []
    from engine.storage import mount_option

    return [mount_option.parse(value, os.getcwd()) for value in options.mounts]


def points(
    ctx: Context, options: CreateOptions, mounts: list[dict[str, Any]], image: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The whole list; `mounts` are `parse_mounts`'. Each place once: what `--volumes-from` brings gives way to what is named
    here, and an anonymous volume for a VOLUME of the image to either. Makes the volumes that are missing."""
    declared = image.get("Volumes") or {}
    if not options.volumes and not declared and not mounts and not options.volumes_from:
        return []
    from engine.storage.volumes import Volumes, check_duplicates

    volumes = Volumes(ctx.paths)
    named = _of_volume_options(options, volumes) + [_of_mount(mount, volumes) for mount in mounts]
    tmpfs = list(config.tmpfs(options.tmpfs))
    check_duplicates([_place(point) for point in named] + tmpfs)
    found: Points = {}
    for value in options.volumes_from:
        found |= {_place(point): point for point in _of_container(ctx, value)}
    found |= {_place(point): point for point in named}
    for place in tmpfs:
        found.pop(place, None)
    for destination in sorted(declared):
        if os.path.normpath(destination) not in {*found, *tmpfs}:
            point = {"Type": "volume", "Destination": destination, "Mode": "", "RW": True, "Propagation": ""}
            found[os.path.normpath(destination)] = point | _use_volume(volumes, None)
    return list(found.values())


def _place(point: Mapping[str, Any]) -> str:
    return os.path.normpath(str(point["Destination"]))


def _of_volume_options(options: CreateOptions, volumes: Any) -> list[dict[str, Any]]:
    from engine.storage.volumes import parse_volume_options

    found = []
    for written, wanted in zip(options.volumes, parse_volume_options(options.volumes, os.getcwd()), strict=True):
        # Docker shows the mode as written, and "z" for a named volume without one.
        named = wanted["type"] == "volume" and wanted["source"]
        mode = written.split(":")[2] if written.count(":") == 2 else "z" if named else ""
        point: dict[str, Any] = {
            "Type": wanted["type"],
            "Source": wanted["source"],
            "Destination": wanted["destination"],
            "Mode": mode,
            "RW": not wanted["readonly"],
            "Propagation": wanted["propagation"],
        }
        if wanted["type"] != "bind":
            point |= _use_volume(volumes, wanted["source"] or None)
            point["NoCopy"] = wanted["nocopy"]
        elif wanted["create_source"] and not os.path.exists(wanted["source"]):
            files.make_dirs(wanted["source"])
        found.append(point)
    return found


def _of_mount(mount: dict[str, Any], volumes: Any) -> dict[str, Any]:
    from engine.storage import mount_option

    mount_option.check(mount)
    kind = mount["Type"]
    point: dict[str, Any] = {
        "Type": kind,
        "Source": mount.get("Source", ""),
        "Destination": mount["Target"],
        "Mode": "z" if kind == "volume" else "",
        "RW": not mount.get("ReadOnly", False),
        "Propagation": "",
    }
    if kind == "bind":
        point["Source"] = os.path.normpath(point["Source"])
        point["Propagation"] = (mount.get("BindOptions") or {}).get("Propagation") or "rprivate"
    elif kind == "volume":
        options = mount.get("VolumeOptions") or {}
        point |= _use_volume(volumes, mount.get("Source") or None, options.get("Labels"))
        point["NoCopy"] = bool(options.get("NoCopy"))
    return point


def _of_container(ctx: Context, value: str) -> list[dict[str, Any]]:
    """What the container of a `--volumes-from NAME[:MODE]` has mounted, never writable where it is not writable there."""
    name, _, mode = value.partition(":")
    record = records.find(ctx.paths, name)
    words = mode.split(",") if mode else []
    if any(word not in ("ro", "rw", "z", "Z") for word in words) or len(words) != len(set(words)):
        raise UsageError(f"invalid mode: {mode}")
    found = []
    for point in record.config["Mounts"]:
        if point["Type"] != "tmpfs":
            # a volume that the other has filled, or wants as it is, is not filled again
            found.append(point | {"RW": point["RW"] and "ro" not in words, "Mode": "", "NoCopy": True})
    return found


def _use_volume(volumes: Any, name: str | None, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    volume = volumes.create(name, labels)
    return {"Name": volume.name, "Source": volume.path, "Driver": "local", "Anonymous": name is None}
