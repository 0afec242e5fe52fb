"""The reader of tar headers: every dialect as other programs write it, and hostile bytes."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LayerError
from engine.storage.tar import Entry, read_entries
from tests.support import layers

Read = Callable[[bytes], list[Entry]]


def read_all(tar: bytes) -> list[Entry]:
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(tar)
        file.flush()
        return list(read_entries(file.fileno()))


def read_one(*members: bytes) -> Entry:
    (entry,) = read_all(layers.archive(*members))
    return entry


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(dialect: int) -> None:
    long = dialect != tarfile.USTAR_FORMAT
    depth = 60 if long else 15
    name = "/".join(["directory"] * depth) + "/file"  # beyond the header's 100 bytes, in USTAR by its prefix
    target = "t" * (200 if long else 100)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect, encoding="utf-8", errors="surrogateescape") as tar:

        def add(name: str, kind: bytes, data: bytes = b"", **fields: Any) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.uid, info.gid, info.mtime = kind, len(data), 12, 34, 1_700_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add(name, tarfile.REGTYPE, b"x" * 600, mode=0o4755)
        add("l\udcffnk", tarfile.SYMTYPE, linkname=target, mode=0o777)
        add("hard", tarfile.LNKTYPE, linkname="target")
        add("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("disk", tarfile.BLKTYPE, devmajor=259, devminor=1048575)
        add("fifo", tarfile.FIFOTYPE)
        add("dir", tarfile.DIRTYPE, mode=0o1777)
    file, link, hard, null, disk, fifo, directory = read_all(buffer.getvalue())
    assert (file.name, file.mode, file.size) == (name.encode(), stat.S_IFREG | 0o4755, 600)
    assert (file.uid, file.gid, file.mtime_ns) == (12, 34, 1_700_000_000 * 10**9)
    assert buffer.getvalue()[file.offset : file.offset + file.size] == b"x" * 600
    assert (link.name, link.link, link.mode) == (b"l\xffnk", target.encode(), stat.S_IFLNK | 0o777)
    assert (hard.name, hard.link, stat.S_IFMT(hard.mode)) == (b"hard", b"target", 0)
    assert (stat.S_ISCHR(null.mode), null.rdev) == (True, os.makedev(1, 3))
    assert (stat.S_ISBLK(disk.mode), disk.rdev) == (True, os.makedev(259, 1048575))
    assert stat.S_ISFIFO(fifo.mode)
    assert (directory.name.rstrip(b"/"), directory.mode) == (b"dir", stat.S_IFDIR | 0o1777)


def test_sizes_over_8_gib_and_negative_times_in_base_256(tmp_path: Path) -> None:
    path = tmp_path / "big.tar"
    size = 9 * 2**30 + 5
    with path.open("wb") as file:  # a sparse file: the 9 GiB are never written
        file.write(layers.header("big", size=size, mtime=-5))
        file.seek(512 + size + -size % 512)
        file.write(layers.archive(layers.file("after", b"after")))
    with path.open("rb") as file:
        big, after = read_entries(file.fileno())
    assert (big.size, big.mtime_ns) == (size, -5 * 10**9)
    assert after.name == b"after"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1350244992.023960108", 1350244992023960108),
        ("-1.5", -1_500_000_000),
        ("7", 7_000_000_000),
        ("7.", 7_000_000_000),
        ("0.1234567899", 123456789),
    ],
)
def test_pax_times(text: str, nanoseconds: int) -> None:
    assert read_one(layers.file("x", pax_records=[("mtime", text)])).mtime_ns == nanoseconds


def test_pax_says_more_than_the_header() -> None:
    records: list[tuple[str | bytes, str | bytes]] = [
        ("path", "päth/of\nlines"),
        ("uid", "3000000000"),
        ("gid", "4000000000"),
        ("size", "3"),
        (b"SCHILY.xattr.security.capability", b"\1\0\0\2=\n\0\0"),
        ("SCHILY.xattr.user.empty", ""),
        ("comment", "ignored"),
        ("mtime", ""),  # an empty value leaves the header's
    ]
    entry = read_one(layers.pax(records) + layers.header("short", size=0, mtime=77) + layers.padded(b"abc"))
    assert (entry.name, entry.uid, entry.gid, entry.size) == ("päth/of\nlines".encode(), 3000000000, 4000000000, 3)
    assert entry.mtime_ns == 77 * 10**9
    assert entry.xattrs == {b"security.capability": b"\1\0\0\2=\n\0\0", b"user.empty": b""}


def test_extensions_are_for_the_next_member_only() -> None:
    tar = layers.archive(
        layers.pax([("path", "global"), ("uid", "5")], b"g"),  # ignored, as by Docker
        layers.file("one", pax_records=[("uid", "7")]),
        layers.header("././@LongLink", b"L", 4) + layers.padded(b"two\0") + layers.file("cut"),
        layers.file("three"),
    )
    assert [(e.name, e.uid) for e in read_all(tar)] == [(b"one", 7), (b"two", 0), (b"three", 0)]


def test_old_dialects() -> None:
    seventh_edition = layers.header("dir/", b"\0", magic=b"")
    assert stat.S_ISDIR(read_one(seventh_edition).mode)
    assert stat.S_ISREG(read_one(layers.header("dir/", b"0")).mode)  # with a type, the type counts
    # star has a prefix of 131 bytes, then two times, and a magic of its own at the end
    star = layers.header(
        "name", tail=b"prefix".ljust(131, b"\0") + b"00000000001 00000000002 ".ljust(32, b"\0") + b"tar\0"
    )
    assert read_one(star).name == b"prefix/name"
    # GNU's header has times where the prefix would be
    assert read_one(layers.header("name", magic=b"ustar  \0", prefix=b"07777777777")).name == b"name"
    blanks = bytearray(layers.header("blank"))
    blanks[100:108], blanks[108:116] = b"   644 \0", b" " * 8
    entry = read_one(layers.with_checksum(bytes(blanks)))
    assert (entry.mode & 0o7777, entry.uid) == (0o644, 0)


def test_signed_checksums() -> None:
    raw = layers.header(b"\xff\xfe")
    signed = sum(b - 256 if b > 127 else b for b in raw[:148] + b" " * 8 + raw[156:])
    assert read_one(raw[:148] + b"%06o\0 " % signed + raw[156:]).name == b"\xff\xfe"


def test_the_end_may_be_missing_but_not_a_part() -> None:
    whole = layers.file("one", b"x" * 700)
    assert [e.name for e in read_all(whole)] == [b"one"]
    assert read_all(b"") == []
    assert read_all(bytes(512)) == []
    assert [e.name for e in read_all(layers.archive(whole) + b"whatever follows")] == [b"one"]


@pytest.mark.requires("linux", "program:tar")
@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: str) -> None:
    pieces = [(0, b"begin"), (1 << 20, b"x" * 5000), (3 << 20, b"middle"), (7 << 20, b"y" * 4096)] + [
        ((8 << 20) + i * 65536, b"%d" % i)
        for i in range(40)  # more than the header and one extension block hold
    ]
    size = 64 << 20
    with (tmp_path / "sparse").open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    kind = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    subprocess.run(["tar", "-cSf", "x.tar", *kind, "sparse"], cwd=tmp_path, check=True)
    with (tmp_path / "x.tar").open("rb") as file:
        (entry,) = read_entries(file.fileno())
        assert entry.segments is not None
        content = bytearray(size)
        for offset, length, position in entry.segments:
            content[offset : offset + length] = os.pread(file.fileno(), length, position)
    assert (entry.name, entry.size) == (b"sparse", size)
    assert bytes(content) == (tmp_path / "sparse").read_bytes()
    assert (tmp_path / "x.tar").stat().st_size < 1 << 20


def sparse_1_0(numbers: bytes, data: bytes, size: int = 1024) -> bytes:
    body = layers.padded(numbers) + data
    records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", str(size))]
    return layers.file("sparse", body, records)


HOSTILE = {
    "cut inside a header": layers.file("x")[:300],
    "cut inside data": layers.file("x", b"y" * 2000)[:1024],
    "a wrong checksum": layers.file("x").replace(b"x", b"y", 1),
    "letters for a size": layers.with_checksum(layers.header("x")[:124] + b"0000000000z\0" + layers.header("x")[136:]),
    "a digit of 8": layers.with_checksum(layers.header("x")[:124] + b"00000000008\0" + layers.header("x")[136:]),
    "a negative size": layers.header("x", size=-512),  # CVE-2025-8194: a loop for ever
    "a size of 2**94": layers.header("x", size=2**94),
    "a negative owner": layers.header("x", uid=-1),
    "an owner of 2**32": layers.header("x", gid=2**32),
    "one block of zeros": bytes(512) + layers.file("x"),
    "an unknown type": layers.header("x", b"V"),
    "an impossible device": layers.header("x", layers.CHAR, rdev=(4096, 0)),
    "an extension and nothing": layers.pax([("path", "x")]),
    "a long name that is too long": layers.header("x", b"L", 2 << 20) + bytes(2 << 20),
    "a name beyond PATH_MAX": layers.file("x", pax_records=[("path", "y" * 4096)]),
    "a NUL in a name": layers.file("x", pax_records=[("path", b"y\0z")]),
    "a pax record that is too long": layers.header("p", b"x", 10) + layers.padded(b"99 path=y\n") + layers.file("x"),
    "a pax record of length 0": layers.header("p", b"x", 10) + layers.padded(b"0 path=yy\n") + layers.file("x"),
    "a pax record without =": layers.header("p", b"x", 7) + layers.padded(b"7 path\n") + layers.file("x"),
    "a pax size that is negative": layers.file("x", pax_records=[("size", "-1")]),
    "a pax owner that is negative": layers.file("x", pax_records=[("uid", "-1")]),
    "a pax time that is none": layers.file("x", pax_records=[("mtime", "1.x")]),
    "a pax number without end": layers.file("x", pax_records=[("uid", "1" * 5000)]),
    "a sparse map beyond the file": sparse_1_0(b"1\n1000\n100\n", b"z" * 100),
    "a sparse map out of order": sparse_1_0(b"2\n512\n10\n0\n10\n", b"z" * 20),
    "a sparse map without data": sparse_1_0(b"1\n0\n1000\n", b"z"),
    "a sparse map that is cut off": sparse_1_0(b"2\n0\n10\n", b"z" * 10),
    "a sparse map of 2**60 pieces": sparse_1_0(b"1152921504606846976\n0\n1\n", b"z"),
    "a sparse file of 2**60 bytes": sparse_1_0(b"0\n", b"", 2**60),
    "a sparse format of the future": layers.file("x", pax_records=[("GNU.sparse.major", "2")]),
}


@pytest.mark.parametrize("tar", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_tars_are_refused(tar: bytes) -> None:
    with pytest.raises(LayerError):
        read_all(tar + bytes(1024) if len(tar) % 512 == 0 else tar)


@settings(max_examples=300)
@given(st.data())
def test_damage_raises_nothing_but_our_own_error(data: st.DataObject) -> None:
    good = layers.archive(
        layers.file("a", b"data", [("mtime", "1.5"), ("SCHILY.xattr.user.x", "y")]),
        layers.header("l", b"L", 3) + layers.padded(b"abc") + layers.symlink("b", "a"),
        sparse_1_0(b"1\n512\n10\n", b"0123456789"),
        layers.entry("null", layers.CHAR, rdev=(1, 3)),
    )
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(good) - 1))
        damaged[place] = data.draw(st.sampled_from((0, 0x20, 0x30, 0x37, 0x39, 0x80, 0xFF, 0x0A, 0x3D)))
    for place in range(0, len(good), 512):  # so that the damage is not found by its checksum
        block = bytes(damaged[place : place + 512])
        if good[place + 257 : place + 262] == b"ustar":
            damaged[place : place + 512] = layers.with_checksum(block)
    try:
        read_all(bytes(damaged))
    except LayerError:
        pass
