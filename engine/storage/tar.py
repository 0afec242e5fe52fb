"""A reader of tar headers: one pass that skips the data, for archives that a stranger wrote.

Reads ustar (POSIX.1-1988), pax (POSIX.1-2001), GNU and star headers as Go's archive/tar does, which is what Docker and
containerd read layers with: where readers of tar differ, theirs is the answer that a layer's author has seen. Nothing is
extracted here, and no name is looked up: an entry says what its header says, and its data is where `offset` says.

Every malformation and every limit raises LayerError (CVE-2017-14992, CVE-2025-8194).
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13
https://www.gnu.org/software/tar/manual/html_node/Standard.html
"""

from __future__ import annotations

import os
import stat
import struct
from zlib import adler32

from engine.errors import LayerError
from engine.storage import tar_sparse
from engine.storage.tar_fields import decimal, number, pax_records, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
MAX_ENTRIES = 1 << 20  # in one layer: each costs memory until the image is indexed
MAX_NAME = 4095  # PATH_MAX without its NUL: no kernel could be asked for more
MAX_EXTENSION = 1 << 20  # bytes of a pax header or a GNU long name, as Go's limit
MAX_SIZE = 1 << 62
MAX_TIME = (1 << 62) * 1_000_000_000

# name mode uid gid size mtime checksum type link magic (version uname gname) major minor prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s66x8s8s155s12x")
_ZEROS = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."
_REGULAR = (b"0", b"\0", b"7", b"S")
_TYPES = {
    b"1": 0,  # a hard link: another name, not a file
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
}


class Entry:
    """One member. `mode` is as st_mode; without a type (S_IFMT) it is a hard link, that is another name for `link`.

    `name` and `link` are bytes as they stand in the archive. `offset` is where the data starts, `size` what a reader of
    the file sees; `segments` is None, or for a sparse file the (file offset, length, archive offset) of each piece.
    `rdev` is encoded as Linux's dev_t.
    """

    __slots__ = ("gid", "link", "mode", "mtime_ns", "name", "offset", "rdev", "segments", "size", "uid", "xattrs")

    def __init__(self, name: bytes, mode: int, uid: int, gid: int, size: int, mtime_ns: int, offset: int) -> None:
        self.name = name
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.mtime_ns = mtime_ns
        self.offset = offset
        self.link = b""
        self.rdev = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.segments: list[tuple[int, int, int]] | None = None


class _Extensions:
    """What the headers in front of a member say about it."""

    __slots__ = ("link", "name", "pax")

    def __init__(self) -> None:
        self.pax: list[tuple[bytes, bytes]] = []
        self.name: bytes | None = None
        self.link: bytes | None = None


def read_entries(fd: int) -> Iterator[Entry]:
    """Every member of the tar at `fd`, in order, by pread(2). Raises LayerError, OSError.

    Ends at two blocks of zeros, or at the end of the file where an archive lacks them. A global pax header is skipped, as
    Docker and containerd skip it.
    """
    end = os.fstat(fd).st_size
    position = count = 0
    extensions: _Extensions | None = None
    while header := os.pread(fd, BLOCK, position):
        position += BLOCK
        if len(header) < BLOCK:
            raise LayerError(f"the tar ends inside a header, at byte {end}")
        if header == _ZEROS:
            if os.pread(fd, BLOCK, position) not in (_ZEROS, b""):
                raise LayerError(f"the tar goes on behind a block of zeros, at byte {position}")
            break
        kind = header[156:157]
        if kind in b"xgLK":
            if kind != b"g":
                extensions = extensions or _Extensions()
            position = _read_extension(fd, header, position, end, extensions or _Extensions())
            continue
        count += 1
        if extensions is None and kind != b"S":
            entry, stored = _parse(header, position)
            next_header = position + stored
        else:
            entry, next_header = _parse_extended(fd, header, position, extensions or _Extensions())
            extensions = None
        if next_header > end or count > MAX_ENTRIES:
            what = "ends inside the data of" if next_header > end else f"has more than {MAX_ENTRIES} entries, at"
            raise LayerError(f"the tar {what} {show(entry.name)}")
        if (entry.uid | entry.gid) >> 32 or not -MAX_TIME < entry.mtime_ns < MAX_TIME or len(entry.name) > MAX_NAME:
            _refuse(entry)
        position = next_header + -next_header % BLOCK
        yield entry
    if extensions is not None:
        raise LayerError("the tar ends behind an extension header, without the member that it is for")


def _parse(header: bytes, offset: int) -> tuple[Entry, int]:
    """The entry of one header block, and how many bytes of data follow it at `offset`."""
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix = _HEADER.unpack(header)
    # the sum of all bytes, the checksum's own as blanks; Adler-32's lower half is that sum plus 1, modulo 65521
    if (adler32(header) - 1 - sum(checksum) + 8 * 32 - number(checksum) & 0xFFFF) and not _verify(header):
        raise LayerError(f"the tar is damaged: a header with a wrong checksum at byte {offset - BLOCK}")
    name = name.partition(b"\0")[0]
    if magic == b"ustar\0" and prefix[0]:
        if header[508:] == b"tar\0":
            prefix = prefix[:131]  # star keeps atime and ctime in the rest
        name = prefix.partition(b"\0")[0] + b"/" + name
    permissions = number(mode) & 0o7777
    entry = Entry(name, permissions, number(uid), number(gid), 0, number(mtime) * 1_000_000_000, offset)
    if kind in _REGULAR:
        if kind == b"\0" and name.endswith(b"/"):  # the seventh edition had no type for directories
            entry.mode |= stat.S_IFDIR
        else:
            entry.mode |= stat.S_IFREG
        entry.size = number(size)
        if not 0 <= entry.size < MAX_SIZE:
            raise LayerError(f"the tar is damaged: {show(name)} has {entry.size} bytes")
        return entry, entry.size
    if kind not in _TYPES:
        raise LayerError(f"{show(name)} is of a type that no layer may have: {kind!r}")
    entry.mode |= _TYPES[kind]
    if kind in b"12":
        entry.link = link.partition(b"\0")[0]
    elif kind in b"34":
        entry.rdev = _device(number(major), number(minor), name)
    return entry, 0


