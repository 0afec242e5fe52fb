"""`save`: images as one tar that every reader takes.

    oci-layout index.json     an OCI layout: what skopeo, Podman, BuildKit and containerd read        (image-layout.md)
    manifest.json             a docker-archive over the same blobs: what every `docker load` reads
    blobs/sha256/HEX          manifests, configs, and the layers as the verbatim tars that the store has

The layers are plain tars, whose digests are their DiffIDs; so the config, and with it the image ID, is what it was, while the
manifest is another than the registry's, which names compressed blobs. Deterministic: the same images give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from engine import events
from engine.context import Context
from engine.errors import NotFound
from engine.files import read_bytes, store_error
from engine.images.reference import Reference
from engine.oci.digest import is_digest, is_hex_id
from engine.oci.image import OCI_INDEX, OCI_MANIFEST, uncompressed_manifest
from engine.storage.images import Image, ImageStore
from engine.storage.tar_write import TarWriter, member

_BLOBS = "blobs/sha256/"


class _Saved:
    """An image on its way into the archive, and the tags that it is to have there."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.config = image.config
        self.tags: list[Reference] = []


def save(ctx: Context, names: Iterable[str], fd: int) -> None:
    """Writes the images to the descriptor. A name without tag means every tag of it that there is, an ID none, as in Docker.

    Raises NotFound and InvalidReference before the first byte, StoreError, and OSError of the descriptor.
    """
    store = ImageStore(ctx.paths)
    with ExitStack() as opened:
        # once they are read or open, a removal of the image takes nothing away
        with store.reading():
            images = _resolve(store, names)
            layers = {d: _open_layer(ctx, opened, d) for saved in images for d in saved.image.diff_ids}
            documents = _documents(ctx, images, {d: os.fstat(layer).st_size for d, layer in layers.items()})
        tar = TarWriter(fd)
        for name, data in documents.items():
            tar.add(member(name, len(data)), data)
        for diff_id, layer in layers.items():
            tar.add_file(member(_BLOBS + diff_id[7:], os.fstat(layer).st_size), layer)
        tar.close()
    for saved in images:
        events.image(ctx.paths, "save", saved.image.id, saved.config)


def _resolve(store: ImageStore, names: Iterable[str]) -> list[_Saved]:
    """The images in the order of their first names, with their tags (moby, image/tarexport/save.go, parseNames)."""
    found: dict[str, _Saved] = {}
    for name in names:
        for image, tag in _named(store, name):
            saved = found.setdefault(image.id, _Saved(image))
            if tag and not tag.digest and tag not in saved.tags:
                saved.tags.append(tag)
    return list(found.values())


def _named(store: ImageStore, name: str) -> list[tuple[Image, Reference | None]]:
    if not (is_digest(name) or is_hex_id(name)):
        repository = Reference.parse(name).repository
        if ":" not in name.rpartition("/")[2]:
            references = [(i, Reference.parse(t)) for i, tags in store.names().items() for t in tags]
            every = [(i, r) for i, r in references if r.repository == repository and not r.digest]
            loaded = [(store.load(i), r) for i, r in sorted(every, key=lambda pair: pair[1].canonical())]
            if loaded:
                return [(image, reference) for image, reference in loaded if image]
    image, reference = store.lookup(name)
    return [(image, Reference.parse(reference) if reference else None)]


def _open_layer(ctx: Context, opened: ExitStack, diff_id: str) -> int:
    path = ctx.paths.layer(diff_id)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"the store lacks layer {diff_id}", "pull the image again") from None
    except OSError as e:
        raise store_error(e, "read the layer", path) from e
    opened.callback(os.close, fd)
    return fd


def _documents(ctx: Context, images: list[_Saved], sizes: dict[str, int]) -> dict[str, bytes]:
    """Everything but the layers, by name, in the order of the archive."""
    blobs: dict[str, bytes] = {}
    index: list[dict[str, Any]] = []
    archive: list[dict[str, Any]] = []
    for saved in images:
        image = saved.image
        config = read_bytes(ctx.paths.blob(image.id))
        manifest = uncompressed_manifest(config, [(d, sizes[d]) for d in image.diff_ids])
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        blobs[_BLOBS + digest[7:]] = manifest
        blobs[_BLOBS + image.id[7:]] = config
        descriptor = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(manifest)}
        index += [descriptor | {"annotations": _annotations(tag)} for tag in saved.tags] or [descriptor]
        archive.append(
            {
                "Config": _BLOBS + image.id[7:],
                "RepoTags": [tag.familiar() for tag in saved.tags] or None,
                "Layers": [_BLOBS + d[7:] for d in image.diff_ids],
            }
        )
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index}),
        "manifest.json": _json(archive),
        "blobs/": b"",
        _BLOBS: b"",
        **blobs,
    }


def _annotations(tag: Reference) -> dict[str, str]:
    """As Docker and containerd have them: the full name, and the tag for readers that choose by ref.name."""
    return {"io.containerd.image.name": tag.canonical(), "org.opencontainers.image.ref.name": tag.tag or ""}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
