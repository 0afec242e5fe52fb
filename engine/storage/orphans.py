"""Content that no image has: of a pull that was killed before its image got its record, of a removal that was.

    needed      what the records of the images, and of those being removed, refer to
    orphans     what is there and not needed
    collect     removes them

A pull in progress has layers without an image, too. It holds `ImageStore.adding` for as long; `collect` takes the other
side of that lock, and leaves everything alone while anybody has it. What a killed pull left is worth something to the next
one, which need not fetch it again: so commands that collect by the way spare what is younger than a day, as containerd's
leases do; `prune` does not.
"""

from __future__ import annotations

import os
import time

from engine import files
from engine.errors import Conflict, StoreError
from engine.oci.digest import is_hex_id
from engine.storage.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from engine.paths import Paths
    from engine.storage.images import ImageStore, Unmount

_GRACE = 24 * 3600.0  # seconds

_SUFFIXES = {"layers": ".tar", "indexes": ".erofs", "trees": "", "blobs": ""}


class Needed:
    """The hex digits of what a set of image records refers to, by the directory that has it."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self.layers: set[str] = set()
        self.indexes: set[str] = set()
        self.trees: set[str] = set()
        self.blobs: set[str] = set()
        for record in records:
            self.layers |= {d[7:] for d in record["diff_ids"]}
            self.indexes.add(record["chain_id"][7:])
            self.trees |= {c[7:] for c in chain_ids(record["diff_ids"]) or [record["chain_id"]]}
            self.blobs |= {d[7:] for d in (record["id"], *record["manifests"])}


def objects(paths: Paths, kind: str) -> dict[str, str]:
    """Hex digits → path of every object in `layers`, `indexes`, `trees` or `blobs`; names that are none are left out."""
    directory, suffix = getattr(paths, kind), _SUFFIXES[kind]
    names = files.names_in(directory)
    found = {n.removesuffix(suffix): f"{directory}/{n}" for n in names if n.endswith(suffix)}
    return {h: path for h, path in found.items() if is_hex_id(h)}


def orphans(paths: Paths, needed: Needed) -> list[tuple[str, str, str]]:
    """(kind, hex digits, path) of everything that is not needed: what is derived first, then layers, then documents."""
    return [
        (kind, h, path)
        for kind in ("indexes", "trees", "layers", "blobs")
        for h, path in objects(paths, kind).items()
        if h not in getattr(needed, kind)
    ]


def collect(store: ImageStore) -> None:
    """Removes the orphans that are older than a day, but for what may be mounted.

    Nothing where somebody adds layers at this moment, or where a record is damaged (`fsck` says so). Raises StoreError.
    """
    try:
        with store.nobody_adding(), store.writing():
            try:
                needed = Needed(store.records())
            except StoreError:
                return
            for kind, hex_, path in orphans(store.paths, needed):
                if time.time() - os.stat(path).st_mtime > _GRACE:
                    remove(store.paths, kind, hex_, path, None)
    except Conflict:
        return


def remove(paths: Paths, kind: str, hex_: str, path: str, unmount: Unmount | None) -> None:
    """Removes one orphan. Without `unmount`, an index that may be mounted stays. The caller holds `writing`."""
    digest = f"sha256:{hex_}"
    if kind == "indexes" and os.path.isdir(paths.image_mount(digest)):
        if not unmount:
            return
        unmount(digest)
    if kind == "trees":
        from engine.storage.directory import remove_unpacked

        with files.FileLock(paths.lock("prepare")):
            remove_unpacked(paths, digest)
    else:
        files.remove_file(path)
