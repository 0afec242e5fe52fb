"""`push`: the use case that takes images from the store to a registry.

    DiffID ─→ forms it is known in (manifests in the store, earlier pushes)
                 │ there already? HEAD          │ in another repository there? mount
                 ▼                              ▼
              none of them: its tar, gzipped on the way ─→ upload ─→ manifest ─→ PUT tag

The store keeps layers uncompressed, and a layer that is compressed again has another digest than the one it was pulled
with: config, image ID and DiffIDs stay, the manifest's digest does not, as with Docker. Where every layer is at the
registry in the form it came in, or can be mounted there, the manifest goes out byte for byte as it came in.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from engine import events, files
from engine.context import Context
from engine.errors import Conflict, MiniError, NotFound, UsageError
from engine.images.progress import LayerProgress, PushProgress, SilentPush
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.upload import Bytes, LayerTar, Uploader
from engine.images.workers import side_by_side
from engine.oci.digest import is_hex_id
from engine.oci.image import DOCKER_LAYER, DOCKER_MANIFEST, OCI_LAYER, Descriptor, Manifest, parse_manifest
from engine.paths import Paths
from engine.storage.images import Image, ImageStore

CONCURRENT_UPLOADS = 5
# Compressed forms that are looked for; there are more only where many registries had the layer in different ones.
MAX_FORMS = 4
# How often a registry is asked to take a layer over from another of its repositories, before it is uploaded.
MAX_MOUNTS = 4


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a tag is at the registry now. `size` is the manifest's, in bytes."""

    reference: Reference
    digest: str
    size: int


def push(
    ctx: Context, reference: Reference, *, all_tags: bool = False, progress: PushProgress | None = None
) -> list[Pushed]:
    """Pushes the image of `reference`, or with `all_tags` every image of its repository, in the order of the tags.

    Idempotent: what the registry has is not uploaded. Raises NotFound, UsageError, the registry's errors, IntegrityError where a
    layer is damaged. KeyboardInterrupt ends it at once; the registry then has layers that no tag leads to, as after a kill.
    """
    progress = progress or SilentPush()
    if reference.digest:
        raise UsageError("cannot push a digest reference")
    store = ImageStore(ctx.paths)
    progress.start(reference.repository)
    images = _images(store, reference, all_tags)
    sweep_forms(ctx.paths)
    registry = Registry(reference, ctx.environ, actions="pull,push")
    try:
        pusher = _Pusher(store, registry, progress)
        pushed = []
        for tag, image in images:
            found = pusher.push(image, tag)
            progress.finish(tag, found.digest, found.size)
            events.image(ctx.paths, "push", f"{reference.familiar_name}:{tag}", image.config, reference.familiar_name)
            pushed.append(found)
        return pushed
    finally:
        progress.close()
        registry.close()


def _images(store: ImageStore, reference: Reference, all_tags: bool) -> list[tuple[str, Image]]:
    """(tag, image) of what is to be pushed, in order. Raises NotFound in Docker's words."""
    tags = {}
    for image in store.list_():
        for name in image.tags:
            known = Reference.parse(name)
            if known.repository == reference.repository and known.tag:
                tags[known.tag] = image
    if not tags:
        raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
    if all_tags:
        return sorted(tags.items())
    if reference.tag not in tags:
        raise NotFound(f"tag does not exist: {reference.familiar()}", f"there are: {', '.join(sorted(tags))}")
    return [(reference.tag, tags[reference.tag])]


