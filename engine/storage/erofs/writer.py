"""Writes a merged tree as an EROFS image whose file data stay where they are, in the layers' tars.

Blocks have 512 bytes, as a tar has: so every file in a tar starts at a block, and its inode just names that block. Block
numbers run through the index first and then through the tars in the order of the device table. Two passes: the first gives
every inode its place (a directory's size is known by its names alone), the second writes both areas side by side, so that
memory does not grow with the index. The same layers give the same bytes: nothing here depends on time, host or chance.
"""

from __future__ import annotations

import os
import stat

from engine.errors import LayerError
from engine.storage.erofs import format as on_disk
from engine.storage.erofs.chunks import Chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from engine.storage.tree import Node

BLOCK_BITS = 9
MAX_BLOCKS = 0xFFFFFFFF  # 2 TiB, since a block number has 32 bits and the last means a hole
MAX_COPIED = 1 << 30  # bytes of sparse files' tables and copies in one index
_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}
_DIRENT = on_disk.DIRENT.size


class Device:
    """A layer's tar: the hex digits of its DiffID, its path, its size in bytes."""

    __slots__ = ("first_block", "hex", "path", "size")

    def __init__(self, hex_: str, path: str) -> None:
        self.hex = hex_
        self.path = path
        self.size = os.stat(path).st_size
        self.first_block = 0


