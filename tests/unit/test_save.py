"""save: what is in the archive, which names it has, and that it goes through `load` unchanged."""

from __future__ import annotations

import io
import json
import os
import tarfile
import traceback
from pathlib import Path
from typing import Any

import pytest

from engine.context import Context
from engine.errors import InvalidReference, NotFound
from engine.images.load import load
from engine.images.save import save
from engine.paths import Paths
from engine.storage.images import Image, ImageStore
from tests.support.archives import LAYER, UPPER, config_of, digest, docker_files, tar


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(Paths(str(tmp_path / "root")), {}, "erofs")


def put(ctx: Context, tmp_path: Path, *tars: bytes, tags: Any = ("alpine:3.20",)) -> Image:
    (tmp_path / "in.tar").write_bytes(tar(docker_files(*tars, tags=tags)))
    (loaded,) = load(ctx, str(tmp_path / "in.tar"))
    return loaded.image


def saved(ctx: Context, tmp_path: Path, *names: str) -> bytes:
    fd = os.open(tmp_path / "out.tar", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        save(ctx, names, fd)
    finally:
        os.close(fd)
    return (tmp_path / "out.tar").read_bytes()


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        return {m.name: file.read() for m in read.getmembers() if (file := read.extractfile(m))}


def tags(data: bytes) -> list[list[str] | None]:
    return [entry["RepoTags"] for entry in json.loads(members(data)["manifest.json"])]


def test_both_layouts_name_the_same_blobs(ctx: Context, tmp_path: Path) -> None:
    image = put(ctx, tmp_path, LAYER, UPPER)
    files = members(saved(ctx, tmp_path, "alpine:3.20"))
    (docker,) = json.loads(files["manifest.json"])
    assert digest(files[docker["Config"]]) == image.id
    assert [digest(files[layer]) for layer in docker["Layers"]] == [digest(LAYER), digest(UPPER)]
    assert docker["RepoTags"] == ["alpine:3.20"]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/alpine:3.20",
        "org.opencontainers.image.ref.name": "3.20",
    }
    manifest = json.loads(files[f"blobs/sha256/{entry['digest'][7:]}"])
    for descriptor in (entry, manifest["config"], *manifest["layers"]):
        blob = files[f"blobs/sha256/{descriptor['digest'][7:]}"]
        assert (digest(blob), len(blob)) == (descriptor["digest"], descriptor["size"])
    assert [layer["digest"] for layer in manifest["layers"]] == image.diff_ids
    assert manifest["config"]["digest"] == image.id


def test_the_same_images_give_the_same_bytes(ctx: Context, tmp_path: Path) -> None:
    put(ctx, tmp_path, LAYER, UPPER)
    first = saved(ctx, tmp_path, "alpine:3.20")
    other = Context(Paths(str(tmp_path / "other")), {}, "erofs")
    list(load(other, str(tmp_path / "out.tar")))
    assert saved(other, tmp_path, "alpine:3.20") == first


def test_layers_of_several_images_are_there_once(ctx: Context, tmp_path: Path) -> None:
    one, two = put(ctx, tmp_path, LAYER, tags=["one:1"]), put(ctx, tmp_path, LAYER, UPPER, tags=["two:2"])
    data = saved(ctx, tmp_path, "two:2", "one:1")
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        names = read.getnames()
    assert len(names) == len(set(names)) == 3 + 2 + 4 + 2
    other = Context(Paths(str(tmp_path / "other")), {}, "erofs")
    assert [i.image.id for i in load(other, str(tmp_path / "out.tar"))] == [two.id, one.id]


def test_names(ctx: Context, tmp_path: Path) -> None:
    """Docker's: a tag is saved as it is; a name without one brings all its tags; an ID brings none."""
    image = put(ctx, tmp_path, LAYER, tags=["a:1", "a:2", "b:1"])
    other = put(ctx, tmp_path, UPPER, tags=["a:latest"])
    assert tags(saved(ctx, tmp_path, "a:1")) == [["a:1"]]
    assert tags(saved(ctx, tmp_path, "a:2", "b:1", "docker.io/library/a:2")) == [["a:2", "b:1"]]
    assert tags(saved(ctx, tmp_path, "a")) == [["a:1", "a:2"], ["a:latest"]]
    assert tags(saved(ctx, tmp_path, image.short_id)) == [None]
    assert tags(saved(ctx, tmp_path, image.id)) == [None]
    assert tags(saved(ctx, tmp_path, image.id[7:], "b:1", other.id[:17])) == [["b:1"], None]
    entries = json.loads(members(saved(ctx, tmp_path, image.id))["index.json"])["manifests"]
    assert [set(e) for e in entries] == [{"mediaType", "digest", "size"}]


@pytest.mark.parametrize(("name", "error"), [("nosuch", NotFound), ("a" * 64, NotFound), ("UPPER", InvalidReference)])
def test_an_unknown_name_writes_nothing(ctx: Context, tmp_path: Path, name: str, error: type[Exception]) -> None:
    put(ctx, tmp_path, LAYER)
    with pytest.raises(error):
        saved(ctx, tmp_path, "alpine:3.20", name)
    assert (tmp_path / "out.tar").read_bytes() == b""


def test_a_removal_meanwhile_takes_nothing_away(ctx: Context, tmp_path: Path) -> None:
    """The archive goes into a pipe that nobody reads yet; the image is removed; what is read is whole."""
    big = LAYER[:-1024] + tar({"usr/big": os.urandom(1 << 20)})
    put(ctx, tmp_path, big)
    expected = saved(ctx, tmp_path, "alpine:3.20")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            save(ctx, ["alpine:3.20"], writer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        first = pipe.read(1)
        ImageStore(ctx.paths).remove("alpine:3.20")
        assert not os.path.exists(ctx.paths.layer(digest(big)))
        assert first + pipe.read() == expected
    assert os.waitpid(child, 0)[1] == 0


def test_a_config_keeps_its_bytes(ctx: Context, tmp_path: Path) -> None:
    put(ctx, tmp_path, LAYER)
    assert config_of(LAYER) in members(saved(ctx, tmp_path, "alpine")).values()