class _Pusher:
    """One push to one repository. Remembers across its images what the registry has of each layer."""

    def __init__(self, store: ImageStore, registry: Registry, progress: PushProgress) -> None:
        self._store = store
        self._registry = registry
        self._uploader = Uploader(registry)
        self._progress = progress
        self._forms = KnownForms(store, registry.reference)
        self._there: dict[str, Descriptor] = {}

    def push(self, image: Image, tag: str) -> Pushed:
        layers: dict[str, LayerProgress] = {}
        for diff_id in reversed(image.diff_ids):
            if diff_id not in layers:
                layers[diff_id] = self._progress.layer(diff_id[7:19], self._size(diff_id))
                layers[diff_id].status("Preparing")
        for shown in list(layers.values())[CONCURRENT_UPLOADS:]:
            shown.status("Waiting")
        verbatim = self._forms.of_registry(image)

        def work(job: tuple[str, LayerProgress]) -> None:
            self._there[job[0]] = self._layer(image, job[0], verbatim.get(job[0]), job[1])

        side_by_side(work, list(layers.items()), CONCURRENT_UPLOADS, self._registry.transport)
        config = Bytes(files.read_bytes(self._store.paths.blob(image.id)))
        if not self._uploader.has_blob(config.digest):
            self._uploader.upload(config)
        data, media_type = self._manifest(image)
        digest = self._uploader.put_manifest(tag, data, media_type)
        self._note(image, data, config.data, digest)
        return Pushed(Reference(self._registry.reference.domain, self._registry.reference.path, tag), digest, len(data))

    def _size(self, diff_id: str) -> int:
        path = self._store.paths.layer(diff_id)
        try:
            return os.stat(path).st_size
        except OSError as e:
            raise files.store_error(e, "read the layer", path) from e

    def _layer(self, image: Image, diff_id: str, came_as: Descriptor | None, shown: LayerProgress) -> Descriptor:
        """Sees to it that the repository has the layer; its descriptor there."""
        if diff_id in self._there:
            shown.status("Layer already exists")
            return self._there[diff_id]
        if came_as and came_as.urls:
            shown.status("Skipped foreign layer")
            return came_as
        forms = self._forms.of_layer(image, diff_id)
        for form in forms:
            if self._uploader.has_blob(form.digest):
                shown.status("Layer already exists")
                return form
        sources = [(form.digest, source) for form in forms for source in self._forms.repositories(form)]
        taken, place = self._uploader.mount(sources[:MAX_MOUNTS])
        if taken:
            shown.status(f"Mounted from {taken[1]}")
            return next(form for form in forms if form.digest == taken[0])
        shown.status("Pushing")
        # A layer that came uncompressed from a registry goes uncompressed, so that its manifest stays what it was.
        plain = came_as is not None and came_as.digest == diff_id
        blob = LayerTar(self._store.paths.layer(diff_id), diff_id, not plain, shown.update)
        self._uploader.upload(blob, place)
        form = came_as if came_as and plain else Descriptor("", blob.digest, blob.size)
        if not plain:
            remember_form(self._store.paths, diff_id, form)
        shown.status("Pushed")
        return form

    def _manifest(self, image: Image) -> tuple[bytes, str]:
        """(bytes, media type): a manifest that the image has already, if the layers are there in that form, or a new one."""
        there = [self._there[d] for d in image.diff_ids]
        wanted = [(d.digest, d.size) for d in there]
        known = self._forms.manifests(image)
        for data, document in known:
            if [(d.digest, d.size) for d in document.layers] == wanted:
                return data, document.media_type
        data, document = known[0]
        raw = json.loads(data)
        raw["layers"] = [
            _layer_json(d, document.media_type, d.digest == i) for d, i in zip(there, image.diff_ids, strict=True)
        ]
        # Indented as Docker's manifests are, so that the same image has the same size here and there.
        return json.dumps(raw, indent=3).encode(), document.media_type

    def _note(self, image: Image, manifest: bytes, config: bytes, digest: str) -> None:
        """The image is known by its digest at this registry from now on; and the next push finds its layers by it."""
        name = self._registry.reference.with_digest(digest).canonical()
        if self._store.load(image.id) is None:
            return
        try:
            self._store.put(manifest, config, repo_digest=name, size=image.size)
        except Conflict:
            # Removed while it was pushed, which is no reason to call the push a failure.
            pass


