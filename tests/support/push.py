"""Builds images from layer tars and pushes them over HTTP, to any registry: the tests' own, independent client.

It shares no code with mini's registry client and server, so that a mistake in one is not met by the same mistake here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import requests
import zstandard

DOCKER = "application/vnd.docker."
OCI = "application/vnd.oci.image."
_TYPES = {
    "docker": {
        "manifest": DOCKER + "distribution.manifest.v2+json",
        "index": DOCKER + "distribution.manifest.list.v2+json",
        "config": DOCKER + "container.image.v1+json",
        "gzip": DOCKER + "image.rootfs.diff.tar.gzip",
        "zstd": DOCKER + "image.rootfs.diff.tar.zstd",
        "none": DOCKER + "image.rootfs.diff.tar",
    },
    "oci": {
        "manifest": OCI + "manifest.v1+json",
        "index": OCI + "index.v1+json",
        "config": OCI + "config.v1+json",
        "gzip": OCI + "layer.v1.tar+gzip",
        "zstd": OCI + "layer.v1.tar+zstd",
        "none": OCI + "layer.v1.tar",
    },
}


def push_image(
    url: str,
    repo: str,
    tag: str | None,
    layers: Sequence[bytes | str | os.PathLike[str]],
    config_overrides: dict[str, Any] | None = None,
    compression: str = "gzip",
    media: str = "oci",
    platform: str | None = None,
) -> dict[str, Any]:
    """Pushes an image of uncompressed layer tars (bytes, or paths of files) to the registry at `url`.

    `config_overrides` replaces members of the config's `config` object (Env, Cmd, …); a member written with a leading
    `/` replaces one of the whole document (`/created`). `compression` is gzip, zstd or none; `media` oci or docker.
    `platform` is `linux/arm64/v8` and the like, default linux/amd64 or this machine's. With `tag` None the image has its
    digest only. Returns {"manifest", "manifest_digest", "config", "config_digest", "diff_ids", "descriptor"}.
    """
    types = _TYPES[media]
    descriptors, diff_ids = [], []
    for layer in layers:
        tar = layer if isinstance(layer, bytes) else _read(layer)
        diff_ids.append(digest_of(tar))
        descriptors.append(push_blob(url, repo, compress(tar, compression)) | {"mediaType": types[compression]})
    config = make_config(diff_ids, config_overrides or {}, platform or default_platform())
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": {"mediaType": types["config"]} | push_blob(url, repo, config_bytes),
        "layers": descriptors,
    }
    descriptor = push_manifest(url, repo, tag, manifest)
    return {
        "manifest": manifest,
        "manifest_digest": descriptor["digest"],
        "config": config,
        "config_digest": digest_of(config_bytes),
        "diff_ids": diff_ids,
        "descriptor": descriptor,
    }


def push_index(
    url: str, repo: str, tag: str | None, entries: list[tuple[str | None, dict[str, Any]]], media: str = "oci"
) -> dict[str, Any]:
    """Pushes an index of what `push_image` or `push_index` returned, by platform; returns what `push_image` does of it."""
    manifests = []
    for platform, pushed in entries:
        entry = dict(pushed["descriptor"])
        if platform is not None:
            entry["platform"] = platform_json(platform)
        manifests.append(entry)
    index = {"schemaVersion": 2, "mediaType": _TYPES[media]["index"], "manifests": manifests}
    descriptor = push_manifest(url, repo, tag, index)
    return {"manifest": index, "manifest_digest": descriptor["digest"], "descriptor": descriptor}


def push_blob(url: str, repo: str, data: bytes) -> dict[str, Any]:
    """A monolithic upload in two requests (distribution-spec, "POST then PUT"). Returns {"digest", "size"}."""
    digest = digest_of(data)
    with requests.Session() as session:
        session.trust_env = False
        if session.head(f"{url}/v2/{repo}/blobs/{digest}").status_code != 200:
            start = session.post(f"{url}/v2/{repo}/blobs/uploads/")
            assert start.status_code == 202, start.text
            location = requests.compat.urljoin(f"{url}/", start.headers["Location"])
            joint = "&" if "?" in location else "?"
            done = session.put(f"{location}{joint}digest={digest}", data=data)
            assert done.status_code == 201, done.text
    return {"digest": digest, "size": len(data)}


def push_manifest(
    url: str, repo: str, tag: str | None, manifest: dict[str, Any] | bytes, media_type: str = ""
) -> dict[str, Any]:
    """Pushes a manifest by tag, or by digest with `tag` None; returns its descriptor. Bytes go as they are."""
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    media_type = media_type or json.loads(data)["mediaType"]
    digest = digest_of(data)
    with requests.Session() as session:
        session.trust_env = False
        address = f"{url}/v2/{repo}/manifests/{tag or digest}"
        answer = session.put(address, data=data, headers={"Content-Type": media_type})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Docker-Content-Digest"] == digest
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def make_config(diff_ids: list[str], overrides: dict[str, Any], platform: str) -> dict[str, Any]:
    execution = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}
    execution |= {k: v for k, v in overrides.items() if not k.startswith("/")}
    document = {
        "created": "2024-01-02T03:04:05Z",
        **platform_json(platform),
        "config": execution,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2024-01-02T03:04:05Z", "created_by": f"layer {n}"} for n in range(len(diff_ids))],
    }
    return document | {k[1:]: v for k, v in overrides.items() if k.startswith("/")}


def compress(tar: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(tar, 1, mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor().compress(tar)
    assert compression == "none", compression
    return tar


def platform_json(text: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def default_platform() -> str:
    return {"aarch64": "linux/arm64", "arm64": "linux/arm64"}.get(os.uname().machine, "linux/amd64")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()
