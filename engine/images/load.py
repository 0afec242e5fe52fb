"""`load`: the use case that brings the images of an archive into the store.

    archive ─▶ config, manifest ─▶ layers, each verified as it is stored ─▶ driver.prepare ─▶ ImageStore.put (the names)

The image ID is the digest of the config's own bytes, and a layer is stored only under the DiffID that it has: whatever an
archive calls them, it cannot put one in another's place. Whatever goes wrong, no image is named that is not whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from engine import events
from engine.context import Context
from engine.errors import IntegrityError
from engine.images.archive import Archive, ArchiveFile, expanded, open_archive
from engine.images.archived import ArchivedImage, ArchivedLayer, archived_images
from engine.images.compression import CHUNK
from engine.images.progress import LayerProgress, Progress, Silent
from engine.images.reference import Reference
from engine.images.workers import Interrupted, side_by_side
from engine.oci.image import Platform, uncompressed_manifest
from engine.storage.drivers import Driver, choose
from engine.storage.images import Image, ImageStore
from engine.storage.layers import LayerSink, layer_lock, sweep_downloads

LAYERS_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """`renamed` are the tags that another image had until now, with its ID."""

    image: Image
    tags: tuple[Reference, ...]
    renamed: tuple[tuple[Reference, str], ...]


def load(
    ctx: Context, source: str | int, *, platform: str | None = None, progress: Progress | None = None
) -> Iterator[LoadedImage]:
    """Stores the images of the archive at a path (a tar or a directory) or a descriptor (a pipe), one after another.

    Of an image for several platforms that for `platform`, or for this machine. Layers that are there are not read. Raises
    UsageError, ArchiveError, LayerError, IntegrityError, InvalidReference, PlatformMismatch, RegistryError (a malformed
    document), StoreError. Images before the one that fails stay.
    """
    wanted = Platform.parse(platform) if platform else Platform.of_host()
    sweep_downloads(ctx.paths)
    with open_archive(source, ctx.paths.downloads) as archive:
        for found in archived_images(archive, wanted):
            yield _load_one(ctx, archive, found, progress or Silent())


def _load_one(ctx: Context, archive: Archive, found: ArchivedImage, progress: Progress) -> LoadedImage:
    driver = choose(ctx.paths, ctx.storage_driver)
    store = ImageStore(ctx.paths)
    diff_ids = [layer.diff_id for layer in found.layers]
    with store.adding():
        try:
            _store_layers(ctx, driver, archive, found.layers, progress)
        finally:
            progress.close()
        driver.prepare(diff_ids)
        sizes = [driver.layer_size(diff_id) for diff_id in diff_ids]
        manifest = found.manifest or uncompressed_manifest(found.config, list(zip(diff_ids, sizes, strict=True)))
        before = {tag: store.find(tag.canonical()) for tag in found.tags}
        names = [tag.canonical() for tag in found.tags]
        image = store.put(manifest, found.config, tag=names[0] if names else None, size=sum(sizes))
        for name in names[1:]:
            store.tag(image, name)
    renamed = tuple((tag, old.id) for tag, old in before.items() if old and old.id != image.id)
    events.image(ctx.paths, "load", image.id, image.config)
    return LoadedImage(image, found.tags, renamed)


class _Loading:
    """What the threads that store an archive's layers look at."""

    def __init__(self) -> None:
        self.stop = Event()

    def interrupt(self) -> None:
        self.stop.set()


def _store_layers(
    ctx: Context, driver: Driver, archive: Archive, layers: Sequence[ArchivedLayer], progress: Progress
) -> None:
    """Side by side, since hashing, inflating and writing release the interpreter lock. Returns when no thread writes."""
    loading = _Loading()

    def store(layer: ArchivedLayer) -> None:
        _store_layer(ctx, driver, archive, layer, progress, loading.stop)

    side_by_side(store, layers, LAYERS_AT_ONCE, loading, patience=None)


def _store_layer(
    ctx: Context, driver: Driver, archive: Archive, layer: ArchivedLayer, progress: Progress, stop: Event
) -> None:
    with layer_lock(ctx.paths, layer.diff_id[7:]):
        if driver.has_layer(layer.diff_id):
            return
        with archive.open(layer.file) as file, driver.layer_sink(layer.diff_id) as sink:
            if layer.size not in (None, file.size):
                raise IntegrityError(
                    f"blob {layer.digest} has {file.size} bytes in the archive, but its manifest says {layer.size}"
                )
            shown = progress.layer(layer.diff_id[7:19], file.size)
            shown.status("Loading layer")
            _copy(_Stream(file, shown, stop), layer, sink)
            sink.commit()


def _copy(stream: _Stream, layer: ArchivedLayer, sink: LayerSink) -> None:
    """The file's content, decompressed, into the sink; then the digest of the file itself is compared."""
    if layer.digest not in (None, layer.diff_id):
        # of a plain tar digest and DiffID are one, which the sink verifies
        stream.hash = hashlib.sha256()
    for chunk in expanded(stream, f"layer {layer.file!r}"):
        sink.write(chunk)
    while stream.read():
        pass
    if stream.hash and layer.digest != f"sha256:{stream.hash.hexdigest()}":
        raise IntegrityError(f"blob {layer.digest} is in the archive as sha256:{stream.hash.hexdigest()}")


class _Stream:
    """The file's bytes, counted for whoever watches, and hashed where that is asked for."""

    def __init__(self, file: ArchiveFile, shown: LayerProgress, stop: Event) -> None:
        self.taken = 0
        self.hash: hashlib._Hash | None = None
        self._file = file
        self._shown = shown
        self._stop = stop

    def read(self, size: int = CHUNK) -> bytes:
        if self._stop.is_set():
            raise Interrupted
        data = self._file.read(size)
        if self.hash:
            self.hash.update(data)
        self.taken += len(data)
        self._shown.update(len(data))
        return data
