"""Copy-up: an empty volume is filled with what the image has at the mount point, as Docker does.

Content is copied with owners, modes, times, extended attributes, holes, symlinks, hard links and special files; the
volume's own directory takes the owner and mode of the image's. The source is resolved inside the container's root only,
whatever symlinks the image has there (CVE-2022-23648 gave the host's files away); below it no symlink is followed.

staging.py makes it one step: a volume that is half filled never passes for one that has content of its own.
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.files import store_error
from engine.storage.staging import DIRECTORY, INSIDE, KEEPING, Stage, copy_metadata

_IN_ROOT = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS


def needs_copy_up(data_dir: str) -> bool:
    """Whether the volume (its directory `_data`, the Mountpoint) is empty, or is being filled. Cheap."""
    if os.path.exists(f"{os.path.dirname(data_dir)}/{KEEPING}"):
        return True
    with os.scandir(data_dir) as entries:
        return next(entries, None) is None


def copy_up(source_root_fd: int, path_in_root: str, data_fd: int, inside: bool = False) -> bool:
    """Fills the volume whose `_data` is at `data_fd` from a directory of a container's root, if it is empty.

    False where there was nothing to do: the volume has content, or the image has no directory there. Raises StoreError,
    and leaves the volume empty then. Two at once are safe: the second waits, and finds it filled. `inside` as for `Stage`.
    """
    if (source := _open_source(source_root_fd, path_in_root)) < 0:
        return False
    try:
        with Stage(data_fd, inside) as stage:
            if not stage.is_empty():
                return stage.resumed
            target = stage.make()
            try:
                _copy_tree(source, target)
            finally:
                os.close(target)
            stage.commit(KEEPING)
            return True
    except OSError as e:
        raise store_error(e, "fill a volume from the image's", path_in_root) from e
    finally:
        os.close(source)


def _open_source(root_fd: int, path: str) -> int:
    """The directory of the image, or -1 where it has none there."""
    try:
        return linux.openat2(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_IN_ROOT)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return -1
        raise store_error(e, "open the image's", path) from e


# --- copying a tree --------------------------------------------------------------------------------------------------


def _copy_tree(source: int, target: int) -> None:
    """Copies the content and the metadata of directory `source` to the empty directory `target`.

    Works off a list of directories rather than recursing: a deep tree costs neither stack nor descriptors. The metadata
    of a directory is set when nothing below it is written any more, since writing changes its times.
    """
    links: dict[tuple[int, int], str] = {}
    directories = ["."]
    for directory in directories:
        here = linux.openat2(source, directory, DIRECTORY, resolve=INSIDE)
        there = linux.openat2(target, directory, DIRECTORY, resolve=INSIDE)
        try:
            for name in os.listdir(here):
                path = f"{directory}/{name}"
                info = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    os.mkdir(name, 0o700, dir_fd=there)
                    directories.append(path)
                    continue
                if info.st_nlink > 1:
                    first = links.setdefault((info.st_dev, info.st_ino), path)
                    if first != path:
                        os.link(first, name, src_dir_fd=target, dst_dir_fd=there, follow_symlinks=False)
                        continue
                _copy_entry(name, here, there, info)
        finally:
            os.close(here)
            os.close(there)
    for directory in reversed(directories):
        here = linux.openat2(source, directory, DIRECTORY, resolve=INSIDE)
        there = linux.openat2(target, directory, DIRECTORY, resolve=INSIDE)
        try:
            copy_metadata(f"/proc/self/fd/{here}", f"/proc/self/fd/{there}", os.fstat(here))
        finally:
            os.close(here)
            os.close(there)


def _copy_entry(name: str, source: int, target: int, info: os.stat_result) -> None:
    """One entry that is no directory, with its metadata."""
    if stat.S_ISREG(info.st_mode):
        _copy_file(name, source, target)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target)
    copy_metadata(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}", info)


def _copy_file(name: str, source: int, target: int) -> None:
    """The bytes of a regular file, copied by the kernel (sendfile(2)); holes stay holes (lseek(2), SEEK_DATA)."""
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            size = os.fstat(reader).st_size
            os.ftruncate(writer, size)
            offset = 0
            while offset < size and (start := _next_data(reader, offset)) is not None:
                end = os.lseek(reader, start, os.SEEK_HOLE)
                offset = os.lseek(writer, start, os.SEEK_SET)
                while offset < end and (sent := os.sendfile(writer, reader, offset, end - offset)):
                    offset += sent
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _next_data(fd: int, offset: int) -> int | None:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as e:
        if e.errno == errno.ENXIO:
            return None
        raise
