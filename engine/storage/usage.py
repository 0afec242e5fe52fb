"""How much of the file system a data root takes: allocated blocks, each inode once, as du(1) counts.

What `ls` calls the size of a file says little: a sparse file has less on the disk, a short one more. Hard links, and layers
that several images have, are counted where they are met first.
"""

from __future__ import annotations

import os

from engine.files import store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK = 512  # st_blocks: stat(2), whatever the file system's block size


class Counter:
    """Counts bytes below paths, one after the other, and no inode twice. Never follows a symlink, nor enters a mount."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def add(self, *paths: str) -> int:
        """The bytes that these have and that were not counted before. What vanishes meanwhile counts nothing.

        Raises StoreError where something cannot be read.
        """
        total = 0
        for path in paths:
            try:
                info = os.lstat(path)
                total += self._count(info)
                if _is_directory(info):
                    total += self._below(path, info.st_dev)
            except FileNotFoundError:
                continue
            except OSError as e:
                raise store_error(e, "read", path) from e
        return total

    def _below(self, top: str, device: int) -> int:
        total = 0
        pending = [top]
        while pending:
            directory = pending.pop()
            for entry in _scan(directory):
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if info.st_dev != device:
                    continue
                total += self._count(info)
                if _is_directory(info):
                    pending.append(entry.path)
        return total

    def _count(self, info: os.stat_result) -> int:
        key = (info.st_dev, info.st_ino)
        if key in self._seen:
            return 0
        self._seen.add(key)
        return info.st_blocks * _BLOCK


def allocated(*paths: str) -> int:
    """Bytes that the paths and all below them take, each inode once."""
    return Counter().add(*paths)


def _is_directory(info: os.stat_result) -> bool:
    return info.st_mode & 0o170000 == 0o040000


def _scan(directory: str) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
