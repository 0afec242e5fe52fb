"""One layer, from the registry into a sink: received, verified, decompressed, in one pass and in flat memory.

    registry ─→ BlobStream (size, sha256, resume) ─→ decompressed (gzip, zstd, tar) ─→ sink (DiffID, disk)

Nothing is kept that is not verified: the sink's commit comes after the last byte of the blob was hashed and compared,
and the sink itself compares the DiffID. Receiving, hashing, inflating and writing release the interpreter lock, so that
layers side by side use all cores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

import requests

from engine.errors import IntegrityError, LayerError, RegistryError, RegistryUnreachable
from engine.images.compression import CHUNK, MAX_EXPANDED, MAX_RATIO, decompressed
from engine.images.registry import Registry
from engine.images.transport import READ_ERRORS, Interrupted, origin, unreachable
from engine.oci.image import Descriptor

# Attempts without one new byte in between; a connection that brings some is as good as new.
MAX_FRUITLESS = 5


class Sink(Protocol):
    """Where a layer's uncompressed bytes go: storage's LayerSink. `commit` verifies the DiffID, then makes it visible."""

    def write(self, data: bytes, /) -> object: ...
    def commit(self) -> object: ...


def fetch_layer(registry: Registry, layer: Descriptor, sink: Sink, on_bytes: Callable[[int], None]) -> int:
    """Brings one layer into `sink` and commits it. Returns the uncompressed size in bytes.

    `on_bytes` is told the compressed bytes as they come in. Raises IntegrityError, LayerError, the registry's errors,
    and Interrupted once `registry.transport.stop` is set; the caller then aborts the sink.
    """
    limit = max(MAX_EXPANDED, MAX_RATIO * layer.size)
    total = 0
    with BlobStream(registry, layer, on_bytes) as stream:
        for chunk in decompressed(stream, f"layer {layer.short_id}"):
            total += len(chunk)
            if total > limit:
                raise LayerError(f"layer {layer.short_id} expands to more than {limit} bytes from {layer.size}")
            sink.write(chunk)
        stream.finish()
    sink.commit()
    return total


class BlobStream:
    """A blob's verified bytes, as a file to read. Where the connection breaks, it goes on by Range at the same byte."""

    def __init__(self, registry: Registry, blob: Descriptor, on_bytes: Callable[[int], None]) -> None:
        self._registry = registry
        self._blob = blob
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()
        self._position = 0
        self._fruitless = 0
        self._response: requests.Response | None = None
        self._verified = False

    def read(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes, b"" at the end, which is reached only if size and digest are right.

        Raises IntegrityError where they are not, RegistryUnreachable where the connection cannot be kept.
        """
        while self._position < self._blob.size:
            data = self._receive(size)
            if data:
                self._hash.update(data)
                self._position += len(data)
                self._fruitless = 0
                self._on_bytes(len(data))
                return data
        self._verify()
        return b""

    def finish(self) -> None:
        """Reads what a decompressor left, so that the whole blob is verified."""
        while self.read():
            pass

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def __enter__(self) -> BlobStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _receive(self, size: int) -> bytes:
        """The next bytes, or b"" where the connection broke and a new one is to be tried."""
        if self._registry.transport.stop.is_set():
            raise Interrupted
        if self._response is None:
            self._response = self._open()
        wanted = min(size, self._blob.size - self._position)
        url = self._response.url
        try:
            # read1 gives what is there; read would wait for all, and lose it where the connection breaks.
            data: bytes = self._response.raw.read1(wanted, decode_content=False)
            broken = None if data else unreachable(url, ConnectionResetError())
        except READ_ERRORS as e:
            data, broken = b"", unreachable(url, e)
        if broken:
            self._retry(broken)
        return data

    def _open(self) -> requests.Response:
        response = self._registry.open_blob(self._blob, self._position)
        try:
            if response.status_code == 206:
                self._check_range(response)
            self._check_length(response)
            if response.status_code != 206 and self._position:
                self._skip(response)
        except BaseException:
            response.close()
            raise
        return response

    def _check_range(self, response: requests.Response) -> None:
        expected = f"bytes {self._position}-"
        given = response.headers.get("Content-Range", "")
        if not given.startswith(expected):
            raise RegistryError(f"{origin(response.url)} sends Content-Range {given!r} where {expected} was asked for")

    def _check_length(self, response: requests.Response) -> None:
        """Finds a wrong size before it is downloaded. Nothing beyond the right size is ever read."""
        given = response.headers.get("Content-Length", "")
        left = self._blob.size - (self._position if response.status_code == 206 else 0)
        # A 206 may bring less than was asked for: then the rest is asked for again.
        if given.isdigit() and (int(given) > left or (response.status_code == 200 and int(given) < left)):
            raise IntegrityError(
                f"blob {self._blob.digest} has {self._blob.size} bytes, but the registry sends {given} where {left} are left",
                _encoding_hint(response),
            )

    def _skip(self, response: requests.Response) -> None:
        """The server does not do ranges: reads past what is there already."""
        left = self._position
        while left:
            try:
                data = response.raw.read(min(CHUNK, left), decode_content=False)
            except READ_ERRORS as e:
                raise unreachable(response.url, e) from e
            if not data:
                raise unreachable(response.url, ConnectionResetError())
            left -= len(data)

    def _retry(self, error: RegistryUnreachable) -> None:
        self.close()
        self._fruitless += 1
        if self._fruitless >= MAX_FRUITLESS:
            raise error
        self._registry.transport.pause(self._fruitless, None)

    def _verify(self) -> None:
        if self._verified:
            return
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._blob.digest:
            raise IntegrityError(
                f"blob {self._blob.digest} is not what was promised: its content is {found}",
                _encoding_hint(self._response),
            )
        self._verified = True


def _encoding_hint(response: requests.Response | None) -> str | None:
    encoding = response.headers.get("Content-Encoding", "") if response is not None else ""
    return f"the registry or a proxy encoded it on the way (Content-Encoding: {encoding})" if encoding else None
