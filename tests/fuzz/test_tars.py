"""Layers: tar headers, pax records, sparse maps, and the tree that they make; and what they are compressed in."""

from __future__ import annotations

import gzip
import io
import os
import tempfile

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LayerError
from engine.images.compression import EXPANDED_CHUNK, decompressed
from engine.storage.tar import MAX_NAME, read_entries
from engine.storage.tar_fields import decimal, number, pax_records, seconds
from engine.storage.tree import Tree
from tests.fuzz.mutation import FUZZ, mutated
from tests.support import layers

NAMES = st.one_of(
    st.sampled_from(
        [b"a", b"a/b", b"./a/../b", b"/a", b"..", b"../../x", b"", b".", b"a//b/", b"\xff\xfe", b"x" * 150, b"y/" * 300, b"a\0b",
         b".wh.a", b".wh..wh..opq", b"a/.wh.b", b".wh.", b".wh..", b"a/.wh..wh.x"]
    ),
    st.binary(max_size=6),
)  # fmt: skip
KINDS = st.sampled_from(
    [b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"K", b"L", b"x", b"g", b"V", b"\xff"]
)
PAX_KEYS = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "hdrcharset",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.",
    "x",
]
SPARSE = ["major", "minor", "map", "numblocks", "realsize", "size", "name", "offset", "numbytes"]
PAX_VALUES = [
    "",
    "0",
    "1",
    "-1",
    "512",
    "1.5",
    "-1.25",
    "1e9",
    "a",
    "a/b",
    "ü",
    "9" * 19,
    "9" * 25,
    "0,5",
    "0,5,10,5",
    "5,0,0,5",
]
PAX = st.lists(
    st.tuples(st.sampled_from([*PAX_KEYS, *(f"GNU.sparse.{k}" for k in SPARSE)]), st.sampled_from(PAX_VALUES)),
    max_size=4,
)
# Where the fields of a header lie that are not names: (offset, bytes).
FIELDS = [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (257, 8), (329, 8), (345, 155), (386, 126)]


@st.composite
def members(draw: st.DrawFn) -> bytes:
    """One member with whatever its fields can hold; its checksum is right, so that all of it is read."""
    kind, name = draw(KINDS), draw(NAMES)
    data = draw(st.binary(max_size=40))
    raw = bytearray(
        layers.header(name[:100], kind, len(data), draw(st.integers(0, 0o7777)), link=draw(NAMES)[:100],
                      rdev=(draw(st.integers(0, 5000)), draw(st.integers(0, 5000))))
    )  # fmt: skip
    if draw(st.booleans()):
        at, width = draw(st.sampled_from(FIELDS))
        raw[at : at + width] = draw(st.binary(min_size=width, max_size=width))
    pax = layers.pax(draw(PAX), draw(st.sampled_from([b"x", b"g"]))) if draw(st.booleans()) else b""
    return pax + layers.with_checksum(bytes(raw)) + layers.padded(data)


ARCHIVES = st.lists(members(), max_size=5).map(lambda found: layers.archive(*found))


@FUZZ
@given(st.one_of(ARCHIVES, mutated(ARCHIVES), st.binary(max_size=2000)))
def test_tars_and_the_trees_that_they_make(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        tree = Tree()
        try:
            entries = list(read_entries(file.fileno()))
            for entry in entries:
                assert len(entry.name) <= MAX_NAME and b"\0" not in entry.name + entry.link
                assert 0 <= entry.uid < 1 << 32 and 0 <= entry.gid < 1 << 32 and 0 <= entry.size < 1 << 62
                assert entry.segments is not None or not entry.size or entry.offset + entry.size <= len(data)
                for start, length, offset in entry.segments or ():
                    assert start >= 0 and start + length <= entry.size and offset + length <= len(data)
            tree.apply(entries)
        except LayerError as e:
            assert len(e.message) < 1000


@FUZZ
@given(st.one_of(mutated(PAX.map(lambda r: layers.pax(r)[512:].rstrip(b"\0"))), st.binary(max_size=60)))
def test_pax_records(data: bytes) -> None:
    try:
        records = pax_records(data)
    except LayerError:
        return
    assert sum(len(key) + len(value) for key, value in records) < len(data) or not data


@FUZZ
@given(st.one_of(st.binary(max_size=24), st.from_regex(rb"\A-?[0-9]{0,22}\.?[0-9]{0,12}\Z")))
def test_numbers(field: bytes) -> None:
    for read in (number, decimal, seconds) if field else (decimal, seconds):
        try:
            assert isinstance(read(field), int)
        except LayerError:
            pass


CONTENT = st.one_of(st.binary(max_size=300), st.just(bytes(100_000)))
COMPRESSED = st.one_of(
    st.lists(CONTENT.map(gzip.compress), min_size=1, max_size=3).map(b"".join),
    st.lists(CONTENT.map(zstandard.ZstdCompressor().compress), min_size=1, max_size=3).map(b"".join),
    st.just(b"\x50\x2a\x4d\x18\x04\0\0\0meta"),
)


@FUZZ
@given(mutated(COMPRESSED), st.integers(1, 50))
def test_compressed_streams(data: bytes, piece: int) -> None:
    source = io.BytesIO(data)

    class Stream:
        def read(self, size: int = 1 << 18) -> bytes:
            return source.read(min(size, piece) if len(data) < 5000 else size)

    try:
        for chunk in decompressed(Stream(), "layer"):
            assert 0 < len(chunk) <= EXPANDED_CHUNK
    except LayerError as e:
        assert e.message.startswith("layer is damaged")


def test_the_fuzz_reaches_what_it_should() -> None:
    """A test of the test: a plain archive is read to its end."""
    with tempfile.TemporaryFile() as file:
        file.write(layers.archive(layers.file("a", b"x", [("mtime", "1.5")]), layers.directory("d")))
        file.flush()
        assert [e.name for e in read_entries(file.fileno())] == [b"a", b"d"]
        assert os.fstat(file.fileno()).st_size % 512 == 0
