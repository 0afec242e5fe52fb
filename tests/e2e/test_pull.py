"""Images: pulled by tag and by digest, listed, run, removed; and what is said when that cannot be."""

from __future__ import annotations

import socket

import pytest

from tests.support.images import Image, Images
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")


def test_pull_by_tag_and_run(fresh_mini: Mini, image: Image) -> None:
    pulled = fresh_mini.run("pull", image.name)
    assert f"Digest: {image.digest}" in pulled.lines
    assert f"Status: Downloaded newer image for {image.name}" in pulled.lines
    assert pulled.lines[-1] == f"docker.io/library/{image.name}"
    assert fresh_mini.run("run", "--rm", image.name, "echo", "hello").out == "hello"


def test_pull_by_digest_and_run(fresh_mini: Mini, image: Image) -> None:
    reference = f"{image.name.partition(':')[0]}@{image.digest}"
    fresh_mini.run("pull", reference)
    assert fresh_mini.run("run", "--rm", reference, "echo", "hello").out == "hello"
    assert fresh_mini.run("images", "--digests", "--format", "{{.Digest}}").out == image.digest


def test_quiet_pull_prints_the_digest_only(fresh_mini: Mini, host_image: Image) -> None:
    for _ in ("new", "up to date"):
        result = fresh_mini.run("pull", "-q", host_image.name)
        assert (result.stdout, result.stderr) == (f"{host_image.digest}\n", "")


def test_a_second_pull_has_nothing_to_do(mini: Mini, image: Image) -> None:
    assert f"Status: Image is up to date for {image.name}" in mini.run("pull", image.name).lines


def test_run_pulls_what_is_missing(fresh_mini: Mini, host_image: Image) -> None:
    result = fresh_mini.run("run", "--rm", host_image.name, "echo", "hello")
    assert result.out == "hello"
    assert f"Unable to find image '{host_image.name}' locally" in result.stderr


def test_a_full_reference_needs_no_mirror(fresh_mini: Mini, images: Images, host_image: Image) -> None:
    reference = f"{images.registry.address}/library/{host_image.name}"
    fresh_mini.run("pull", reference, env={"MINI_REGISTRY_MIRRORS": ""})
    assert fresh_mini.run("images", "--format", "{{.Repository}}:{{.Tag}}").lines == [reference]


def test_unknown_image(fresh_mini: Mini) -> None:
    result = fresh_mini.run("pull", "no-such-image", check=False)
    assert result.code == 1
    assert "no-such-image" in result.stderr
    assert "Traceback" not in result.stderr
    assert fresh_mini.run("run", "--rm", "no-such-image", "true", check=False).code == 125


def test_unreachable_registry_is_named(fresh_mini: Mini) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        result = fresh_mini.run("pull", f"{address}/app", check=False)
    assert result.code == 1
    assert address in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_platform_is_said(fresh_mini: Mini, images: Images) -> None:
    result = fresh_mini.run("pull", "--platform", "linux/s390x", images.index_name, check=False)
    assert result.code == 1
    assert "s390x" in result.stderr
    assert not fresh_mini.run("images", "-q").out


def test_an_index_gives_the_platform_of_the_machine(fresh_mini: Mini, images: Images) -> None:
    fresh_mini.run("pull", "-q", images.index_name)
    assert fresh_mini.run("run", "--rm", images.index_name, "echo", "hello").out == "hello"


def test_an_image_in_use_is_not_removed(mini: Mini, host_image: Image) -> None:
    container = mini.detached(host_image.name, "sleep", "60")
    result = mini.run("rmi", host_image.name, check=False)
    assert result.code == 1
    assert container[:12] in result.stderr
    assert mini.run("exec", container, "echo", "alive").out == "alive"


def test_nothing_is_left_after_rm_and_rmi(fresh_mini: Mini, image: Image) -> None:
    """Once over everything that makes something on the host; `close` looks at the host."""
    fresh_mini.run("pull", "-q", image.name)
    fresh_mini.run("run", "-d", "--name", "one", "-v", "data:/data", "--memory", "64m", image.name, "sleep", "60")
    fresh_mini.run("run", "--name", "two", "--read-only", image.name, "true")
    fresh_mini.run("run", "--rm", "--network", "none", image.name, "true")
    fresh_mini.run("exec", "one", "true")
    fresh_mini.run("rm", "-f", "one", "two")
    fresh_mini.run("volume", "rm", "data")
    fresh_mini.run("rmi", image.name)
    fresh_mini.assert_nothing_left(images_too=True)
