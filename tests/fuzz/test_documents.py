"""Manifests, indexes and configs, which a registry sends: anything that JSON can say, and what it cannot."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RegistryError
from engine.oci.digest import is_digest
from engine.oci.image import Descriptor, ImageConfig, Index, Manifest, parse_manifest, require_image
from tests.fuzz.mutation import FUZZ, mutated

OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
TYPES = [OCI + "manifest.v1+json", OCI + "index.v1+json", DOCKER + "distribution.manifest.v2+json",
         DOCKER + "distribution.manifest.list.v2+json", DOCKER + "distribution.manifest.v1+prettyjws", "text/html", ""]  # fmt: skip
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.sampled_from(["sha256:" + "0" * 64, "sha256:" + "A" * 64, "sha256:../../etc", 1 << 70, -1, *TYPES]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
DESCRIPTOR = {"mediaType": OCI + "layer.v1.tar+gzip", "digest": "sha256:" + "0" * 64, "size": 5}
PLATFORM = {"os": "linux", "architecture": "arm", "variant": "v7"}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": TYPES[0],
    "config": DESCRIPTOR | {"mediaType": OCI + "config.v1+json"},
    "layers": [DESCRIPTOR, DESCRIPTOR | {"urls": ["https://x"]}],
    "annotations": {"a": "b"},
}
INDEX = {"schemaVersion": 2, "mediaType": TYPES[1], "manifests": [DESCRIPTOR | {"platform": PLATFORM}]}
CONFIG = {
    "os": "linux", "architecture": "amd64", "created": "2024-01-02T03:04:05Z",
    "config": {"Env": ["A=b"], "Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
    "history": [{"created_by": "x", "empty_layer": True}],
}  # fmt: skip


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a document."""
    found = [here]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found += paths(inner, (*here, key))
    return found


@st.composite
def documents(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """A valid document in which some values are something else, are missing, or are more."""
    document = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(0, 3))):
        way = draw(st.sampled_from(paths(document)))
        if not way:
            continue
        place = document
        for key in way[:-1]:
            place = place[key]
        if draw(st.booleans()):
            place[way[-1]] = draw(JSON)
        elif isinstance(place, dict) and draw(st.booleans()):
            del place[way[-1]]
        else:
            document[draw(st.sampled_from(["manifests", "layers", "config", "schemaVersion"]))] = draw(JSON)
    return json.dumps(document).encode()


ANY = st.one_of(
    *(documents(v) for v in (MANIFEST, INDEX, CONFIG)),
    JSON.map(lambda v: json.dumps(v).encode()),
    st.binary(max_size=60),
)


def check(descriptor: Descriptor) -> None:
    assert is_digest(descriptor.digest) and 0 <= descriptor.size < 1 << 63


@FUZZ
@given(mutated(ANY, changes=1), st.sampled_from(TYPES))
def test_manifests_and_indexes(data: bytes, content_type: str) -> None:
    try:
        document = parse_manifest(data, content_type)
    except RegistryError as e:
        assert len(e.message) < 2000
        return
    if isinstance(document, Index):
        for entry in document.manifests:
            check(entry)
        return
    assert isinstance(document, Manifest)
    for entry in (document.config, *document.layers):
        check(entry)
    try:
        require_image(document)
    except RegistryError:
        pass


@FUZZ
@given(mutated(ANY, changes=1))
def test_configs(data: bytes) -> None:
    try:
        config = ImageConfig.from_bytes(data)
    except RegistryError:
        return
    assert all(map(is_digest, config.diff_ids))
    assert isinstance(config.os, str) and isinstance(config.architecture, str) and isinstance(str(config.platform), str)


def test_json_nested_beyond_any_stack() -> None:
    for data in (
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"a":[' * 100_000 + b"1" * 6000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ):
        for read in (parse_manifest, ImageConfig.from_bytes):
            try:
                read(data)
            except RegistryError:
                pass
