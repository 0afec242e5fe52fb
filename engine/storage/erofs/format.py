"""The on-disk structures of EROFS that an index uses, little-endian all of them.

    byte 0       boot block, unused
    byte 1024    superblock (128 bytes; its checksum covers the rest of the 512-byte block)
    byte 1536    device table, 128 bytes a layer
    then         inodes, each at a multiple of 32: the number of an inode (nid) is its place in the file / 32
    then         data blocks: directories, long symlinks, and what is copied of sparse files
    after all    nothing here: block numbers from `base` on count through the layers' tars, one behind the other

Source: Linux fs/erofs/erofs_fs.h; docs.kernel.org/filesystems/erofs.html.
"""

from __future__ import annotations

import os
import struct

from engine.errors import StoreError

MAGIC = 0xE0F5E1E2
SUPERBLOCK = 1024
DEVICES = 1536
SLOT = 32  # nid 1 is 32 bytes

# magic checksum feature_compat blkszbits sb_extslots root_nid inos build_time build_time_nsec blocks meta_blkaddr
# xattr_blkaddr uuid volume_name feature_incompat compression extra_devices devt_slotoff dirblkbits (padding)
SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHB37x")
COMPAT_CHECKSUM, COMPAT_MTIME = 1, 2
INCOMPAT_CHUNKED_FILE, INCOMPAT_DEVICE_TABLE = 4, 8

# tag blocks mapped_blkaddr (reserved)
DEVICE = struct.Struct("<64sII56x")

# i_format i_xattr_icount i_mode (reserved) i_size i_u i_ino i_uid i_gid i_mtime i_mtime_nsec i_nlink (reserved)
INODE = struct.Struct("<HHHHQIIIIqII16x")
EXTENDED = 1  # i_format: bit 0, the 64-byte inode; bits 1 to 3, where the data is
FLAT_PLAIN, FLAT_INLINE, CHUNK_BASED = 0 << 1, 2 << 1, 4 << 1
HOLE = 0xFFFFFFFF
MAX_CHUNK_BITS = 31  # above the block's

# nid nameoff file_type (reserved)
DIRENT = struct.Struct("<QHBB")

# h_name_filter h_shared_count (reserved)
XATTR_HEADER = struct.Struct("<IB7x")
# e_name_len e_name_index e_value_size
XATTR_ENTRY = struct.Struct("<BBH")
XATTR_PREFIXES = (  # the first that fits; the rest of the name is written out
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)


def crc32c(data: bytes, crc: int) -> int:
    """CRC-32C (Castagnoli) without the final inversion, as the kernel's crc32c(). For a few hundred bytes."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def read_root(path: str) -> tuple[int, int, int, int]:
    """(permission bits, uid, gid, mtime in ns) of an index's root directory. Raises StoreError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            root_nid = SUPER.unpack(os.pread(fd, SUPER.size, SUPERBLOCK))[5]
            inode = INODE.unpack(os.pread(fd, INODE.size, root_nid * SLOT))
        finally:
            os.close(fd)
    except (OSError, struct.error) as e:
        raise StoreError(f"cannot read the index {path}: {e}", "remove it; it is made again when it is needed") from e
    return inode[2] & 0o7777, inode[7], inode[8], inode[9] * 1_000_000_000 + inode[10]