def _verify(header: bytes) -> bool:
    """Whether the checksum is right, reckoned in full: of unsigned bytes or, as Sun's tar did, of signed ones."""
    rest = header[:148] + b" " * 8 + header[156:]
    return number(header[148:156]) in (sum(rest), sum(byte - 256 if byte > 127 else byte for byte in rest))


def _device(major: int, minor: int, name: bytes) -> int:
    """dev_t as Linux encodes it in 32 bits (new_encode_dev), whatever the host: 12 bits of major number, 20 of minor."""
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise LayerError(f"{show(name)} is a device with impossible numbers {major}:{minor}")
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _read_extension(fd: int, header: bytes, position: int, end: int, extensions: _Extensions) -> int:
    """Takes in a pax header or a GNU long name; where the next header is."""
    kind, size = header[156:157], number(header[124:136])
    if not _verify(header):
        raise LayerError(f"the tar is damaged: a header with a wrong checksum at byte {position - BLOCK}")
    if not 0 <= size <= end - position or (size > MAX_EXTENSION and kind != b"g"):
        raise LayerError(f"the tar has an extension header of {size} bytes at byte {position - BLOCK}")
    if kind == b"x":
        extensions.pax = pax_records(os.pread(fd, size, position))
    elif kind == b"L":
        extensions.name = os.pread(fd, size, position).partition(b"\0")[0]
    elif kind == b"K":
        extensions.link = os.pread(fd, size, position).partition(b"\0")[0]
    return position + size + -size % BLOCK


def _parse_extended(fd: int, header: bytes, position: int, extensions: _Extensions) -> tuple[Entry, int]:
    """The entry of a header and of the extensions in front of it, and where its data ends."""
    entry, stored = _parse(header, position)
    kind = header[156:157]
    pax = dict(extensions.pax)
    stored = _apply_pax(entry, pax, stored)
    if extensions.name is not None:
        entry.name = extensions.name
    if extensions.link is not None and kind in b"12":
        entry.link = extensions.link
    if kind == b"\0":
        entry.mode = (stat.S_IFDIR if entry.name.endswith(b"/") else stat.S_IFREG) | entry.mode & 0o7777
    if b"\0" in entry.name or b"\0" in entry.link:
        raise LayerError(f"the tar is damaged: a NUL in the name or the target of {show(entry.name)}")
    sparse = None
    end = position + stored
    if kind == b"S":
        sparse = tar_sparse.read_old(fd, header, position)
        end = sparse.data + stored  # the map's own blocks do not count
    elif kind in _REGULAR and tar_sparse.is_sparse(pax):
        sparse = tar_sparse.read_pax(fd, extensions.pax, position, stored)
        if sparse.name is not None:
            entry.name = sparse.name
    if sparse:
        entry.size, entry.offset = sparse.size, sparse.data
        entry.segments = tar_sparse.segments(sparse, end)
    return entry, end


def _apply_pax(entry: Entry, pax: dict[bytes, bytes], stored: int) -> int:
    """What pax says instead of the header; an empty value leaves the header's. Returns the size of the data."""
    for key, value in pax.items():
        if key.startswith(_XATTR):
            entry.xattrs = entry.xattrs or {}
            entry.xattrs[key[len(_XATTR) :]] = value
        elif not value:
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath" and (stat.S_ISLNK(entry.mode) or not stat.S_IFMT(entry.mode)):
            entry.link = value
        elif key == b"uid":
            entry.uid = decimal(value)
        elif key == b"gid":
            entry.gid = decimal(value)
        elif key == b"mtime":
            entry.mtime_ns = seconds(value)
        elif key == b"size" and stat.S_ISREG(entry.mode):
            stored = entry.size = decimal(value)
            if stored >= MAX_SIZE:
                raise LayerError(f"the tar is damaged: {show(entry.name)} has {stored} bytes")
    return stored


def _refuse(entry: Entry) -> None:
    """Larger ids would wrap around, at worst to root's (CVE-2024-40635)."""
    if len(entry.name) > MAX_NAME:
        raise LayerError(f"the tar has a name of {len(entry.name)} bytes: {show(entry.name)}")
    if (entry.uid | entry.gid) >> 32:
        raise LayerError(f"{show(entry.name)} belongs to impossible ids {entry.uid}:{entry.gid}")
    raise LayerError(f"{show(entry.name)} has an impossible time, {entry.mtime_ns} ns")


def show(name: bytes) -> str:
    """A name for a message: printable, quoted, and cut where it is long."""
    return repr(os.fsdecode(name if len(name) <= 120 else name[:117] + b"..."))
