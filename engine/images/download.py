"""One layer, from the registry into a sink: received, verified, decompressed, in one pass and in flat memory.

    what an earlier pull has left ─┐
    registry ──────────────────────┴→ BlobStream (size, sha256, resume) ─→ decompressed (gzip, zstd, tar) ─→ sink (DiffID, disk)

Nothing is kept that is not verified: the sink's commit comes after the last byte of the blob was hashed and compared,
and the sink itself compares the DiffID. Receiving, hashing, inflating and writing release the interpreter lock, so that
layers side by side use all cores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

import requests

from engine.errors import IntegrityError, LayerError, RegistryError, RegistryUnreachable
from engine.images.compression import CHUNK, MAX_EXPANDED, MAX_RATIO, decompressed
from engine.images.registry import Registry
from engine.images.transport import READ_ERRORS, Interrupted, Patience, Transient, origin, unreachable
from engine.oci.image import Descriptor

# Attempts without one new byte in between; a connection that brings some is as good as new.
MAX_FRUITLESS = 5
# Connections in a row that are given up because they are too slow.
MAX_STALLS = 3


class Sink(Protocol):
    """Where a layer's uncompressed bytes go: storage's LayerSink. `commit` verifies the DiffID, then makes it visible."""

    def write(self, data: bytes, /) -> object: ...
    def commit(self) -> object: ...


class Kept(Protocol):
    """What has arrived of the blob so far, and outlives the process: storage's Partial."""

    size: int

    def read(self, position: int, size: int, /) -> bytes: ...
    def append(self, data: bytes, /) -> object: ...


def fetch_layer(
    registry: Registry, layer: Descriptor, sink: Sink, on_bytes: Callable[[int], None], kept: Kept | None = None
) -> int:
    """Brings one layer into `sink` and commits it. Returns the uncompressed size in bytes.

    `kept` holds the first bytes already, and gets what comes after them. `on_bytes` is told the compressed bytes as they come
    in. Raises IntegrityError, LayerError, the registry's errors, and Interrupted once `registry.transport.stop` is set; the
    caller then aborts the sink.
    """
    limit = max(MAX_EXPANDED, MAX_RATIO * layer.size)
    total = 0
    with BlobStream(registry, layer, on_bytes, kept) as stream:
        for chunk in _expanded(stream, f"layer {layer.short_id}"):
            total += len(chunk)
            if total > limit:
                raise LayerError(f"layer {layer.short_id} expands to more than {limit} bytes from {layer.size}")
            sink.write(chunk)
        stream.finish()
    sink.commit()
    return total


def _expanded(stream: BlobStream, name: str) -> Iterator[bytes]:
    """What the blob expands to. Where it cannot be expanded, the whole of it tells why: it was damaged on its way (an
    IntegrityError), or it is what its author made (the LayerError)."""
    try:
        yield from decompressed(stream, name)
    except LayerError:
        stream.finish()
        raise


class BlobStream:
    """A blob's verified bytes, as a file to read: first what is `kept` of it, then what the registry sends.

    Where the connection breaks, it goes on by Range at the same byte.
    """

    def __init__(
        self, registry: Registry, blob: Descriptor, on_bytes: Callable[[int], None], kept: Kept | None = None
    ) -> None:
        self._registry = registry
        self._blob = blob
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()
        self._position = 0
        self._kept = kept
        self._fruitless = 0
        self._stalls = 0
        self._patience: Patience | None = None
        self._behind = 0
        self._response: requests.Response | None = None
        self._verified = False

    def read(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes, b"" at the end, which is reached only if size and digest are right.

        Raises IntegrityError where they are not, RegistryUnreachable where the connection cannot be kept.
        """
        while self._position < self._blob.size:
            data = self._recall(size) or self._receive(size)
            if data:
                self._hash.update(data)
                self._position += len(data)
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

    def _recall(self, size: int) -> bytes:
        """The next of the bytes that are kept, b"" behind them."""
        if self._kept is None or self._position >= self._kept.size:
            return b""
        if self._registry.transport.stop.is_set():
            raise Interrupted
        return self._kept.read(self._position, min(size, self._kept.size - self._position))

    def _receive(self, size: int) -> bytes:
        """The next bytes, or b"" where the connection broke and a new one is to be tried."""
        if self._registry.transport.stop.is_set():
            raise Interrupted
        response = self._response = self._response or self._open()
        wanted = min(size, self._blob.size - self._position)
        url = response.url
        try:
            self._skip(response)
            # read1 gives what is there; read would wait for all, and lose it where the connection breaks.
            data = b"" if self._behind else response.raw.read1(wanted, decode_content=False)
        except READ_ERRORS as e:
            self._retry(unreachable(url, e))
            return b""
        if not data:
            self._retry(unreachable(url, ConnectionResetError()))
            return b""
        self._fruitless = 0
        if self._kept is not None:
            self._kept.append(data)
        self._watch(len(data))
        return data

    def _watch(self, count: int) -> None:
        """Leaves a connection that is too slow; another may be better. Many short ones are as slow as a long one."""
        try:
            if self._patience and self._patience.received(count):
                self._stalls = 0
        except Transient:
            self._stalls += 1
            if self._stalls >= MAX_STALLS:
                raise
            self._patience = None
            self.close()

    def _open(self) -> requests.Response:
        response = self._registry.open_blob(self._blob, self._position)
        if self._patience is None or self._fruitless > 1:
            self._patience = Patience(response.url)
        try:
            if response.status_code == 206:
                self._check_range(response)
            self._check_length(response)
        except BaseException:
            response.close()
            raise
        # A server that does not do ranges begins from the start again.
        self._behind = 0 if response.status_code == 206 else self._position
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
        """Reads past what is there already, as far as the connection holds."""
        while self._behind and self._response is response:
            data = response.raw.read1(min(CHUNK, self._behind), decode_content=False)
            if not data:
                return
            self._behind -= len(data)
            self._watch(len(data))

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
