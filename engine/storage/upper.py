"""What a container changed: its overlay's upper directory, read against the image below.

overlayfs marks in the upper directory what it hides of the lower one: a character device 0:0 for a name that is removed, the
attribute `trusted.overlay.opaque` for a directory of which nothing below is seen. mini mounts with `redirect_dir=off` and
`metacopy=off`, so that a directory that is renamed is copied, and every file in the upper directory is whole.
https://docs.kernel.org/filesystems/overlayfs.html; whiteouts in a layer: OCI image spec, layer.md.
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.storage import tree_tar
from engine.storage.tar import Entry
from engine.storage.tar_write import TarWriter, member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ADDED, CHANGED, DELETED = "A", "C", "D"
# A link on the way, or a way that is too long, is one that the image does not have.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_WHITEOUT, _OPAQUE = b".wh.", b".wh..wh..opq"
# Where mini mounts something in every container: an empty file or a directory there, which the image lacks, is a mount
# point, and not the container's.
_MOUNT_POINTS = frozenset((b"dev", b"proc", b"sys", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"))


class Change:
    """One path that is in the upper directory, or hidden by it. `opaque`: a directory that hides all that the image has in it.

    `same`: it is just as the image has it, but for a directory's times; copied up, for instance, for a second name.
    """

    __slots__ = ("kind", "opaque", "path", "same")

    def __init__(self, path: bytes, kind: str, opaque: bool = False, same: bool = False) -> None:
        self.path = path
        self.kind = kind
        self.opaque = opaque
        self.same = same


def changes(upper: int, lower: int) -> list[Change]:
    """Every change, in the order of a walk that takes names as they sort. Raises OSError, LayerError where it is too deep.

    `upper` and `lower` are directories: the overlay's upper one, and the image's root. A directory is a change where its
    attributes are, or where a name in it was added or deleted.
    """
    found: dict[bytes, Change] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        for change in _in_directory(upper, lower, path, pending):
            if change.kind != CHANGED and path:
                found.setdefault(path, Change(path, CHANGED, same=True))
            found[change.path] = change
    if (etc := found.get(b"etc")) and etc.kind == ADDED and not any(p.startswith(b"etc/") for p in found):
        del found[b"etc"]  # made for the mount points in it
    return sorted(found.values(), key=lambda change: change.path.split(b"/"))


def differences(found: list[Change]) -> list[Change]:
    """What of the changes a user calls one, as Docker has it: not what is the same, but every directory above what is not
    (moby, pkg/archive/changes.go, ChangesDirs). In order."""
    shown: dict[bytes, Change] = {}
    for change in found:
        if change.same:
            continue
        above = change.path.rpartition(b"/")[0]
        while above and above not in shown:
            shown[above] = Change(above, CHANGED)
            above = above.rpartition(b"/")[0]
        shown[change.path] = change
    return sorted(shown.values(), key=lambda change: change.path.split(b"/"))


def _in_directory(upper: int, lower: int, path: bytes, pending: list[bytes]) -> Iterator[Change]:
    """The changes of what is in one directory of the upper one; the directories in it are put into `pending`."""
    directory = tree_tar.open_below(upper, path, tree_tar.BENEATH)
    if directory < 0:
        return
    try:
        names = set(map(os.fsencode, os.listdir(directory)))
        prefix = path + b"/" if path else b""
        if path and _is_opaque(directory):
            for name in _names(lower, path) - names:
                yield Change(prefix + name, DELETED)
        for name in names:
            change = _change(directory, name, prefix + name, lower, pending)
            if change:
                yield change
    finally:
        os.close(directory)


def _change(directory: int, name: bytes, path: bytes, lower: int, pending: list[bytes]) -> Change | None:
    fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        info = os.fstat(fd)
        before = _open_lower(lower, path)
        try:
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                return Change(path, DELETED) if before >= 0 else None
            if before < 0 and path in _MOUNT_POINTS:
                return None
            opaque = False
            if stat.S_ISDIR(info.st_mode):
                pending.append(path)
                opaque = _is_opaque(fd)
            if before < 0:
                return Change(path, ADDED, opaque)
            same = _describe(before) == _describe(fd)
            if same and not opaque and os.fstat(before).st_mtime_ns == info.st_mtime_ns and path in pending[-1:]:
                return None  # copied up on the way to what is in it
            return Change(path, CHANGED, opaque, same)
        finally:
            if before >= 0:
                os.close(before)
    finally:
        os.close(fd)


def _describe(fd: int) -> tuple[object, ...]:
    """What makes a difference. Of a directory neither its times, which follow from what is in it, nor its size."""
    entry = tree_tar.describe(b"", fd)
    times = 0 if stat.S_ISDIR(entry.mode) else entry.mtime_ns
    return entry.mode, entry.uid, entry.gid, entry.rdev, entry.size, entry.link, entry.xattrs, times


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", "trusted.overlay.opaque") == b"y"
    except OSError as e:
        if e.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


def _open_lower(lower: int, path: bytes) -> int:
    """What the image has at the path (O_PATH), or -1. A link on the way to it is not followed: the image has nothing there."""
    try:
        return linux.openat2(lower, path, linux.O_PATH | os.O_NOFOLLOW, resolve=tree_tar.BENEATH)
    except OSError as e:
        if e.errno in _ABSENT:
            return -1
        raise


def _names(lower: int, path: bytes) -> set[bytes]:
    fd = -1
    try:
        fd = linux.openat2(lower, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=tree_tar.BENEATH)
        return set(map(os.fsencode, os.listdir(fd)))
    except OSError as e:
        if e.errno in _ABSENT:
            return set()
        raise
    finally:
        if fd >= 0:
            os.close(fd)


# --- a layer -----------------------------------------------------------------------------------------------------------


def write_layer(tar: TarWriter, upper: int, found: list[Change]) -> None:
    """Adds the changes as a layer has them: what was deleted as a whiteout. Raises OSError.

    The same changes give the same bytes, whoever has made them when. What disappears while it is written is left out.
    """
    links: dict[tuple[int, int], bytes] = {}
    opaque = {change.path for change in found if change.opaque}
    for change in found:
        directory, _, name = change.path.rpartition(b"/")
        prefix = directory + b"/" if directory else b""
        if change.kind == DELETED:
            if directory not in opaque:
                tar.add(_marker(prefix + _WHITEOUT + name))
            continue
        parent = tree_tar.open_below(upper, directory, tree_tar.BENEATH)
        if parent < 0:
            continue
        try:
            _add(tar, parent, name, change, links)
        finally:
            os.close(parent)


def _add(tar: TarWriter, parent: int, name: bytes, change: Change, links: dict[tuple[int, int], bytes]) -> None:
    seen = tree_tar.look(parent, name, change.path, links)
    if seen is None:
        return
    entry, fd = seen
    try:
        if entry is None:
            tar.add(tree_tar.describe(change.path, fd))
            if change.opaque:
                tar.add(_marker(change.path + b"/" + _OPAQUE))
        else:
            tree_tar.add(tar, entry, fd if stat.S_ISREG(entry.mode) else -1)
    finally:
        os.close(fd)


def _marker(path: bytes) -> Entry:
    return member(os.fsdecode(path), 0)
