"""Docker's json-file format: `{"log":"text\\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}`, one object a line.

Bytes that are no UTF-8 are kept (as surrogate escapes in the JSON), so that what is read back is exactly what was written,
where Docker replaces them.
"""

from __future__ import annotations

import os

from engine import lean
from engine.runtime.logs.writer import Entry
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCK = 1 << 16


def encode(text: bytes, stream: str, time: str, attributes: str = "") -> bytes:
    """The records of some output, one for each of its lines; what follows the last line feed is one, too.

    `attributes`: a member of each record, in JSON with a comma before it.
    """
    # few calls of C for many lines: of all that is done with 100 MB of output, this costs most
    *lines, rest = text.decode("utf-8", "surrogateescape").split("\n")
    quoted = [lean.quote(line + "\n") for line in lines]
    if rest:
        quoted.append(lean.quote(rest))
    begin, end = '{"log":', f',"stream":"{stream}"{attributes},"time":"{time}"}}\n'
    return (begin + (end + begin).join(quoted) + end).encode() if quoted else b""


def decode(lines: bytes) -> list[Entry]:
    """The records of whole lines. What is none is left out: a power loss may leave anything."""
    try:
        # a line feed is never inside a record: with commas for them, all is one array, read by one call of C
        return [_entry(record) for record in lean.loads(b"[" + lines[:-1].replace(b"\n", b",") + b"]")]
    except (ValueError, TypeError, LookupError, AttributeError):
        return [entry for line in lines.split(b"\n") if (entry := _decode_line(line))]


def _decode_line(line: bytes) -> Entry | None:
    try:
        return _entry(lean.loads(line))
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _entry(record: dict[str, Any]) -> Entry:
    data = record["log"].encode("utf-8", "surrogateescape")
    return Entry(record["stream"], record["time"], data, record.get("attrs"))


class Format:
    """Encodes for one container, whose records all have the same attributes; what decodes needs to know nothing of it."""

    def __init__(self, attributes: dict[str, str] | None = None) -> None:
        self._attributes = f',"attrs":{lean.dumps(attributes).decode()}' if attributes else ""

    def encode(self, piece: bytes, stream: str, time: int) -> bytes:
        """The records of a piece of output (logs.cut), written at `time` (nanoseconds since the epoch)."""
        return encode(piece, stream, timestamp(time), self._attributes)

    @staticmethod
    def record_end(data: bytes, _start: int, at: int) -> int:
        """The end of the record that holds byte `at`."""
        return data.find(b"\n", at) + 1

    @staticmethod
    def decode(data: bytes) -> tuple[list[Entry], int]:
        """The whole records at the beginning of `data`, and how many bytes they take. A line that is no record is left out."""
        used = data.rfind(b"\n") + 1
        return decode(data[:used]) if used else [], used

    @staticmethod
    def tail(fd: int, size: int, count: int) -> tuple[int, int]:
        """(where the last `count` records begin, how many there are), from the end backwards."""
        end = Format.whole(fd, size)
        found, begin = 0, end
        while begin > 0:
            block_begin = max(begin - _BLOCK, 0)
            block = os.pread(fd, begin - block_begin, block_begin)
            at = len(block)
            # the line feed before a record: the one at the very end is that of the last
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if block_begin + at + 1 == end:
                    continue
                found += 1
                if found == count:
                    return block_begin + at + 1, found
            begin = block_begin
        return 0, found + (end > 0)

    @staticmethod
    def whole(fd: int, size: int) -> int:
        """The size without a last record that is cut."""
        while size > 0:
            begin = max(size - _BLOCK, 0)
            at = os.pread(fd, size - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            size = begin
        return 0
