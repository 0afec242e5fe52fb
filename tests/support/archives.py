"""Image archives built by hand, byte by byte: docker-archives and OCI layouts, whole or hostile."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.support import layers
from tests.support.push import compress

OCI = "application/vnd.oci.image."
LAYER = layers.archive(layers.directory("etc"), layers.file("etc/motd", b"hello\n"))
UPPER = layers.archive(layers.file("etc/motd", b"goodbye\n"), layers.symlink("etc/other", "motd"))


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config_of(*tars: bytes, **members: Any) -> bytes:
    """An image config, with a blank that no serialiser would write: its bytes must survive."""
    rootfs = {"type": "layers", "diff_ids": [digest(tar) for tar in tars]}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **members}).encode() + b" \n"


def tar(members: dict[str, bytes]) -> bytes:
    return layers.archive(*(layers.file(name, data) for name, data in members.items()))


def docker_files(
    *tars: bytes, tags: Any = ("alpine:3.20",), config: bytes | None = None, compression: str = "none"
) -> dict[str, bytes]:
    """The members of a docker-archive as Docker before version 25 wrote them, its manifest last."""
    config = config_of(*tars) if config is None else config
    names = [f"{digest(data)[7:]}/layer.tar" for data in tars]
    manifest = [{"Config": f"{digest(config)[7:]}.json", "RepoTags": tags and list(tags), "Layers": names}]
    blobs = {name: compress(data, compression) for name, data in zip(names, tars, strict=True)}
    return blobs | {f"{digest(config)[7:]}.json": config, "manifest.json": json.dumps(manifest).encode()}


class Layout:
    """An OCI layout that grows: `files` are its members by name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.entries: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.files[f"blobs/sha256/{digest(data)[7:]}"] = data
        return {"mediaType": OCI + media_type, "digest": digest(data), "size": len(data)}

    def image(self, *tars: bytes, config: bytes | None = None, compression: str = "gzip") -> dict[str, Any]:
        """The descriptor of an image's manifest."""
        suffix = "" if compression == "none" else f"+{compression}"
        document = {
            "schemaVersion": 2,
            "mediaType": OCI + "manifest.v1+json",
            "config": self.blob(config_of(*tars) if config is None else config, "config.v1+json"),
            "layers": [self.blob(compress(data, compression), f"layer.v1.tar{suffix}") for data in tars],
        }
        return self.blob(json.dumps(document).encode(), "manifest.v1+json")

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """The descriptor of an index within the index."""
        document = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": list(entries)}
        return self.blob(json.dumps(document).encode(), "index.v1+json")

    def add(self, descriptor: dict[str, Any], **annotations: str) -> None:
        self.entries.append(descriptor | {"annotations": {k.replace("_", "."): v for k, v in annotations.items()}})

    def name(self, descriptor: dict[str, Any], full: str) -> None:
        self.entries.append(descriptor | {"annotations": {"io.containerd.image.name": full}})

    def finish(self) -> dict[str, bytes]:
        """The members, index.json among them."""
        index = {"schemaVersion": 2, "manifests": self.entries}
        return {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **self.files,
        }


def on(descriptor: dict[str, Any], platform: str) -> dict[str, Any]:
    return descriptor | {"platform": dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))}
