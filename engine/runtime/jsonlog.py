"""Docker's json-file format: `{"log":"text\\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}`, one object a line.

Bytes that are no UTF-8 are kept (as surrogate escapes in the JSON), so that what is read back is exactly what was written,
where Docker replaces them.
"""

from __future__ import annotations

from engine import lean


def encode(text: bytes, stream: str, time: str) -> bytes:
    """The records of some output, one for each of its lines; what follows the last line feed is one, too."""
    # few calls of C for many lines: of all that is done with 100 MB of output, this costs most
    *lines, rest = text.decode("utf-8", "surrogateescape").split("\n")
    quoted = [lean.quote(line + "\n") for line in lines]
    if rest:
        quoted.append(lean.quote(rest))
    begin, end = '{"log":', f',"stream":"{stream}","time":"{time}"}}\n'
    return (begin + (end + begin).join(quoted) + end).encode() if quoted else b""


class Entry:
    """One record of a log: its stream ("stdout", "stderr"), its bytes, and its time as RFC 3339 text."""

    __slots__ = ("data", "stream", "time")

    def __init__(self, record: dict[str, str]) -> None:
        self.stream = record["stream"]
        self.time = record["time"]
        self.data = record["log"].encode("utf-8", "surrogateescape")


def decode(lines: bytes) -> list[Entry]:
    """The records of whole lines. What is none is left out: a power loss may leave anything."""
    try:
        # a line feed is never inside a record: with commas for them, all is one array, read by one call of C
        return [Entry(record) for record in lean.loads(b"[" + lines[:-1].replace(b"\n", b",") + b"]")]
    except (ValueError, TypeError, KeyError):
        return [entry for line in lines.split(b"\n") if (entry := _decode_line(line))]


def _decode_line(line: bytes) -> Entry | None:
    try:
        return Entry(lean.loads(line))
    except (ValueError, TypeError, KeyError):
        return None
