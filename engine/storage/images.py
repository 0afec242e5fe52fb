"""The images of the data root: which there are, what they are called, and when their content may go.

    tags/NAME            "ID REFERENCE": one file a name, NAME being the reference, quoted. It is a tag
                         (docker.io/library/alpine:3.20) or a digest reference (docker.io/library/alpine@sha256:…)
    images/HEX.json      the record: what `images` shows and `run` needs without reading the config
    images/HEX.removing  the record of an image being removed: the list of what is still to be deleted
    blobs/sha256/HEX     its config and manifests, verbatim

An image is written from the bottom up (layers, blobs, record, tags; each synced before the next) and removed from the
top down (tags, record, index, layers, blobs), under one lock: killed at any instant, what can be seen is whole, and
what was begun to be removed is finished by the next removal. Reading takes no lock: every file is replaced as one step.
"""

from __future__ import annotations

import os

from engine import files
from engine.errors import Conflict, IntegrityError, NotFound
from engine.images.reference import Reference
from engine.oci.digest import HEX_DIGITS, is_digest, is_hex_id
from engine.paths import Paths
from engine.storage.layers import chain_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Protocol

    # The containers that use an image ID: (container ID, whether it runs).
    InUse = Callable[[str], Sequence[tuple[str, bool]]]
    # Unmounts the index of a chain ID, if it is mounted.
    Unmount = Callable[[str], None]

    class LayerDriver(Protocol):
        """What removal needs of a storage driver. Removing what is not there is no error."""

        name: str

        def has_layer(self, diff_id: str) -> bool: ...
        def remove_layer(self, diff_id: str) -> None: ...
        def remove_index(self, chain: str) -> None: ...


RECORD, REMOVING = ".json", ".removing"
_LONGEST_NAME = 200


