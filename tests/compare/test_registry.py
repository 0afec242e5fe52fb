"""Registries: docker against `mini registry serve`, and what push, pull -a, tag and manifest inspect say in both."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.compare.conftest import Both
from tests.support.images import Images
from tests.support.pki import Authority
from tests.support.push import digest_of, push_image
from tests.support.registry import FakeRegistry
from tests.support.runner import Result
from tests.support.serve import Serving

pytestmark = pytest.mark.requires("docker", "netns")


@pytest.fixture
def serving(both: Both, tmp_path: Path) -> Iterator[Serving]:
    running = Serving(both.mini, str(tmp_path / "served"), "-v")
    yield running
    running.stop()
    for engine in (both.docker, both.mini):
        names = engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").lines
        for name in names:
            if name.startswith(running.address):
                engine.run("rmi", name)


def identity(engine: Any, name: str) -> tuple[str, list[str]]:
    (image,) = engine.run("image", "inspect", name).json()
    return image["Id"], image["RootFS"]["Layers"]


def said(result: Result) -> tuple[int, list[str], str]:
    """(exit code, lines, error) without what tells the engines apart: the program's name, digests, the order of layers."""
    lines = [re.sub("sha256:[0-9a-f]{64} size: [0-9]+", "DIGEST", line) for line in result.lines]
    steps = sorted(line for line in lines if re.match("[0-9a-f]{12}: ", line) and "Waiting" not in line)
    others = [line for line in lines if not re.match("[0-9a-f]{12}: ", line)]
    error = result.stderr.splitlines()[0] if result.stderr else ""
    return result.code, others + steps, re.sub("^(mini|Error response from daemon): ", "", error)


def same(both: Both, *arguments: str) -> tuple[int, list[str], str]:
    """What both say, which must be the same."""
    docker, mini = (said(engine.run(*arguments, check=False)) for engine in (both.docker, both.mini))
    assert mini == docker
    return mini


@pytest.mark.parametrize("key", ["host", "alpine", "busybox"])
def test_docker_and_mini_exchange_images_through_what_mini_serves(both: Both, serving: Serving, key: str) -> None:
    if key not in both.names:
        pytest.skip(f"no ../shared/images to make {key} of")
    source = both.names[key]
    before = identity(both.mini, source)
    assert identity(both.docker, source) == before
    for pusher, puller, name in (
        (both.docker, both.mini, f"{serving.address}/from/docker:1"),
        (both.mini, both.docker, f"{serving.address}/from/mini:1"),
    ):
        pusher.run("tag", source, name)
        pusher.run("push", name)
        puller.run("pull", "-q", name)
        assert identity(puller, name) == before
        assert puller.run("run", "--rm", name, "sh", "-c", "echo ran").out == "ran"


def test_push_says_what_docker_says(both: Both, serving: Serving) -> None:
    """Each engine into a repository of its own name on a registry of its own, so that both upload, find and mount."""
    told = {}
    for name, engine in (("docker", both.docker), ("mini", both.mini)):
        found = []
        for repository, arguments in (
            ("a", ["a:1"]),
            ("a", ["a:1"]),
            ("b", ["b:1"]),
            ("a", ["-a", "a"]),
            ("a", ["-q", "a:1"]),
        ):
            for tag in ("1", "2"):
                engine.run("tag", both.names["host"], f"{serving.address}/{name}/{repository}:{tag}")
            *options, target = arguments
            result = said(engine.run("push", *options, f"{serving.address}/{name}/{target}"))
            found.append(
                (result[0], [line.replace(f"/{name}/", "/X/").replace(f" {name}/", " X/") for line in result[1]])
            )
        told[name] = found
    assert told["mini"] == told["docker"]
    assert any("Mounted from X/a" in line for line in told["mini"][2][1])


