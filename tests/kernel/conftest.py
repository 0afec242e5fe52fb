"""Fixtures of the tests that make containers by the runtime alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import Box, children, make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_template(str(tmp_path_factory.mktemp("template")))


@pytest.fixture
def box(template: str, tmp_path: Path) -> Iterator[Box]:
    """A container that is ended, with all that runs in it, however the test ends; neither process nor descriptor is left."""
    descriptors, processes = len(os.listdir("/proc/self/fd")), children()
    box = Box(template, str(tmp_path))
    yield box
    box.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors, "a descriptor was left open"
    assert children() <= processes, "a child was left"
