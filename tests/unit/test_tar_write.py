"""The tar writer, read by mini's own reader and by Python's."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.storage.tar import Entry, read_entries
from engine.storage.tar_write import TarWriter, header, member

NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))
KINDS = [0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, stat.S_IFIFO]


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(KINDS))
    size = draw(st.sampled_from([0, 1, 511, 512, 513])) if kind == stat.S_IFREG else 0
    entry = Entry(
        draw(NAMES),
        kind | draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, 2**32 - 1)),
        size,
        draw(st.integers(-(2**40), 2**40)) * draw(st.sampled_from([1, 1_000_000_000])),
        0,
    )
    if kind in (0, stat.S_IFLNK):
        entry.link = draw(NAMES)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry.rdev = os.makedev(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
    keys = st.binary(min_size=1, max_size=8).filter(lambda key: not {0, 61} & set(key))
    entry.xattrs = (
        draw(st.dictionaries(keys.map(lambda key: b"user." + key), st.binary(max_size=600), max_size=3)) or None
    )
    return entry


def fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__slots__ if name != "offset"}


@settings(max_examples=200)
@given(st.lists(entries(), max_size=5))
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[Entry]) -> None:
    path = tmp_path_factory.getbasetemp() / "written.tar"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    tar = TarWriter(fd)
    for entry in written:
        tar.add(entry, b"x" * entry.size)
    tar.close()
    read = list(read_entries(fd))
    os.close(fd)
    assert [fields(e) for e in read] == [fields(e) for e in written]
    assert all(path.read_bytes()[e.offset : e.offset + e.size] == b"x" * e.size for e in read)


def test_python_reads_it_too() -> None:
    entry = Entry(b"d" * 120 + b"/file", stat.S_IFREG | 0o4755, 3_000_000, 7, 5, 1_700_000_000_123_456_789, 0)
    entry.xattrs = {b"security.capability": b"\1\0\0\2\n=\xff"}
    raw = header(entry) + b"hello" + bytes(507) + header(member("plain/", 0)) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        read, plain = tar.getmembers()
        assert (read.name, read.mode, read.uid, read.size) == ("d" * 120 + "/file", 0o4755, 3_000_000, 5)
        assert float(read.pax_headers["mtime"]) == pytest.approx(1_700_000_000.123456789)
        extracted = tar.extractfile(read)
        assert extracted is not None and extracted.read() == b"hello"
        assert plain.isdir() and plain.name == "plain" and plain.mode == 0o755


def test_sizes_that_no_header_holds() -> None:
    raw = header(member("large", 9 << 30)) + bytes(512)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        first = tar.next()
        assert first is not None and first.size == 9 << 30


def test_a_file_that_shrinks_is_filled_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    source = os.open(tmp_path / "short", os.O_RDONLY)
    target = os.open(tmp_path / "tar", os.O_RDWR | os.O_CREAT)
    tar = TarWriter(target)
    tar.add_file(member("short", 3 << 20), source)
    tar.add_file(member("after", 2), source)
    tar.close()
    os.close(source)
    os.close(target)
    with tarfile.open(tmp_path / "tar") as read:
        contents = [extracted.read() for m in read.getmembers() if (extracted := read.extractfile(m))]
    assert contents == [b"abc" + bytes((3 << 20) - 3), b"ab"]


def test_without_its_end_an_archive_is_seen_to_be_broken(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "tar", os.O_RDWR | os.O_CREAT)
    tar = TarWriter(fd)
    tar.add(member("a", 1 << 20), b"x" * (1 << 20))
    os.ftruncate(fd, 1 << 19)
    with pytest.raises(Exception, match="the tar ends inside"):
        list(read_entries(fd))
    os.close(fd)
