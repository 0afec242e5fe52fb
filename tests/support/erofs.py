"""A reader of EROFS images, written from the kernel's description and sharing nothing with mini's writer."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

_PREFIXES = {1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}


class Image:
    """An uncompressed image and its devices, all in memory. `scan` gives what `tests.support.layers.scan` gives."""

    def __init__(self, path: str, devices: list[str]) -> None:
        with open(path, "rb") as file:
            self.raw = file.read()
        sb = self.raw[1024:1152]
        self.magic, self.checksum, self.compat = struct.unpack_from("<III", sb)
        self.block = 1 << sb[12]
        (self.root,) = struct.unpack_from("<H", sb, 14)
        self.inodes, self.time = struct.unpack_from("<QQ", sb, 16)
        self.blocks, self.meta = struct.unpack_from("<II", sb, 36)
        self.uuid = sb[48:64]
        self.incompat, _, count, slot = struct.unpack_from("<IHHH", sb, 80)
        assert self.magic == 0xE0F5E1E2 and count == len(devices)
        self.devices = []
        for number, device in enumerate(devices):
            tag, blocks, start = struct.unpack_from("<64sII", self.raw, (slot + number) * 128)
            with open(device, "rb") as file:
                data = file.read()
            assert tag.decode() == hashlib.sha256(data).hexdigest() and blocks == -(-len(data) // self.block)
            assert start >= self.blocks
            self.devices.append((start, blocks, data))

    def _read(self, block: int, length: int) -> bytes:
        for start, blocks, data in self.devices:
            if start <= block < start + blocks:
                offset = (block - start) * self.block
                return data[offset : offset + length]
        assert block < self.blocks
        return self.raw[block * self.block : block * self.block + length]

    def inode(self, nid: int) -> dict[str, Any]:
        place = self.meta * self.block + nid * 32
        layout, icount, mode, _, size, address, _, uid, gid, seconds, nanoseconds, nlink = struct.unpack_from(
            "<HHHHQIIIIqII", self.raw, place
        )
        assert layout & 1, "all inodes are extended"
        end = place + 64
        xattrs = {}
        if icount:
            end += 12 + 4 * (icount - 1)
            xattrs = self._xattrs(self.raw[place + 76 : end])
        data = b""
        if mode >> 12 in (8, 4, 10):
            data = self._data(layout >> 1, size, address, end)
        return {
            "mode": oct(mode), "owner": (uid, gid), "mtime": seconds * 10**9 + nanoseconds, "nlink": nlink,
            "size": size, "address": address, "data": data, "xattrs": xattrs,
        }  # fmt: skip

    def _xattrs(self, raw: bytes) -> dict[str, bytes]:
        found = {}
        while raw:
            name_length, index, size = struct.unpack_from("<BBH", raw)
            name, value = raw[4 : 4 + name_length], raw[4 + name_length : 4 + name_length + size]
            found[_PREFIXES[index] + name.decode()] = value
            raw = raw[-(-(4 + name_length + size) // 4) * 4 :]
        return found

    def _data(self, layout: int, size: int, address: int, end: int) -> bytes:
        if layout == 0:
            return self._read(address, size) if size else b""
        if layout == 2:
            tail = size % self.block
            assert end // self.block == (end + tail - 1) // self.block, "an inline tail crosses a block"
            return (self._read(address, size - tail) if size > tail else b"") + self.raw[end : end + tail]
        assert layout == 4 and not address & ~0x1F
        chunk = self.block << address
        data = bytearray(size)
        for number in range(-(-size // chunk)):
            (block,) = struct.unpack_from("<I", self.raw, end + 4 * number)
            if block != 0xFFFFFFFF:
                length = min(chunk, size - number * chunk)
                data[number * chunk : number * chunk + length] = self._read(block, length)
        return bytes(data)

    def directory(self, inode: dict[str, Any]) -> list[tuple[bytes, int, int]]:
        """(name, nid, type) of each entry, `.` and `..` included, in the order on disk."""
        found = []
        for start in range(0, inode["size"], self.block):
            block = inode["data"][start : start + self.block]
            count = struct.unpack_from("<H", block, 8)[0] // 12
            entries = [struct.unpack_from("<QHB", block, 12 * number) for number in range(count)]
            ends = [entry[1] for entry in entries[1:]] + [len(block)]
            found += [
                (block[offset:end].rstrip(b"\0"), nid, kind)
                for (nid, offset, kind), end in zip(entries, ends, strict=True)
            ]
        return found

    def scan(self) -> dict[bytes, dict[str, Any]]:
        found: dict[bytes, dict[str, Any]] = {}
        pending = [(self.root, self.root, b".")]
        for nid, parent, path in pending:
            inode = self.inode(nid)
            kind = int(inode["mode"], 8) >> 12
            found[path] = about = {key: inode[key] for key in ("mode", "owner", "mtime", "xattrs")}
            if kind == 4:
                entries = self.directory(inode)
                names = [name for name, _, _ in entries]
                assert names == sorted(names) and len(set(names)) == len(names), "the kernel searches by halving"
                links = {name: to for name, to, _ in entries}
                assert (links[b"."], links[b".."]) == (nid, parent)
                children = [(to, nid, name) for name, to, _ in entries if name not in (b".", b"..")]
                assert inode["nlink"] == 2 + sum(k == 2 for n, _, k in entries if n not in (b".", b".."))
                pending += [(to, up, name if path == b"." else path + b"/" + name) for to, up, name in children]
                continue
            about["nlink"] = inode["nlink"]
            if kind == 8:
                about |= {"size": inode["size"], "sha256": hashlib.sha256(inode["data"]).hexdigest()}
            elif kind == 10:
                about["target"] = inode["data"]
            else:
                rdev = inode["address"]
                about["rdev"] = (rdev >> 8 & 0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFF00)
        return found
