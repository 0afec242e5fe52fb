"""A container's output on its way into its log: cut into lines, and given to the driver that keeps them.

output ──▶ LogWriter ──pieces──▶ driver: files (rotation.py: json-file, local) or the journal (journald.py)
                                   ╰ by way of a process of its own where the log may not hold up the output (buffer.py)
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    # a line's part: the line's ID, which part it is (the first is 1), whether it is the last
    Partial = tuple[str, int, bool]

    class Driver(Protocol):
        """Keeps output: pieces as `cut` makes them."""

        def append(self, piece: bytes, stream: str) -> None: ...
        def close(self) -> None: ...


# Docker's copier cuts a longer line into parts of 16 KiB, so that a writer without line feeds is seen, too.
PARTIAL = 16384


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


class Partials:
    """Which of a container's lines are parts of longer ones, for the drivers that note it (moby, daemon/logger/copier.go)."""

    def __init__(self) -> None:
        # of each stream the line that has not ended: its ID, the number of its next part, the time of its first
        self._open: dict[str, tuple[str, int, int]] = {}

    def lines(self, piece: bytes, stream: str, time: int) -> list[tuple[bytes, int, Partial | None]]:
        """A piece's lines without their ends, each with its time: of a part, the time of the line's first."""
        *whole, rest = piece.split(b"\n")
        found: list[tuple[bytes, int, Partial | None]] = []
        if whole and stream in self._open:
            identity, ordinal, begun = self._open.pop(stream)
            found.append((whole.pop(0), begun, (identity, ordinal, True)))
        found += [(line, time, None) for line in whole]
        if rest:
            identity, ordinal, begun = self._open.get(stream) or (os.urandom(32).hex(), 1, time)
            self._open[stream] = (identity, ordinal + 1, begun)
            found.append((rest, begun, (identity, ordinal, False)))
        return found


class LogWriter:
    """What a monitor writes output to. Nothing that befalls the log befalls the container: what cannot be written is lost."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._pending = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Takes a piece of output; writes the lines that are complete, and keeps the rest for the next piece."""
        pieces, self._pending[stream] = cut(self._pending[stream] + data)
        for piece in pieces:
            self._append(piece, stream)

    def close(self) -> None:
        """Writes what is left without a line end."""
        for stream, rest in self._pending.items():
            if rest:
                self._append(rest, stream)
        try:
            self._driver.close()
        except OSError:
            # close(2) of a file on another host says what write(2) could not know
            return

    def _append(self, piece: bytes, stream: str) -> None:
        try:
            self._driver.append(piece, stream)
        except OSError:
            return


class Entry:
    """One record of a log: its stream ("stdout", "stderr"), its time as RFC 3339 text, its bytes, and the attributes
    that `--log-opt labels=…` and the like had added."""

    __slots__ = ("attributes", "data", "stream", "time")

    def __init__(self, stream: str, time: str, data: bytes, attributes: dict[str, str] | None = None) -> None:
        self.stream, self.time, self.data = stream, time, data
        self.attributes = attributes or {}
