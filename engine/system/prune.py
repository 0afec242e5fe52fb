"""`prune` in all its forms: removes what nothing uses, with Docker's rules (moby, daemon/prune.go, daemon/images/image_prune.go).

Each returns what it removed, in Docker's order and words, and the bytes that the file system got back, which are counted
as du(1) does before and after, not summed up from what the objects say of themselves.
"""

from __future__ import annotations

import os

from engine import events
from engine.containers import lifecycle, records, usecases, views
from engine.errors import Conflict, NotFound, UsageError
from engine.storage.images import ImageStore
from engine.storage.usage import allocated
from engine.storage.volumes import Volumes
from engine.system import fsck, imageuse
from engine.times import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.context import Context
    from engine.storage.images import Image


class Pruned:
    """What was removed, one text a line of Docker's listing, and the bytes given back."""

    __slots__ = ("freed", "removed")

    def __init__(self, removed: list[str] | None = None, freed: int = 0) -> None:
        self.removed = removed or []
        self.freed = freed


class Filters:
    """`--filter` as a prune has it: `until`, `label`, `label!`, and `dangling` or `all` where that command knows them.

    `until` is in seconds since the epoch.
    """

    def __init__(self, given: Sequence[str], known: Sequence[str], moment: Callable[[str], float]) -> None:
        """Raises UsageError with the daemon's words, as `moment` does, which reads a time or a duration before now."""
        self._labels: list[tuple[bool, str, str | None]] = []
        self.until: float | None = None
        self.switches: dict[str, bool] = {}
        for text in given:
            name, _, value = text.partition("=")
            if name not in known:
                raise UsageError(f"Invalid filter '{name}'", f"the filters are {', '.join(known)}")
            if name == "until":
                if self.until is not None:
                    raise UsageError("more than one until filter specified")
                self.until = moment(value)
            elif name in ("label", "label!"):
                key, separator, wanted = value.partition("=")
                self._labels.append((name == "label", key, wanted if separator else None))
            else:
                self.switches[name] = _switch(name, value)

    @property
    def is_limit(self) -> bool:
        return self.until is not None or bool(self._labels)

    def match(self, labels: dict[str, str] | None, created: float) -> bool:
        """Whether an object may go: it was made before `until`, has every `label` and none of `label!`."""
        if self.until is not None and created > self.until:
            return False
        have = labels or {}
        return all(
            (key in have and (value is None or have[key] == value)) == wanted for wanted, key, value in self._labels
        )


def _switch(name: str, text: str) -> bool:
    if text.lower() not in ("1", "true", "t", "0", "false", "f"):
        raise UsageError(f"invalid filter '{name}=[{text}]'")
    return text.lower() in ("1", "true", "t")


# --- one kind each -----------------------------------------------------------------------------------------------


def _tell(ctx: Context, kind: str, pruned: Pruned) -> None:
    events.emit(ctx.paths, kind, "prune", "", {"reclaimed": str(pruned.freed)})


def prune_containers(ctx: Context, filters: Filters) -> Pruned:
    """Removes the containers that do not run. Their anonymous volumes stay, as Docker leaves them."""
    pruned = Pruned()
    for record in records.list_all(ctx.paths):
        try:
            config = record.config
            if views.refresh(ctx, record)["Running"] or not filters.match(
                config["Config"].get("Labels"), seconds_of(config["Created"])
            ):
                continue
            size = allocated(record.directory)
            usecases.remove(ctx, record.id)
        except (Conflict, NotFound):
            # started or removed meanwhile
            continue
        pruned.removed.append(record.id)
        pruned.freed += size
    _tell(ctx, "container", pruned)
    return pruned


def prune_volumes(ctx: Context, filters: Filters, named: bool = False) -> Pruned:
    """Removes the anonymous volumes that no container has, and with `named` all that none has."""
    volumes = Volumes(ctx.paths)
    pruned = Pruned()
    for volume in volumes.list_():
        if not (volume.anonymous or named) or not filters.match(volume.labels, 0.0):
            continue
        size = allocated(volume.directory)
        try:
            lifecycle.remove_volume(ctx, volume.name)
        except (Conflict, NotFound):
            # in use, or removed meanwhile
            continue
        pruned.removed.append(volume.name)
        pruned.freed += size
    if os.path.isdir(ctx.paths.volumes):
        volumes.sweep()
    _tell(ctx, "volume", pruned)
    return pruned


class ImageChoice:
    """Which images go: those without a name, or with `all` whatever no container has.

    `unused_since`: only those last used before (seconds since the epoch). `keep_bytes`: the longest unused first, and only
    until the images take no more than that.
    """

    __slots__ = ("all", "filters", "keep_bytes", "unused_since")

    def __init__(
        self, filters: Filters, all: bool = False, unused_since: float | None = None, keep_bytes: int | None = None
    ) -> None:
        self.filters = filters
        self.all = all or not filters.switches.get("dangling", True)
        self.unused_since = unused_since
        self.keep_bytes = keep_bytes

    @property
    def is_limited(self) -> bool:
        """Whether some of what nobody uses is to stay: then what killed pulls left does, too."""
        return self.filters.is_limit or self.unused_since is not None or self.keep_bytes is not None

    def candidates(self, ctx: Context) -> Iterator[Image]:
        used = {image for r in records.list_all(ctx.paths) for image in imageuse.images_of(r.config)}
        for image in sorted(ImageStore(ctx.paths).list_(), key=lambda i: i.last_used):
            if image.id in used or (image.tags and not self.all):
                continue
            if self.unused_since is not None and image.last_used > self.unused_since:
                continue
            if self.filters.match((image.config.get("config") or {}).get("Labels"), seconds_of(image.created)):
                yield image


def prune_images(ctx: Context, choice: ImageChoice) -> Pruned:
    """Removes images that no container has, then layers that no image has, and what killed pulls left."""
    pruned = Pruned()
    before = image_bytes(ctx)
    for image in choice.candidates(ctx):
        if choice.keep_bytes is not None and image_bytes(ctx) <= choice.keep_bytes:
            break
        try:
            events = _remove_image(ctx, image)
        except (Conflict, NotFound):
            # a container has it by now, or somebody else removes it
            continue
        pruned.removed += [f"{event.lower()}: {what}" for event, what in events]
    if not choice.is_limited:
        imageuse.finish_removals(ctx)
        fsck.sweep(ctx, objects=False)
    pruned.freed = max(0, before - image_bytes(ctx))
    _tell(ctx, "image", pruned)
    return pruned


def _remove_image(ctx: Context, image: Image) -> list[tuple[str, str]]:
    """By every name that it has, so that one that a container or a user has just taken keeps the image."""
    events = []
    for name in image.names:
        try:
            events += imageuse.remove(ctx, name)
        except (Conflict, NotFound):
            # gone with the last tag of its repository, or a container has it by now
            continue
    return events or imageuse.remove(ctx, image.id)


def image_bytes(ctx: Context) -> int:
    """What images take: layers, what is derived of them, documents, and what is on its way in."""
    paths = ctx.paths
    return allocated(paths.layers, paths.indexes, paths.trees, paths.blobs, paths.images, paths.tags, paths.downloads)