class Writer:
    """Lays out and writes one index. Uses up the tree: it sorts directories and numbers nodes."""

    def __init__(self, root: Node, devices: Sequence[Device], uuid: bytes, block_bits: int = BLOCK_BITS) -> None:
        self._root = root
        self._devices = devices
        self._uuid = uuid
        self._bits = block_bits
        self._block = 1 << block_bits
        self._order: list[Node] = []
        self._chunks: dict[Node, Chunks] = {}
        self._parents: dict[Node, int] = {root: 0}
        self._data_block = 0  # the next free block of the data area

    def write(self, path: str) -> None:
        """Writes the image to an existing, empty file. Raises LayerError for what the format cannot hold, OSError."""
        end, blocks = self._place()
        self._data_block = -(-end >> self._bits)
        total = self._data_block + blocks
        self._map_devices(total)
        with open(path, "r+b") as meta, open(path, "r+b") as data:
            data.seek(self._data_block << self._bits)
            meta.write(self._superblock(total))
            for device in self._devices:
                blocks = -(-device.size >> self._bits)
                meta.write(on_disk.DEVICE.pack(device.hex.encode(), blocks, device.first_block))
            self._write_inodes(meta, data)
            data.flush()
            data.truncate(total << self._bits)

    # the first pass

    def _place(self) -> tuple[int, int]:
        """Gives every node its nid; where the inodes end, and how many data blocks there are."""
        place = on_disk.DEVICES + on_disk.DEVICE.size * len(self._devices)
        place += -place % on_disk.SLOT
        blocks = copied = 0
        mask = self._block - 1
        order = self._order = [self._root]
        self._root.nid = -1
        for node in order:  # grows while it is read: breadth first, so that a directory's inodes lie together
            head = on_disk.INODE.size + (_xattr_size(node.xattrs) if node.xattrs else 0)
            if node.children is not None:
                node.children = dict(sorted(node.children.items()))
                for child in node.children.values():
                    if not child.nid:
                        child.nid = -1  # has its place in the order
                        order.append(child)
                node.size = self._directory_size(node.children)
            elif node.segments is not None:
                chunks = self._chunks[node] = Chunks(node.size, node.segments, self._bits)
                head += 4 * chunks.count
                blocks += chunks.copied_blocks()
                copied += 4 * chunks.count + (chunks.copied_blocks() << self._bits)
            elif node.target:
                node.size = len(node.target)
            if node.children is not None or node.target:
                tail = node.size & mask
                blocks += (node.size >> self._bits) + (1 if tail > self._block - on_disk.SLOT else 0)
                tail = self._inline(node.size)
                if tail and (place + head & mask) + tail > self._block:
                    place += -(place + head) & mask  # an inline tail must not cross a block
                    place += -place % on_disk.SLOT
                head += tail
            node.nid = place // on_disk.SLOT
            place += head + (-head % on_disk.SLOT)
            if copied > MAX_COPIED:
                raise LayerError(f"the image has sparse files that take more than {MAX_COPIED} bytes to describe")
        return place, blocks

    def _inline(self, size: int) -> int:
        """How many of the last bytes of a directory or symlink lie behind its inode instead of in a block of their own."""
        tail = size & self._block - 1
        return tail if tail <= self._block - on_disk.SLOT else 0

    def _directory_size(self, children: dict[bytes, Node]) -> int:
        full = used = 0
        block = self._block
        for name in _sorted_names(children):
            need = _DIRENT + len(name)
            if used + need > block:
                full += block
                used = 0
            used += need
        return full + used

    def _map_devices(self, total: int) -> None:
        block = total
        for device in self._devices:
            device.first_block = block
            block += -(-device.size >> self._bits)
        if block >= MAX_BLOCKS:
            held = MAX_BLOCKS << self._bits
            raise LayerError(f"the image has {block << self._bits} bytes of layers; an index holds {held}")

    # the second pass

    def _superblock(self, total: int) -> bytes:
        incompatible = on_disk.INCOMPAT_DEVICE_TABLE if self._devices else 0
        if self._chunks:
            incompatible |= on_disk.INCOMPAT_CHUNKED_FILE

        def pack(checksum: int) -> bytes:
            return on_disk.SUPER.pack(
                on_disk.MAGIC, checksum, on_disk.COMPAT_CHECKSUM | on_disk.COMPAT_MTIME, self._bits, 0,
                self._root.nid, len(self._order), 0, 0, total, 0, 0, self._uuid, b"", incompatible, 0,
                len(self._devices), on_disk.DEVICES // on_disk.DEVICE.size, 0,
            )  # fmt: skip

        # the checksum is of the block that has the superblock, from there on, with itself as zero
        covered = pack(0).ljust(self._block - on_disk.SUPERBLOCK % self._block, b"\0")
        superblock = pack(on_disk.crc32c(covered, 0xFFFFFFFF))
        return (bytes(on_disk.SUPERBLOCK) + superblock).ljust(on_disk.DEVICES, b"\0")

    def _write_inodes(self, meta: BinaryIO, data: BinaryIO) -> None:
        place = on_disk.DEVICES + on_disk.DEVICE.size * len(self._devices)
        pack = on_disk.INODE.pack
        first = [device.first_block for device in self._devices]
        for number, node in enumerate(self._order, 1):
            content, layout, address, nlink = b"", on_disk.FLAT_PLAIN, 0, node.nlink
            if node.children is not None:
                blob = self._directory(node)
                nlink = 2 + sum(child.children is not None for child in node.children.values())
                content, layout, address = self._write_blob(blob, data)
            elif node.target:
                content, layout, address = self._write_blob(node.target, data)
            elif node.segments is not None:
                layout = on_disk.CHUNK_BASED
                address = self._chunks[node].bits - self._bits
                content = self._write_chunks(node, data)
            elif node.size:
                address = first[node.source] + (node.offset >> self._bits)
            elif node.rdev:
                address = node.rdev
            xattrs = _xattrs(node.xattrs) if node.xattrs else b""
            seconds, nanoseconds = divmod(node.mtime_ns, 1_000_000_000)
            icount = (len(xattrs) - on_disk.XATTR_HEADER.size) // 4 + 1 if xattrs else 0
            inode = pack(
                layout | on_disk.EXTENDED, icount, node.mode, 0, node.size, address, number & 0xFFFFFFFF,
                node.uid, node.gid, seconds, nanoseconds, nlink,
            )  # fmt: skip
            start = node.nid * on_disk.SLOT
            meta.write(bytes(start - place) + inode + xattrs + content)
            place = start + len(inode) + len(xattrs) + len(content)

    def _write_blob(self, blob: bytes, data: BinaryIO) -> tuple[bytes, int, int]:
        """Writes full blocks to the data area. Returns (the inline tail, the layout, the first block)."""
        tail = self._inline(len(blob))
        address = self._data_block
        if full := len(blob) - tail:
            padding = -full % self._block
            data.write(blob[:full] + bytes(padding))
            self._data_block += full + padding >> self._bits
        return blob[full:], on_disk.FLAT_INLINE if tail else on_disk.FLAT_PLAIN, address if full else 0

    def _write_chunks(self, node: Node, data: BinaryIO) -> bytes:
        chunks, device = self._chunks[node], self._devices[node.source]
        if not chunks.copied:
            return chunks.table(device.first_block)
        table = chunks.table(self._data_block)
        with open(device.path, "rb") as tar:
            for piece in chunks.copies(tar.fileno()):
                data.write(piece)
                self._data_block += len(piece) >> self._bits
        return table

    def _directory(self, node: Node) -> bytes:
        """Entries in blocks: all fixed parts, then all names; sorted by bytes in a block and over the blocks."""
        assert node.children is not None
        blob: list[bytes] = []
        names: list[bytes] = []
        used = 0
        nids = {b".": node.nid, b"..": self._parents[node] or node.nid}
        for name in _sorted_names(node.children):
            need = _DIRENT + len(name)
            if used + need > self._block:
                blob += (self._entries(names, nids, node.children), bytes(self._block - used))
                names, used = [], 0
            names.append(name)
            used += need
        blob.append(self._entries(names, nids, node.children))
        return b"".join(blob)

    def _entries(self, names: list[bytes], nids: dict[bytes, int], children: dict[bytes, Node]) -> bytes:
        pack = on_disk.DIRENT.pack
        offset = _DIRENT * len(names)
        fixed = []
        for name in names:
            child = children.get(name)
            if child is None:
                fixed.append(pack(nids[name], offset, 2, 0))
            else:
                if child.children is not None:
                    self._parents[child] = nids[b"."]
                fixed.append(pack(child.nid, offset, _FILE_TYPES[child.mode & 0o170000], 0))
            offset += len(name)
        return b"".join(fixed) + b"".join(names)


def _sorted_names(children: dict[bytes, Node]) -> list[bytes]:
    """The names of a sorted directory and `.` and `..`, which stand where the order of bytes puts them."""
    names = [b".", b"..", *children]
    if len(names) > 2 and names[2] < b"..":
        names.sort()
    return names


def _xattr_size(xattrs: dict[bytes, bytes]) -> int:
    return len(_xattrs(xattrs))


def _xattrs(xattrs: dict[bytes, bytes]) -> bytes:
    """The inline extended attributes: a header, then the entries, each padded to four bytes."""
    parts = [on_disk.XATTR_HEADER.pack(0, 0)]
    for name, value in xattrs.items():
        prefix, index = next(pair for pair in on_disk.XATTR_PREFIXES if name.startswith(pair[0]))
        rest = name[len(prefix) :]
        entry = on_disk.XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
        parts.append(entry + bytes(-len(entry) % 4))
    return b"".join(parts)