def test_size_of_the_same_manifest(both: Both, images: Images, serving: Serving) -> None:
    """Docker's manifests are indented with three blanks; those that mini makes anew are, too."""
    source = f"{images.registry.address}/library/sized:1"
    layer = tarfile.TarInfo("only-here").tobuf() + bytes(1024)
    push_image(images.registry.url, "library/sized", "1", [layer], {"Cmd": ["x"]}, media="docker")
    sizes = []
    for name, engine in (("docker", both.docker), ("mini", both.mini)):
        engine.run("pull", "-q", source)
        engine.run("tag", source, f"{serving.address}/{name}:1")
        engine.run("rmi", source)
        sizes.append(engine.run("push", f"{serving.address}/{name}:1").lines[-1].split()[-1])
    documents = [requests.get(f"{serving.url}/v2/{n}/manifests/1") for n in ("docker", "mini")]
    assert [str(len(d.content)) for d in documents] == sizes
    docker, mini = (d.json() for d in documents)
    assert docker["config"] == mini["config"]
    assert [x["mediaType"] for x in docker["layers"]] == [x["mediaType"] for x in mini["layers"]]


def test_what_cannot_be_pushed(both: Both, serving: Serving) -> None:
    name = f"{serving.address}/none"
    same(both, "push", f"{name}:1")
    same(both, "push", "-a", f"{name}:1")
    same(both, "push", f"{name}@{digest_of(b'')}")
    for engine in (both.docker, both.mini):
        engine.run("tag", both.names["host"], f"{name}:1")
    assert same(both, "push", name)[1][0] == "Using default tag: latest"
    same(both, "push", f"{name}:2")


def test_pull_all_tags(both: Both, serving: Serving) -> None:
    name = f"{serving.address}/many"
    for tag in ("1", "2", "latest"):
        both.mini.run("tag", both.names["host"], f"{name}:{tag}")
    both.mini.run("push", "-a", name)
    both.mini.run("rmi", *(f"{name}:{tag}" for tag in ("1", "2", "latest")))
    docker, mini = (engine.run("pull", "-a", name) for engine in (both.docker, both.mini))
    assert mini.lines == docker.lines
    for arguments in (["-a", f"{name}:1"], ["-a", f"{name}@{digest_of(b'')}"], ["-a", f"{serving.address}/nosuch"]):
        assert same(both, "pull", *arguments)[0] == 1


def test_tag(both: Both, serving: Serving) -> None:
    source = both.names["host"]
    short = identity(both.mini, source)[0][7:19]
    for arguments, code in (
        ([short, f"{serving.address}/by-id:1"], 0),
        ([source, f"{serving.address}/no-tag"], 0),
        (["nosuch", f"{serving.address}/x:1"], 1),
        (["nosuch:1", f"{serving.address}/x:1"], 1),
        ([source, f"x@{digest_of(b'')}"], 1),
        ([source, "sha256:1"], 1),
    ):
        assert same(both, "tag", *arguments)[0] == code
    for bad in ("BAD", "a:b:c", "-x", "a" * 300):
        for engine in (both.docker, both.mini):
            assert engine.run("tag", source, "--", bad, check=False).code != 0
    for engine in (both.docker, both.mini):
        assert identity(engine, f"{serving.address}/no-tag:latest") == identity(engine, short)


@pytest.mark.requires("program:openssl")
def test_manifest_inspect(both: Both, tmp_path: Path) -> None:
    """Over https, since docker speaks nothing else here. The same text of an image's manifest, the same JSON of an index."""
    authority = Authority(tmp_path)
    with FakeRegistry(tls=authority.context()) as fake:
        pushed = fake.image("app", "1", [b""], "linux/arm64/v8")
        entry = {k: pushed[k] for k in ("mediaType", "digest", "size")}
        fake.index("app", "multi", [entry | {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}])
        environ = {"SSL_CERT_FILE": authority.ca, "MINI_REGISTRY_MIRRORS": f"{fake.address}={fake.url}"}
        for name in ("app:1", "app:multi"):
            for options in ([], ["-v"]):
                docker = both.docker.run("manifest", "inspect", "--insecure", *options, f"{fake.address}/{name}")
                mini = both.mini.run("manifest", "inspect", *options, f"{fake.address}/{name}", env=environ)
                assert mini.json() == docker.json()
                assert name == "app:multi" or mini.stdout == docker.stdout
