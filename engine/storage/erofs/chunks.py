"""Sparse files in EROFS: a table of chunks, each of them a hole or a run of blocks.

A chunk is a power of two of blocks, the same size in a whole file. Where the pieces of data begin and end at chunk
boundaries, and lie on block boundaries in the tar, the table points into the tar. Otherwise (GNU tar 0.x maps with odd
offsets, a table that would be too long) the chunks that have data are copied into the index, with zeros around it.
"""

from __future__ import annotations

import os
from array import array

from engine.errors import LayerError
from engine.storage.erofs.format import HOLE, MAX_CHUNK_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Segments = list[tuple[int, int, int]]  # (file offset, length, archive offset), in order

MAX_CHUNKS = 1 << 22  # in one file: a table of 16 MiB
_COPY_BITS = 12


class Chunks:
    """How one sparse file is laid out. `bits`: log2 of the chunk's bytes; `copied`: whether its data goes into the index."""

    __slots__ = ("bits", "block_bits", "copied", "segments", "size")

    def __init__(self, size: int, segments: Segments, block_bits: int) -> None:
        self.size = size
        self.segments = segments
        self.block_bits = block_bits
        places = 0
        for offset, length, position in segments:
            end = offset + length
            places |= offset | (end if end != size else 0)
            if position & (1 << block_bits) - 1:
                places |= 1
        whole = max(size - 1, 1).bit_length()
        aligned = min((places & -places).bit_length() - 1 if places else whole, whole)
        self.copied = aligned < block_bits or size >> aligned > MAX_CHUNKS
        bits = max(_COPY_BITS, (size // MAX_CHUNKS).bit_length()) if self.copied else aligned
        self.bits = min(max(bits, block_bits), block_bits + MAX_CHUNK_BITS)

    @property
    def count(self) -> int:
        return -(-self.size >> self.bits)

    def touched(self) -> Iterator[int]:
        """The numbers of the chunks that have data, each once, ascending."""
        last = -1
        for offset, length, _ in self.segments:
            first = max(offset >> self.bits, last + 1)
            last = max(last, offset + length - 1 >> self.bits)
            yield from range(first, last + 1)

    def chunk_blocks(self, number: int) -> int:
        """Blocks of a chunk; the last one may be short."""
        length = min(1 << self.bits, self.size - (number << self.bits))
        return -(-length >> self.block_bits)

    def copied_blocks(self) -> int:
        """Blocks that the copies take in the index."""
        return sum(self.chunk_blocks(number) for number in self.touched()) if self.copied else 0

    def table(self, first_block: int) -> bytes:
        """The block number of each chunk. `first_block`: that of the tar's first byte, or of the first copy."""
        table = array("I", [HOLE]) * self.count
        if self.copied:
            for number in self.touched():
                table[number] = first_block
                first_block += self.chunk_blocks(number)
        else:
            step = 1 << self.bits - self.block_bits
            for offset, length, position in self.segments:
                first, last = offset >> self.bits, offset + length - 1 >> self.bits
                block = first_block + (position >> self.block_bits)
                for number in range(first, last + 1):
                    table[number] = block + (number - first) * step
        return _little_endian(table)

    def copies(self, fd: int) -> Iterator[bytes]:
        """The content of each copied chunk, padded to blocks. `fd`: the tar. Raises LayerError, OSError."""
        segments = iter(self.segments)
        current = next(segments, None)
        for number in self.touched():
            start = number << self.bits
            data = bytearray(self.chunk_blocks(number) << self.block_bits)
            end = start + len(data)
            while current and current[0] < end:
                offset, length, position = current
                low, high = max(offset, start), min(offset + length, end)
                piece = os.pread(fd, high - low, position + low - offset)
                if len(piece) != high - low:
                    raise LayerError("the tar ends inside the data of a sparse file")
                data[low - start : high - start] = piece
                if offset + length > end:
                    break
                current = next(segments, None)
            yield bytes(data)


def _little_endian(table: array[int]) -> bytes:
    import sys

    if sys.byteorder == "big":
        table.byteswap()
    return table.tobytes()
