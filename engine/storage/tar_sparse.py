"""The four ways in which GNU tar writes a sparse file: where its data lie, and where its holes are.

    old GNU    type `S`: four (offset, length) pairs in the header, 21 in each block that follows it
    pax 0.0    GNU.sparse.offset and GNU.sparse.numbytes, repeated
    pax 0.1    GNU.sparse.map: "offset,length,offset,length,…"
    pax 1.0    GNU.sparse.major=1: decimal lines in front of the data, padded to a block

https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html
"""

from __future__ import annotations

import os

from engine.errors import LayerError
from engine.storage.tar_fields import decimal, number

BLOCK = 512
MAX_SIZE = 1 << 44  # 16 TiB, the largest file of ext4
MAX_MAP = 1 << 20  # bytes of a map, as Go's limit (CVE-2025-58183)
_PREFIX = b"GNU.sparse."

Pairs = list[tuple[int, int]]


class Sparse:
    """A sparse file's real size and map, and where in the archive its data starts. `name` None: the member's own."""

    __slots__ = ("data", "name", "pairs", "size")

    def __init__(self, size: int, pairs: Pairs, data: int, name: bytes | None = None) -> None:
        self.size = size
        self.pairs = pairs
        self.data = data
        self.name = name


def is_sparse(pax: dict[bytes, bytes]) -> bool:
    return b"GNU.sparse.major" in pax or b"GNU.sparse.size" in pax or b"GNU.sparse.realsize" in pax


def read_old(fd: int, header: bytes, data: int) -> Sparse:
    """Type `S`. `data` is the offset behind the header, where the extension blocks are, if there are any."""
    pairs = _old_pairs(header[386:482])
    extended = header[482]
    start = data
    while extended:
        block = os.pread(fd, BLOCK, data)
        data += BLOCK
        if len(block) < BLOCK or data - start > MAX_MAP:
            raise LayerError("the tar is damaged: a sparse map that is cut off or too long")
        pairs += _old_pairs(block[:504])
        extended = block[504]
    return Sparse(number(header[483:495]), pairs, data)


def _old_pairs(table: bytes) -> Pairs:
    slots = (table[i : i + 24] for i in range(0, len(table), 24))
    return [(number(slot[:12]), number(slot[12:])) for slot in slots if slot[0]]


def read_pax(fd: int, records: list[tuple[bytes, bytes]], data: int, stored: int) -> Sparse:
    """The three pax formats. `data` and `stored`: where the member's data starts, and how long it is."""
    pax = dict(records)
    size = decimal(pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"")
    name = pax.get(b"GNU.sparse.name")
    if b"GNU.sparse.major" in pax:
        version = pax[b"GNU.sparse.major"], pax.get(b"GNU.sparse.minor")
        if version != (b"1", b"0"):
            raise LayerError(f"the tar has a sparse file of an unknown format: {version!r}")
        pairs, length = _read_map(fd, data, stored)
        return Sparse(size, pairs, data + length, name)
    if b"GNU.sparse.map" in pax:
        numbers = [decimal(text) for text in pax[b"GNU.sparse.map"].split(b",") if text]
    else:
        numbers = [decimal(value) for key, value in records if key in (_PREFIX + b"offset", _PREFIX + b"numbytes")]
    return Sparse(size, _pairs(numbers), data, name)


def _read_map(fd: int, data: int, stored: int) -> tuple[Pairs, int]:
    """Format 1.0: the map in front of the data, and the bytes that it takes, with padding."""
    text = os.pread(fd, min(stored, MAX_MAP), data)
    lines = 2 * decimal(text[:24].partition(b"\n")[0]) + 1
    parts = text.split(b"\n", lines) if lines <= MAX_MAP else []
    if len(parts) <= lines:
        raise LayerError("the tar is damaged: a sparse map that is cut off or too long")
    length = len(text) - len(parts[-1])
    return _pairs([decimal(line) for line in parts[1:lines]]), length + -length % BLOCK


def _pairs(numbers: list[int]) -> Pairs:
    if len(numbers) % 2:
        raise LayerError("the tar is damaged: a sparse map with an odd number of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def segments(file: Sparse, end: int) -> list[tuple[int, int, int]]:
    """(file offset, length, archive offset) of each piece of data, checked: in order, apart, and all within `end`.

    The pieces follow each other without padding, as Go, libarchive and Python read them. Raises LayerError.
    """
    if not 0 <= file.size <= MAX_SIZE:
        raise LayerError(f"the tar has a sparse file of {file.size} bytes; at most {MAX_SIZE} are supported")
    result: list[tuple[int, int, int]] = []
    previous, position = 0, file.data
    for offset, length in file.pairs:
        if length < 0 or offset < previous or offset + length > file.size:
            raise LayerError("the tar is damaged: a sparse map out of order or beyond its file")
        if length:
            result.append((offset, length, position))
        previous = offset + length
        position += length
    if position > end:
        raise LayerError("the tar is damaged: a sparse file with less data than its map says")
    return result
