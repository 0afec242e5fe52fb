"""The images that every end-to-end test runs on, in one data root that is checked for leaks after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.images import Image, Images
from tests.support.runner import Mini


@pytest.fixture(scope="session")
def session_mini(images: Images) -> Iterator[Mini]:
    """All images pulled, once."""
    mini = Mini(images.environ)
    try:
        for image in images.all():
            mini.run("pull", "-q", image.name)
        yield mini
    finally:
        mini.close()


@pytest.fixture
def mini(session_mini: Mini, request: pytest.FixtureRequest) -> Iterator[Mini]:
    """A data root with every image and no container. What the test made must go without a trace when it is removed.

    A monitor has noted no error that it did not expect: it goes on after one, so nothing else might tell.
    """
    yield session_mini
    failures = session_mini.failures()
    session_mini.remove_containers()
    session_mini.remove_volumes()
    session_mini.remove_networks()
    session_mini.assert_nothing_left()
    assert not failures or getattr(request.module, "MONITORS_FAIL", False), failures


@pytest.fixture
def fresh_mini(images: Images) -> Iterator[Mini]:
    """An empty data root of the test's own."""
    mini = Mini(images.environ)
    yield mini
    mini.close()


@pytest.fixture(params=["host", "alpine", "busybox"])
def image(request: pytest.FixtureRequest, images: Images) -> Image:
    """Every image there is, one after another: what a shell and the usual programs do in all of them."""
    found = images.get(request.param)
    if found is None:
        pytest.skip(f"no ../shared/images to make {request.param} of")
    return found


@pytest.fixture
def host_image(images: Images) -> Image:
    """The image made of the host's programs, which alone has Python."""
    found = images.get("host")
    assert found is not None
    return found
