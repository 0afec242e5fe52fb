"""`pull`: the use case that joins registries to the store.

    resolve ─→ layers side by side (each under a lock of its own) ─→ driver.prepare ─→ ImageStore.put (the name)

Whatever goes wrong on the way, the image is not named: what is in the store then are whole, verified layers, and beside it
the bytes that have arrived of others. The next pull goes on with both.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from engine import events
from engine.context import Context
from engine.errors import Conflict, IntegrityError, LayerError, StoreError
from engine.images.download import Sink, fetch_layer
from engine.images.manifest import ResolvedImage, resolve
from engine.images.progress import LayerProgress, Progress, Silent
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.workers import side_by_side
from engine.oci.image import Descriptor, Platform
from engine.storage import orphans
from engine.storage.drivers import choose
from engine.storage.images import Image, ImageStore
from engine.storage.layers import layer_lock, sweep_downloads
from engine.storage.partial import Partial

CONCURRENT_DOWNLOADS = 3


class Driver(Protocol):
    """What a pull needs of a storage driver."""

    def has_layer(self, diff_id: str) -> bool: ...
    def layer_size(self, diff_id: str) -> int: ...
    def layer_sink(self, diff_id: str) -> AbstractContextManager[Sink]: ...
    def prepare(self, diff_ids: list[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class PulledImage:
    """`digest` is of what the reference points to (an index, often), `status` Docker's last sentence on a pull."""

    reference: Reference
    image: Image
    digest: str
    status: str


def pull(
    ctx: Context, reference: Reference, *, platform: str | None = None, progress: Progress | None = None
) -> PulledImage:
    """Brings the image of `reference` into the store, for `platform` (as `linux/arm64`) or for this machine.

    Idempotent: layers that are there are not fetched again, and a layer that an earlier pull has begun goes on where that
    one stopped. Raises the registry's errors, IntegrityError, LayerError, PlatformMismatch, StoreError. KeyboardInterrupt
    ends it at once.
    """
    progress = progress or Silent()
    wanted = Platform.parse(platform) if platform else Platform.of_host()
    driver: Driver = choose(ctx.paths, ctx.storage_driver)
    store = ImageStore(ctx.paths)
    registry = Registry(reference, ctx.environ)
    try:
        resolved = resolve(registry, wanted, strict=platform is not None)
        # As Docker: with a digest the tag is not shown, and of an image that is there already no layer is.
        shown = reference.with_digest(reference.digest) if reference.digest else reference
        progress.start(shown)
        fetcher = _Fetcher(ctx, registry, driver, progress)
        with store.adding():
            before = store.find(reference.canonical())
            image = _add(store, driver, fetcher, reference, resolved)
    finally:
        progress.close()
        registry.close()
    known = before is not None and before.id == image.id
    status = f"{'Image is up to date' if known else 'Downloaded newer image'} for {shown.familiar()}"
    progress.finish(resolved.digest, status)
    events.image(ctx.paths, "pull", shown.familiar(), image.config, reference.familiar_name)
    orphans.collect(store)
    return PulledImage(reference, image, resolved.digest, status)


def _add(store: ImageStore, driver: Driver, fetcher: _Fetcher, reference: Reference, resolved: ResolvedImage) -> Image:
    """Fetches what is missing and names the image. Once more where a removal of another image took a layer meanwhile."""
    diff_ids = list(resolved.config.diff_ids)
    for attempt in (1, 2):
        fetched = []
        there = all(map(driver.has_layer, diff_ids))
        if not (store.find(resolved.manifest.config.digest) and there):
            fetched = fetcher.fetch(resolved.layers)
        try:
            driver.prepare(diff_ids)
            for layer in fetched:
                layer.status("Pull complete")
            return store.put(
                resolved.manifest_bytes,
                resolved.config_bytes,
                tag=None if reference.digest else reference.canonical(),
                repo_digest=reference.with_digest(resolved.digest).canonical(),
                size=sum(map(driver.layer_size, diff_ids)),
            )
        except (Conflict, StoreError):
            if attempt == 2 or all(map(driver.has_layer, diff_ids)):
                raise
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class _Job:
    layer: Descriptor
    diff_id: str
    shown: LayerProgress


class _Fetcher:
    """Fetches the layers of one image, some at a time, each DiffID once."""

    def __init__(self, ctx: Context, registry: Registry, driver: Driver, progress: Progress) -> None:
        self._ctx = ctx
        self._registry = registry
        self._driver = driver
        self._progress = progress
        self._shown: dict[str, LayerProgress] = {}

    def fetch(self, layers: list[tuple[Descriptor, str]]) -> list[LayerProgress]:
        """Returns those that were missing, when every layer is in the store. At the first failure all are given up."""
        sweep_downloads(self._ctx.paths)
        jobs = self._missing(layers)
        side_by_side(self._fetch_one, jobs, CONCURRENT_DOWNLOADS, self._registry.transport)
        return [job.shown for job in jobs]

    def _missing(self, layers: list[tuple[Descriptor, str]]) -> list[_Job]:
        jobs: dict[str, _Job] = {}
        for layer, diff_id in layers:
            if diff_id in jobs:
                continue
            new = diff_id not in self._shown
            if new:
                self._shown[diff_id] = self._progress.layer(layer.short_id, layer.size)
            shown = self._shown[diff_id]
            if not self._driver.has_layer(diff_id):
                jobs[diff_id] = _Job(layer, diff_id, shown)
                shown.status("Pulling fs layer")
            elif new:
                shown.status("Already exists")
        return list(jobs.values())

    def _fetch_one(self, job: _Job) -> None:
        """Under the layer's lock, so that of two pulls at once only one fetches it and the other finds it there."""
        with layer_lock(self._ctx.paths, job.diff_id[7:]):
            if self._driver.has_layer(job.diff_id):
                job.shown.status("Already exists")
                return
            job.shown.status("Downloading")
            with Partial(self._ctx.paths, job.diff_id, job.layer.digest, job.layer.size) as partial:
                try:
                    self._receive(job, partial)
                except (IntegrityError, LayerError):
                    if not partial.resumed:
                        raise
                    # What a power cut has damaged is no reason to fail, but to begin again.
                    partial.restart()
                    self._receive(job, partial)
            job.shown.status("Download complete")

    def _receive(self, job: _Job, partial: Partial) -> None:
        counted = 0

        def count(more: int) -> None:
            nonlocal counted
            counted += more
            job.shown.update(more)

        try:
            with self._driver.layer_sink(job.diff_id) as sink:
                fetch_layer(self._registry, job.layer, sink, count, partial)
        except (IntegrityError, LayerError):
            job.shown.update(-counted)
            raise
