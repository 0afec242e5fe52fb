"""The OCI image specification's documents and Docker's schema 2, read strictly.

https://github.com/opencontainers/image-spec/blob/v1.1.0/ (descriptor.md, manifest.md, image-index.md, config.md) and
https://distribution.github.io/distribution/spec/manifest-v2-2/. A document comes from somebody else's server: whatever
is used of it is checked here, once, for its type and range, so that a digest is a digest wherever the program meets one
(CVE-2024-3727) and a document is not a manifest to one reader and an index to another (CVE-2021-41190).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import host
from engine.errors import RegistryError, UsageError
from engine.oci.digest import is_digest

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)

# The prefixes of layer types; what follows (`+gzip`, `.zstd` …) is not relied on: the first bytes tell the compression.
_LAYER_PREFIXES = (
    OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    DOCKER_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)

MAX_LAYERS = 4096
MAX_CONFIG = 8 << 20
MAX_DEPTH = 4  # of indexes within indexes
_REFERENCE_TYPE = "vnd.docker.reference.type"

# What containerd takes for an architecture (platforms/database.go).
_ARCHITECTURES = frozenset(
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le "
    "ppc riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)
# containerd's platform database: other names of an architecture, and the variant that is meant by none.
_ARCHITECTURE_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """os/architecture[/variant] in Go's words, normalised: arm64 drops variant v8 and amd64 v1, arm alone means v7."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def normalised(cls, os: str, architecture: str, variant: str = "") -> Platform:
        architecture, default = _ARCHITECTURE_ALIASES.get(architecture.lower(), (architecture.lower(), ""))
        variant = (variant or default).lower()
        if variant[:1].isdigit():
            variant = f"v{variant}"
        if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
            variant = ""
        if (architecture, variant) == ("arm", ""):
            variant = "v7"
        return cls({"macos": "darwin"}.get(os.lower(), os.lower()), architecture, variant)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """`linux/arm/v7`, `linux/arm64`, or one word: an architecture, or `linux`. Raises UsageError in Docker's words."""
        parts = text.split("/")
        if not 1 <= len(parts) <= 3 or not all(p and p.replace("_", "").replace("-", "").isalnum() for p in parts):
            raise UsageError(f'"{text}" is an invalid platform: want OS[/ARCHITECTURE[/VARIANT]], such as linux/arm64')
        if len(parts) > 1:
            return cls.normalised(*parts)
        if parts[0].lower() in ("linux", "windows", "darwin", "freebsd"):
            return cls.normalised(parts[0], *host.architecture())
        found = cls.normalised("linux", parts[0])
        if found.architecture not in _ARCHITECTURES:
            reason = f'"{text}": unknown operating system or architecture: invalid argument'
            raise UsageError(f"error parsing specified platform: {reason}", "for instance linux/arm64")
        return found

    @classmethod
    def of_host(cls) -> Platform:
        """What this machine runs: Linux, also where mini itself only stores images (macOS)."""
        return cls.normalised("linux", *host.architecture())

    @classmethod
    def from_json(cls, value: Any, where: str) -> Platform:
        table = _mapping(value, where)
        os, architecture = _text(table, "os", where, ""), _text(table, "architecture", where, "")
        return cls.normalised(os, architecture, _text(table, "variant", where, ""))

    def candidates(self) -> list[Platform]:
        """What this platform runs, best first: older variants, 32 bits (as containerd's `platforms.Only`)."""
        found = [self]
        number = self.variant.removeprefix("v")
        if self.architecture == "amd64":
            if number.isdigit():
                found += [Platform.normalised(self.os, "amd64", f"v{n}") for n in range(int(number) - 1, 0, -1)]
            found.append(Platform(self.os, "386"))
        elif self.architecture == "arm" and number.isdigit():
            found += [Platform(self.os, "arm", f"v{n}") for n in range(int(number) - 1, 4, -1)]
        elif self.architecture == "arm64":
            if number.isdigit():
                found.append(Platform(self.os, "arm64"))
            found += [Platform(self.os, "arm", f"v{n}") for n in (8, 7, 6, 5)]
        return found

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Content by its digest: `size` in bytes is exact, and as binding as the digest."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any, where: str) -> Descriptor:
        table = _mapping(value, where)
        digest, size = _text(table, "digest", where), table.get("size")
        if not is_digest(digest):
            raise RegistryError(f"{where}: {digest!r} is not a sha256 digest")
        if type(size) is not int or not 0 <= size < 1 << 63:
            raise RegistryError(f"{where}: {size!r} is not a size")
        platform = table.get("platform")
        urls = table.get("urls") or []
        if not isinstance(urls, list) or not all(isinstance(u, str) for u in urls):
            raise RegistryError(f"{where}: urls must be a list of strings")
        return cls(
            _text(table, "mediaType", where),
            digest,
            size,
            None if platform is None else Platform.from_json(platform, f"{where}: platform"),
            _string_table(table, "annotations", where),
            tuple(urls),
        )

    @property
    def short_id(self) -> str:
        """The 12 hex digits that Docker shows of a layer."""
        return self.digest[7:19]

    @property
    def is_attestation(self) -> bool:
        """BuildKit's provenance and SBOM documents, which indexes list as manifests of the platform unknown/unknown."""
        unknown = self.platform is not None and (self.platform.os, self.platform.architecture) == ("unknown", "unknown")
        return unknown or self.annotations.get(_REFERENCE_TYPE) == "attestation-manifest"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform: a config and the layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests for several platforms (OCI index, Docker manifest list); may hold further indexes."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's config. `raw` is all of it; `diff_ids` are the digests of the uncompressed layers, lowest first."""

    raw: Mapping[str, Any]
    platform: Platform
    diff_ids: tuple[str, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> ImageConfig:
        where = "image config"
        raw = load_json(data, where)
        rootfs = _mapping(raw.get("rootfs"), f"{where}: rootfs")
        diff_ids = rootfs.get("diff_ids")
        if rootfs.get("type") != "layers" or not isinstance(diff_ids, list):
            raise RegistryError(f"{where}: rootfs must be of type layers, with diff_ids")
        for diff_id in diff_ids:
            if not isinstance(diff_id, str) or not is_digest(diff_id):
                raise RegistryError(f"{where}: {diff_id!r} is not a DiffID")
        if raw.get("config") is not None:
            _mapping(raw["config"], f"{where}: config")
        return cls(raw, Platform.from_json(raw, where), tuple(diff_ids))

    @property
    def architecture(self) -> str:
        return self.platform.architecture

    @property
    def os(self) -> str:
        return self.platform.os

    @property
    def variant(self) -> str:
        return self.platform.variant

    @property
    def config(self) -> Mapping[str, Any]:
        """The execution parameters: Env, Entrypoint, Cmd, User, WorkingDir …"""
        return self.raw.get("config") or {}


def parse_manifest(data: bytes, content_type: str = "") -> Manifest | Index:
    """Reads a manifest or an index. `content_type` is what the registry called it, or empty.

    Raises RegistryError where the document is malformed, ambiguous, or of another type than the registry said.
    """
    raw = load_json(data, "manifest")
    media_type = _media_type(raw, content_type.partition(";")[0].strip().lower())
    if raw.get("schemaVersion") != 2:
        raise RegistryError(f"manifest: schemaVersion {raw.get('schemaVersion')!r} is not 2")
    annotations = _string_table(raw, "annotations", "manifest")
    if media_type in INDEX_TYPES:
        entries = _list(raw, "manifests", "index")
        found = [Descriptor.from_json(e, f"index: manifest {i}") for i, e in enumerate(entries)]
        return Index(media_type, tuple(found), annotations)
    config = Descriptor.from_json(raw.get("config"), "manifest: config")
    layers = [Descriptor.from_json(e, f"manifest: layer {i}") for i, e in enumerate(_list(raw, "layers", "manifest"))]
    return Manifest(media_type, config, tuple(layers), annotations)


def uncompressed_manifest(config: bytes, layers: Sequence[tuple[str, int]]) -> bytes:
    """The OCI manifest of an image whose layers are (DiffID, size) of plain tars, lowest first. Deterministic."""

    def entry(media_type: str, digest: str, size: int) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest, "size": size}

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry(OCI_CONFIG, f"sha256:{hashlib.sha256(config).hexdigest()}", len(config)),
        "layers": [entry(OCI_LAYER, diff_id, size) for diff_id, size in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def require_image(manifest: Manifest) -> None:
    """Raises RegistryError where the manifest is not of a container image (but a Helm chart, a signature …)."""
    if manifest.config.media_type not in CONFIG_TYPES:
        raise RegistryError(f"not a container image: its config is {manifest.config.media_type}")
    for layer in manifest.layers:
        if not layer.media_type.startswith(_LAYER_PREFIXES):
            raise RegistryError(f"not a container image: layer {layer.short_id} is {layer.media_type}")


def load_json(data: bytes, where: str) -> Mapping[str, Any]:
    """A JSON object from bytes that are not trusted. Raises RegistryError."""
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise RegistryError(f"{where}: not JSON: {e}") from e
    return _mapping(value, where)


def _media_type(raw: Mapping[str, Any], content_type: str) -> str:
    """What the document is, by its own word, the registry's and its fields, which must agree (CVE-2021-41190)."""
    declared = _text(raw, "mediaType", "manifest", "")
    if declared.startswith(_SCHEMA_1) or content_type.startswith(_SCHEMA_1) or raw.get("schemaVersion") == 1:
        raise RegistryError("the image has a Docker schema 1 manifest", "it must be pushed again by a newer Docker")
    known = MANIFEST_TYPES + INDEX_TYPES
    if declared and content_type in known and declared != content_type:
        raise RegistryError(f"manifest: the document says {declared}, but the registry {content_type}")
    is_index, is_manifest = "manifests" in raw, "layers" in raw or "config" in raw
    if is_index and is_manifest:
        raise RegistryError("manifest: the document is both a manifest and an index")
    media_type = declared or (content_type if content_type in known else OCI_INDEX if is_index else OCI_MANIFEST)
    if media_type not in known:
        raise RegistryError(f"manifest: unknown media type {media_type}")
    if (media_type in INDEX_TYPES) != is_index:
        raise RegistryError(f"manifest: the document is not the {media_type} that it claims to be")
    return media_type


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RegistryError(f"{where}: must be an object")
    return value


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = table.get(key)
    if not isinstance(value, list):
        raise RegistryError(f"{where}: {key} must be a list")
    if len(value) > MAX_LAYERS:
        raise RegistryError(f"{where}: {len(value)} {key} are more than the limit of {MAX_LAYERS}")
    return value


def _text(table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = table.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise RegistryError(f"{where}: {key} must be a string")
    return value


def _string_table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, str]:
    value = table.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise RegistryError(f"{where}: {key} must be an object of strings")
    return value
