"""Taking images away, with Docker's rules and words (moby, daemon/images/image_delete.go).

Removal begins with its last step of doubt and then only goes forward: names go, then the record is renamed to
`images/HEX.removing`, which is the list of what is to be deleted: index, layers, config, manifests. It is unlinked when
that is done. A removal that was killed, or that has to wait for a container, is finished by the next one.
"""

from __future__ import annotations

import os

from engine import files
from engine.errors import Conflict
from engine.images.reference import Reference
from engine.storage.images import RECORD, REMOVING, Image, ImageStore
from engine.storage.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engine.storage.images import InUse, LayerDriver, Unmount

    Events = list[tuple[str, str]]
    Users = Sequence[tuple[str, bool]]


class Removal:
    """One removal, by the holder of the store's `writing` lock."""

    def __init__(self, store: ImageStore, in_use: InUse | None, unmount: Unmount | None) -> None:
        self.store = store
        self.in_use = in_use
        self.unmount = unmount

    def remove(self, name: str, force: bool) -> Events:
        """Contract: `ImageStore.remove`."""
        image, key = self.store.lookup(name)
        users = self.in_use(image.id) if self.in_use else ()
        if key:
            events, gone = self._untag(name, key, image, users, force)
        else:
            _refuse_if_needed(image, users, force)
            events, gone = [self._untagged(n) for n in image.names], True
        if gone:
            os.rename(self.store.paths.image(image.id), self._removing(image.id))
            files.sync_dir(self.store.paths.images)
            events.append(("Deleted", image.id))
        deleted = self.finish()
        if gone:
            stack = list(zip(image.diff_ids, chain_ids(image.diff_ids), strict=True))
            events += [("Deleted", chain) for diff_id, chain in reversed(stack) if diff_id in deleted]
        return events

    def _untag(self, name: str, key: str, image: Image, users: Users, force: bool) -> tuple[Events, bool]:
        """Takes the reference away, and digest references that no tag of its repository keeps. True: the image follows."""
        names = image.names
        if users and not force and _is_single(names):
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - '
                f"container {users[0][0][:12]} is using its referenced image {image.short_id}"
            )
        repository = _repository(key)
        going = [key]
        if "@" not in key and not any(_repository(n) == repository and "@" not in n for n in names if n != key):
            going += [n for n in names if n != key and _repository(n) == repository]
        used = any(running or not force for _, running in users)
        return [self._untagged(n) for n in going], len(going) == len(names) and not used

    def _untagged(self, name: str) -> tuple[str, str]:
        self.store.remove_name(name)
        return "Untagged", Reference.parse(name).familiar()

    def finish(self) -> set[str]:
        """Deletes the content of every image being removed that nothing else needs. Returns the DiffIDs deleted."""
        going: list[dict[str, Any]] = []
        staying: list[dict[str, Any]] = []
        for image_id in self.store.ids(REMOVING):
            record = files.read_json(self._removing(image_id))
            (staying if self.in_use and self.in_use(image_id) else going).append(record)
        staying += [files.read_json(self.store.paths.image(i)) for i in self.store.ids(RECORD)]
        deleted: set[str] = set()
        for record in going:
            self._delete_derived(record, staying)
            deleted |= self._delete_layers(record, staying)
        self._sweep(staying)
        for record in going:
            files.remove_file(self._removing(record["id"]))
        return deleted

    def _delete_derived(self, record: dict[str, Any], staying: list[dict[str, Any]]) -> None:
        """Deletes what the drivers derived of the layers, after unmounting it."""
        if self.unmount and all(other["chain_id"] != record["chain_id"] for other in staying):
            self.unmount(record["chain_id"])
        for driver in self.store.drivers():
            needed = {chain for other in staying for chain in _derived(driver, other)}
            for chain in reversed(_derived(driver, record)):
                if chain not in needed:
                    driver.remove_index(chain)

    def _delete_layers(self, record: dict[str, Any], staying: list[dict[str, Any]]) -> set[str]:
        layers = set(record["diff_ids"]).difference(*(other["diff_ids"] for other in staying))
        for diff_id in layers:
            for driver in self.store.drivers():
                driver.remove_layer(diff_id)
        return layers

    def _sweep(self, staying: list[dict[str, Any]]) -> None:
        """Deletes documents of no image, and half-written files: all is written under the lock that is held now."""
        paths = self.store.paths
        needed = {digest[7:] for record in staying for digest in (record["id"], *record["manifests"])}
        for name in os.listdir(paths.blobs):
            if name not in needed:
                files.remove_file(f"{paths.blobs}/{name}")
        for directory in (paths.images, paths.tags):
            for name in os.listdir(directory):
                if name.startswith("."):
                    files.remove_file(f"{directory}/{name}")

    def _removing(self, image_id: str) -> str:
        return self.store.paths.image(image_id).removesuffix(RECORD) + REMOVING


def _derived(driver: LayerDriver, record: dict[str, Any]) -> list[str]:
    """The chain IDs of what the driver derives for an image: a directory for every stack of its layers, or one index."""
    return chain_ids(record["diff_ids"]) or [record["chain_id"]] if driver.name == "directory" else [record["chain_id"]]


def _refuse_if_needed(image: Image, users: Sequence[tuple[str, bool]], force: bool) -> None:
    """Raises Conflict, in Docker's words and order, where removal by ID is not allowed."""
    running = next((c for c, runs in users if runs), None)
    stopped = next((c for c, runs in users if not runs), None)
    if running:
        why = f"(cannot be forced) - image is being used by running container {running[:12]}"
    elif image.names and not force and not _is_single(image.names):
        why = "(must be forced) - image is referenced in multiple repositories"
    elif stopped and not force:
        why = f"(must be forced) - image is being used by stopped container {stopped[:12]}"
    else:
        return
    raise Conflict(f"conflict: unable to delete {image.short_id} {why}")


def _is_single(names: Sequence[str]) -> bool:
    """Whether all names are of one repository, with one tag at most (moby's isSingleReference)."""
    tags = [n for n in names if "@" not in n]
    return len(tags) <= 1 and len({_repository(n) for n in names}) == 1


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
