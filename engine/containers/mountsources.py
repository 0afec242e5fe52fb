"""What is mounted where more than a path says it: a part of a volume, an image, a directory with its ids mapped.

Each becomes a detached mount, whose descriptor the spec's mount carries (`fd`) to the container's init. So what was looked up
is what is mounted: a container that has a volume and swaps a directory in it for a symbolic link, while another one mounts a
path below it, leads that one nowhere (CVE-2017-1002101 and CVE-2021-25741 in Kubernetes, CVE-2023-2728's kind).
"""

from __future__ import annotations

import errno
import os

from engine import linux
from engine.errors import Conflict, RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from typing import Any

    from engine.context import Context
    from engine.oci.runtime import Mount
    from engine.oci.users import User

    Point = dict[str, Any]

# A subpath may go through symbolic links that stay below, as Docker's (moby, internal/safepath).
_BELOW = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS
_SHARED = {"shared": "shared:", "slave": "master:"}


def open_all(
    ctx: Context, stack: ExitStack, inspect: dict[str, Any], wanted: list[Mount], user: Callable[[], User]
) -> None:
    """Gives those of the `wanted` mounts that need one a descriptor, which `stack` closes. `user` is the container's.

    Raises RuntimeFault, Conflict, Unsupported, in Docker's words where it has any.
    """
    mounts = {m["destination"]: m for m in wanted if m.get("type") == "bind"}
    for point in inspect["Mounts"]:
        place = os.path.normpath(point["Destination"])
        if place not in mounts:
            continue
        fd = _open(ctx, stack, inspect, point, user)
        if fd >= 0:
            mounts[place]["fd"] = fd


def _open(ctx: Context, stack: ExitStack, inspect: dict[str, Any], point: Point, user: Callable[[], User]) -> int:
    """A descriptor, or -1 where the path says it all."""
    if point["Type"] == "image":
        return _image(ctx, stack, inspect, point)
    if point["Type"] == "volume":
        return _volume(ctx, stack, point)
    _check_propagation(point)
    bind = point.get("BindOptions") or {}
    if mapping := bind.get("IDMapping"):
        return _mapped(stack, point["Source"], mapping, not bind.get("NonRecursive"), user)
    return -1


# --- volumes and images ------------------------------------------------------------------------------------------------


def _volume(ctx: Context, stack: ExitStack, point: Point) -> int:
    from engine.containers import volumemounts
    from engine.storage.volumes import Volumes

    volume = Volumes(ctx.paths).get(point["Name"])
    top = volumemounts.open_mount(stack, volume)
    subpath = point.get("Subpath")
    if not subpath:
        return top
    if top >= 0:
        return _below_mount(ctx, stack, top, subpath, volume.path)
    base = os.open(volume.path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _kept(stack, clone_below(base, subpath, volume.path))
    finally:
        os.close(base)


def _image(ctx: Context, stack: ExitStack, inspect: dict[str, Any], point: Point) -> int:
    from engine.containers import lifecycle

    top = _kept(stack, lifecycle.open_layers(ctx, inspect["GraphDriver"]["Name"], point["DiffIDs"]))
    subpath = point.get("Subpath")
    return _below_mount(ctx, stack, top, subpath, point["Source"]) if subpath else top


def _below_mount(ctx: Context, stack: ExitStack, mount: int, subpath: str, shown: str) -> int:
    from engine.runtime import view

    return _kept(stack, view.below(mount, lambda top: clone_below(top, subpath, shown), ctx.paths.root))


def clone_below(base: int, subpath: str, shown: str) -> int:
    """What is at `subpath` below the directory `base`, with what is mounted there, as a detached mount. Docker's words."""
    try:
        found = linux.openat2(base, subpath, linux.O_PATH, resolve=_BELOW)
    except OSError as e:
        if e.errno == errno.EXDEV:
            text = f"path concatenation escapes the base directory, base: {shown}, subpath: {subpath}"
        else:
            text = f"cannot access path {shown}/{subpath}: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("subpath", text, e.errno or 0, subpath) from e
    try:
        return linux.open_tree(found, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH | linux.AT_RECURSIVE)
    finally:
        os.close(found)


# --- binds ---------------------------------------------------------------------------------------------------------------


def _mapped(stack: ExitStack, source: str, mapping: dict[str, Any], recursive: bool, user: Callable[[], User]) -> int:
    """A clone of the source with its ids mapped: by ranges, or its owner to the container's user and nobody else."""
    from engine.runtime import idmap

    flags = linux.OPEN_TREE_CLONE | (linux.AT_RECURSIVE if recursive else 0)
    try:
        fd = _kept(stack, linux.open_tree(linux.AT_FDCWD, source, flags))
    except OSError as e:
        raise RuntimeFault("mount", f"cannot bind {source}: {os.strerror(e.errno or 0).lower()}", e.errno or 0) from e
    if "UIDs" in mapping:
        uids, gids = ([(r[0], r[1], r[2]) for r in mapping[key]] for key in ("UIDs", "GIDs"))
    else:
        owner, seen = os.fstat(fd), user()
        uids, gids = [(owner.st_uid, seen.uid, 1)], [(owner.st_gid, seen.gid, 1)]
    idmap.apply(fd, uids, gids, recursive, source)
    return fd


def _check_propagation(point: Point) -> None:
    """`shared` and `slave` take a source that is on such a mount; Conflict in Docker's words (moby, daemon/oci_linux.go)."""
    mode = str(point["Propagation"]).removeprefix("r")
    if mode not in _SHARED:
        return
    place, fields = _mount_of(os.path.realpath(point["Source"]))
    wanted = ["shared:"] if mode == "shared" else list(_SHARED.values())
    if not any(field.startswith(tuple(wanted)) for field in fields):
        what = "a shared mount" if mode == "shared" else "a shared or slave mount"
        raise Conflict(
            f"path {point['Source']} is mounted on {place} but it is not {what}",
            f"mount --make-shared {place} makes it one",
        )


def _mount_of(path: str) -> tuple[str, list[str]]:
    """The mount point that the path is on, and its optional fields: proc_pid_mountinfo(5)."""
    place, optional = "/", list[str]()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            point = _unescaped(fields[4])
            if len(point) >= len(place) and f"{path}/".startswith(f"{point.rstrip('/')}/"):
                # of two at one place the later covers the earlier
                place, optional = point, fields[6 : fields.index("-")]
    return place, optional


def _unescaped(text: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def _kept(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
