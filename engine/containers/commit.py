"""`diff` and `commit`: what a container changed in its image's file system, and an image made of it.

upper directory ─▶ changes (storage/upper.py) ─▶ the list that `diff` shows
                                              └▶ a layer ─▶ driver.prepare ─▶ config and manifest ─▶ ImageStore.put
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine import events, host
from engine.containers import lifecycle, pausing, records
from engine.containers.records import Record
from engine.containers.views import refresh
from engine.context import Context
from engine.errors import InvalidReference, NotFound
from engine.images.changes import apply_changes
from engine.images.reference import Reference
from engine.oci.image import uncompressed_manifest
from engine.storage import drivers, upper
from engine.storage.images import Image, ImageStore
from engine.storage.layers import NewLayerSink, sweep_downloads
from engine.storage.tar_write import TarWriter
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def diff(ctx: Context, name: str) -> list[tuple[str, str]]:
    """(A, C or D; path) of each path that the container added, changed or deleted. Raises NotFound, RuntimeFault."""
    host.require_container_host()
    record = records.find(ctx.paths, name)
    with _directories(ctx, record) as (above, below):
        return [
            (change.kind, "/" + os.fsdecode(change.path)) for change in upper.differences(upper.changes(above, below))
        ]


@contextmanager
def _directories(ctx: Context, record: Record) -> Iterator[tuple[int, int]]:
    """Descriptors of the container's upper directory, and of its image's root."""
    above = os.open(f"{record.directory}/upper", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        below = lifecycle.open_image(ctx, record)
        try:
            yield above, below
        finally:
            os.close(below)
    finally:
        os.close(above)


class _LayerTar(TarWriter):
    """A tar that is written into the store."""

    def __init__(self, sink: NewLayerSink) -> None:
        super().__init__(-1)
        self._sink = sink

    def _flush(self, data: bytes | bytearray) -> None:
        self._sink.write(data)


def commit(
    ctx: Context,
    name: str,
    reference: Reference | None,
    *,
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
) -> Image:
    """Makes an image of the container's: its layers, one more with what the container changed, and the container's config
    with the Dockerfile instructions `changes`.

    A running container is frozen meanwhile with `pause`. Raises NotFound, UsageError, StoreError, RuntimeFault.
    """
    host.require_container_host()
    if reference and reference.digest:
        raise InvalidReference("refusing to create a tag with a digest reference")
    record = records.find(ctx.paths, name)
    settings = apply_changes(record.config["Config"], changes)
    driver = drivers.choose(ctx.paths, record.config["Driver"])
    store = ImageStore(ctx.paths)
    sweep_downloads(ctx.paths)
    with store.adding():
        image = store.load(record.config["Image"])
        if image is None:
            raise NotFound(f"No such image: {record.config['Image']}")
        with _paused(ctx, record, pause), _directories(ctx, record) as (above, below):
            diff_ids = [*image.diff_ids, *_new_layer(ctx, above, below)]
        driver.prepare(diff_ids)
        data = json.dumps(_config(image, record, settings, diff_ids, author, message), separators=(",", ":")).encode()
        layers = [(diff_id, driver.layer_size(diff_id)) for diff_id in diff_ids]
        manifest = uncompressed_manifest(data, layers)
        tag = reference.canonical() if reference else None
        made = store.put(manifest, data, tag=tag, size=sum(size for _, size in layers))
    named = reference.familiar() if reference else ""
    if named:
        events.image(ctx.paths, "tag", made.id, made.config, named)
    events.container(record, "commit", comment=message, imageID=made.id, imageRef=named)
    return made


def _new_layer(ctx: Context, above: int, below: int) -> list[str]:
    """Puts a layer with the changes into the store: its DiffID, or nothing where nothing was changed."""
    found = upper.changes(above, below)
    if not found:
        return []
    sink = NewLayerSink(ctx.paths)
    with sink:
        tar = _LayerTar(sink)
        upper.write_layer(tar, above, found)
        tar.close()
        sink.commit()
    return [sink.diff_id]


@contextmanager
def _paused(ctx: Context, record: Record, wanted: bool) -> Iterator[None]:
    """Frozen within the block, where the container runs and is not already."""
    if not wanted or refresh(ctx, record)["Status"] != "running":
        yield
        return
    pausing.pause(ctx, record.id)
    try:
        yield
    finally:
        pausing.unpause(ctx, record.id)


def _config(
    image: Image, record: Record, settings: dict[str, Any], diff_ids: list[str], author: str, message: str
) -> dict[str, Any]:
    """The image's config document: moby, image/image.go, NewChildImage."""
    base: dict[str, Any] = image.config
    created = timestamp()
    own = record.config["Config"]
    step: dict[str, Any] = {"created": created}
    if author:
        step["author"] = author
    if own["Cmd"]:
        step["created_by"] = " ".join(own["Cmd"])
    if message:
        step["comment"] = message
    if diff_ids == image.diff_ids:
        step["empty_layer"] = True
    kept: dict[str, Any] = {
        key: base[key] for key in ("architecture", "variant", "os", "os.version", "os.features") if key in base
    }
    return {
        **kept,
        **({"author": author} if author else {}),
        "config": settings,
        "container": record.id,
        "container_config": own,
        "created": created,
        "history": [*(base.get("history") or []), step],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
