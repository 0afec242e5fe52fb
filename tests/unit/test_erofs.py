"""The EROFS writer, read back by a reader of the tests' own and by erofs-utils; no kernel involved."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LayerError
from engine.paths import Paths
from engine.storage.drivers import ErofsDriver
from engine.storage.erofs import writer
from engine.storage.erofs.chunks import Chunks
from engine.storage.erofs.format import crc32c
from engine.storage.tree import Tree, apply_layer
from tests.support import erofs, layers
from tests.support.layers import archive, directory, file, hard_link, symlink, whiteout


@pytest.fixture
def driver(tmp_path: Path) -> ErofsDriver:
    return ErofsDriver(Paths(str(tmp_path / "root")))


def index(driver: ErofsDriver, *stack: bytes) -> erofs.Image:
    diff_ids = layers.store(driver, stack)
    driver.prepare(diff_ids)
    (name,) = os.listdir(driver.paths.indexes)
    return erofs.Image(f"{driver.paths.indexes}/{name}", [driver.paths.layer(diff_id) for diff_id in diff_ids])


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_everything_an_inode_can_say(driver: ErofsDriver) -> None:
    capability = b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    records: list[tuple[str | bytes, str | bytes]] = [
        ("SCHILY.xattr.user.b", "2"),
        ("SCHILY.xattr.user.a", ""),
        (b"SCHILY.xattr.security.capability", capability),
    ]
    found = index(
        driver,
        archive(
            directory(".", mode=0o1755, uid=1, gid=2, mtime=3),
            file("ping", b"p" * 1000, [*records, ("mtime", "-1.25")], mode=0o4755, uid=2**32 - 2, gid=70000),
            hard_link("also", "ping"),
            symlink("short", "ping", uid=9),
            symlink("long", "x" * 1500),
            symlink("block", "y" * 512),
            layers.entry("null", layers.CHAR, rdev=(1, 3), mode=0o666),
            layers.entry("disk", layers.BLOCK, rdev=(259, 1000000), mode=0o660),
            layers.entry("fifo", layers.FIFO, [("SCHILY.xattr.trusted.x", "y")], mode=0o600),
            file("empty"),
            directory("dir", [("SCHILY.xattr.user.d", "d")]),
        ),
    ).scan()  # fmt: skip
    plain: dict[str, Any] = {"owner": (0, 0), "mtime": 0, "xattrs": {}}
    one = plain | {"nlink": 1}
    ping = {
        "mode": "0o104755", "owner": (2**32 - 2, 70000), "mtime": -1_250_000_000, "nlink": 2, "size": 1000,
        "sha256": sha(b"p" * 1000), "xattrs": {"user.a": b"", "user.b": b"2", "security.capability": capability},
    }  # fmt: skip
    assert found == {
        b".": {"mode": "0o41755", "owner": (1, 2), "mtime": 3 * 10**9, "xattrs": {}},
        b"ping": ping,
        b"also": ping,
        b"short": one | {"mode": "0o120777", "owner": (9, 0), "target": b"ping"},
        b"long": one | {"mode": "0o120777", "target": b"x" * 1500},
        b"block": one | {"mode": "0o120777", "target": b"y" * 512},
        b"null": one | {"mode": "0o20666", "rdev": (1, 3)},
        b"disk": one | {"mode": "0o60660", "rdev": (259, 1000000)},
        b"fifo": one | {"mode": "0o10600", "rdev": (0, 0), "xattrs": {"trusted.x": b"y"}},
        b"empty": one | {"mode": "0o100644", "size": 0, "sha256": sha(b"")},
        b"dir": plain | {"mode": "0o40755", "xattrs": {"user.d": b"d"}},
    }


def test_data_of_several_layers(driver: ErofsDriver) -> None:
    contents = {b"a": b"A" * 513, b"b": b"B" * 5000, b"c": b"C"}
    stack = [
        archive(file("a", b"old"), file("b", contents[b"b"]), file("gone", b"g")),
        archive(file("a", contents[b"a"]), whiteout("gone")),
        archive(),
        archive(file("c", contents[b"c"])),
    ]
    found = index(driver, *stack).scan()
    assert {path: about["sha256"] for path, about in found.items() if path != b"."} == {
        name: sha(data) for name, data in contents.items()
    }


@pytest.mark.parametrize("count", [0, 1, 30, 3000])
def test_directories_of_every_size(driver: ErofsDriver, count: int) -> None:
    """Names before and after `.` and `..` in the order of bytes, blocks that are just full, tails that just fit."""
    names = [b"%d-%s" % (number, b"n" * (number * 7 % 240)) for number in range(count)]
    names += [b"!", b"-x", b".hidden", b"..x", b"\x01", b"\xff", b"/".join([b"sub"] * 50)]
    found = index(driver, archive(*(file(name) for name in names))).scan()
    expected = {b"/".join([b"sub"] * depth) for depth in range(1, 50)}
    assert set(found) == {b"."} | set(names) | expected


def test_tails_never_cross_a_block(driver: ErofsDriver) -> None:
    members = [symlink(f"{length:04}", "t" * length) for length in range(1, 1100)]
    found = index(driver, archive(*members)).scan()
    assert all(len(found[b"%04d" % length]["target"]) == length for length in range(1, 1100))


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (ErofsDriver(Paths(str(tmp_path / name))) for name in ("one", "two"))
    stack = [archive(file("b", b"1"), file("a", b"", [("SCHILY.xattr.user.x", "y")])), archive(file("c"))]
    one, two = index(first, *stack), index(second, *stack)
    assert one.raw == two.raw
    assert (one.time, one.inodes, len(one.raw)) == (0, 4, one.blocks * one.block)
    diff_ids = ["sha256:" + sha(layer) for layer in stack]
    assert one.uuid.hex() == sha(f"{diff_ids[0]} {diff_ids[1]}".encode())[:32]


def test_the_checksum(driver: ErofsDriver) -> None:
    assert crc32c(b"123456789", 0xFFFFFFFF) ^ 0xFFFFFFFF == 0xE3069283  # the check value of CRC-32C
    image = index(driver, archive(file("x")))
    raw = image.raw
    assert image.compat & 1
    assert crc32c(raw[1024:1028] + bytes(4) + raw[1032:1536], 0xFFFFFFFF) == image.checksum


def sparse_file(segments: list[tuple[int, bytes]], size: int) -> bytes:
    """A member in GNU's pax format 0.1: offsets of any kind."""
    numbers = ",".join(f"{offset},{len(data)}" for offset, data in segments)
    records = [("GNU.sparse.map", numbers), ("GNU.sparse.size", str(size)), ("GNU.sparse.name", "sparse")]
    return file("stored", b"".join(data for _, data in segments), records)


