"""A writer of tars: ustar headers, and pax records where a value does not fit into one (POSIX.1-2001).

The counterpart of `storage.tar`, with the same entries. What it writes depends on nothing but the entries: no user names,
no clock, records in a fixed order.
"""

from __future__ import annotations

import os
import stat
import struct

from engine.storage.tar import BLOCK, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s167x")
_KINDS = {
    0: b"1",  # a hard link
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_NAME = 100
_SMALL = 8**7  # the first number that no field of 8 bytes holds
_LARGE = 8**11
_BUFFER = 1 << 20


def member(name: str, size: int) -> Entry:
    """A plain file of root's, or a directory where the name ends with a slash; of no particular time."""
    kind = stat.S_IFDIR | 0o755 if name.endswith("/") else stat.S_IFREG | 0o644
    return Entry(os.fsencode(name), kind, 0, 0, size, 0, 0)


def header(entry: Entry, records: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The blocks that describe an entry: a pax header where one is needed, or `records` are given, then the ustar header."""
    seconds, fraction = divmod(entry.mtime_ns, 1_000_000_000)
    pax = list(records)
    if len(entry.name) > _NAME:
        pax.append((b"path", entry.name))
    if len(entry.link) > _NAME:
        pax.append((b"linkpath", entry.link))
    if entry.uid >= _SMALL:
        pax.append((b"uid", b"%d" % entry.uid))
    if entry.gid >= _SMALL:
        pax.append((b"gid", b"%d" % entry.gid))
    if entry.size >= _LARGE:
        pax.append((b"size", b"%d" % entry.size))
    if fraction or not 0 <= seconds < _LARGE:
        pax.append((b"mtime", _time(entry.mtime_ns)))
    for name, value in sorted((entry.xattrs or {}).items()):
        pax.append((b"SCHILY.xattr." + name, value))
    blocks = _pax_header(pax) if pax else b""
    return blocks + _block(
        entry.name, _KINDS[stat.S_IFMT(entry.mode)], entry.mode & 0o7777, entry.uid, entry.gid, entry.size, seconds,
        entry.link, entry.rdev,
    )  # fmt: skip


def _pax_header(records: list[tuple[bytes, bytes]]) -> bytes:
    data = b"".join(_record(key, value) for key, value in records)
    return _block(b"pax", b"x", 0o644, 0, 0, len(data), 0) + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts its own digits, too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _time(nanoseconds: int) -> bytes:
    """Decimal seconds with as much of a fraction as there is."""
    whole, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    text = f"{'-' if nanoseconds < 0 else ''}{whole}.{fraction:09}"
    return text.rstrip("0").rstrip(".").encode()


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes = b"",
    rdev: int = 0,
) -> bytes:
    """One header block. What pax says instead is 0 here."""

    def number(value: int, limit: int, digits: int) -> bytes:
        return b"%0*o\0" % (digits, value if 0 <= value < limit else 0)

    raw = _HEADER.pack(
        name[:_NAME], number(mode, _SMALL, 7), number(uid, _SMALL, 7), number(gid, _SMALL, 7), number(size, _LARGE, 11),
        number(mtime, _LARGE, 11), b" " * 8, kind, link[:_NAME], b"ustar\x0000",
        number(os.major(rdev), _SMALL, 7), number(os.minor(rdev), _SMALL, 7),
    )  # fmt: skip
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


class TarWriter:
    """Writes entries into a descriptor, which stays open. Buffered: `close` writes the rest and the end of the archive.

    Without `close` the archive lacks its end, so that a reader can tell a broken one. Raises OSError.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()

    def add(self, entry: Entry, data: bytes = b"") -> None:
        """An entry whose data, if it has any, are given."""
        self._write(header(entry) + data + bytes(-len(data) % BLOCK))

    def add_file(self, entry: Entry, fd: int) -> None:
        """An entry of `entry.size` bytes at the start of the file `fd`; zeros where it has become shorter meanwhile."""
        self._write(header(entry))
        self._copy(fd, 0, entry.size)
        self._write(bytes(-entry.size % BLOCK))

    def add_sparse(self, entry: Entry, fd: int, segments: list[tuple[int, int]]) -> None:
        """As `add_file`, without the holes: `segments` are the (offset, length) of what is data (GNU tar, sparse format 1.0)."""
        numbers = [len(segments), *(number for segment in segments for number in segment)]
        table = b"".join(b"%d\n" % number for number in numbers)
        table += bytes(-len(table) % BLOCK)
        size = len(table) + sum(length for _, length in segments)
        pax = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", entry.name)]
        pax.append((b"GNU.sparse.realsize", b"%d" % entry.size))
        stored = Entry(b"GNUSparseFile.0/file", entry.mode, entry.uid, entry.gid, size, entry.mtime_ns, 0)
        stored.xattrs = entry.xattrs
        self._write(header(stored, pax) + table)
        for offset, length in segments:
            self._copy(fd, offset, length)
        self._write(bytes(-size % BLOCK))

    def close(self) -> None:
        self._write(bytes(2 * BLOCK))
        self._flush(self._buffer)
        self._buffer.clear()

    def _copy(self, fd: int, position: int, length: int) -> None:
        end = position + length
        while position < end:
            data = os.pread(fd, min(_BUFFER, end - position), position)
            if not data:
                data = bytes(min(_BUFFER, end - position))
            position += len(data)
            self._write(data)

    def _write(self, data: bytes) -> None:
        if len(self._buffer) + len(data) > _BUFFER:
            self._flush(self._buffer)
            self._buffer.clear()
        if len(data) >= _BUFFER:
            self._flush(data)
        else:
            self._buffer += data

    def _flush(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        view.release()
