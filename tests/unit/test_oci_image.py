"""Manifests, indexes and configs: what is accepted, and what a hostile registry could send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import MiniError, RegistryError, UsageError
from engine.oci.image import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    parse_manifest,
    require_image,
)

DIGEST = "sha256:" + "a" * 64
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 10}
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
MANIFEST: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_INDEX,
    "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 3, "platform": {"os": "linux", "architecture": "arm64"}}
    ],
}


def parse(document: Any, content_type: str = "") -> Manifest | Index:
    return parse_manifest(document if isinstance(document, bytes) else json.dumps(document).encode(), content_type)


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != key}


def test_a_manifest_and_an_index() -> None:
    manifest = parse(MANIFEST, OCI_MANIFEST + "; charset=utf-8")
    assert isinstance(manifest, Manifest) and manifest.layers[0].short_id == "a" * 12
    require_image(manifest)
    index = parse(INDEX)
    assert isinstance(index, Index) and str(index.manifests[0].platform) == "linux/arm64"


def test_the_type_may_be_in_the_header_or_in_the_fields_alone() -> None:
    assert parse(without(MANIFEST, "mediaType"), DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    assert parse(without(INDEX, "mediaType"), "application/json").media_type == OCI_INDEX


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (MANIFEST, DOCKER_MANIFEST),
        (MANIFEST, OCI_INDEX),
        (INDEX, DOCKER_LIST),
        (MANIFEST | {"manifests": []}, ""),
        (without(MANIFEST, "mediaType"), OCI_INDEX),
        (MANIFEST | {"mediaType": OCI_INDEX}, ""),
        (INDEX | {"mediaType": OCI_MANIFEST}, ""),
        (INDEX | {"layers": []}, ""),
        (MANIFEST | {"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, ""),
        (MANIFEST, "application/vnd.docker.distribution.manifest.v1+json"),
        (MANIFEST | {"mediaType": "text/plain"}, ""),
    ],
)
def test_a_document_that_could_be_read_two_ways_is_refused(document: Any, content_type: str) -> None:
    """CVE-2021-41190."""
    with pytest.raises(RegistryError):
        parse(document, content_type)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "A" * 64, "sha256:../../x", "sha512:" + "a" * 128, "a" * 64, 5, None,
                                    "sha256:" + "a" * 63 + "\n", "sha256:" + "a" * 65])  # fmt: skip
def test_only_a_digest_is_a_digest(digest: Any) -> None:
    """CVE-2024-3727."""
    for broken in (
        MANIFEST | {"config": CONFIG | {"digest": digest}},
        MANIFEST | {"layers": [LAYER | {"digest": digest}]},
    ):
        with pytest.raises(RegistryError):
            parse(broken)
    with pytest.raises(RegistryError):
        ImageConfig.from_bytes(json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode())


@pytest.mark.parametrize("size", [-1, 1.5, "10", True, None, 1 << 63])
def test_only_a_size_is_a_size(size: Any) -> None:
    with pytest.raises(RegistryError):
        Descriptor.from_json(LAYER | {"size": size}, "layer")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"schemaVersion": NaN}', b"[" * 100_000, b'"x"']
)
def test_what_is_not_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(RegistryError):
        parse(data)
    with pytest.raises(RegistryError):
        ImageConfig.from_bytes(data)


@pytest.mark.parametrize(
    "broken",
    [
        without(MANIFEST, "schemaVersion"), MANIFEST | {"schemaVersion": 1}, MANIFEST | {"layers": {}}, without(MANIFEST, "config"),
        MANIFEST | {"layers": [LAYER] * 5000}, MANIFEST | {"annotations": {"a": 1}}, INDEX | {"manifests": [1]},
        MANIFEST | {"layers": [LAYER | {"urls": "x"}]}, MANIFEST | {"mediaType": 7},
    ],
)  # fmt: skip
def test_malformed_documents_are_refused(broken: Any) -> None:
    with pytest.raises(RegistryError):
        parse(broken)


def test_an_artifact_is_not_an_image() -> None:
    chart = parse(MANIFEST | {"config": CONFIG | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}})
    assert isinstance(chart, Manifest)
    with pytest.raises(RegistryError, match="not a container image"):
        require_image(chart)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([DIGEST, OCI_MANIFEST, OCI_INDEX, 2]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "rootfs",
                         "type", "diff_ids", "os", "architecture", "annotations", "urls", "variant"]), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_any_json_gives_a_document_or_an_error_of_ours(value: Any) -> None:
    for read in (parse_manifest, ImageConfig.from_bytes):
        try:
            read(json.dumps(value).encode())
        except MiniError:
            pass


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"), ("linux/x86_64", "linux/amd64"), ("linux/arm64/v8", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"), ("linux/arm/v6", "linux/arm/v6"), ("linux/arm/7", "linux/arm/v7"), ("armhf", "linux/arm/v7"),
        ("linux/i386", "linux/386"), ("windows/amd64", "windows/amd64"),
    ],
)  # fmt: skip
def test_platforms_are_normalised(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/amd 64", "/amd64"])
def test_what_is_not_a_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/riscv64", ["linux/riscv64"]),
    ],
)
def test_what_a_platform_can_run(text: str, candidates: list[str]) -> None:
    assert [str(c) for c in Platform.parse(text).candidates()] == candidates