@pytest.mark.parametrize(
    ("segments", "size"),
    [
        ([], 1 << 20),
        ([(0, b"x" * 4096), (8192, b"y" * 512), (65536, b"z" * 300)], 65836),  # all at blocks: points into the tar
        ([(512, b"x" * 512)], 1024),
        ([(1, b"x")], 3),
        ([(0, b"a" * 100), (5000, b"b" * 700), (5700, b"c"), (200_000, b"d" * 9000)], 300_001),  # copied
        ([(4095, b"ab"), (12288, b"c")], 12289),
        ([(4096 * number, b"%04d" % number) for number in range(200)], 4096 * 200),
    ],
)
def test_sparse_files(driver: ErofsDriver, segments: list[tuple[int, bytes]], size: int) -> None:
    image = index(driver, archive(file("before", b"b"), sparse_file(segments, size), file("after", b"a")))
    content = bytearray(size)
    for offset, data in segments:
        content[offset : offset + len(data)] = data
    found = image.scan()
    assert (found[b"sparse"]["size"], found[b"sparse"]["sha256"]) == (size, sha(bytes(content)))
    assert (found[b"before"]["sha256"], found[b"after"]["sha256"]) == (sha(b"b"), sha(b"a"))


def test_sparse_files_stay_small() -> None:
    holes = Chunks(1 << 44, [], 9)
    assert holes.count == 16  # a chunk has 2^31 blocks at most
    aligned = Chunks(1 << 40, [(1 << 39, 4096, 512)], 9)
    assert not aligned.copied or aligned.copied_blocks() * 512 <= 1 << 20
    odd = Chunks(1 << 43, [(12345, 1, 512)], 9)
    assert odd.copied and odd.count <= 1 << 22 and odd.copied_blocks() * 512 <= 8 << 20


