"""A layer on its way: what arrives is verified, what breaks is resumed, and what is wrong leaves nothing."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from engine.errors import IntegrityError, LayerError, MiniError, RegistryError, RegistryUnreachable
from engine.images import compression, download
from engine.images.download import BlobStream, fetch_layer
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Interrupted, Transport
from engine.oci.image import Descriptor
from engine.paths import Paths
from engine.storage.layers import LayerSink
from tests.support.push import digest_of
from tests.support.registry import FakeRegistry, cut, encode, passing, replace, status

TAR = random.Random(1).randbytes(700_000) + bytes(300_000)


class Bench:
    """A registry, a client of it, and a place for layers."""

    def __init__(self, fake: FakeRegistry, root: Path) -> None:
        self.fake = fake
        self.paths = Paths(str(root))
        self.registry = Registry(Reference.parse(f"{fake.address}/a/b"), {}, Transport({}, backoff=0.001))
        self.seen = 0

    def descriptor(self, blob: bytes) -> Descriptor:
        self.fake.blob("a/b", blob)
        return Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(blob), len(blob))

    def fetch(self, layer: Descriptor, tar: bytes = TAR) -> int:
        """Fetches a layer that should be `tar`; returns the uncompressed size."""
        with LayerSink(self.paths, digest_of(tar)) as sink:
            return fetch_layer(self.registry, layer, sink, self._count)

    def _count(self, count: int) -> None:
        self.seen += count

    def stored(self, tar: bytes = TAR) -> bytes:
        with open(self.paths.layer(digest_of(tar)), "rb") as file:
            return file.read()

    def files(self) -> list[str]:
        return [f for _, _, files in os.walk(self.paths.root) for f in files]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakeRegistry() as fake:
        made = Bench(fake, tmp_path)
        yield made
        made.registry.close()


def members(*parts: bytes) -> bytes:
    return b"".join(gzip.compress(p, 1) for p in parts)


def frames(*parts: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(p) for p in parts)


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(TAR, id="tar"),
        pytest.param(members(TAR), id="gzip"),
        pytest.param(members(TAR[:5], TAR[5:400_000], b"", TAR[400_000:]), id="gzip-members"),
        pytest.param(members(TAR) + bytes(100_000), id="gzip-padded"),
        pytest.param(frames(TAR), id="zstd"),
        pytest.param(frames(TAR[:300_000], TAR[300_000:]), id="zstd-frames"),
        pytest.param(
            b"\x50\x2a\x4d\x18\x04\0\0\0meta" + frames(TAR) + b"\x5f\x2a\x4d\x18\0\0\0\0", id="zstd-skippable-frames"
        ),
    ],
)
def test_every_compression(bench: Bench, blob: bytes) -> None:
    assert bench.fetch(bench.descriptor(blob)) == len(TAR)
    assert bench.stored() == TAR
    assert bench.seen == len(blob)


@pytest.mark.parametrize("blob", [b"", gzip.compress(b""), b"ab"])
def test_tiny_layers(bench: Bench, blob: bytes) -> None:
    tar = gzip.decompress(blob) if len(blob) > 2 else blob
    assert bench.fetch(bench.descriptor(blob), tar) == len(tar)


@pytest.mark.parametrize("polite", [True, False], ids=["closed", "reset"])
def test_a_broken_connection_is_resumed_at_the_byte(bench: Bench, polite: bool) -> None:
    blob = members(TAR)
    bench.fake.fault("GET /v2/a/b/blobs", *[cut(after, polite) for after in (300_000, 1, 0, 0, 0, 200_000)])
    bench.fetch(bench.descriptor(blob))
    assert bench.stored() == TAR
    ranges = [int(h["Range"].removeprefix("bytes=").rstrip("-")) for h in bench.fake.asked("blobs") if "Range" in h]
    if polite:
        assert ranges == [300_000, 300_001, 300_001, 300_001, 300_001, 500_001]
    assert len(ranges) == 6 and ranges == sorted(
        ranges
    )  # what a reset leaves of the bytes under way is the kernel's choice
    assert bench.seen == len(blob)


def test_a_server_without_ranges_is_read_again_from_the_start(bench: Bench) -> None:
    bench.fake.honours_ranges = False
    bench.fake.fault("GET /v2/a/b/blobs", cut(300_000), cut(400_000))
    bench.fetch(bench.descriptor(members(TAR)))
    assert bench.stored() == TAR


def test_it_gives_up_when_nothing_comes_any_more(bench: Bench) -> None:
    bench.fake.fault("GET /v2/a/b/blobs", cut(300_000, polite=True), *[cut(0)] * 20)
    with pytest.raises(RegistryUnreachable):
        bench.fetch(bench.descriptor(members(TAR)))
    assert len(bench.fake.asked("blobs")) == download.MAX_FRUITLESS
    assert bench.files() == []


def test_the_wrong_range_is_refused(bench: Bench) -> None:
    wrong = status(206, {"Content-Range": "bytes 5-9/10"}, b"12345")
    bench.fake.fault("GET /v2/a/b/blobs", cut(300_000, polite=True), wrong)
    with pytest.raises(RegistryError, match="Content-Range"):
        bench.fetch(bench.descriptor(members(TAR)))
    assert bench.files() == []


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "wrong", [flipped(TAR), TAR + b"x", TAR + bytes(600_000), bytes(len(TAR))], ids=["bit", "byte", "long", "zero"]
)
def test_wrong_bytes_are_refused(bench: Bench, wrong: bytes) -> None:
    layer = bench.descriptor(TAR)
    bench.fake.fault("GET /v2/a/b/blobs", replace(wrong))
    with pytest.raises(IntegrityError, match=layer.digest):
        bench.fetch(layer)
    assert bench.files() == []


def test_a_short_body_that_claims_to_be_complete_is_refused(bench: Bench) -> None:
    bench.fake.fault("GET /v2/a/b/blobs", replace(TAR[:-1]))
    with pytest.raises(IntegrityError):
        bench.fetch(bench.descriptor(TAR))
    assert bench.files() == []


def test_a_declared_size_that_is_too_small_is_refused(bench: Bench) -> None:
    whole = bench.descriptor(TAR)
    with pytest.raises(IntegrityError):
        bench.fetch(Descriptor(whole.media_type, whole.digest, whole.size - 1))
    assert bench.files() == []


def test_a_blob_that_is_not_the_layer_of_the_config_is_refused(bench: Bench) -> None:
    """The compressed digest is right, the DiffID is not."""
    with pytest.raises(IntegrityError, match="DiffID"):
        bench.fetch(bench.descriptor(members(TAR)), tar=b"something else")
    assert bench.files() == []


def test_the_right_tar_in_the_wrong_blob_is_refused(bench: Bench) -> None:
    """Compressed otherwise, to the same size: the DiffID is right, the digest is not."""
    layer = bench.descriptor(members(TAR))
    other = bytearray(members(TAR))
    other[9] ^= 1  # the operating system in the gzip header
    bench.fake.fault("GET /v2/a/b/blobs", replace(bytes(other)))
    with pytest.raises(IntegrityError, match="is not what was promised"):
        bench.fetch(layer)
    assert bench.files() == []


def test_content_encoding_on_the_way_is_told(bench: Bench) -> None:
    """`requests` would decode this silently in iter_content, and any blob that merely carries the header."""
    bench.fake.fault("GET /v2/a/b/blobs", encode)
    with pytest.raises(IntegrityError) as error:
        bench.fetch(bench.descriptor(TAR))
    assert "Content-Encoding: gzip" in (error.value.hint or "")
    assert {h["Accept-Encoding"] for h in bench.fake.asked("blobs")} == {"identity"}
    assert bench.files() == []


def test_a_content_encoding_header_on_the_right_bytes_is_ignored(bench: Bench) -> None:
    blob = members(TAR)
    bench.fake.fault("GET /v2/a/b/blobs", replace(blob, {"Content-Encoding": "gzip"}))
    bench.fetch(bench.descriptor(blob))
    assert bench.stored() == TAR


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(members(TAR)[:-20], id="gzip-cut"),
        pytest.param(members(TAR)[:200_000] + bytes(1000) + members(TAR)[201_000:], id="gzip-damaged"),
        pytest.param(members(TAR) + b"garbage", id="gzip-trailing-garbage"),
        pytest.param(flipped(frames(TAR))[:-10] + bytes(10), id="zstd-damaged"),
        pytest.param(frames(TAR) + b"garbage", id="zstd-trailing-garbage"),
        pytest.param(frames(TAR)[:-500], id="zstd-cut"),
    ],
)
def test_damaged_layers_are_errors_of_ours(bench: Bench, blob: bytes) -> None:
    with pytest.raises((LayerError, IntegrityError)):
        bench.fetch(bench.descriptor(blob))
    assert bench.files() == []


@pytest.mark.parametrize("compress", [members, frames])
def test_a_bomb_is_stopped_while_it_expands(bench: Bench, compress: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2017-14992. The limit is lowered so that the test need not expand 16 GiB."""
    monkeypatch.setattr(download, "MAX_EXPANDED", 8 << 20)
    bomb = bytes(64 << 20)
    written = 0

    class Counting(LayerSink):
        def write(self, chunk: bytes | bytearray | memoryview) -> None:
            nonlocal written
            written += len(chunk)
            assert len(chunk) <= compression.EXPANDED_CHUNK
            super().write(chunk)

    layer = bench.descriptor(members(bomb) if compress is members else frames(bomb))
    with pytest.raises(LayerError, match="expands to more than"), Counting(bench.paths, digest_of(bomb)) as sink:
        fetch_layer(bench.registry, layer, sink, lambda _: None)
    assert 1 << 20 < written <= max(8 << 20, compression.MAX_RATIO * layer.size)
    assert bench.files() == []


def test_zstd_with_a_giant_window_is_refused(bench: Bench) -> None:
    """The window is memory that the decoder must have: 2 GiB here."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=31 if zstandard.WINDOWLOG_MAX >= 31 else 30, enable_ldm=False
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(LayerError):
        bench.fetch(bench.descriptor(compressor.compress(TAR) + compressor.flush()))


def test_an_interrupted_transport_ends_a_read_and_a_pause(bench: Bench) -> None:
    layer = bench.descriptor(TAR)
    stream = BlobStream(bench.registry, layer, lambda _: None)
    assert stream.read(10) == TAR[:10]
    bench.registry.transport.interrupt()
    with pytest.raises(Interrupted):
        stream.read(10)
    assert not issubclass(Interrupted, MiniError)
    stream.close()


def test_a_transient_refusal_is_asked_again(bench: Bench) -> None:
    bench.fake.fault("GET /v2/a/b/blobs", status(503), status(429, {"Retry-After": "0"}), passing)
    bench.fetch(bench.descriptor(TAR))
    assert len(bench.fake.asked("blobs")) == 3
