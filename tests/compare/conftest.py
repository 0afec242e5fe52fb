"""Both engines, with the same images from the same registry under the same names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.docker import Docker
from tests.support.images import Images
from tests.support.runner import Mini


class Both:
    """`names` maps host, alpine, busybox to the reference that both engines have pulled."""

    def __init__(self, docker: Docker, mini: Mini, names: dict[str, str]) -> None:
        self.docker = docker
        self.mini = mini
        self.names = names


@pytest.fixture(scope="package")
def engines(images: Images) -> Iterator[Both]:
    """For these tests alone: what Docker does to the packet filter concerns the others, too."""
    docker = Docker()
    mini = Mini()
    try:
        names = {}
        for key in ("host", "alpine", "busybox"):
            if image := images.get(key):
                names[key] = f"{images.registry.address}/library/{image.name}"
                docker.run("pull", "-q", names[key])
                mini.run("pull", "-q", names[key])
        yield Both(docker, mini, names)
    finally:
        docker.close()
        mini.close()


@pytest.fixture
def both(engines: Both) -> Iterator[Both]:
    """Nothing runs in either, and neither has a volume."""
    yield engines
    for engine in (engines.docker, engines.mini):
        engine.remove_containers()
        engine.remove_volumes()
