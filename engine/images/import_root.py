"""`import`: the use case that makes an image of one layer from a root file system's tar.

file, pipe or URL ─▶ decompressed ─▶ the layer, verbatim ─▶ driver.prepare ─▶ config and manifest ─▶ ImageStore.put
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine import events
from engine.context import Context
from engine.errors import MiniError, NotFound
from engine.images.archive import Counted, FdStream, expanded, open_input
from engine.images.changes import apply_changes
from engine.images.compression import CHUNK
from engine.images.reference import Reference
from engine.oci.image import Platform, uncompressed_manifest
from engine.storage.drivers import choose
from engine.storage.images import Image, ImageStore
from engine.storage.layers import NewLayerSink, sweep_downloads


def import_root(
    ctx: Context,
    source: str | int,
    reference: Reference | None,
    created: str,
    *,
    changes: Sequence[str] = (),
    message: str | None = None,
    platform: str | None = None,
) -> Image:
    """Stores the tar (gzip, zstd or plain) of a path, a URL or a descriptor as an image, `created` at that RFC 3339 time.

    Raises UsageError, LayerError for what is no tar, StoreError, and the transport's errors for a URL.
    """
    wanted = Platform.parse(platform) if platform else Platform.of_host()
    settings = apply_changes({}, changes)
    comment = message or f"Imported from {source if isinstance(source, str) and _is_url(source) else '-'}"
    driver = choose(ctx.paths, ctx.storage_driver)
    store = ImageStore(ctx.paths)
    sweep_downloads(ctx.paths)
    with store.adding():
        with _open(ctx, source) as stream, NewLayerSink(ctx.paths) as sink:
            for chunk in expanded(stream, "the archive"):
                sink.write(chunk)
            sink.commit()
        driver.prepare([sink.diff_id])
        config = {
            "architecture": wanted.architecture,
            **({"variant": wanted.variant} if wanted.variant else {}),
            "os": wanted.os,
            "comment": comment,
            "created": created,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [sink.diff_id]},
            "history": [{"created": created, "comment": comment}],
        }
        data = json.dumps(config, separators=(",", ":")).encode()
        manifest = uncompressed_manifest(data, [(sink.diff_id, sink.size)])
        image = store.put(manifest, data, tag=reference.canonical() if reference else None, size=sink.size)
    if reference:
        events.image(ctx.paths, "tag", image.id, image.config, reference.familiar())
    events.image(ctx.paths, "import", image.id, image.config)
    return image


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


@contextmanager
def _open(ctx: Context, source: str | int) -> Iterator[Counted]:
    if isinstance(source, str) and _is_url(source):
        with _open_url(ctx, source) as stream:
            yield stream
        return
    fd = open_input(source)
    try:
        yield FdStream(fd)
    finally:
        if isinstance(source, str):
            os.close(fd)


@contextmanager
def _open_url(ctx: Context, url: str) -> Iterator[Counted]:
    """The body of a GET, with the transport's redirects, proxies and time-outs."""
    import requests

    from engine.images.transport import READ_ERRORS, Transport, unreachable

    class Body:
        def __init__(self, response: requests.Response) -> None:
            self.taken = 0
            self._response = response

        def read(self, size: int = CHUNK) -> bytes:
            try:
                data: bytes = self._response.raw.read(size, decode_content=False)
            except READ_ERRORS as e:
                raise unreachable(url, e) from e
            self.taken += len(data)
            return data

    transport = Transport(ctx.environ)
    try:
        with transport.send("GET", url, {}) as response:
            if response.status_code != 200:
                error: type[MiniError] = NotFound if response.status_code == 404 else MiniError
                raise error(f"{url} answers {response.status_code} {response.reason}")
            yield Body(response)
    finally:
        transport.close()
