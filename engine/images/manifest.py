"""From a reference to the one manifest for a platform: reads indexes, verifies each step, keeps the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import IntegrityError, PlatformMismatch, RegistryError
from engine.images.registry import RawManifest, Registry
from engine.oci.image import (
    INDEX_TYPES,
    MAX_CONFIG,
    MAX_DEPTH,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    parse_manifest,
    require_image,
)

# Entries of an index that name no platform must be fetched to be judged: this many, over all nested indexes.
MAX_FETCHES = 32


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What a reference means here: `digest` is of what the tag points at (often an index), the rest is of one image."""

    digest: str
    manifest_bytes: bytes
    manifest: Manifest
    config_bytes: bytes
    config: ImageConfig

    @property
    def layers(self) -> list[tuple[Descriptor, str]]:
        """(descriptor, DiffID) of each layer, lowest first."""
        return list(zip(self.manifest.layers, self.config.diff_ids, strict=True))


def resolve(registry: Registry, wanted: Platform, strict: bool = False) -> ResolvedImage:
    """The image of the registry's reference for the platform `wanted`.

    With `strict` (the user named the platform), an image that is not in an index must be of that platform too. Raises
    PlatformMismatch, naming what there is, and everything that Registry raises.
    """
    reference = registry.reference
    top = registry.get_manifest(reference.digest or reference.tag or "")
    return _Resolver(registry, wanted, top.digest).visit(top, 0, strict)


class _Resolver:
    def __init__(self, registry: Registry, wanted: Platform, digest: str) -> None:
        self._registry = registry
        self._wanted = wanted
        self._digest = digest
        self._fetches = 0

    def visit(self, raw: RawManifest, depth: int, strict: bool) -> ResolvedImage:
        """`strict`: nothing has told yet what platform this is for, and it matters."""
        document = parse_manifest(raw.data, raw.content_type)
        if isinstance(document, Manifest):
            return self._image(raw, document, strict)
        if depth == MAX_DEPTH:
            raise RegistryError(f"the index of {self._registry.reference} is nested more than {MAX_DEPTH} deep")
        for entry in self._choices(document):
            try:
                return self.visit(self._fetch(entry), depth + 1, strict=entry.platform is None)
            except PlatformMismatch:
                continue
        raise self._mismatch(document)

    def _choices(self, index: Index) -> Iterator[Descriptor]:
        """The entries to try, best first: the platform itself, what it can run too, then those without a platform."""
        entries = [e for e in index.manifests if not e.is_attestation]
        for candidate in self._wanted.candidates():
            for entry in entries:
                if entry.platform == candidate:
                    yield entry
        for entry in entries:
            if entry.platform is None or (not entry.platform.architecture and entry.media_type in INDEX_TYPES):
                yield entry

    def _fetch(self, entry: Descriptor) -> RawManifest:
        self._fetches += 1
        if self._fetches > MAX_FETCHES:
            raise RegistryError(
                f"no image for {self._wanted} among {MAX_FETCHES} manifests of {self._registry.reference}"
            )
        raw = self._registry.get_manifest(entry.digest)
        if len(raw.data) != entry.size:
            raise IntegrityError(f"manifest {entry.digest} has {len(raw.data)} bytes, but the index says {entry.size}")
        return RawManifest(raw.data, raw.digest, entry.media_type)

    def _image(self, raw: RawManifest, manifest: Manifest, strict: bool) -> ResolvedImage:
        require_image(manifest)
        config_bytes = self._registry.get_blob(manifest.config, MAX_CONFIG)
        config = ImageConfig.from_bytes(config_bytes)
        if len(config.diff_ids) != len(manifest.layers):
            raise RegistryError(
                f"the config of {self._registry.reference} has {len(config.diff_ids)} DiffIDs "
                f"for the manifest's {len(manifest.layers)} layers"
            )
        if strict and not self._runs(config):
            raise PlatformMismatch(
                f"{self._registry.reference} is an image for {config.platform}, not for {self._wanted}",
                f"pull it with --platform {config.platform}",
            )
        return ResolvedImage(self._digest, raw.data, manifest, config_bytes, config)

    def _runs(self, config: ImageConfig) -> bool:
        """Configs often leave the variant out: then any will do."""
        told = bool(config.raw.get("variant"))
        return any(
            config.platform == c or (not told and (config.os, config.architecture) == (c.os, c.architecture))
            for c in self._wanted.candidates()
        )

    def _mismatch(self, index: Index) -> PlatformMismatch:
        there = sorted({str(e.platform) for e in index.manifests if e.platform and not e.is_attestation})
        return PlatformMismatch(
            f"no matching manifest for {self._wanted} in the manifest list entries of {self._registry.reference}",
            f"there are: {', '.join(there)}; choose one with --platform" if there else None,
        )
