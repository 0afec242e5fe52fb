"""How a volume is filled as one step: everything is prepared beside what containers see, and moved there when it is complete.

    1. write to  staging/                         killed here: rubbish; what the volume holds is untouched
    2. rename it to staged/ (copy-up) or imported/     from here on it is complete
    3. move each entry into _data/                killed here: whoever comes next goes on moving
    4. remove it

The volume's directory itself may be mounted in a container already, so it is filled, not replaced. Copy-up replaces nothing
that is there, import whatever has the same name. A flock(2) on the volume lets one process at a time do this.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager

from engine import linux
from engine.files import remove_tree, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
INSIDE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS
_STAGING, KEEPING, REPLACING = "staging", "staged", "imported"


class Stage:
    """The stage of one volume, locked. A context manager; `data` is the volume's directory `_data`, open for reading.

    `resumed`: what another process had prepared was moved there on entering.
    Where another file system is mounted there, which no rename(2) leads into, the stage is in it: `inside`.
    """

    def __init__(self, data: int, inside: bool = False) -> None:
        self._data = data
        self._prefix = ".mini-" if inside else ""
        self._place = "." if inside else ".."

    def __enter__(self) -> Stage:
        """What another process left is finished first. Raises StoreError."""
        self._parent = os.open(self._place, DIRECTORY, dir_fd=self._data)
        try:
            fcntl.flock(self._parent, fcntl.LOCK_EX)
            self.resumed = self._finish()
        except BaseException:
            os.close(self._parent)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._remove(_STAGING)
        finally:
            os.close(self._parent)

    def is_empty(self) -> bool:
        """Whether the volume is."""
        return not os.listdir(self._data)

    def make(self) -> int:
        """The stage, empty, with owner and mode of the volume; the caller closes it. Raises OSError."""
        name = self._prefix + _STAGING
        os.mkdir(name, 0o700, dir_fd=self._parent)
        fd = os.open(name, DIRECTORY, dir_fd=self._parent)
        copy_metadata(f"/proc/self/fd/{self._data}", f"/proc/self/fd/{fd}", os.fstat(self._data))
        return fd

    def commit(self, how: str) -> None:
        """Moves what is staged into the volume: KEEPING what is there, or REPLACING it. Raises OSError, StoreError."""
        names = [self._prefix + name for name in (_STAGING, how)]
        os.rename(*names, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._move(how)

    def _finish(self) -> bool:
        resumed = self._move(KEEPING) | self._move(REPLACING)
        self._remove(_STAGING)
        return resumed

    def _move(self, name: str) -> bool:
        """Steps 3 and 4. False where nothing is staged under that name."""
        try:
            staged = os.open(self._prefix + name, DIRECTORY, dir_fd=self._parent)
        except FileNotFoundError:
            return False
        try:
            (_add if name == KEEPING else _replace)(staged, self._data)
        finally:
            os.close(staged)
        self._remove(name)
        return True

    def _remove(self, name: str) -> None:
        remove_tree(f"/proc/self/fd/{self._parent}/{self._prefix}{name}")


def leftovers(volume: str) -> list[str]:
    """What a process that was killed left in the volume's directory, and nobody is about to finish."""
    found = [name for name in (_STAGING, KEEPING, REPLACING) if os.path.isdir(f"{volume}/{name}")]
    try:
        if found:
            with removing(volume):
                return found
    except BlockingIOError:
        pass
    return []


@contextmanager
def reading(volume: str) -> Iterator[None]:
    """While somebody reads the volume whose directory this is: nobody fills it, and nobody removes it."""
    with _flock(volume, fcntl.LOCK_SH):
        yield


@contextmanager
def removing(volume: str) -> Iterator[None]:
    """For who removes the volume. Raises BlockingIOError while anybody reads or fills it."""
    with _flock(volume, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _flock(directory: str, operation: int) -> Iterator[None]:
    fd = os.open(directory, DIRECTORY)
    try:
        fcntl.flock(fd, operation)
        yield
    finally:
        os.close(fd)


def finish(volume: str) -> None:
    """Finishes what was left in the volume's directory. Raises StoreError."""
    data = os.open(f"{volume}/_data", DIRECTORY)
    try:
        with Stage(data):
            pass
    finally:
        os.close(data)


# --- moving ----------------------------------------------------------------------------------------------------------


def _add(staged: int, data: int) -> None:
    """Moves each entry where there is none of its name; may be repeated after it was interrupted anywhere.

    rename(2) that does not replace: of a directory it refuses to by itself, a file is linked and unlinked.
    """
    info = os.fstat(staged)
    for name in os.listdir(staged):
        try:
            if _is_directory(name, staged):
                os.rename(name, name, src_dir_fd=staged, dst_dir_fd=data)
            else:
                os.link(name, name, src_dir_fd=staged, dst_dir_fd=data, follow_symlinks=False)
                os.unlink(name, dir_fd=staged)
        except OSError as e:
            if e.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise store_error(e, "move into the volume", name) from e
    copy_metadata(f"/proc/self/fd/{staged}", f"/proc/self/fd/{data}", info)


def _replace(staged: int, data: int) -> None:
    """Moves each entry over what has its name; two directories become one. May be repeated, as `_add`."""
    directories = ["."]
    try:
        for directory in directories:
            here, there = (linux.openat2(top, directory, DIRECTORY, resolve=INSIDE) for top in (staged, data))
            try:
                info = os.fstat(here)
                for name in os.listdir(here):
                    if not _is_directory(name, here):
                        _move_file(name, here, there)
                    elif not _move_directory(name, here, there):
                        directories.append(f"{directory}/{name}")
                copy_metadata(f"/proc/self/fd/{here}", f"/proc/self/fd/{there}", info)
            finally:
                os.close(here)
                os.close(there)
    except OSError as e:
        raise store_error(e, "move into the volume", os.fsdecode(e.filename or "")) from e


def _move_file(name: str, source: int, target: int) -> None:
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except IsADirectoryError:
        remove_tree(f"/proc/self/fd/{target}/{name}")
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _move_directory(name: str, source: int, target: int) -> bool:
    """False where there is a directory with content, which stays."""
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except NotADirectoryError:
        os.unlink(name, dir_fd=target)
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except OSError as e:
        if e.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def _is_directory(name: str, directory: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def copy_metadata(source: str, target: str, info: os.stat_result) -> None:
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
