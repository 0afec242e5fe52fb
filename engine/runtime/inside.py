"""Paths inside a container's root, resolved by the kernel as the container itself would, and never further.

A root file system is hostile: any name in it may be a symlink to anywhere, and may change while it is looked at. So no path
into it is ever joined as a string. Each is resolved by openat2(2) with RESOLVE_IN_ROOT (`..` and absolute links stop at the
root) and RESOLVE_NO_MAGICLINKS (/proc/self/fd/N leads nowhere: CVE-2024-21626), and what follows is done on the descriptor.
CVE-2021-30465, CVE-2025-31133 and CVE-2025-52881 are what happens otherwise.
"""

from __future__ import annotations

import errno
import os

from engine import linux

IN_ROOT = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
MAX_LINKS = 40  # path_resolution(7)


def open_in(root: int, path: str, flags: int = linux.O_PATH, resolve: int = 0) -> int:
    """Opens an existing path below the directory `root`; the caller closes it. Raises OSError, ELOOP for a magic link."""
    return linux.openat2(root, path, flags, 0, IN_ROOT | resolve)


def make_dir(root: int, path: str, mode: int = 0o755) -> int:
    """An O_PATH descriptor of the directory `path` below `root`, made with its parents where missing."""
    return _make(root, path, mode, file=False)


def make_file(root: int, path: str) -> int:
    """An O_PATH descriptor of the file `path` below `root`, made (empty, 0644) with its parents where missing."""
    return _make(root, path, 0o755, file=True)


def _make(root: int, path: str, mode: int, file: bool) -> int:
    """Walks `path`, making what is missing.

    A dangling symlink is followed, and its target made, as the kernel would with O_CREAT: images do ship
    /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf without /run.
    """
    try:
        return open_in(root, path)
    except FileNotFoundError:
        pass
    done, todo, links = "", _parts(path), 0
    while todo:
        name = todo.pop(0)
        here = f"{done}/{name}"
        try:
            os.close(open_in(root, here))
        except FileNotFoundError:
            link = _make_one(root, done, name, mode, file and not todo)
            if link is not None:
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                todo = _parts(link) + todo
                if link.startswith("/"):
                    done = ""
                continue
        done = here
    return open_in(root, done)


def _make_one(root: int, directory: str, name: str, mode: int, file: bool) -> str | None:
    """Makes one name; where there is a (dangling) symlink instead, returns what it points to.

    The directory keeps its times: a mount point is no change that the container has made.
    """
    parent = open_in(root, directory, linux.O_PATH | os.O_DIRECTORY)
    times = os.fstat(parent)
    try:
        if file:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
        else:
            os.mkdir(name, mode, dir_fd=parent)
        os.utime(".", ns=(times.st_atime_ns, times.st_mtime_ns), dir_fd=parent)
        return None
    except FileExistsError:
        try:
            return os.readlink(name, dir_fd=parent)
        except OSError as e:
            if e.errno == errno.EINVAL:  # not a link: somebody else was faster
                return None
            raise
    finally:
        os.close(parent)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
