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
    from collections.abc import Callable, Iterable, Iterator

MAX_SIZE, MAX_FILES = 10_000_000, 3
# Docker's copier cuts a longer line into parts of 16 KiB, so that a writer without line feeds is seen, too.
PARTIAL = 16384


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
    names = [f"{path}.{n}" for n in range(MAX_FILES + 20, 0, -1)]
    lines: Iterable[bytes] = (
        line for name in names if os.path.exists(name) for line in files.read_bytes(name).splitlines(keepends=True)
    )
    if not os.path.exists(path):
        yield from _entries(lines, tail)
        return
    with open(path, "rb") as file:
        current = file.read()
        # a line that is only half there yet is read again by _follow
        whole = current.rfind(b"\n") + 1
        file.seek(whole)
        yield from _entries((*lines, *current[:whole].splitlines(keepends=True)), tail)
        if follow:
            inode = os.fstat(file.fileno()).st_ino
            position = whole
    if follow:
        yield from _follow(path, inode, position, follow)


def _entries(lines: Iterable[bytes], tail: int | None) -> Iterator[jsonlog.Entry]:
    if tail is not None:
        lines = list(lines)[-tail:] if tail > 0 else []
    for line in lines:
        if line.endswith(b"\n"):
            yield jsonlog.Entry(line)


def _follow(path: str, inode: int, position: int, alive: Callable[[], bool]) -> Iterator[jsonlog.Entry]:
    while True:
        may_grow = alive()
        # the file that was open may have been rotated away: finish it under its new name first
        for name in (f"{path}.1", path):
            try:
                with open(name, "rb") as file:
                    found = os.fstat(file.fileno()).st_ino
                    if name == path and found != inode:
                        inode, position = found, 0
                    if found != inode:
                        continue
                    file.seek(position)
                    data = file.read()
            except FileNotFoundError:
                continue
            whole = data.rfind(b"\n") + 1
            position += whole
            for line in data[:whole].splitlines(keepends=True):
                yield jsonlog.Entry(line)
        if not may_grow:
            return
        time.sleep(0.1)
