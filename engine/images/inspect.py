"""`manifest inspect`: what a registry has under a name, without pulling it."""

from __future__ import annotations

import base64
from typing import Any

from engine.context import Context
from engine.errors import RegistryError
from engine.images.reference import Reference
from engine.images.registry import RawManifest, Registry
from engine.oci.image import (
    CONFIG_TYPES,
    DOCKER_MANIFEST,
    MAX_CONFIG,
    ImageConfig,
    Index,
    Manifest,
    load_json,
    parse_manifest,
)


def raw_manifest(ctx: Context, reference: Reference) -> dict[str, Any]:
    """The manifest or index that the reference points at, as it is. Raises the registry's errors."""
    registry = Registry(reference, ctx.environ)
    try:
        raw = registry.get_manifest(reference.digest or reference.tag or "")
        parse_manifest(raw.data, raw.content_type)
        return dict(load_json(raw.data, "manifest"))
    finally:
        registry.close()


def describe_manifest(ctx: Context, reference: Reference) -> dict[str, Any] | list[dict[str, Any]]:
    """Docker's verbose form: an object for an image's manifest, a list of them for an index. Raises the registry's errors."""
    registry = Registry(reference, ctx.environ)
    try:
        raw = registry.get_manifest(reference.digest or reference.tag or "")
        document = parse_manifest(raw.data, raw.content_type)
        if isinstance(document, Manifest):
            return _described(raw, document, reference.canonical(), _platform_of_config(registry, document))
        found = []
        for entry, described in zip(document.manifests, load_json(raw.data, "index")["manifests"], strict=True):
            child = registry.get_manifest(entry.digest)
            inner = parse_manifest(child.data, entry.media_type)
            if isinstance(inner, Index):
                raise RegistryError(f"{reference} is an index of indexes: inspect {entry.digest} by itself")
            name = f"{reference.canonical().partition('@')[0]}@{entry.digest}"
            found.append(_described(child, inner, name, described.get("platform")))
        return found
    finally:
        registry.close()


def _described(raw: RawManifest, document: Manifest, name: str, platform: dict[str, Any] | None) -> dict[str, Any]:
    descriptor = {"mediaType": document.media_type, "digest": raw.digest, "size": len(raw.data)}
    kind = "SchemaV2Manifest" if document.media_type == DOCKER_MANIFEST else "OCIManifest"
    return {
        "Ref": name,
        "Descriptor": descriptor | ({"platform": platform} if platform else {}),
        "Raw": base64.b64encode(raw.data).decode(),
        kind: load_json(raw.data, "manifest"),
    }


def _platform_of_config(registry: Registry, document: Manifest) -> dict[str, Any] | None:
    if document.config.media_type not in CONFIG_TYPES:
        return None
    raw = ImageConfig.from_bytes(registry.get_blob(document.config, MAX_CONFIG)).raw
    return {k: raw[k] for k in ("architecture", "os", "variant") if raw.get(k)}