def test_sparse_bombs_are_refused(driver: ErofsDriver) -> None:
    bombs = [sparse_file([((1 << 32) * number + 1, b"x") for number in range(3000)], 1 << 44)]
    diff_ids = layers.store(driver, [archive(*bombs)])
    with pytest.raises(LayerError, match="sparse files"):
        driver.prepare(diff_ids)
    assert not [name for name in os.listdir(driver.paths.indexes) if name.endswith(".tmp")]


def test_more_than_32_bits_of_blocks(driver: ErofsDriver) -> None:
    (diff_id,) = layers.store(driver, [archive(file("x", b"x"))])
    os.truncate(driver.paths.layer(diff_id), 1 << 41)  # 2 TiB, a hole behind the end of the archive
    with pytest.raises(LayerError, match="index holds"):
        driver.prepare([diff_id])


PARTS = st.sampled_from(
    ["a", "b", "link", "..", ".", "", "/", ".wh.a", ".wh..wh..opq", ".wh..wh.plnk", "\xff", "n" * 255]
)
WILD = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from([layers.FILE, layers.LINK, layers.SYMLINK, layers.CHAR, layers.DIR, layers.FIFO])


@settings(max_examples=150)
@given(st.lists(st.lists(st.tuples(WILD, KINDS, WILD), max_size=6), max_size=3))
def test_whatever_is_accepted_can_be_written_and_read_back(stack: list[list[tuple[str, bytes, str]]]) -> None:
    """Wild names, links and types: our own error, or an image in which every directory is in order and every nid right."""
    tars = [archive(*(layers.entry(name, kind, link=link) for name, kind, link in members)) for members in stack]
    with tempfile.TemporaryDirectory() as place:
        driver = ErofsDriver(Paths(place))
        try:
            image = index(driver, *tars)
        except LayerError:
            return
        found = image.scan()
        tree = Tree()
        for tar in tars:
            apply_layer(tree, driver.paths.layer("sha256:" + sha(tar)))
        expected = {b"."}
        pending = [(b"", tree.root)]
        for prefix, node in pending:
            for name, child in (node.children or {}).items():
                expected.add(prefix + name)
                pending.append((prefix + name + b"/", child))
        assert set(found) == expected


@pytest.mark.requires("erofs-utils")
def test_fsck_and_dump_accept_it(driver: ErofsDriver, tmp_path: Path) -> None:
    """erofs-utils before 1.6 read blocks of 4096 bytes only: so this index has such blocks, and no data in a tar."""
    members = [
        directory("d"),
        symlink("s", "t" * 100),
        symlink("l", "t" * 4000),
        layers.entry("n", layers.CHAR, rdev=(1, 3)),
    ]
    members += [file(f"d/{number:050}", b"", [("SCHILY.xattr.user.x", "y" * (number % 99))]) for number in range(500)]
    members += [hard_link("h", "d/" + "0" * 50), layers.entry("fifo", layers.FIFO)]
    (diff_id,) = layers.store(driver, [archive(*members)])
    tree = Tree()
    apply_layer(tree, driver.paths.layer(diff_id))
    path = tmp_path / "x.erofs"
    path.touch()
    writer.Writer(tree.root, [], bytes(16), block_bits=12).write(str(path))
    raw = bytearray(path.read_bytes())
    covered = raw[1024:1028] + bytes(4) + raw[1032:4096]  # with such a block, the checksum covers inodes too
    struct.pack_into("<I", raw, 1028, crc32c(bytes(covered), 0xFFFFFFFF))
    path.write_bytes(raw)
    checked = subprocess.run(["fsck.erofs", "--extract", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    dumped = subprocess.run(["dump.erofs", "-s", str(path)], capture_output=True, text=True)
    assert "Filesystem inode count:                       506" in dumped.stdout, dumped.stdout
    listed = subprocess.run(["dump.erofs", "--path=/l", str(path)], capture_output=True, text=True)
    assert "4000" in listed.stdout and "symlink file" in listed.stdout, listed.stdout
