"""`system df`: what the data root takes, true to du(1): the sum over all kinds is what `du -s` says of the data root.

Sizes are allocated bytes. A layer that several images have is counted once in the sum, and in each image's own size.
"""

from __future__ import annotations

import os

from engine import files
from engine.containers import views
from engine.storage.images import ImageStore, file_name
from engine.storage.layers import chain_ids
from engine.storage.usage import Counter, allocated
from engine.storage.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.context import Context
    from engine.paths import Paths
    from engine.storage.images import Image
    from engine.storage.volumes import Volume


# What is in these is counted as images; the directories themselves are not.
_COUNTED_BELOW = ("layers", "indexes", "trees", "blobs")


class Kind:
    """One line of `system df`: how many there are, how many are in use, and bytes: all, and what pruning would give back."""

    __slots__ = ("active", "name", "reclaimable", "size", "total")

    def __init__(self, name: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.name = name
        self.total = total
        self.active = active
        self.size = size
        self.reclaimable = reclaimable


class ImageUsage:
    """`unique`: bytes that go with the image, `shared`: those that another image has, too."""

    __slots__ = ("containers", "image", "shared", "unique")

    def __init__(self, image: Image, shared: int, unique: int, containers: int) -> None:
        self.image = image
        self.shared = shared
        self.unique = unique
        self.containers = containers


class Usage:
    """`containers`: (inspect object, bytes); `volumes`: (volume, number of containers that have it, bytes)."""

    def __init__(self, ctx: Context) -> None:
        self.images: list[ImageUsage] = []
        self.containers: list[tuple[dict[str, Any], int]] = []
        self.volumes: list[tuple[Volume, int, int]] = []
        self.other: list[tuple[str, int]] = []
        paths = ctx.paths
        counter = Counter()
        objects = views.list_(ctx)
        self.kinds = [
            self._count_images(paths, objects, counter),
            self._count_containers(paths, objects, counter),
            self._count_volumes(paths, objects, counter),
            Kind("Build Cache", 0, 0, 0, 0),
            self._count_other(paths, counter),
        ]

    def _count_images(self, paths: Paths, objects: list[dict[str, Any]], counter: Counter) -> Kind:
        used = [c["Image"] for c in objects]
        images = ImageStore(paths).list_()
        holders: dict[str, int] = {}
        for image in images:
            for file in files_of(paths, image):
                holders[file] = holders.get(file, 0) + 1
        for image in images:
            files = files_of(paths, image)
            shared = allocated(*(f for f in files if holders[f] > 1))
            unique = allocated(*(f for f in files if holders[f] == 1))
            self.images.append(ImageUsage(image, shared, unique, used.count(image.id)))
        active = [u.image for u in self.images if u.containers]
        needed = allocated(*(f for image in active for f in files_of(paths, image)))
        size = counter.add(paths.layers, paths.indexes, paths.trees, paths.blobs, paths.images, paths.tags)
        empty = sum(_own(d) for d in (paths.layers, paths.indexes, paths.trees, paths.blobs, paths.images, paths.tags))
        return Kind("Images", len(images), len(active), size, max(0, size - needed - empty))

    def _count_containers(self, paths: Paths, objects: list[dict[str, Any]], counter: Counter) -> Kind:
        for container in objects:
            self.containers.append((container, allocated(paths.container(container["Id"]))))
        stopped = sum(size for container, size in self.containers if not container["State"]["Running"])
        active = sum(container["State"]["Running"] for container in objects)
        return Kind("Containers", len(objects), active, counter.add(paths.containers, paths.names), stopped)

    def _count_volumes(self, paths: Paths, objects: list[dict[str, Any]], counter: Counter) -> Kind:
        mounts = [m["Name"] for c in objects for m in c["Mounts"] if m["Type"] == "volume"]
        for volume in Volumes(paths).list_():
            self.volumes.append((volume, mounts.count(volume.name), allocated(volume.directory)))
        unused = sum(size for _, links, size in self.volumes if not links)
        active = sum(links > 0 for _, links, _ in self.volumes)
        return Kind("Local Volumes", len(self.volumes), active, counter.add(paths.volumes), unused)

    def _count_other(self, paths: Paths, counter: Counter) -> Kind:
        """Everything else: downloads, quarantine, caches, networks, locks. Each directory below the root is one."""
        total = counter.add(*(f"{paths.root}/{name}" for name in _COUNTED_BELOW))
        reclaimable = 0
        for name in files.names_in(paths.root):
            size = counter.add(f"{paths.root}/{name}")
            if size:
                self.other.append((name, size))
            if name == "downloads":
                reclaimable = size - _own(paths.downloads)
            total += size
        return Kind("Other", len(self.other), len(self.other), total + counter.add(paths.root), reclaimable)


def files_of(paths: Paths, image: Image) -> list[str]:
    """Everything that is in the store for the image: layers, what is derived of them, documents, names."""
    chains = chain_ids(image.diff_ids) or [image.chain_id]
    return list(
        dict.fromkeys(
            [
                *map(paths.layer, image.diff_ids),
                *map(paths.tree, chains),
                *(f"{paths.tree(chain)}.layer" for chain in chains),
                paths.index(image.chain_id),
                *map(paths.blob, (image.id, *image.manifests)),
                paths.image(image.id),
                *(f"{paths.tags}/{file_name(name)}" for name in image.names),
            ]
        )
    )


def _own(directory: str) -> int:
    """What the directory takes itself."""
    try:
        return os.lstat(directory).st_blocks * 512
    except FileNotFoundError:
        return 0
