"""The images in an archive: what a docker-archive's manifest.json or an OCI layout's index.json says, checked.

    docker-archive   manifest.json ─▶ config, layer files, tags            (`docker save`, skopeo, Podman)
    OCI layout       index.json ─▶ manifest ─▶ config, blobs by digest     (image-spec, image-layout.md; BuildKit, skopeo)

Current Dockers write both into one archive; then manifest.json counts, as it does for Docker. One image is read at a time,
and every document is bounded, so that memory is, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.errors import ArchiveError, IntegrityError, InvalidReference, PlatformMismatch
from engine.images.archive import Archive
from engine.images.reference import Reference
from engine.oci.image import (
    INDEX_TYPES,
    MAX_CONFIG,
    MAX_DEPTH,
    MAX_LAYERS,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    load_json,
    parse_manifest,
    require_image,
)

MAX_DOCUMENT = 4 << 20
MAX_IMAGES = 1024
MAX_TAGS = 1024
_CONTAINERD_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class ArchivedLayer:
    """A layer's file. `digest` and `size` are of the file as it lies there, or None where nothing tells them."""

    file: str
    diff_id: str
    digest: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image for one platform. `manifest` is None in a docker-archive, which has none."""

    config: bytes
    manifest: bytes | None
    layers: tuple[ArchivedLayer, ...]
    tags: tuple[Reference, ...]


def archived_images(archive: Archive, wanted: Platform) -> Iterator[ArchivedImage]:
    """Each image in turn; of an image for several platforms the one for `wanted`.

    Raises ArchiveError, IntegrityError, InvalidReference, PlatformMismatch, and RegistryError for a malformed document.
    """
    if archive.has("manifest.json"):
        return _docker_images(archive)
    if archive.has("index.json"):
        return _oci_images(archive, wanted)
    raise ArchiveError(
        "neither a docker-archive nor an OCI layout: it has no manifest.json and no index.json",
        "a plain root file system is read by `mini import`",
    )


# --- docker-archive ------------------------------------------------------------------------------------------------


def _docker_images(archive: Archive) -> Iterator[ArchivedImage]:
    entries = _json(archive.read("manifest.json", MAX_DOCUMENT), "manifest.json")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_IMAGES:
        raise ArchiveError(f"manifest.json must be a list of 1 to {MAX_IMAGES} images")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
            raise ArchiveError("manifest.json: each image must be an object with a Config")
        files = _strings(entry, "Layers", MAX_LAYERS)
        tags = tuple(_tag(text) for text in _strings(entry, "RepoTags", MAX_TAGS))
        config = archive.read(entry["Config"], MAX_CONFIG)
        diff_ids = ImageConfig.from_bytes(config).diff_ids
        if len(diff_ids) != len(files):
            # moby, image/tarexport/load.go
            raise ArchiveError(f"invalid manifest, layers length mismatch: expected {len(files)}, got {len(diff_ids)}")
        layers = tuple(ArchivedLayer(file, diff_id) for file, diff_id in zip(files, diff_ids, strict=True))
        yield ArchivedImage(config, None, layers, tags)


def _strings(entry: dict[str, Any], key: str, limit: int) -> list[str]:
    value = entry.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > limit or not all(isinstance(v, str) for v in value):
        raise ArchiveError(f"manifest.json: {key} must be a list of at most {limit} strings")
    return value


def _tag(text: str) -> Reference:
    reference = Reference.parse(text)
    if reference.digest:
        raise InvalidReference(f"invalid tag {text!r}")
    return reference


# --- OCI layout ----------------------------------------------------------------------------------------------------


def _oci_images(archive: Archive, wanted: Platform) -> Iterator[ArchivedImage]:
    version = load_json(archive.read("oci-layout", MAX_DOCUMENT), "oci-layout").get("imageLayoutVersion")
    if version != "1.0.0":
        raise ArchiveError(f"oci-layout: version {version!r} is not 1.0.0")
    index = parse_manifest(archive.read("index.json", MAX_DOCUMENT), INDEX_TYPES[0])
    if not isinstance(index, Index):
        raise ArchiveError("index.json is not an index")
    images: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for name, entries in _by_name(index).items():
        chosen = _choose(archive, entries, wanted, 0)
        tags = images.setdefault(chosen.digest, (chosen, []))[1]
        if isinstance(name, Reference):
            tags.append(name)
    if not images:
        raise ArchiveError("index.json names no image")
    for descriptor, tags in images.values():
        yield _oci_image(archive, descriptor, tuple(tags))


def _by_name(index: Index) -> dict[Reference | int, list[Descriptor]]:
    """The entries that are one image for several platforms: those of one name, and those that have none but a platform."""
    found: dict[Reference | int, list[Descriptor]] = {}
    for number, entry in enumerate(index.manifests):
        if not entry.is_attestation:
            key = _name(entry) or (-1 if entry.platform else number)
            found.setdefault(key, []).append(entry)
    return found


def _name(entry: Descriptor) -> Reference | None:
    """containerd's and Docker's full name; else what skopeo and Podman put into ref.name, unless it is but a tag."""
    full, short = entry.annotations.get(_CONTAINERD_NAME), entry.annotations.get(_REF_NAME, "")
    if full:
        return _tag(full)
    return _tag(short) if "/" in short or ":" in short else None


def _choose(archive: Archive, entries: list[Descriptor], wanted: Platform, depth: int) -> Descriptor:
    """The manifest for the platform among entries that are the same image; what is alone there needs no choice."""
    found = entries[0] if len(entries) == 1 else None
    for candidate in wanted.candidates():
        found = found or next((e for e in entries if e.platform == candidate), None)
    found = found or next((e for e in entries if e.platform is None), None)
    if found is None:
        there = sorted({str(e.platform) for e in entries})
        raise PlatformMismatch(f"no image for {wanted} in the archive, but for {', '.join(there)}")
    if found.media_type not in INDEX_TYPES:
        return found
    if depth == MAX_DEPTH:
        raise ArchiveError(f"the archive's index is nested more than {MAX_DEPTH} deep")
    document = parse_manifest(_blob(archive, found, MAX_DOCUMENT), found.media_type)
    below = [e for e in document.manifests if not e.is_attestation] if isinstance(document, Index) else []
    if not below:
        raise ArchiveError(f"index {found.digest} names no image")
    return _choose(archive, below, wanted, depth + 1)


def _oci_image(archive: Archive, descriptor: Descriptor, tags: tuple[Reference, ...]) -> ArchivedImage:
    data = _blob(archive, descriptor, MAX_DOCUMENT)
    manifest = parse_manifest(data, descriptor.media_type)
    if not isinstance(manifest, Manifest):
        raise ArchiveError(f"blob {descriptor.digest} is not the manifest that the index says it is")
    require_image(manifest)
    config = _blob(archive, manifest.config, MAX_CONFIG)
    diff_ids = ImageConfig.from_bytes(config).diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ArchiveError(
            f"the config in the archive has {len(diff_ids)} DiffIDs for the manifest's {len(manifest.layers)} layers"
        )
    pairs = zip(manifest.layers, diff_ids, strict=True)
    layers = tuple(ArchivedLayer(_blob_name(e.digest), diff_id, e.digest, e.size) for e, diff_id in pairs)
    return ArchivedImage(config, data, layers, tags)


def _blob(archive: Archive, descriptor: Descriptor, limit: int) -> bytes:
    """A document by its digest, verified."""
    data = archive.read(_blob_name(descriptor.digest), limit)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if (digest, len(data)) != (descriptor.digest, descriptor.size):
        raise IntegrityError(
            f"blob {descriptor.digest} of {descriptor.size} bytes is in the archive as {digest} of {len(data)} bytes"
        )
    return data


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as e:
        raise ArchiveError(f"{where}: not JSON: {e}") from e