class Image:
    """One image. `size` is the sum of its uncompressed layers in bytes, `created` the config's RFC 3339 time.

    `diff_ids` are the layers, lowest first; `chain_id` names all of them in their order (image-spec, config.md).
    `config`, `tags` and `repo_digests` (canonical references) are read when first asked for.
    """

    __slots__ = (
        "_config", "_names", "_store", "chain_id", "created", "diff_ids", "id", "manifest_digest", "manifests", "size",
    )  # fmt: skip

    def __init__(self, store: ImageStore, record: dict[str, Any], names: list[str] | None = None) -> None:
        self.id: str = record["id"]
        self.manifests: list[str] = record["manifests"]
        self.manifest_digest = self.manifests[-1]
        self.diff_ids: list[str] = record["diff_ids"]
        self.chain_id: str = record["chain_id"]
        self.created: str = record["created"]
        self.size: int = record["size"]
        self._store = store
        self._names = names
        self._config: dict[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The whole config document (image-spec, config.md), not only its `config` member."""
        if self._config is None:
            self._config = files.read_json(self._store.paths.blob(self.id))
        assert self._config is not None
        return self._config

    @property
    def names(self) -> list[str]:
        """Every reference that points here, sorted."""
        if self._names is None:
            self._names = self._store.names().get(self.id, [])
        return self._names

    @property
    def tags(self) -> list[str]:
        return [n for n in self.names if "@" not in n]

    @property
    def repo_digests(self) -> list[str]:
        return [n for n in self.names if "@" in n]

    @property
    def short_id(self) -> str:
        return self.id[7:19]

    @property
    def last_used(self) -> float:
        """When it was pulled last, or a container of it made or removed: the record's mtime, seconds since the epoch."""
        try:
            return os.stat(self._store.paths.image(self.id)).st_mtime
        except FileNotFoundError:
            return 0.0

    def __repr__(self) -> str:
        return f"Image({self.id!r})"


class ImageStore:
    """The image records under one data root. `drivers` are those that may hold layers (default: every driver's)."""

    def __init__(self, paths: Paths, drivers: Sequence[LayerDriver] | None = None) -> None:
        self.paths = paths
        self._chosen = drivers

    # --- looking up ------------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> Image:
        """The image of a reference in any spelling, of an ID, or of a prefix of an ID that fits no other.

        Raises NotFound with Docker's text, InvalidReference.
        """
        return self.lookup(name)[0]

    def find(self, name: str) -> Image | None:
        """As `resolve`, but None where there is no such image."""
        try:
            return self.resolve(name)
        except NotFound:
            return None

    def list_(self) -> list[Image]:
        """Every image, the newest first. One removed meanwhile is left out."""
        names = self.names()
        found = [self.load(i, names.get(i, [])) for i in self.ids(RECORD)]
        return sorted((i for i in found if i), key=lambda i: (i.created, i.id), reverse=True)

    def names(self) -> dict[str, list[str]]:
        """Image ID → the references that point to it, sorted."""
        found: dict[str, list[str]] = {}
        for file in files.names_in(self.paths.tags):
            image_id, reference = self.read_name(f"{self.paths.tags}/{file}")
            if reference and file_name(reference) == file:
                found.setdefault(image_id, []).append(reference)
        for references in found.values():
            references.sort()
        return found

    def reading(self) -> files.FileLock:
        """A shared lock: while it is held no image goes.

        Whoever makes a container holds it from `resolve` until the container's record names the image, so that a
        removal at the same time either sees the container or comes first.
        """
        return files.FileLock(self.paths.lock("images"), shared=True)

    def writing(self) -> files.FileLock:
        """The exclusive lock of whoever changes something here."""
        for directory in (self.paths.root, self.paths.images, self.paths.tags, self.paths.blobs):
            files.make_dirs(directory, 0o711)
        return files.FileLock(self.paths.lock("images"))

    def adding(self) -> files.FileLock:
        """A shared lock of whoever adds layers: held from the first of them until `put` has named their image.

        While anybody holds it, no layer counts as an orphan (`engine.storage.orphans`). It comes before all other locks.
        """
        return files.FileLock(self.paths.lock("adding"), shared=True)

    def nobody_adding(self) -> files.FileLock:
        """The exclusive side of `adding`. Conflict where somebody adds layers now: a pull may take hours."""
        return files.FileLock(self.paths.lock("adding"), wait=False)

    def drivers(self) -> Sequence[LayerDriver]:
        """Whatever driver may have stored a layer here."""
        if self._chosen is None:
            from engine.storage.drivers import DRIVERS

            self._chosen = [driver(self.paths) for driver in DRIVERS.values()]
        return self._chosen

    def lookup(self, name: str) -> tuple[Image, str | None]:
        """The image and the reference that led to it, None where it was an ID."""
        if is_hex_id(name) or is_digest(name):
            shown = name if is_digest(name) else f"sha256:{name}"
            image = self.load(shown)
            if image:
                return image, None
            raise NotFound(f"No such image: {shown}")
        reference = Reference.parse(name)
        key = _key(reference)
        image = self.load(self.read_name(f"{self.paths.tags}/{file_name(key)}")[0])
        if image:
            return image, key
        prefix, hint = name.removeprefix("sha256:"), None
        if prefix and not prefix.strip(HEX_DIGITS):
            fitting = [i for i in self.ids(RECORD) if i.startswith(prefix, 7)]
            image = self.load(fitting[0]) if len(fitting) == 1 else None
            if image:
                return image, None
            if fitting:
                hint = f"{len(fitting)} image IDs begin with {prefix}: give more of it"
        raise NotFound(f"No such image: {reference.familiar()}", hint)

    def load(self, image_id: str, names: list[str] | None = None) -> Image | None:
        """The image of a complete ID, None where there is none."""
        if not image_id:
            return None
        try:
            return Image(self, files.read_json(self.paths.image(image_id)), names)
        except FileNotFoundError:
            return None

    def read_name(self, path: str) -> tuple[str, str]:
        """(image ID, reference) of a tag file, ("", "") where there is none or it is not one."""
        try:
            image_id, _, reference = files.read_bytes(path).decode().strip().partition(" ")
        except (FileNotFoundError, UnicodeDecodeError):
            return "", ""
        except OSError as e:
            raise files.store_error(e, "read", path) from e
        return (image_id, reference) if is_digest(image_id) else ("", "")

    def ids(self, suffix: str) -> Iterator[str]:
        """The IDs of the images with a RECORD, or of those REMOVING."""
        for file in files.names_in(self.paths.images):
            if file.endswith(suffix) and is_hex_id(file[: -len(suffix)]):
                yield f"sha256:{file[: -len(suffix)]}"

    def records(self) -> list[dict[str, Any]]:
        """The records of the images, and of those being removed. Raises StoreError where one is damaged."""
        paths = [self.paths.image(i) for i in self.ids(RECORD)]
        paths += [self.paths.image(i).removesuffix(RECORD) + REMOVING for i in self.ids(REMOVING)]
        return [files.read_json(path) for path in paths]

    def touch(self, image_id: str) -> None:
        """Notes that the image is used now (`Image.last_used`): one system call, as every `run` makes it."""
        try:
            os.utime(self.paths.image(image_id))
        except OSError:
            # removed, or a file system that is read-only: no reason not to use it
            pass

    # --- adding ----------------------------------------------------------------------------------------------------

    def put(
        self, manifest: bytes, config: bytes, *, tag: str | None = None, repo_digest: str | None = None, size: int
    ) -> Image:
        """Makes an image of documents and layers that are in the store already; atomic, idempotent, durable.

        `tag` and `repo_digest` are references that from then on point to it. Raises IntegrityError where manifest and
        config do not belong together, Conflict where a layer was removed meanwhile, RegistryError for a document that
        is malformed.
        """
        record = new_record(manifest, config, size)
        image_id, manifest_digest = record["id"], record["manifests"][-1]
        names = [_key(Reference.parse(r)) for r in (tag, repo_digest) if r]
        with self.writing():
            missing = [d for d in record["diff_ids"] if not any(driver.has_layer(d) for driver in self.drivers())]
            if missing:
                raise Conflict(f"layer {missing[0]} was removed while its image was pulled", "pull it again")
            self._write_blob(manifest_digest, manifest)
            self._write_blob(image_id, config)
            known = self.load(image_id)
            if known:
                others = [m for m in known.manifests if m != manifest_digest]
                record["manifests"] = [*others, manifest_digest]
            files.write_json(self.paths.image(image_id), record)
            for name in names:
                self._write_name(name, image_id)
        return Image(self, record)

    def tag(self, image: Image, canonical: str) -> None:
        """Points a reference to the image, away from whatever it pointed to; atomic. NotFound if the image is gone."""
        with self.writing():
            if not self.load(image.id):
                raise NotFound(f"No such image: {image.id}")
            self._write_name(_key(Reference.parse(canonical)), image.id)
        image._names = None

    def _write_blob(self, digest: str, data: bytes) -> None:
        path = self.paths.blob(digest)
        try:
            if files.read_bytes(path) == data:
                return
        except OSError:
            pass
        files.write_atomic(path, data)

    def _write_name(self, name: str, image_id: str) -> None:
        files.write_atomic(f"{self.paths.tags}/{file_name(name)}", f"{image_id} {name}\n".encode())

    def remove_name(self, name: str) -> None:
        files.remove_file(f"{self.paths.tags}/{file_name(name)}")

    # --- removing --------------------------------------------------------------------------------------------------

    def remove(
        self, name: str, force: bool = False, in_use: InUse | None = None, unmount: Unmount | None = None
    ) -> list[tuple[str, str]]:
        """`rmi`: ("Untagged", reference) and ("Deleted", ID) in Docker's order: see `engine.storage.removal`.

        A reference loses its name, and the last one takes the image with it; an ID takes the image and all its names.
        Layers go that no other image has. Where a stopped container uses the image, `force` takes the image away and
        leaves its layers to the container: `finish_removals` deletes them when it is gone. Raises NotFound, and
        Conflict in Docker's words.
        """
        from engine.storage.removal import Removal

        with self.writing():
            return Removal(self, in_use, unmount).remove(name, force)

    def finish_removals(self, in_use: InUse | None = None, unmount: Unmount | None = None) -> None:
        """Deletes what removals left: one that was killed, or of an image that a container still used. Idempotent."""
        if any(self.ids(REMOVING)):
            from engine.storage.removal import Removal

            with self.writing():
                Removal(self, in_use, unmount).finish()


def new_record(manifest: bytes, config: bytes, size: int) -> dict[str, Any]:
    """The record of an image, from its documents, after checking that they belong together."""
    from hashlib import sha256

    from engine.oci.image import ImageConfig, Index, parse_manifest

    parsed = parse_manifest(manifest)
    if isinstance(parsed, Index):
        raise IntegrityError("an index of several platforms cannot be stored as one image")
    image_id = f"sha256:{sha256(config).hexdigest()}"
    if parsed.config.digest != image_id or parsed.config.size != len(config):
        raise IntegrityError(f"the image's config is {image_id}, but its manifest says {parsed.config.digest}")
    document = ImageConfig.from_bytes(config)
    if len(document.diff_ids) != len(parsed.layers):
        raise IntegrityError(
            f"the image's manifest has {len(parsed.layers)} layers, but its config {len(document.diff_ids)}"
        )
    created = document.raw.get("created")
    return {
        "id": image_id,
        "manifests": [f"sha256:{sha256(manifest).hexdigest()}"],
        "diff_ids": list(document.diff_ids),
        "chain_id": chain_id(list(document.diff_ids)),
        "created": created if isinstance(created, str) else "",
        "size": size,
    }


def _key(reference: Reference) -> str:
    """The name that a reference is kept under: with a digest, its tag says nothing (moby, reference/store.go)."""
    if reference.digest:
        return f"{reference.domain}/{reference.path}@{reference.digest}"
    return f"{reference.domain}/{reference.path}:{reference.tag}"


def file_name(name: str) -> str:
    """The file of a reference: without slashes, and no longer than a file name may be."""
    quoted = name.replace("%", "%25").replace("/", "%2F")
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    from hashlib import sha256

    return f"{quoted[:100]}%{sha256(name.encode()).hexdigest()}"
