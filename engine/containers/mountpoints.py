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
    from engine.storage.volume_option import MountPoint

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
    here, and an anonymous volume for a VOLUME of the image to either. Makes the volumes that are missing; on failure, no
    anonymous one stays."""
    declared = image.get("Volumes") or {}
    if not options.volumes and not declared and not mounts and not options.volumes_from:
        return []
    from engine.storage import mount_option
    from engine.storage.volumes import Volumes

    for mount in mounts:
        mount_option.check(mount)
    volumes = Volumes(ctx.paths)
    made: list[dict[str, Any]] = []
    try:
        return _make(ctx, options, mounts, list(declared), volumes, made)
    except BaseException:
        for point in made:
            if point.get("Anonymous"):
                volumes.remove(point["Name"], force=True)
        raise


def _make(
    ctx: Context,
    options: CreateOptions,
    mounts: list[dict[str, Any]],
    declared: list[str],
    volumes: Any,
    made: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """`points`; whatever is made is in `made` at once."""
    from engine.storage.volume_option import check_duplicates, parse_volume_options

    wanted = parse_volume_options(options.volumes, os.getcwd())
    tmpfs = list(config.tmpfs(options.tmpfs))
    check_duplicates([w["destination"] for w in wanted] + [os.path.normpath(m["Target"]) for m in mounts] + tmpfs)
    found: Points = {}
    for value in options.volumes_from:
        found |= {_place(point): point for point in _of_container(ctx, value)}
    for written, option in zip(options.volumes, wanted, strict=True):
        made.append(_of_volume_option(written, option, volumes))
    for mount in mounts:
        made.append(_of_mount(ctx, mount, volumes))
    found |= {_place(point): point for point in made}
    for place in tmpfs:
        found.pop(place, None)
    for destination in sorted(declared):
        if os.path.normpath(destination) not in {*found, *tmpfs}:
            point = {"Type": "volume", "Destination": destination, "Mode": "", "RW": True, "Propagation": ""}
            made.append(point | _use_volume(volumes, None))
            found[os.path.normpath(destination)] = made[-1]
    return list(found.values())


def _place(point: Mapping[str, Any]) -> str:
    return os.path.normpath(str(point["Destination"]))


def _of_volume_option(written: str, wanted: MountPoint, volumes: Any) -> dict[str, Any]:
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
        return point | _use_volume(volumes, wanted["source"] or None) | {"NoCopy": wanted["nocopy"]}
    if wanted["create_source"] and not os.path.exists(wanted["source"]):
        files.make_dirs(wanted["source"])
    return point


def _of_mount(ctx: Context, mount: dict[str, Any], volumes: Any) -> dict[str, Any]:
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
        options = mount.get("BindOptions") or {}
        point["Source"] = os.path.normpath(point["Source"])
        point["Propagation"] = options.get("Propagation") or "rprivate"
        point["BindOptions"] = options
    elif kind == "volume":
        options = mount.get("VolumeOptions") or {}
        driver = options.get("DriverConfig") or {}
        name = mount.get("Source") or None
        point |= _use_volume(volumes, name, options.get("Labels"), driver.get("Name", ""), driver.get("Options"))
        # what is below a volume is somebody's already
        point |= {"NoCopy": bool(options.get("NoCopy") or options.get("Subpath")), "Subpath": options.get("Subpath")}
    elif kind == "image":
        point |= _use_image(ctx, mount["Source"])
        point["Subpath"] = (mount.get("ImageOptions") or {}).get("Subpath")
    return point


def _use_image(ctx: Context, name: str) -> dict[str, Any]:
    """The image keeps as long as the container has it: imageuse.images_of. NotFound where it is not in the store."""
    from engine.storage.images import ImageStore

    image = ImageStore(ctx.paths).resolve(name)
    return {"Image": image.id, "DiffIDs": image.diff_ids, "RW": False, "Propagation": "rprivate"}


def _of_container(ctx: Context, value: str) -> list[dict[str, Any]]:
    """What the container of a `--volumes-from NAME[:MODE]` has mounted, never writable where it is not writable there."""
    name, _, mode = value.partition(":")
    if not value:
        raise UsageError("volumes-from specification cannot be an empty string")
    if not name:
        raise UsageError('invalid name or ID supplied: ""')
    words = mode.split(",") if mode else []
    if any(word not in ("ro", "rw", "z", "Z") for word in words) or len(words) != len(set(words)):
        raise UsageError(f"invalid mode: {mode}")
    record = records.find(ctx.paths, name)
    found = []
    for point in record.config["Mounts"]:
        if point["Type"] != "tmpfs":
            # a volume that the other has filled, or wants as it is, is not filled again
            found.append(point | {"RW": point["RW"] and "ro" not in words, "Mode": "", "NoCopy": True})
    return found


def _use_volume(
    volumes: Any,
    name: str | None,
    labels: Mapping[str, str] | None = None,
    driver: str = "",
    options: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    volume = volumes.create(name, labels, driver, options)
    return {
        "Name": volume.name,
        "Source": volume.path,
        "Driver": volume.driver,
        "Anonymous": name is None,
        "NoCopy": False,
    }
