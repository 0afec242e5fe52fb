"""A container's log: Docker's json-file lines (jsonlog.py), rotated by default.

When a file is full it becomes `container.log.1`, the older ones move up, and the oldest goes.
"""

from __future__ import annotations

import os
import time

from engine import files
from engine.runtime import jsonlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

MAX_SIZE, MAX_FILES = 10_000_000, 3
# Docker's copier cuts a longer line into parts of 16 KiB, so that a writer without line feeds is seen, too.
PARTIAL = 16384
# Read at once: longer than any line, which has at most six characters for a byte.
_BLOCK = 1 << 18


def timestamp(nanoseconds: int | None = None) -> str:
    """RFC 3339 with nanoseconds in UTC, as Docker writes it; `nanoseconds` since the epoch, None for now."""
    if nanoseconds is None:
        nanoseconds = time.time_ns()
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Pieces of at most PARTIAL bytes, each of whole lines or, where a line is longer, a part of it; and what is left for later."""
    pieces: list[bytes] = []
    start = 0
    while True:
        end = data.rfind(b"\n", start, start + PARTIAL) + 1
        if not end and len(data) - start < PARTIAL:
            return pieces, data[start:]
        end = end or start + PARTIAL
        pieces.append(data[start:end])
        start = end


class LogWriter:
    """Appends; one writer a container, its monitor. Not synced: a log line is not worth a disk flush."""

    def __init__(self, path: str, max_size: int = MAX_SIZE, max_files: int = MAX_FILES) -> None:
        self.path, self.max_size, self.max_files = path, max_size, max_files
        self._pending = {"stdout": b"", "stderr": b""}
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes) -> None:
        """Takes a piece of output; writes the lines that are complete, and keeps the rest for the next piece."""
        pieces, self._pending[stream] = cut(self._pending[stream] + data)
        for piece in pieces:
            self._append(stream, piece)

    def _append(self, stream: str, piece: bytes) -> None:
        self._size += os.write(self._fd, jsonlog.encode(piece, stream, timestamp()))
        if self._size >= self.max_size:
            self._rotate()

    def _rotate(self) -> None:
        os.close(self._fd)
        for number in range(self.max_files - 1, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            if os.path.exists(older):
                os.replace(older, f"{self.path}.{number}")
        if self.max_files == 1:
            files.remove_file(self.path)
        self._open()

    def close(self) -> None:
        """Writes what is left without a line end."""
        for stream, rest in self._pending.items():
            if rest:
                self._append(stream, rest)
        os.close(self._fd)


def read(path: str, tail: int | None = None, follow: Callable[[], bool] | None = None) -> Iterator[jsonlog.Entry]:
    """The log's entries, oldest first, over all rotated files. `tail`: only the last so many.

    With `follow`, goes on with what is appended, across rotation, for as long as follow() says that somebody may
    still write, and until the end of what was written then. A last line that is cut (power loss) is left out.
    """
    opened = _newer_than(path, None)
    if tail is not None:
        for file in reversed(opened):
            tail -= _seek_to_last(file, tail)
    may_grow = True
    while opened:
        for file in opened[:-1]:
            with file:
                yield from _entries(file)
        current = opened[-1]
        if follow is None:
            with current:
                return (yield from _entries(current, os.fstat(current.fileno()).st_size))
        may_grow = may_grow and follow()
        # looked for before the last one is read: one that is there means that nothing will be appended to that
        newer = _newer_than(path, current)
        yield from _entries(current)
        if not newer and not may_grow:
            return current.close()
        if not newer:
            time.sleep(0.1)
        opened = [current, *newer]


def _newer_than(path: str, known: FileIO | None) -> list[FileIO]:
    """The log's files, oldest first, opened; with `known`, those that are newer than it."""
    found: list[FileIO] = []
    last = os.fstat(known.fileno()).st_ino if known else 0
    seen = set()
    for name in (path, *(f"{path}.{n}" for n in range(1, MAX_FILES + 20))):
        try:
            file = open(name, "rb", buffering=0)
        except FileNotFoundError:
            # for a moment while the files move up, when one may also be seen under two names
            continue
        inode = os.fstat(file.fileno()).st_ino
        if inode == last or inode in seen:
            file.close()
            if inode == last:
                break
            continue
        seen.add(inode)
        found.insert(0, file)
    return found


def _seek_to_last(file: FileIO, count: int) -> int:
    """Moves to where the last `count` whole lines begin, or to the beginning; how many lines there are now up to the end."""
    position = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        size = min(_BLOCK, position)
        position = file.seek(position - size)
        block = file.read(size)
        # one more, the end of the line before the first that is wanted
        end = len(block)
        while found <= count and (end := block.rfind(b"\n", 0, end)) >= 0:
            found += 1
        if found > count:
            file.seek(position + end + 1)
            return count
    file.seek(0)
    return found


def _entries(file: FileIO, end: int = 1 << 62) -> Iterator[jsonlog.Entry]:
    """From where the file is to its end, or to a position; a line that is only half there yet is left to be read again."""
    while data := file.read(min(_BLOCK, end - file.tell())):
        whole = data.rfind(b"\n") + 1
        file.seek(whole - len(data), os.SEEK_CUR)
        if not whole:
            return
        yield from jsonlog.decode(data[:whole])
