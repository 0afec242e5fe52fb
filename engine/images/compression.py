"""Compression of layers and archives: gzip, zstd or none, in chunks of bounded size.

The first bytes tell which, not a media type or a file name, as in containerd. ISA-L and libzstd release the interpreter lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Protocol, cast

import zstandard
from isal import igzip_lib, isal_zlib

from engine.errors import LayerError

CHUNK = 256 << 10
EXPANDED_CHUNK = 1 << 20
# What is compressed may expand to this many bytes, or to this many times its size (CVE-2017-14992: bombs).
MAX_EXPANDED = 16 << 30
MAX_RATIO = 100
# zstd's window is the memory that decoding takes: what `zstd --long=27` needs, and its own default limit.
MAX_WINDOW = 128 << 20
# ISA-L's levels end at 3. Measured on Python's library, 53 MB: 33.0 % at 200 to 350 MB/s; zlib's level 6: 28.7 % at 21.
LEVEL = 2

# isal's type stubs call this class an instance.
_GzipError = cast(type[Exception], igzip_lib.error)
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Skippable frames (zstd format 3.1.2), which zstd:chunked and other formats put first.
_ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")


class Stream(Protocol):
    """Bytes to read: up to `size` at a time, b"" at the end."""

    def read(self, size: int = CHUNK, /) -> bytes: ...


def is_compressed(head: bytes) -> bool:
    """Whether the first four bytes are those of gzip or zstd."""
    return head.startswith((_GZIP_MAGIC, _ZSTD_MAGIC)) or bool(_ZSTD_SKIPPABLE.match(head))


def decompressed(stream: Stream, name: str) -> Iterator[bytes]:
    """What is in the stream, in chunks of bounded size. `name` is for errors: LayerError where it is damaged."""
    head = stream.read()
    while head and len(head) < 4:
        more = stream.read()
        if not more:
            break
        head += more
    if head.startswith(_GZIP_MAGIC):
        yield from _gunzip(head, stream, name)
    elif is_compressed(head):
        yield from _unzstd(head, stream, name)
    else:
        while head:
            yield head
            head = stream.read()


def _gunzip(data: bytes, stream: Stream, name: str) -> Iterator[bytes]:
    """Any number of gzip members (RFC 1952 2.2); zero bytes after the last one are padding."""
    member = _member()
    while True:
        try:
            out = member.decompress(data, EXPANDED_CHUNK)
        except _GzipError as e:
            raise LayerError(f"{name} is damaged: {e}") from e
        if out:
            yield out
        data = b""
        if member.eof:
            data = member.unused_data.lstrip(b"\0") or _first_beyond_zeros(stream)
            if not data:
                return
            member = _member()
        elif member.needs_input:
            data = stream.read()
            if not data:
                raise LayerError(f"{name} is damaged: its gzip stream is cut off")


def _member() -> igzip_lib.IgzipDecompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _first_beyond_zeros(stream: Stream) -> bytes:
    while data := stream.read():
        if data := data.lstrip(b"\0"):
            return data
    return b""


def _unzstd(head: bytes, stream: Stream, name: str) -> Iterator[bytes]:
    """Any number of zstd frames, skippable ones among them (RFC 8878)."""
    source = _Prefixed(head, stream)
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    reader = decoder.stream_reader(cast(IO[bytes], source), read_size=CHUNK, read_across_frames=True)
    while True:
        try:
            chunk = reader.read(EXPANDED_CHUNK)
        except zstandard.ZstdError as e:
            raise LayerError(f"{name} is damaged: {e}") from e
        if not chunk:
            return
        yield chunk


class _Prefixed:
    """A stream with the bytes put back that were read to look at them."""

    def __init__(self, head: bytes, stream: Stream) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


def deflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One gzip member without name and time. The same pieces give the same bytes: ISA-L's output depends on where its
    input is cut."""
    stream = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)
    for piece in pieces:
        if out := stream.compress(piece):
            yield out
    yield stream.flush()
