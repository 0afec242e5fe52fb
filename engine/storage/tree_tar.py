"""A directory tree as entries of a tar: what `export`, `cp` and `commit` write.

The tree may be hostile and alive. Nothing in it is reached by a path that is resolved twice: a directory is opened beneath the
top without following a link nor, unless that is asked for, crossing into another mount (openat2), and a file is looked at as O_PATH
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS
# Of this host and not of the tree: its security labels, and overlayfs's own marks.
_LEFT_OUT = (b"security.selinux", b"trusted.overlay.")
# What disappears, or becomes something else, while it is looked at.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
# Made up by the kernel as it is read, or acting when it is: proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs,
# tracefs, securityfs, bpf (linux/magic.h). Such a directory is walked as if it were empty.
_KERNEL_FILE_SYSTEMS = frozenset(
    (linux.PROC_SUPER_MAGIC, 0x62656572, linux.CGROUP_SUPER_MAGIC, linux.CGROUP2_SUPER_MAGIC, linux.DEVPTS_SUPER_MAGIC)
    + (0x19800202, 0x64626720, 0x74726163, 0x73636673, 0xCAFE4A11)
)


def write_tree(tar: TarWriter, top: int, sparse: bool = False) -> None:
    """Adds everything below the directory `top`, but what is mounted in it: see `walk`. Raises OSError."""
    for entry, looked_at in walk(top):
        add(tar, entry, looked_at, sparse)


def add(tar: TarWriter, entry: Entry, looked_at: int, sparse: bool = False) -> None:
    """Adds what `walk` yielded; with `sparse`, a file that has holes without them."""
    if looked_at < 0:
        tar.add(entry)
        return
    fd = open_content(looked_at)
    try:
        segments = _segments(fd, entry.size) if sparse and os.fstat(fd).st_blocks * 512 < entry.size else None
        if segments is None:
            tar.add_file(entry, fd)
        else:
            tar.add_sparse(entry, fd, segments)
    finally:
        os.close(fd)


def _segments(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of each piece of data (lseek(2), SEEK_DATA); the last one, perhaps empty, ends with the file."""
    found: list[tuple[int, int]] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            break
        end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        if start < end:
            found.append((start, end - start))
    return found if end == size else [*found, (size, 0)]


def open_content(looked_at: int) -> int:
    """A descriptor to read from of the regular file that `looked_at` is (O_PATH); the caller closes it."""
    return os.open(f"/proc/self/fd/{looked_at}", os.O_RDONLY | os.O_CLOEXEC)


def walk(top: int, prefix: bytes = b"", across_mounts: bool = False) -> Iterator[tuple[Entry, int]]:
    """Everything below the directory `top`, sorted by name: a directory, its files, then its directories.

    With owners, modes, times in nanoseconds, hard links, devices and extended attributes. Sockets are left out, as every tar
    leaves them out. `prefix` comes before each name. Each entry comes with an O_PATH descriptor where it is a file with
    content, else -1; it is closed when the next is asked for. Raises OSError, LayerError where it is too deep.
    """
    links: dict[tuple[int, int], bytes] = {}
    resolve = BENEATH if across_mounts else BENEATH | linux.RESOLVE_NO_XDEV
    pending = [b""]
    while pending:
        path = pending.pop()
        directory = open_below(top, path, resolve)
        if directory < 0:
            continue
        try:
            if path:
                yield describe(prefix + path, directory), -1
            below = []
            for name in _names(directory):
                full = path + b"/" + name if path else name
                found = look(directory, name, prefix + full, links)
                if found is None:
                    continue
                entry, looked_at = found
                try:
                    if entry is None:
                        below.append(full)
                    else:
                        yield entry, looked_at if stat.S_ISREG(entry.mode) else -1
                finally:
                    os.close(looked_at)
            pending += reversed(below)
        finally:
            os.close(directory)


def open_below(top: int, path: bytes, resolve: int) -> int:
    """The directory, or -1 where there is none any more."""
    try:
        return linux.openat2(top, path, _DIRECTORY, resolve=resolve)
    except OSError as e:
        if e.errno in _GONE and path:
            return -1
        if e.errno == errno.ENAMETOOLONG:
            raise LayerError(f"{show(path)} lies deeper than a path can reach, and no tar can hold it") from e
        raise


def _names(directory: int) -> list[bytes]:
    if linux.fstatfs_type(directory) in _KERNEL_FILE_SYSTEMS:
        return []
    return sorted(map(os.fsencode, os.listdir(directory)))


def look(
    directory: int, name: bytes, path: bytes, links: dict[tuple[int, int], bytes]
) -> tuple[Entry | None, int] | None:
    """What `name` in the directory is, as the entry `path`, and an O_PATH descriptor of it, which the caller closes.

    The entry is None for a directory. None where there is nothing, or a socket. `links` holds the first path of each file
    with several names: a later one is an entry of type hard link.
    """
    try:
        fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            return None, fd
        if stat.S_ISSOCK(info.st_mode):
            os.close(fd)
            return None
        if info.st_nlink > 1:
            first = links.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                link = Entry(path, info.st_mode & 0o7777, info.st_uid, info.st_gid, 0, info.st_mtime_ns, 0)
                link.link = first
                return link, fd
        return describe(path, fd), fd
    except BaseException:
        os.close(fd)
        raise


def describe(path: bytes, fd: int) -> Entry:
    """The entry `path` for what is open at `fd`, for which O_PATH will do. The name of a directory ends with a slash."""
    info = os.fstat(fd)
    kind = stat.S_IFMT(info.st_mode)
    size = info.st_size if kind == stat.S_IFREG else 0
    name = path + b"/" if kind == stat.S_IFDIR and not path.endswith(b"/") else path
    entry = Entry(name, info.st_mode, info.st_uid, info.st_gid, size, info.st_mtime_ns, 0)
    if kind == stat.S_IFLNK:
        entry.link = os.readlink(b"", dir_fd=fd)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry.rdev = info.st_rdev
    entry.xattrs = _xattrs(b"/proc/self/fd/%d" % fd) or None
    return entry


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    """`path` is a magic link: it leads to the thing itself, also where that is a symbolic link."""
    found = {}
    try:
        for name in map(os.fsencode, os.listxattr(path)):
            # pax ends a key at the first `=`
            if not name.startswith(_LEFT_OUT) and b"=" not in name:
                found[name] = os.getxattr(path, name)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENODATA, errno.ENOTSUP):
            raise
    return found
