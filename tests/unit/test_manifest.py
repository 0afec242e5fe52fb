"""From a reference to one manifest: platforms, nested indexes, attestations, and indexes that are made to hurt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import IntegrityError, MiniError, PlatformMismatch, RegistryError
from engine.images.manifest import MAX_FETCHES, ResolvedImage, resolve
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Transport
from engine.oci.image import Platform
from tests.support.push import OCI, digest_of, platform_json
from tests.support.registry import FakeRegistry

AMD64 = Platform.parse("linux/amd64")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def find(fake: FakeRegistry, wanted: Platform = AMD64, name: str = "a/b", strict: bool = False) -> ResolvedImage:
    registry = Registry(Reference.parse(f"{fake.address}/{name}"), {"HOME": "/"}, Transport({}, attempts=1))
    try:
        return resolve(registry, wanted, strict)
    finally:
        registry.close()


def entry(pushed: dict[str, Any], platform: str | None = None, **more: Any) -> dict[str, Any]:
    described = {k: pushed[k] for k in ("mediaType", "digest", "size")} | more
    return described | ({"platform": platform_json(platform)} if platform else {})


def image(fake: FakeRegistry, platform: str, tag: str | None = None) -> dict[str, Any]:
    return fake.image("a/b", tag, [platform.encode()], platform)


def test_a_plain_manifest(fake: FakeRegistry) -> None:
    pushed = image(fake, "linux/amd64", "latest")
    found = find(fake)
    assert found.digest == pushed["digest"] == digest_of(found.manifest_bytes)
    assert digest_of(found.config_bytes) == pushed["config"]["digest"]
    assert [(layer.digest, diff_id) for layer, diff_id in found.layers] == [
        (pushed["layers"][0]["digest"], digest_of(b"linux/amd64"))
    ]


def test_an_index_gives_the_manifest_of_the_platform_and_its_own_digest(fake: FakeRegistry) -> None:
    images = {p: image(fake, p) for p in ("linux/arm64/v8", "linux/amd64", "linux/arm/v7", "windows/amd64")}
    index = fake.index("a/b", "latest", [entry(pushed, platform) for platform, pushed in images.items()])
    for platform, pushed in images.items():
        found = find(fake, Platform.parse(platform))
        assert found.digest == index["digest"]
        assert digest_of(found.manifest_bytes) == pushed["digest"]


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/386", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/386", "linux/arm64"], "linux/amd64", "linux/386"),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", "linux/arm/v6"),
        (["linux/arm/v5", "linux/arm/v7"], "linux/arm/v6", "linux/arm/v5"),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm64", "linux/arm/v7"),
        (["linux/arm"], "linux/arm/v7", "linux/arm"),
        (["linux/arm64"], "linux/arm64/v8", "linux/arm64"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64/v4", "linux/amd64/v3"),
    ],
)
def test_the_best_of_what_the_platform_can_run(
    fake: FakeRegistry, offered: list[str], wanted: str, chosen: str
) -> None:
    images = {p: image(fake, p) for p in offered}
    fake.index("a/b", "latest", [entry(pushed, platform) for platform, pushed in images.items()])
    assert digest_of(find(fake, Platform.parse(wanted)).manifest_bytes) == images[chosen]["digest"]


def test_what_there_is_instead_is_told(fake: FakeRegistry) -> None:
    attestation = image(fake, "unknown/unknown")
    entries = [entry(image(fake, p), p) for p in ("linux/arm/v7", "linux/s390x")]
    fake.index("a/b", "latest", [*entries, entry(attestation, "unknown/unknown")])
    with pytest.raises(PlatformMismatch, match="no matching manifest for linux/amd64") as error:
        find(fake)
    assert "linux/arm/v7, linux/s390x;" in (error.value.hint or "")


def test_attestations_are_never_the_image(fake: FakeRegistry) -> None:
    real = image(fake, "linux/amd64")
    noted = {"vnd.docker.reference.type": "attestation-manifest"}
    attestation = entry(image(fake, "linux/s390x"), "linux/amd64", annotations=noted)
    fake.index("a/b", "latest", [attestation, entry(real, "linux/amd64")])
    assert digest_of(find(fake).manifest_bytes) == real["digest"]


def test_an_index_in_an_index(fake: FakeRegistry) -> None:
    real = image(fake, "linux/amd64")
    other = fake.index("a/b", None, [entry(image(fake, "linux/s390x"), "linux/s390x")])
    inner = fake.index("a/b", None, [entry(real, "linux/amd64")])
    outer = fake.index("a/b", "latest", [entry(other), entry(inner)])
    found = find(fake)
    assert (found.digest, digest_of(found.manifest_bytes)) == (outer["digest"], real["digest"])


def test_entries_without_a_platform_are_judged_by_their_config(fake: FakeRegistry) -> None:
    wrong, right = image(fake, "linux/s390x"), image(fake, "linux/amd64")
    fake.index("a/b", "latest", [entry(wrong), entry(right)])
    assert digest_of(find(fake).manifest_bytes) == right["digest"]


def test_a_plain_manifest_of_another_platform_is_refused_only_if_a_platform_was_named(fake: FakeRegistry) -> None:
    image(fake, "linux/s390x", "latest")
    assert find(fake).config.architecture == "s390x"
    with pytest.raises(PlatformMismatch, match="linux/s390x, not for linux/amd64"):
        find(fake, strict=True)


def test_an_index_that_nests_too_deep_is_refused(fake: FakeRegistry) -> None:
    inner = entry(image(fake, "linux/amd64"), "linux/amd64")
    for _ in range(6):
        inner = entry(fake.index("a/b", "latest", [inner]))
    with pytest.raises(RegistryError, match="nested"):
        find(fake)


def test_an_index_that_names_itself_ends(fake: FakeRegistry) -> None:
    """By tag a registry can answer anything; by digest, the loop needs a collision of sha256."""
    forged = b'{"schemaVersion": 2, "mediaType": "%s", "manifests": [{"mediaType": "%s", "digest": "%s", "size": 9}]}'
    digest = "sha256:" + "1" * 64
    data = forged % (f"{OCI}index.v1+json".encode(), f"{OCI}index.v1+json".encode(), digest.encode())
    fake.put("/v2/a/b/manifests/latest", data, f"{OCI}index.v1+json")
    fake.put(f"/v2/a/b/manifests/{digest}", data, f"{OCI}index.v1+json")
    with pytest.raises(IntegrityError):
        find(fake)


def test_an_index_of_endless_guesses_is_given_up(fake: FakeRegistry) -> None:
    entries = [entry(image(fake, f"linux/x{n}")) for n in range(MAX_FETCHES + 10)]
    fake.index("a/b", "latest", entries)
    with pytest.raises(RegistryError):
        find(fake)
    assert len(fake.asked("/manifests/")) <= MAX_FETCHES + 1


def test_an_entry_with_another_size_is_refused(fake: FakeRegistry) -> None:
    wrong = entry(image(fake, "linux/amd64"), "linux/amd64")
    fake.index("a/b", "latest", [wrong | {"size": wrong["size"] + 1}])
    with pytest.raises(IntegrityError):
        find(fake)


def test_an_entry_that_is_not_what_the_index_calls_it_is_refused(fake: FakeRegistry) -> None:
    """CVE-2021-41190: the descriptor's media type is as binding as its digest."""
    real = entry(image(fake, "linux/amd64"), "linux/amd64")
    fake.index("a/b", "latest", [real | {"mediaType": OCI + "index.v1+json"}])
    with pytest.raises(RegistryError):
        find(fake)


def test_a_config_with_another_number_of_layers_is_refused(fake: FakeRegistry) -> None:
    pushed = fake.image("a/b", None, [b"one", b"two"])
    document = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": pushed["config"],
        "layers": pushed["layers"][:1],
    }
    fake.manifest("a/b", "latest", document)
    with pytest.raises(MiniError, match="2 DiffIDs for the manifest's 1 layers"):
        find(fake)


def test_by_digest(fake: FakeRegistry) -> None:
    pushed = image(fake, "linux/amd64")
    assert find(fake, name=f"a/b:ignored@{pushed['digest']}").digest == pushed["digest"]
