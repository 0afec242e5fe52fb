"""The format of Docker's `local` driver: protobuf records, each between two copies of its length, so that it reads backwards.

    ┌─ length ─┬─ LogEntry ────────────────────────────────────────────────────────────┬─ length ─┐
    │ 4, big-  │ 1: source  2: time_nano  3: line  4: partial  5: {1: last 2: id        │ 4, big-  │
    │ endian   │                                                   3: ordinal}         │ endian   │
    └──────────┴───────────────────────────────────────────────────────────────────────┴──────────┘

Sources: moby, daemon/logger/local and api/types/plugins/logdriver/entry.proto. A line is kept without its line feed; the
parts of a longer one say whose they are, and which is the last.
"""

from __future__ import annotations

import os
import struct

from engine.runtime.logs.writer import Entry, Partials
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.runtime.logs.writer import Partial

_LENGTH = struct.Struct(">I")
# moby refuses to read a longer one: what claims to be longer is no record
_LONGEST = 1_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Format:
    """Encodes for one container; what decodes needs to know nothing of it."""

    def __init__(self) -> None:
        self._partials = Partials()

    def encode(self, piece: bytes, stream: str, time: int) -> bytes:
        """The records of a piece of output (logs.cut), written at `time` (nanoseconds since the epoch)."""
        source = _bytes(1, stream.encode()) + b"\x10"
        head = source + _varint(time)
        lines = self._partials.lines(piece, stream, time)
        return b"".join(
            _frame(head if moment == time else source + _varint(moment), line, partial)
            for line, moment, partial in lines
        )

    @staticmethod
    def record_end(data: bytes, start: int, at: int) -> int:
        """The end of the record that holds byte `at`, of whole records that begin at `start`."""
        while start <= at and start < len(data):
            start += _LENGTH.unpack_from(data, start)[0] + 8
        return start

    @staticmethod
    def decode(data: bytes) -> tuple[list[Entry], int]:
        """The whole records at the beginning of `data`, and how many bytes they take. ValueError where there is none."""
        found, at = [], 0
        # source and time of the record before: of a piece of output all lines have the same
        head, stream, time = b"", "", ""
        while at + 8 <= len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            if length > _LONGEST:
                raise ValueError(f"a record of {length} bytes")
            end = at + 4 + length
            if end + 4 > len(data):
                break
            if _LENGTH.unpack_from(data, end)[0] != length:
                raise ValueError("a record's two lengths differ")
            line, begin = None, at + 4
            if head and data.startswith(head, begin):
                line = _plain_line(data, begin + len(head), end)
            if line is None:
                entry = _entry(data[begin:end])
                head, stream, time = _head(data[begin:end]), entry.stream, entry.time
            else:
                entry = Entry(stream, time, line + b"\n")
            found.append(entry)
            at = end + 4
        return found, at

    @staticmethod
    def tail(fd: int, size: int, count: int) -> tuple[int, int]:
        """(where the last `count` records begin, how many there are): from the end backwards, two reads for each."""
        offset, found = size, 0
        while found < count and offset > 0:
            length = _length(fd, offset - 4)
            begin = offset - length - 8
            if begin < 0 or length > _LONGEST or _length(fd, begin) != length:
                whole = Format.whole(fd, size)
                # damaged before the end: all that can be read is read
                return Format.tail(fd, whole, count) if whole < size else (0, count)
            offset, found = begin, found + 1
        return offset, found

    @staticmethod
    def whole(fd: int, size: int) -> int:
        """The size without a last record that is cut. From the beginning, where the last is not whole."""
        if size >= 8:
            length = _length(fd, size - 4)
            if length <= min(_LONGEST, size - 8) and _length(fd, size - length - 8) == length:
                return size
        at = 0
        while at + 8 <= size:
            end = at + _length(fd, at) + 8
            if end > size or _length(fd, end - 4) != end - at - 8:
                break
            at = end
        return at


def _length(fd: int, offset: int) -> int:
    data = os.pread(fd, 4, max(offset, 0))
    length: int = _LENGTH.unpack(data)[0] if len(data) == 4 else _LONGEST + 1
    return length


def _frame(head: bytes, line: bytes, partial: Partial | None) -> bytes:
    entry = head + _bytes(3, line)
    if partial:
        identity, ordinal, last = partial
        of = (b"\x08\x01" if last else b"") + _bytes(2, identity.encode()) + b"\x18" + _varint(ordinal)
        entry += b"\x20\x01" + _bytes(5, of)
    length = _LENGTH.pack(len(entry))
    return length + entry + length


def _bytes(field: int, value: bytes) -> bytes:
    """A length-delimited field; an empty one is left out, as proto3 has it."""
    return bytes((field << 3 | _BYTES,)) + _varint(len(value)) + value if value else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _plain_line(data: bytes, at: int, end: int) -> bytes | None:
    """The line of a record that has nothing after it; None for any other."""
    if at >= end:
        return b"" if at == end else None
    if data[at] != 3 << 3 | _BYTES:
        return None
    length, begin = _read_varint(data, at + 1)
    return data[begin:end] if begin + length == end else None


def _head(data: bytes) -> bytes:
    """A record's first two fields, source and time, as they are there; empty where others come first."""
    if not data.startswith(b"\x0a"):
        return b""
    length, at = _read_varint(data, 1)
    at += length
    return data[: _read_varint(data, at + 1)[1]] if data[at : at + 1] == b"\x10" else b""


def _entry(data: bytes) -> Entry:
    stream, time, line, partial, last = "", 0, b"", False, False
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            stream = value.decode(errors="replace")
        elif field == 2 and isinstance(value, int):
            time = value
        elif field == 3 and isinstance(value, bytes):
            line = value
        elif field == 4:
            partial = bool(value)
        elif field == 5 and isinstance(value, bytes):
            last = any(number == 1 and bool(is_last) for number, is_last in _fields(value))
    return Entry(stream, timestamp(time), line if partial and not last else line + b"\n")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a message's fields, as protobuf's encoding has them."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of the type {kind}")
        if at + length > len(data):
            raise ValueError("a field that is longer than its record")
        yield key >> 3, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("a number that is cut")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
