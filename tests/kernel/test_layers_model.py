"""Stacks of random layers: both drivers against a model that knows only what the OCI image spec says, on plain dicts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.paths import Paths
from engine.storage.drivers import DirectoryDriver, Driver, ErofsDriver
from tests.support import layers

pytestmark = pytest.mark.requires("linux", "root", "overlay")

NAMES = ["a", "b", "c"]
PATHS = [f"{x}" for x in NAMES] + [f"{x}/{y}" for x in NAMES for y in NAMES] + ["a/b/c", "b/b/b", "c/a/a"]

FILES = st.tuples(st.just("file"), st.sampled_from(PATHS), st.integers(0, 3))
DIRS = st.tuples(st.just("dir"), st.sampled_from(PATHS), st.integers(1, 4))
WHITEOUTS = st.tuples(st.just("whiteout"), st.sampled_from(PATHS), st.just(0))
OPAQUES = st.tuples(st.just("opaque"), st.sampled_from(PATHS), st.just(0))
LINKS = st.tuples(st.just("link"), st.sampled_from(PATHS), st.integers(0, 99))
LAYER = st.lists(st.one_of(FILES, FILES, DIRS, WHITEOUTS, OPAQUES, LINKS), max_size=7)
Operation = tuple[str, str, int]
Model = dict[str, Any]  # path: ("dir", uid) or an object standing for a file, the same under each of its names


class File:
    def __init__(self, data: bytes) -> None:
        self.data = data


def drop(model: Model, path: str) -> None:
    for other in [p for p in model if p == path or p.startswith(path + "/")]:
        del model[other]


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def usable(operations: list[Operation], below: Model) -> list[Operation]:
    """Without what no builder would write: two entries of a name, entries below a file of the same layer."""
    kept: list[Operation] = []
    own: dict[str, str] = {}
    hidden: set[str] = set()
    for kind, path, value in operations:
        inner = path + "/.wh..wh..opq" if kind == "opaque" else path
        if kind in ("whiteout", "opaque"):
            key = "hide " + path
        else:
            key = path
        if key in own or any(own.get(parent) in ("file", "link") for parent in parents(inner)):
            continue
        if kind in ("file", "link") and any(other.startswith(path + "/") for other in own):
            continue
        if kind in ("file", "link") and any(h == path or h.startswith(path + "/") for h in hidden):
            continue
        if kind in ("whiteout", "opaque"):
            hidden.add(inner)
        own[key] = kind
        kept.append((kind, path, value))
    return kept


def apply(model: Model, operations: list[Operation], number: int) -> bytes:
    """Changes the model as the spec says, and returns the layer that says it."""
    members = []
    for kind, path, _ in operations:
        if kind == "whiteout":
            drop(model, path)
        if kind == "opaque" and not isinstance(model.get(path), File):
            for other in [p for p in model if p.startswith(path + "/")]:
                del model[other]
    for kind, path, _ in operations:  # what leads to a marker is there
        if kind in ("whiteout", "opaque"):
            make(model, parents(path) + ([path] if kind == "opaque" else []))
    for kind, path, value in operations:
        if kind == "whiteout":
            members.append(layers.whiteout(path))
        elif kind == "opaque":
            members.append(layers.opaque(path))
        elif kind == "dir":
            make(model, parents(path))
            if isinstance(model.get(path), File):
                del model[path]
            model[path] = ("dir", value)
            members.append(layers.directory(path, uid=value))
        elif kind == "file":
            make(model, parents(path))
            drop(model, path)
            model[path] = File(b"%d %s %d" % (number, path.encode(), value))
            members.append(layers.file(path, model[path].data))
        else:
            names = sorted(
                p for p in model if isinstance(model[p], File) and p != path and not p.startswith(path + "/")
            )
            names = [name for name in names if name not in parents(path)]
            if names:
                target = names[value % len(names)]
                make(model, parents(path))
                linked = model[target]
                drop(model, path)
                model[path] = linked
                members.append(layers.hard_link(path, target))
    return layers.archive(*members)


def make(model: Model, directories: list[str]) -> None:
    for directory in directories:
        if not isinstance(model.get(directory), tuple):
            model[directory] = ("dir", 0)


def shown(model: Model) -> dict[str, Any]:
    files = [value for value in model.values() if isinstance(value, File)]
    return {
        path: ("dir", value[1])
        if isinstance(value, tuple)
        else (hashlib.sha256(value.data).hexdigest(), sum(other is value for other in files))
        for path, value in model.items()
    }


def reduced(found: dict[bytes, dict[str, Any]]) -> dict[str, Any]:
    return {
        path.decode(): (about["sha256"], about["nlink"]) if "sha256" in about else ("dir", about["owner"][0])
        for path, about in found.items()
        if path != b"."
    }


@pytest.mark.parametrize(
    "kinds",
    [pytest.param((ErofsDriver, DirectoryDriver), marks=pytest.mark.requires("erofs")), (DirectoryDriver,)],
    ids=["both", "directory"],
)
@settings(max_examples=60)
@given(stack=st.lists(LAYER, min_size=1, max_size=4))
def test_random_stacks(kinds: tuple[type[Driver], ...], stack: list[list[Operation]]) -> None:
    model: Model = {}
    tars = []
    for number, operations in enumerate(stack):
        tars.append(apply(model, usable(operations, model), number))
    place = tempfile.mkdtemp(prefix="mini-model-")
    try:
        paths = Paths(place)
        drivers = [kind(paths) for kind in kinds]
        found = [layers.shown(paths, driver, layers.store(driver, tars)) for driver in drivers]
        assert found[0] == found[-1]
        assert reduced(found[0]) == shown(model)
    finally:
        shutil.rmtree(place)