class KnownForms:
    """In which compressed forms the layers of the store are known to exist, and where. Thread-safe: read once."""

    def __init__(self, store: ImageStore, target: Reference) -> None:
        self._store = store
        self._by_layer: dict[str, list[Descriptor]] = {}
        self._repositories: dict[str, list[str]] = {}
        self._manifests: dict[str, list[tuple[bytes, Manifest]]] = {}
        for image in store.list_():
            self._read(image, target)

    def of_layer(self, image: Image, diff_id: str) -> list[Descriptor]:
        """The forms, those in the image's own manifests first; without duplicates."""
        position = image.diff_ids.index(diff_id)
        found = {d.layers[position].digest: d.layers[position] for _, d in self.manifests(image)}
        recorded = recorded_form(self._store.paths, diff_id)
        for form in [*([recorded] if recorded else []), *self._by_layer[diff_id]]:
            found.setdefault(form.digest, form)
        return list(found.values())[:MAX_FORMS]

    def repositories(self, form: Descriptor) -> list[str]:
        """Other repositories of the target's registry that should have the layer in this form."""
        return self._repositories.get(form.digest, [])

    def manifests(self, image: Image) -> list[tuple[bytes, Manifest]]:
        """The image's manifests, the first that it had first."""
        return self._manifests[image.id]

    def of_registry(self, image: Image) -> dict[str, Descriptor]:
        """DiffID → the form in the manifest that a registry has the image by; empty where that is not known."""
        digests = {name.rpartition("@")[2] for name in image.repo_digests}
        for data, document in self.manifests(image):
            if f"sha256:{hashlib.sha256(data).hexdigest()}" in digests:
                return dict(zip(image.diff_ids, document.layers, strict=True))
        return {}

    def _read(self, image: Image, target: Reference) -> None:
        by_digest: dict[str, Manifest] = {}
        documents = self._manifests.setdefault(image.id, [])
        for digest in image.manifests:
            path = self._store.paths.blob(digest)
            try:
                data = files.read_bytes(path)
            except OSError as e:
                raise files.store_error(e, "read the manifest", path) from e
            document = parse_manifest(data)
            if isinstance(document, Manifest):
                by_digest[digest] = document
                documents.append((data, document))
                for diff_id, layer in zip(image.diff_ids, document.layers, strict=True):
                    self._by_layer.setdefault(diff_id, []).append(layer)
        for name in image.repo_digests:
            known = Reference.parse(name)
            if known.domain == target.domain and known.path != target.path:
                self._note_repository(known, by_digest)

    def _note_repository(self, known: Reference, by_digest: dict[str, Manifest]) -> None:
        """The repository has the layers of this digest's manifest; of an index it is not known which, so of any."""
        chosen = by_digest.get(known.digest or "")
        for document in [chosen] if chosen else by_digest.values():
            for layer in document.layers:
                paths = self._repositories.setdefault(layer.digest, [])
                if known.path not in paths:
                    paths.append(known.path)


def remember_form(paths: Paths, diff_id: str, form: Descriptor) -> None:
    """Notes what a layer was compressed to, so that the next push need not compress it to know whether it is there."""
    files.make_dirs(paths.compressed, 0o700)
    files.write_json(_record(paths, diff_id), {"digest": form.digest, "size": form.size}, sync=False)


def sweep_forms(paths: Paths) -> None:
    """Removes what was noted of layers that are gone."""
    try:
        names = os.listdir(paths.compressed)
    except FileNotFoundError:
        return
    for name in names:
        if is_hex_id(name) and not os.path.exists(paths.layer(name)):
            files.remove_file(f"{paths.compressed}/{name}")


def recorded_form(paths: Paths, diff_id: str) -> Descriptor | None:
    """What `remember_form` noted. A cache: what cannot be read is as if it were not there."""
    try:
        return Descriptor.from_json({"mediaType": "", **files.read_json(_record(paths, diff_id))}, "record")
    except (FileNotFoundError, MiniError, TypeError):
        return None


def _record(paths: Paths, diff_id: str) -> str:
    return f"{paths.compressed}/{diff_id.removeprefix('sha256:')}"


def _layer_json(form: Descriptor, manifest_type: str, plain: bool) -> dict[str, Any]:
    """A layer's descriptor in a manifest of that type: what the two families of types call the same thing."""
    if form.urls:
        return {"mediaType": form.media_type, "size": form.size, "digest": form.digest, "urls": list(form.urls)}
    docker = manifest_type == DOCKER_MANIFEST
    if form.media_type.endswith(("zstd", "zst")):
        suffix = ".zstd" if docker else "+zstd"
    else:
        suffix = "" if plain else ".gzip" if docker else "+gzip"
    media_type = (DOCKER_LAYER if docker else OCI_LAYER) + suffix
    return {"mediaType": media_type, "size": form.size, "digest": form.digest}
