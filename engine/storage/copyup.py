"""Copy-up: an empty volume is filled with what the image has at the mount point, as Docker does.

Content is copied with owners, modes, times, extended attributes, holes, symlinks, hard links and special files; the
volume's own directory takes the owner and mode of the image's. The source is resolved inside the container's root only,
whatever symlinks the image has there (CVE-2022-23648 gave the host's files away); below it no symlink is followed.

The volume's directory itself may be mounted in a container already, so it is filled, not replaced:

    1. copy to volumes/NAME/staging/    killed here: the volume is still empty; the next copy-up starts again
    2. rename staging/ to staged/       from here on the copy is complete
    3. move each entry into _data/      killed here: `needs_copy_up` sees staged/, the next copy-up goes on moving
    4. remove staged/

So a volume that is half filled never passes for one that has content of its own. Moving never replaces what a container
wrote meanwhile. A flock(2) on the volume's directory lets one process at a time do this.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from engine import linux
from engine.files import remove_tree, store_error

_STAGING, _STAGED = "staging", "staged"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_ROOT = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
_INSIDE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS


def needs_copy_up(data_dir: str) -> bool:
    """Whether the volume (its directory `_data`, the Mountpoint) is empty, or was left half filled. Cheap."""
    if os.path.exists(f"{os.path.dirname(data_dir)}/{_STAGED}"):
        return True
    with os.scandir(data_dir) as entries:
        return next(entries, None) is None


def copy_up(source_root_fd: int, path_in_root: str, data_fd: int) -> bool:
    """Fills the volume whose `_data` is at `data_fd` from a directory of a container's root, if it is empty.

    False where there was nothing to do: the volume has content, or the image has no directory there. Raises StoreError,
    and leaves the volume empty then. Two at once are safe: the second waits, and finds it filled.
    """
    volume = os.open("..", _DIRECTORY, dir_fd=data_fd)
    try:
        fcntl.flock(volume, fcntl.LOCK_EX)
        if not _exists(_STAGED, volume):
            _remove_tree(_STAGING, volume)
            if os.listdir(data_fd):
                return False
            source = _open_source(source_root_fd, path_in_root)
            if source < 0:
                return False
            _stage(source, path_in_root, volume)
        _move_into_place(volume, data_fd)
        return True
    finally:
        os.close(volume)


def _open_source(root_fd: int, path: str) -> int:
    """The directory of the image, or -1 where it has none there."""
    try:
        return linux.openat2(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_IN_ROOT)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return -1
        raise store_error(e, "open the image's", path) from e


def _stage(source: int, path: str, volume: int) -> None:
    """Steps 1 and 2. Closes `source`."""
    try:
        os.mkdir(_STAGING, 0o700, dir_fd=volume)
        target = os.open(_STAGING, _DIRECTORY, dir_fd=volume)
        try:
            _copy_tree(source, target)
        finally:
            os.close(target)
        os.rename(_STAGING, _STAGED, src_dir_fd=volume, dst_dir_fd=volume)
    except OSError as e:
        _remove_tree(_STAGING, volume)
        raise store_error(e, "fill a volume from the image's", path) from e
    finally:
        os.close(source)


def _move_into_place(volume: int, data: int) -> None:
    """Steps 3 and 4; may be repeated after it was interrupted anywhere."""
    staged = os.open(_STAGED, _DIRECTORY, dir_fd=volume)
    try:
        info = os.fstat(staged)
        for name in os.listdir(staged):
            _move(name, staged, data)
        _copy_metadata(f"/proc/self/fd/{staged}", f"/proc/self/fd/{data}", info)
    finally:
        os.close(staged)
    _remove_tree(_STAGED, volume)


def _move(name: str, source: int, target: int) -> None:
    """rename(2) that does not replace: of a directory it refuses to by itself, a file is linked and unlinked."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        else:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            os.unlink(name, dir_fd=source)
    except OSError as e:
        if e.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise store_error(e, "move into the volume", name) from e


# --- copying a tree --------------------------------------------------------------------------------------------------


def _copy_tree(source: int, target: int) -> None:
    """Copies the content and the metadata of directory `source` to the empty directory `target`.

    Works off a list of directories rather than recursing: a deep tree costs neither stack nor descriptors. The metadata
    of a directory is set when nothing below it is written any more, since writing changes its times.
    """
    links: dict[tuple[int, int], str] = {}
    directories = ["."]
    for directory in directories:
        here = linux.openat2(source, directory, _DIRECTORY, resolve=_INSIDE)
        there = linux.openat2(target, directory, _DIRECTORY, resolve=_INSIDE)
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
        here = linux.openat2(source, directory, _DIRECTORY, resolve=_INSIDE)
        there = linux.openat2(target, directory, _DIRECTORY, resolve=_INSIDE)
        try:
            _copy_metadata(f"/proc/self/fd/{here}", f"/proc/self/fd/{there}", os.fstat(here))
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
    _copy_metadata(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}", info)


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


def _copy_metadata(source: str, target: str, info: os.stat_result) -> None:
    """Owner, mode, extended attributes, times, in this order: chown(2) clears set-id bits and file capabilities.

    The last component of both paths is the object itself, or /proc/self/fd/N, which stands for it. `trusted.overlay.*`
    is overlayfs's own and never copied: a later mount would obey it.
    """
    follow = not stat.S_ISLNK(info.st_mode)
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=follow)
    if follow:
        os.chmod(target, stat.S_IMODE(info.st_mode))
    try:
        attributes = os.listxattr(source, follow_symlinks=follow)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        attributes = []
    for attribute in attributes:
        if not attribute.startswith("trusted.overlay."):
            _copy_attribute(source, target, attribute, follow)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=follow)


def _copy_attribute(source: str, target: str, attribute: str, follow: bool) -> None:
    """One extended attribute; left out where the volume's file system has none of its kind."""
    value = os.getxattr(source, attribute, follow_symlinks=follow)
    try:
        os.setxattr(target, attribute, value, follow_symlinks=follow)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove_tree(name: str, directory: int) -> None:
    remove_tree(f"/proc/self/fd/{directory}/{name}")
