"""Each engine with its own runtime and with mini-runtime, and with the same image."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.containerd import Containerd
from tests.support.docker import Docker
from tests.support.images import Images
from tests.support.podman import RunningPodman
from tests.support.requirements import CHECKOUT

PROGRAM = os.path.join(CHECKOUT, "mini-runtime")


@pytest.fixture(scope="session")
def image(images: Images) -> str:
    """The reference of the image of the host's programs, as every engine pulls it."""
    found = images.get("host")
    assert found
    return f"{images.registry.address}/library/{found.name}"


@pytest.fixture(scope="module")
def docker(image: str) -> Iterator[Docker]:
    """With two runtimes: `--runtime runc`, `--runtime mini`."""
    engine = Docker("--add-runtime", f"mini={PROGRAM}")
    try:
        engine.run("pull", "-q", image)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def podman(image: str) -> Iterator[RunningPodman]:
    engine = RunningPodman("mini", PROGRAM)
    try:
        engine.pull(image)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def containerd(image: str) -> Iterator[Containerd]:
    engine = Containerd()
    try:
        engine.run("image", "pull", "--plain-http", image)
        yield engine
    finally:
        engine.close()
