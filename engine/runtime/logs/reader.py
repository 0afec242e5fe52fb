"""Reads a log that is kept in files (rotation.py): from its end backwards for `--tail`, across rotations, with the writer at work.

A file is known by its inode, which stays the same when it gets another name, and which a compressed one tells of itself
(with the time of its last change, since a free inode is given away again).
"""

from __future__ import annotations

import os
import time

from engine import lean
from engine.errors import StoreError
from engine.times import nanoseconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.runtime.logs.rotation import Format
    from engine.runtime.logs.writer import Entry

_BLOCK = 1 << 18
_PAUSE = 0.1
# A writer that rotates faster than all names can be opened is not waited for.
_ATTEMPTS = 20


def read(
    path: str, format: Format, tail: int | None, follow: Callable[[], bool] | None, since: int | None
) -> Iterator[Entry]:
    """The log's entries, oldest first, over all its files. `tail`: only the last so many. `since`: earlier ones may be left out.

    With `follow`, goes on with what is appended for as long as follow() says that somebody may still write, and until the
    end of what was written then. A last record that is cut (power loss) is left out.
    """
    opened = _open_all(path)
    try:
        if tail is None:
            wanted = [file for file in opened if since is None or file.last is None or file.last >= since]
            parts: list[tuple[_File, Iterable[Entry]]] = [(file, file.entries(format)) for file in wanted]
        else:
            parts = _last(opened, format, tail)
        for file, entries in parts:
            if follow and file is opened[-1] and not file.compressed:
                break
            yield from entries
        if follow:
            yield from _follow(path, format, opened, follow)
    finally:
        for file in opened:
            file.close()


class _File:
    """One file of a log, open. `position`: where the reading goes on, always the end of a whole record."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.compressed = path.endswith(".gz")
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.position = 0
        status = os.fstat(self.fd)
        self.size = status.st_size
        self.inode = status.st_ino
        self.last: int | None = None
        self._compressed_of: tuple[int, int] | None = None
        if self.compressed:
            self._read_header()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _read_header(self) -> None:
        """What logfile.compress wrote; that of another's file says nothing."""
        header = os.pread(self.fd, 4096, 0)
        if header[3:4] != b"\x04":
            return
        try:
            extra = lean.loads(header[12 : 12 + int.from_bytes(header[10:12], "little")])
            self.last = nanoseconds_of(extra["lastTime"])
            self._compressed_of = (extra["inode"], extra["mtime"])
        except (ValueError, KeyError):
            return

    def identity(self) -> tuple[int, int]:
        """Of a file that is written no more."""
        return self._compressed_of or (self.inode, os.fstat(self.fd).st_mtime_ns)

    def entries(self, format: Format) -> Iterator[Entry]:
        """From `position` to where the end was when the file was opened."""
        if not self.compressed:
            while self.position < self.size and (found := self.more(format, self.size)):
                yield from found
            return
        rest = b""
        for block in self._decompressed():
            found, used = self._decode(format, rest + block)
            rest = (rest + block)[used:]
            yield from found

    def more(self, format: Format, end: int | None = None) -> list[Entry]:
        """The next entries that are there, up to `end`; none if there is no whole one yet."""
        size = _BLOCK
        while True:
            wanted = size if end is None else min(size, end - self.position)
            data = os.pread(self.fd, wanted, self.position)
            found, used = self._decode(format, data)
            if used or len(data) < size:
                self.position += used
                return found
            size *= 2

    def _decode(self, format: Format, data: bytes) -> tuple[list[Entry], int]:
        try:
            return format.decode(data)
        except ValueError as e:
            raise StoreError(f"the log {self.path} is damaged: {e}") from e

    def _decompressed(self) -> Iterator[bytes]:
        import zlib

        inflate = zlib.decompressobj(wbits=31)
        position = 0
        try:
            while block := os.pread(self.fd, _BLOCK, position):
                position += len(block)
                yield inflate.decompress(block)
        except zlib.error as e:
            raise StoreError(f"the log {self.path} is damaged: {e}") from e


def _open_all(path: str) -> list[_File]:
    """The log's files, oldest first; once more if there was a rotation meanwhile."""
    for attempt in range(_ATTEMPTS):
        opened = _open_names(path)
        if not opened or opened[-1].path != path or _inode(path) == opened[-1].inode or attempt == _ATTEMPTS - 1:
            return opened
        for file in opened:
            file.close()
    raise AssertionError


def _open_names(path: str) -> list[_File]:
    """A rotation may be at work: a number may be free for a moment, and every file have the next one. So all numbers are tried,
    upwards, and one more than there are: whatever moves on is found again."""
    directory, base = os.path.split(path)
    highest = 0
    for name in os.listdir(directory):
        ending = name.removeprefix(f"{base}.").removesuffix(".gz")
        if name.startswith(f"{base}.") and ending.isdecimal():
            highest = max(highest, int(ending))
    found: list[_File] = []
    for number in range(highest + 2):
        for candidate in (f"{path}.{number}", f"{path}.{number}.gz") if number else (path,):
            try:
                file = _File(candidate)
            except FileNotFoundError:
                continue
            if any(file.inode == other.inode or file.identity() == other.identity() for other in found):
                # under two names, or as itself and compressed, for the moment of its rotation
                file.close()
            else:
                found.append(file)
            break
    return found[::-1]


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _last(opened: list[_File], format: Format, count: int) -> list[tuple[_File, Iterable[Entry]]]:
    """The files with the last `count` entries, each at where they begin."""
    parts: list[tuple[_File, Iterable[Entry]]] = []
    for file in reversed(opened):
        if file.compressed and count > 0:
            from collections import deque

            kept = deque(file.entries(format), maxlen=count)
            parts.append((file, kept))
            count -= len(kept)
        elif not file.compressed:
            if count > 0:
                file.position, found = format.tail(file.fd, file.size, count)
                count -= found
            else:
                file.position = format.whole(file.fd, file.size) if file is opened[-1] else file.size
            parts.append((file, file.entries(format)))
        if count <= 0:
            break
    return parts[::-1]


def _follow(path: str, format: Format, opened: list[_File], alive: Callable[[], bool]) -> Iterator[Entry]:
    """Goes on behind the last of `opened`, and replaces it there by the one that is being read."""
    while True:
        may_grow = alive()
        if not opened:
            # not started yet, or already removed
            opened += _open_all(path)
        while opened:
            file = opened[-1]
            # asked before the reading: a file that has been rotated away is not written any more
            is_over = file.compressed or _inode(path) != file.inode
            while found := [] if file.compressed else file.more(format):
                yield from found
            newer = _successor(path, file) if is_over else None
            if not newer:
                break
            file.close()
            opened[-1] = newer
            if newer.compressed:
                yield from newer.entries(format)
        if not may_grow:
            return
        time.sleep(_PAUSE)


def _successor(path: str, file: _File) -> _File | None:
    """The file that came next after one that is over; the oldest there is where that has gone too. None: the log is removed."""
    opened = _open_all(path)
    identities = [other.identity() for other in opened[:-1]]
    at = identities.index(file.identity()) + 1 if file.identity() in identities else 0
    for other in opened:
        if not opened[at:] or other is not opened[at]:
            other.close()
    return opened[at] if opened[at:] else None
