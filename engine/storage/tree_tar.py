"""A directory tree as a tar: what `export` and `cp` write.

The tree may be hostile and alive. Nothing in it is reached by a path that is resolved twice: a directory is opened beneath the
top without following a link or crossing into another mount (openat2, RESOLVE_NO_XDEV), and a file is looked at as O_PATH
before it is opened, so that no device or FIFO is.
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import LayerError
from engine.storage.tar import Entry, show
from engine.storage.tar_write import TarWriter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_XDEV
# Of this host and not of the tree: its security labels, and overlayfs's own marks.
_LEFT_OUT = (b"security.selinux", b"trusted.overlay.")
# What disappears, or becomes something else, while it is looked at.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


def write_tree(tar: TarWriter, top: int) -> None:
    """Adds everything below the directory `top`, sorted by name: a directory, its files, then its directories.

    With owners, modes, times in nanoseconds, hard links, devices and extended attributes. Sockets are left out, as every tar
    leaves them out; holes are written as zeros. Raises OSError.
    """
    links: dict[tuple[int, int], bytes] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        try:
            directory = linux.openat2(top, path, _DIRECTORY, resolve=_BENEATH)
        except OSError as e:
            if e.errno in _GONE and path:
                continue
            if e.errno == errno.ENAMETOOLONG:
                raise LayerError(f"{show(path)} lies deeper than a path can reach, and no tar can hold it") from e
            raise
        try:
            if path:
                tar.add(_entry(path + b"/", os.fstat(directory), directory, b"."))
            below = []
            for name in sorted(map(os.fsencode, os.listdir(directory))):
                full = path + b"/" + name if path else name
                if _add(tar, directory, name, full, links):
                    below.append(full)
            pending += reversed(below)
        finally:
            os.close(directory)


def _add(tar: TarWriter, directory: int, name: bytes, path: bytes, links: dict[tuple[int, int], bytes]) -> bool:
    """Adds what is not a directory. True where it is one."""
    try:
        fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            return True
        if stat.S_ISSOCK(info.st_mode):
            return False
        if info.st_nlink > 1:
            first = links.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                link = Entry(path, info.st_mode & 0o7777, info.st_uid, info.st_gid, 0, info.st_mtime_ns, 0)
                link.link = first
                tar.add(link)
                return False
        entry = _entry(path, info, directory, name)
        if stat.S_ISREG(info.st_mode):
            _add_file(tar, entry, fd)
        else:
            if stat.S_ISLNK(info.st_mode):
                entry.link = os.readlink(b"", dir_fd=fd)
            tar.add(entry)
        return False
    finally:
        os.close(fd)


def _add_file(tar: TarWriter, entry: Entry, looked_at: int) -> None:
    fd = os.open(f"/proc/self/fd/{looked_at}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        tar.add_file(entry, fd)
    finally:
        os.close(fd)


def _entry(path: bytes, info: os.stat_result, directory: int, name: bytes) -> Entry:
    size = info.st_size if stat.S_ISREG(info.st_mode) else 0
    entry = Entry(path, info.st_mode, info.st_uid, info.st_gid, size, info.st_mtime_ns, 0)
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        entry.rdev = info.st_rdev
    entry.xattrs = _xattrs(b"/proc/self/fd/%d/%s" % (directory, name)) or None
    return entry


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    found = {}
    try:
        for name in map(os.fsencode, os.listxattr(path, follow_symlinks=False)):
            # pax ends a key at the first `=`
            if not name.startswith(_LEFT_OUT) and b"=" not in name:
                found[name] = os.getxattr(path, name, follow_symlinks=False)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENODATA, errno.ENOTSUP):
            raise
    return found
