"""Files that are never seen half-written, and locks.

State is files: whatever is replaced is replaced by rename(2), whatever is reserved is reserved by O_EXCL, and whoever
changes something together with others holds a flock(2), which the kernel drops when its holder dies.
"""

from __future__ import annotations

import errno
import fcntl
import os

from engine.errors import Conflict, StoreError
from engine.lean import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_CHUNK = 1 << 14


def store_error(e: OSError, what: str, path: str) -> StoreError:
    """The StoreError for `e`, with the way out where there is one: "cannot `what` `path`: no space left on device"."""
    hints = {
        errno.EACCES: "run mini as root, or choose another data root with --root DIR",
        errno.EPERM: "run mini as root, or choose another data root with --root DIR",
        errno.EROFS: "the file system is read-only: choose another data root with --root DIR",
        errno.ENOSPC: "free some space (mini system prune, mini rmi), or choose another data root with --root DIR",
        errno.EDQUOT: "the disk quota is used up: free some space, or choose another data root with --root DIR",
    }
    return StoreError(f"cannot {what} {path}: {os.strerror(e.errno or 0)}", hints.get(e.errno or 0))


def _temporary(path: str) -> str:
    """A name beside `path` that no object can have: it begins with a dot."""
    directory, base = os.path.split(path)
    return os.path.join(directory, f".{base}.{os.getpid()}.tmp")


def make_dirs(path: str, mode: int = 0o755) -> None:
    """Creates `path` and its parents; no error where it exists. Raises StoreError."""
    try:
        os.makedirs(path, mode, exist_ok=True)
    except OSError as e:
        raise store_error(e, "create the directory", path) from e


def write_atomic(path: str, data: bytes, mode: int = 0o644, sync: bool = True) -> None:
    """Replaces `path` as one step. With `sync`, both the bytes and the name are on disk when this returns.

    Raises StoreError; the old content stays then, and no temporary file.
    """
    temporary = _temporary(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if sync:
            sync_dir(os.path.dirname(path))
    except OSError as e:
        remove_file(temporary)
        raise store_error(e, "write", path) from e


def overwrite(path: str, data: bytes) -> None:
    """Writes in place, where there may be no room for a second file. Blanks fill it up to the old length.

    StoreError, with the file as it was, also for what does not fit into its blocks.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if len(data) > max(status.st_size, status.st_blocks * 512):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.pwrite(fd, data.ljust(status.st_size), 0)
        finally:
            os.close(fd)
    except OSError as e:
        raise store_error(e, "write", path) from e


def sync_dir(path: str) -> None:
    """fsync(2) of a directory: makes the names in it durable."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: str, value: Any, mode: int = 0o644, sync: bool = True) -> None:
    """`write_atomic` of JSON in one line and a line feed."""
    write_atomic(path, dumps(value) + b"\n", mode, sync)


def read_bytes(path: str) -> bytes:
    """The whole file. Half the system calls of `open`, which `ps` makes for two files a container."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while data := os.read(fd, _CHUNK):
            parts.append(data)
    finally:
        os.close(fd)
    return b"".join(parts)


def read_json(path: str) -> Any:
    """The file's JSON. FileNotFoundError as it is; StoreError where the file is damaged or unreadable."""
    try:
        return loads(read_bytes(path))
    except FileNotFoundError:
        raise
    except ValueError as e:
        raise StoreError(f"{path} is damaged: {e}") from e
    except OSError as e:
        raise store_error(e, "read", path) from e


def names_in(directory: str) -> list[str]:
    """The names in a directory, sorted; none where it does not exist. Raises StoreError where it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise store_error(e, "read", directory) from e


def create_exclusive(path: str, data: bytes, mode: int = 0o644) -> None:
    """Reserves a name: creates `path` with `data`, or raises FileExistsError. The content is there with the name.

    A link(2) of a complete temporary file: a reader never finds the name without its content.
    """
    temporary = _temporary(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, data)
        os.link(temporary, path)
    finally:
        os.close(fd)
        remove_file(temporary)


def remove_file(path: str) -> None:
    """unlink(2); no error where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


# Descriptors that remove_tree holds at most; what lies deeper is moved up.
_DEPTH = 64


def remove_tree(path: str) -> None:
    """Removes a directory with all below it; no error where there is none. Raises StoreError.

    Never follows a symlink, and needs few descriptors for a tree of any depth: what lies deeper than `_DEPTH` is moved up
    to the top and emptied there (what a container nested may be deeper than a stack or RLIMIT_NOFILE). Own code, because
    shutil costs 8 ms of imports in every `run --rm`, and recurses.
    """
    opened: list[tuple[int, str, list[str]]] = []
    try:
        _open_dir(path, None, opened)
        while opened:
            fd, own, directories = opened[-1]
            if not directories:
                opened.pop()
                os.close(fd)
                _remove_dir(own, opened[-1][0] if opened else None)
                continue
            name = directories.pop()
            if _remove_dir(name, fd):
                continue
            if len(opened) < _DEPTH:
                _open_dir(name, fd, opened)
            else:
                top, _, pending = opened[0]
                moved = f".{os.urandom(8).hex()}"
                os.rename(name, moved, src_dir_fd=fd, dst_dir_fd=top)
                pending.append(moved)
    except FileNotFoundError:
        # there is none, or somebody else removes it, too
        return
    except OSError as e:
        raise store_error(e, "remove", path) from e
    finally:
        for fd, _, _ in opened:
            os.close(fd)


def _open_dir(name: str, parent: int | None, opened: list[tuple[int, str, list[str]]]) -> None:
    """Opens a directory, removes all that is no directory in it, and adds it to `opened` with the directories."""
    if parent is not None and os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    directories: list[str] = []
    opened.append((fd, name, directories))
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for below, is_dir in found:
        if is_dir:
            directories.append(below)
        else:
            os.unlink(below, dir_fd=fd)


def _remove_dir(name: str, parent: int | None) -> bool:
    """rmdir(2). False where it is not empty."""
    try:
        os.rmdir(name, dir_fd=parent)
        return True
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise


class FileLock:
    """flock(2) on `path`, as a context manager. Released by the kernel when its holder dies, however it dies.

    `wait=False` raises Conflict where somebody else holds it. The lock file is left in place: unlinking it would let
    two holders lock two different inodes.
    """

    def __init__(self, path: str, shared: bool = False, wait: bool = True) -> None:
        self.path = path
        self._operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        self._fd = -1

    def __enter__(self) -> FileLock:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            try:
                self._fd = os.open(self.path, flags, 0o600)
            except FileNotFoundError:
                make_dirs(os.path.dirname(self.path), 0o700)
                self._fd = os.open(self.path, flags, 0o600)
        except OSError as e:
            raise store_error(e, "lock", self.path) from e
        try:
            fcntl.flock(self._fd, self._operation)
        except BlockingIOError:
            os.close(self._fd)
            raise Conflict(f"{self.path} is locked by another mini") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        self._fd = -1
