"""`pull`: the use case that joins registries to the store.

    resolve ─→ layers side by side (each under a lock of its own) ─→ driver.prepare ─→ ImageStore.put (the name)

Whatever goes wrong on the way, the image is not named: what is in the store then are whole, verified layers, which the next
pull finds there.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from engine.context import Context
from engine.images.download import Sink, fetch_layer
from engine.images.manifest import resolve
from engine.images.progress import LayerProgress, Progress, Silent
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Interrupted
from engine.oci.image import Descriptor, Platform
from engine.storage.drivers import choose
from engine.storage.images import Image, ImageStore
from engine.storage.layers import layer_lock, sweep_downloads

CONCURRENT_DOWNLOADS = 3
# How long an interrupted pull waits for its threads to remove what they have begun.
_LAST_WORDS = 3.0


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

    Idempotent: layers that are there are not fetched again. Raises the registry's errors, IntegrityError, LayerError,
    PlatformMismatch, StoreError. KeyboardInterrupt ends it at once and leaves nothing half-made.
    """
    progress = progress or Silent()
    wanted = Platform.parse(platform) if platform else Platform.of_host()
    driver: Driver = choose(ctx.paths, ctx.storage_driver)
    store = ImageStore(ctx.paths)
    registry = Registry(reference, ctx.environ)
    try:
        resolved = resolve(registry, wanted, strict=platform is not None)
        diff_ids = list(resolved.config.diff_ids)
        # As Docker: with a digest the tag is not shown, and of an image that is there already no layer is.
        shown = reference.with_digest(reference.digest) if reference.digest else reference
        progress.start(shown)
        with store.adding():
            if not (store.find(resolved.manifest.config.digest) and all(map(driver.has_layer, diff_ids))):
                fetched = _Fetcher(ctx, registry, driver, progress).fetch(resolved.layers)
                driver.prepare(diff_ids)
                for layer in fetched:
                    layer.status("Pull complete")
            before = store.find(reference.canonical())
            image = store.put(
                resolved.manifest_bytes,
                resolved.config_bytes,
                tag=None if reference.digest else reference.canonical(),
                repo_digest=reference.with_digest(resolved.digest).canonical(),
                size=sum(map(driver.layer_size, diff_ids)),
            )
    finally:
        progress.close()
        registry.close()
    known = before is not None and before.id == image.id
    status = f"{'Image is up to date' if known else 'Downloaded newer image'} for {shown.familiar()}"
    progress.finish(resolved.digest, status)
    return PulledImage(reference, image, resolved.digest, status)


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
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def fetch(self, layers: list[tuple[Descriptor, str]]) -> list[LayerProgress]:
        """Returns those that were missing, when every layer is in the store. At the first failure all are given up."""
        sweep_downloads(self._ctx.paths)
        jobs = self._missing(layers)
        # Daemon threads: one that hangs in a connect cannot hold up the end of the process after Ctrl-C.
        count = min(CONCURRENT_DOWNLOADS, len(jobs))
        threads = [threading.Thread(target=self._work, name=f"layer-{n}", daemon=True) for n in range(count)]
        for job in [*jobs, *[None] * count]:
            self._jobs.put(job)
        try:
            for thread in threads:
                thread.start()
            for _ in jobs:
                failure = self._outcomes.get()
                if failure is not None:
                    raise failure
            return [job.shown for job in jobs]
        except BaseException:
            self._registry.transport.interrupt()
            deadline = time.monotonic() + _LAST_WORDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            raise

    def _missing(self, layers: list[tuple[Descriptor, str]]) -> list[_Job]:
        jobs: dict[str, _Job] = {}
        for layer, diff_id in layers:
            if diff_id in jobs:
                continue
            shown = self._progress.layer(layer.short_id, layer.size)
            if self._driver.has_layer(diff_id):
                shown.status("Already exists")
            else:
                jobs[diff_id] = _Job(layer, diff_id, shown)
                shown.status("Pulling fs layer")
        return list(jobs.values())

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._registry.transport.stop.is_set():
                    raise Interrupted
                self._fetch_one(job)
            except BaseException as e:
                self._outcomes.put(e)
                return
            self._outcomes.put(None)

    def _fetch_one(self, job: _Job) -> None:
        """Under the layer's lock, so that of two pulls at once only one fetches it and the other finds it there."""
        with layer_lock(self._ctx.paths, job.diff_id[7:]):
            if self._driver.has_layer(job.diff_id):
                job.shown.status("Already exists")
                return
            job.shown.status("Downloading")
            with self._driver.layer_sink(job.diff_id) as sink:
                fetch_layer(self._registry, job.layer, sink, job.shown.update)
            job.shown.status("Download complete")
