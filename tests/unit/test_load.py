"""load: what archives there are, what hostile ones try, and what is left in the store when one fails."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.context import Context
from engine.errors import (
    ArchiveError,
    IntegrityError,
    InvalidReference,
    LayerError,
    MiniError,
    PlatformMismatch,
    RegistryError,
    UsageError,
)
from engine.images import archive as archives
from engine.images import compression
from engine.images import load as loads
from engine.images.load import LoadedImage, load
from engine.paths import Paths
from engine.storage.images import ImageStore
from tests.support import layers
from tests.support.archives import LAYER, UPPER, Layout, config_of, digest, docker_files, on, tar

Load = Callable[..., list[LoadedImage]]


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(Paths(str(tmp_path / "root")), {}, "erofs")


@pytest.fixture
def loaded(ctx: Context, tmp_path: Path) -> Load:
    """Loads the bytes, or the members, of an archive from a file."""

    def act(data: bytes | dict[str, bytes], **options: Any) -> list[LoadedImage]:
        path = tmp_path / "archive.tar"
        path.write_bytes(tar(data) if isinstance(data, dict) else data)
        return list(load(ctx, str(path), **options))

    return act


def in_store(ctx: Context) -> dict[str, bytes]:
    """Every file of the store but locks: what a failed load may have left."""
    top = Path(ctx.paths.root)
    found = [p for p in top.rglob("*") if p.is_file() and "locks" not in p.parts]
    return {str(p.relative_to(top)): p.read_bytes() for p in found}


# --- archives that are whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["tar", "gzip", "zstd"]
)
@pytest.mark.parametrize("inner", ["none", "gzip", "zstd"])
def test_a_docker_archive_keeps_its_image_id_and_layers(
    ctx: Context, loaded: Load, wrap: Callable[[bytes], bytes], inner: str
) -> None:
    (image,) = loaded(wrap(tar(docker_files(LAYER, UPPER, compression=inner))))
    assert image.image.id == digest(config_of(LAYER, UPPER))
    assert image.image.diff_ids == [digest(LAYER), digest(UPPER)]
    assert [t.familiar() for t in image.tags] == ["alpine:3.20"]
    store = ImageStore(ctx.paths)
    assert store.resolve("alpine:3.20").id == image.image.id
    assert Path(ctx.paths.blob(image.image.id)).read_bytes() == config_of(LAYER, UPPER)
    for data in (LAYER, UPPER):
        assert Path(ctx.paths.layer(digest(data))).read_bytes() == data
    assert os.listdir(ctx.paths.downloads) == []


@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["tar", "gzip"])
def test_from_a_pipe(ctx: Context, wrap: Callable[[bytes], bytes]) -> None:
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(wrap(tar(docker_files(LAYER, UPPER))))

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        (image,) = load(ctx, reader)
    finally:
        thread.join()
        os.close(reader)
    assert image.image.id == digest(config_of(LAYER, UPPER))
    assert os.listdir(ctx.paths.downloads) == []


def test_from_a_descriptor_that_others_have_read_from(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"#" * 100 + tar(docker_files(LAYER)))
    fd = os.open(tmp_path / "archive", os.O_RDONLY)
    os.lseek(fd, 100, os.SEEK_SET)
    (image,) = load(ctx, fd)
    os.close(fd)
    assert image.image.id == digest(config_of(LAYER))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["tar", "directory"])
def test_an_oci_layout_keeps_its_manifest(
    ctx: Context, loaded: Load, tmp_path: Path, kind: str, compression: str
) -> None:
    layout = Layout()
    manifest = layout.image(LAYER, UPPER, compression=compression)
    layout.name(manifest, "docker.io/library/alpine:3.20")
    files = layout.finish()
    if kind == "tar":
        (image,) = loaded(files)
    else:
        for name, data in files.items():
            (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "layout" / name).write_bytes(data)
        (image,) = load(ctx, str(tmp_path / "layout"))
    assert image.image.id == digest(config_of(LAYER, UPPER))
    assert image.image.manifest_digest == manifest["digest"]
    assert ImageStore(ctx.paths).resolve("alpine:3.20").id == image.image.id
    assert Path(ctx.paths.layer(digest(UPPER))).read_bytes() == UPPER


@pytest.mark.parametrize(
    ("annotations", "tag"),
    [
        ({"io.containerd.image.name": "quay.io/a/b:1"}, "quay.io/a/b:1"),
        ({"org.opencontainers.image.ref.name": "docker.io/library/alpine:3"}, "alpine:3"),
        ({"org.opencontainers.image.ref.name": "latest"}, None),
        ({}, None),
    ],
)
def test_names_in_an_oci_layout(loaded: Load, annotations: dict[str, str], tag: str | None) -> None:
    layout = Layout()
    layout.entries.append(layout.image(LAYER) | {"annotations": annotations})
    (image,) = loaded(layout.finish())
    assert [t.familiar() for t in image.tags] == ([tag] if tag else [])


def test_several_images_and_several_tags(ctx: Context, loaded: Load) -> None:
    first, second = docker_files(LAYER, tags=["a:1", "b"]), docker_files(LAYER, UPPER, tags=None)
    manifest = json.loads(first["manifest.json"]) + json.loads(second["manifest.json"])
    images = loaded(first | second | {"manifest.json": json.dumps(manifest).encode()})
    assert [[t.familiar() for t in i.tags] for i in images] == [["a:1", "b:latest"], []]
    assert images[0].image.names == ["docker.io/library/a:1", "docker.io/library/b:latest"]
    assert len(os.listdir(ctx.paths.layers)) == 2


def test_one_manifest_under_two_names_is_one_image(loaded: Load) -> None:
    layout = Layout()
    manifest = layout.image(LAYER)
    layout.name(manifest, "docker.io/library/a:1")
    layout.name(manifest, "docker.io/library/b:1")
    (image,) = loaded(layout.finish())
    assert [t.familiar() for t in image.tags] == ["a:1", "b:1"]


def test_of_an_image_for_several_platforms_the_one_wanted(loaded: Load) -> None:
    layout = Layout()
    arm = on(layout.image(LAYER, config=config_of(LAYER, architecture="arm64")), "linux/arm64")
    amd = on(layout.image(LAYER, UPPER), "linux/amd64")
    attestation = on(layout.image(UPPER), "unknown/unknown")
    layout.name(layout.index(arm, amd, attestation), "docker.io/library/alpine:3.20")
    files = layout.finish()
    assert loaded(files, platform="linux/amd64")[0].image.id == digest(config_of(LAYER, UPPER))
    assert loaded(files, platform="linux/arm64")[0].image.config["architecture"] == "arm64"
    with pytest.raises(
        PlatformMismatch, match="no image for linux/s390x in the archive, but for linux/amd64, linux/arm64"
    ):
        loaded(files, platform="linux/s390x")


def test_a_tag_moves_and_says_so(loaded: Load) -> None:
    (old,) = loaded(docker_files(LAYER))
    (new,) = loaded(docker_files(LAYER, UPPER))
    assert [(t.familiar(), i) for t, i in new.renamed] == [("alpine:3.20", old.image.id)]
    assert loaded(docker_files(LAYER, UPPER))[0].renamed == ()


def test_links_between_layers_as_docker_and_skopeo_write_them(ctx: Context, loaded: Load) -> None:
    """Docker linked a layer that two images share; skopeo keeps the old names as links (and GNU tar may make hard ones)."""
    config = config_of(LAYER, UPPER, LAYER)
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["b/layer.tar", "hard.tar", "./chain"]}]
    data = layers.archive(
        layers.file("./layers/one.tar", LAYER),
        layers.file("two.tar", UPPER),
        layers.directory("b/"),
        layers.symlink("b/layer.tar", "../layers/one.tar"),
        layers.hard_link("hard.tar", "two.tar"),
        layers.symlink("chain", "b/layer.tar"),
        layers.file("c.json", config),
        layers.file("manifest.json", json.dumps(manifest).encode()),
    )
    (image,) = loaded(data)
    assert image.image.diff_ids == [digest(LAYER), digest(UPPER), digest(LAYER)]
    assert Path(ctx.paths.layer(digest(LAYER))).read_bytes() == LAYER


def test_layers_that_are_there_are_not_read(ctx: Context, loaded: Load) -> None:
    loaded(docker_files(LAYER))
    files = docker_files(LAYER, UPPER)
    (name,) = [n for n in files if n.startswith(digest(LAYER)[7:])]
    (image,) = loaded(files | {name: b"unread"})
    assert image.image.diff_ids == [digest(LAYER), digest(UPPER)]


# --- hostile and broken archives -------------------------------------------------------------------------------------


def changed(key: str, value: Any) -> dict[str, bytes]:
    files = docker_files(LAYER)
    entry = json.loads(files["manifest.json"])[0] | {key: value}
    return files | {"manifest.json": json.dumps([entry]).encode()}


def linked(*links: bytes, layer: str = "l") -> bytes:
    """A docker-archive whose one layer is named `layer`, behind these members."""
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [layer]}]
    return layers.archive(
        *links, layers.file("c.json", config_of(LAYER)), layers.file("manifest.json", json.dumps(manifest).encode())
    )


def oci(**changes: bytes) -> dict[str, bytes]:
    layout = Layout()
    layout.name(layout.image(LAYER), "docker.io/library/alpine:3.20")
    return layout.finish() | {k.replace("_", "-").replace("index-json", "index.json"): v for k, v in changes.items()}


def wrong_digest() -> dict[str, bytes]:
    """A layer's blob that has another digest than its name, but the right content."""
    layout = Layout()
    descriptor = layout.image(LAYER)
    manifest = json.loads(layout.files[f"blobs/sha256/{descriptor['digest'][7:]}"])
    other = gzip.compress(LAYER, 9) + gzip.compress(b"")
    name = f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"
    manifest["layers"][0]["size"] = len(other)
    layout.add(layout.blob(json.dumps(manifest).encode(), "manifest.v1+json"))
    return layout.finish() | {name: other}


def wrong_size() -> dict[str, bytes]:
    files = oci()
    name = next(n for n, data in files.items() if data.startswith(b"\x1f\x8b"))
    return files | {name: files[name] + b"\0"}


def looping_index() -> dict[str, bytes]:
    layout = Layout()
    entry = layout.image(LAYER)
    for _ in range(6):
        entry = layout.index(entry)
    layout.add(entry)
    return layout.finish()


HOSTILE: dict[str, tuple[Callable[[], bytes | dict[str, bytes]], type[MiniError], str]] = {
    "nothing": (lambda: b"", ArchiveError, "neither a docker-archive nor an OCI layout"),
    "no tar": (lambda: b"#!/bin/sh\n" * 100, ArchiveError, "not an image archive: the tar is damaged"),
    "cut off": (lambda: tar(docker_files(LAYER))[:2000], ArchiveError, "the tar ends inside the data"),
    "cut off, compressed": (lambda: gzip.compress(tar(docker_files(LAYER)))[:200], LayerError, "cut off"),
    "a root file system": (lambda: LAYER, ArchiveError, "neither a docker-archive"),
    "a layer by an absolute path": (lambda: changed("Layers", ["/etc/passwd"]), ArchiveError, "leads out of it"),
    "a layer above the archive": (lambda: changed("Layers", ["../../etc/passwd"]), ArchiveError, "leads out of it"),
    "a config by an absolute path": (lambda: changed("Config", "/etc/passwd"), ArchiveError, "leads out of it"),
    "a config above the archive": (lambda: changed("Config", "a/../../x"), ArchiveError, "leads out of it"),
    "a config that is not there": (lambda: changed("Config", "x.json"), ArchiveError, "lacks 'x.json'"),
    "a name that no file can have": (lambda: changed("Config", "\ud800"), ArchiveError, "not a file name"),
    "a name with a NUL": (lambda: changed("Config", "a\0b"), ArchiveError, "not a file name"),
    "a link to the host": (lambda: linked(layers.symlink("l", "/etc/passwd")), ArchiveError, "leads out of it"),
    "a link above the archive": (lambda: linked(layers.symlink("l", "../../etc/passwd")), ArchiveError, "leads out"),
    "a hard link to the host": (lambda: linked(layers.hard_link("l", "/etc/passwd")), ArchiveError, "leads out of it"),
    "a link to itself": (lambda: linked(layers.symlink("l", "l")), ArchiveError, "leads to no file"),
    "a link to nothing": (lambda: linked(layers.symlink("l", "m")), ArchiveError, "lacks 'm', to which 'l' leads"),
    "a directory for a layer": (lambda: linked(layers.directory("l")), ArchiveError, "not a plain file"),
    "a device for a layer": (
        lambda: linked(layers.entry("l", layers.CHAR, rdev=(1, 5))), ArchiveError, "not a plain file",
    ),
    "a sparse layer": (
        lambda: linked(layers.file("l", b"", [("GNU.sparse.size", "9" * 12), ("GNU.sparse.map", "")])),
        ArchiveError, "not a plain file",
    ),
    "another layer's content": (lambda: linked(layers.file("l", UPPER)), IntegrityError, "has DiffID"),
    "more layers than DiffIDs": (lambda: changed("Layers", ["a", "b"]), ArchiveError, "expected 2, got 1"),
    "fewer layers than DiffIDs": (lambda: changed("Layers", None), ArchiveError, "expected 0, got 1"),
    "no layer list": (lambda: changed("Layers", {"a": 1}), ArchiveError, "Layers must be a list"),
    "tags that are no list": (lambda: changed("RepoTags", "alpine"), ArchiveError, "RepoTags must be a list"),
    "a tag that is none": (lambda: changed("RepoTags", ["../x"]), InvalidReference, "invalid reference format"),
    "a tag that is a digest": (
        lambda: changed("RepoTags", [f"alpine@{digest(b'')}"]), InvalidReference, "invalid tag",
    ),
    "no manifest list": (lambda: {"manifest.json": b"{}"}, ArchiveError, "must be a list of 1 to"),
    "an empty manifest list": (lambda: {"manifest.json": b"[]"}, ArchiveError, "must be a list of 1 to"),
    "a list of strings": (lambda: {"manifest.json": b'["a"]'}, ArchiveError, "must be an object with a Config"),
    "no JSON": (lambda: {"manifest.json": b"\xff\xfe"}, ArchiveError, "not JSON"),
    "JSON that is too deep": (lambda: {"manifest.json": b"[" * 100_000}, ArchiveError, "not JSON"),
    "a manifest list that is too long": (
        lambda: {"manifest.json": b" " * (5 << 20)}, ArchiveError, "the limit is 4194304",
    ),
    "a config that is none": (
        lambda: docker_files(LAYER, config=b'{"rootfs": {"type": "layers", "diff_ids": ["sha256:../../x"]}}'),
        RegistryError, "is not a DiffID",
    ),
    "a DiffID of another algorithm": (
        lambda: docker_files(LAYER, config=b'{"rootfs": {"type": "layers", "diff_ids": ["md5:abc"]}}'),
        RegistryError, "is not a DiffID",
    ),
    "a layer that is no tar": (lambda: docker_files(b"x" * 600), LayerError, "the tar is damaged"),
    "a layer that escapes": (
        lambda: docker_files(layers.archive(layers.file("../../etc/cron.d/x", b"x"))), LayerError, "",
    ),
    "another layout version": (lambda: oci(oci_layout=b'{"imageLayoutVersion": "2"}'), ArchiveError, "not 1.0.0"),
    "an index without images": (
        lambda: oci(index_json=b'{"schemaVersion": 2, "manifests": []}'), ArchiveError, "names no image",
    ),
    "an index that is a manifest": (
        lambda: oci(index_json=b'{"schemaVersion": 2, "layers": [], "config": {}}'), RegistryError, "",
    ),
    "indexes without end": (looping_index, ArchiveError, "nested more than"),
    "a blob with another digest": (wrong_digest, IntegrityError, "is in the archive as"),
    "a blob of another size": (wrong_size, IntegrityError, "its manifest says"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(ctx: Context, loaded: Load, case: str) -> None:
    """One clear error; no image, no half-made file, and no layer under a name that is not its own."""
    make, error, text = HOSTILE[case]
    with pytest.raises(error) as caught:
        loaded(make())
    assert text in caught.value.message
    assert ImageStore(ctx.paths).list_() == []
    left = in_store(ctx)
    assert all(name == f"layers/sha256/{digest(data)[7:]}.tar" for name, data in left.items()), left.keys()


def test_names_in_the_tar_become_no_paths(ctx: Context, loaded: Load, tmp_path: Path) -> None:
    """CVE-2014-9356: members that an extraction would have written outside."""
    hostile = layers.archive(
        layers.file("../escaped", b"x"), layers.file(f"{tmp_path}/escaped", b"x"), layers.symlink("blobs", "/"),
    )  # fmt: skip
    (image,) = loaded(hostile[:-1024] + tar(docker_files(LAYER)))
    assert image.image.id == digest(config_of(LAYER))
    assert not list(tmp_path.glob("**/escaped"))
    assert not os.path.exists(tmp_path.parent / "escaped")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "fifo"])
def test_a_directory_is_not_left(ctx: Context, tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").write_bytes(LAYER)
    (tmp_path / "layout").mkdir()
    for name, data in (("c.json", config_of(LAYER)), ("manifest.json", b'[{"Config": "c.json", "Layers": ["l"]}]')):
        (tmp_path / "layout" / name).write_bytes(data)
    os.mkfifo(tmp_path / "layout" / "fifo")
    os.symlink(target, tmp_path / "layout" / "l")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(ArchiveError, match="leads out of it|not a plain file"):
        list(load(ctx, str(tmp_path / "layout")))
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "layout" / "l").unlink()
    (tmp_path / "layout" / "inner").mkdir()
    (tmp_path / "layout" / "inner" / "layer").write_bytes(LAYER)
    os.symlink("inner/layer", tmp_path / "layout" / "l")
    assert len(list(load(ctx, str(tmp_path / "layout")))) == 1
    (tmp_path / "layout" / "inner").rename(tmp_path / "moved")
    os.symlink("../moved", tmp_path / "layout" / "inner")
    os.unlink(ctx.paths.layer(digest(LAYER)))
    with pytest.raises(ArchiveError, match="lacks"):
        list(load(ctx, str(tmp_path / "layout")))


def test_bombs_are_stopped_while_they_expand(ctx: Context, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_EXPANDED", 4 << 20)
    bomb = layers.archive(layers.file("zeros", bytes(40 << 20)))
    with pytest.raises(LayerError, match="the archive expands to more than"):
        loaded(gzip.compress(bomb))
    with pytest.raises(LayerError, match="layer .* expands to more than"):
        loaded(docker_files(bomb, compression="zstd"))
    assert in_store(ctx) == {}
    assert compression.MAX_EXPANDED > 4 << 20


def test_members_are_bounded(ctx: Context, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(ArchiveError, match="more than 2 members"):
        loaded(docker_files(LAYER))


def test_images_before_the_one_that_fails_stay(ctx: Context, loaded: Load) -> None:
    files = docker_files(LAYER)
    entries = json.loads(files["manifest.json"]) + [{"Config": "missing", "Layers": []}]
    with pytest.raises(ArchiveError, match="lacks 'missing'"):
        loaded(files | {"manifest.json": json.dumps(entries).encode()})
    assert [i.id for i in ImageStore(ctx.paths).list_()] == [digest(config_of(LAYER))]


def test_a_layer_that_fails_ends_the_others(ctx: Context, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two layers is wrong, and the first would take for ever: it is given up, and leaves nothing."""
    big = layers.archive(layers.file("big", bytes(1 << 20)))
    files = docker_files(big, UPPER)
    files[f"{digest(UPPER)[7:]}/layer.tar"] = LAYER
    given_up = threading.Event()
    read = archives.ArchiveFile.read

    def slowly(file: archives.ArchiveFile, size: int = 1) -> bytes:
        if file.size == len(big):
            assert given_up.wait(60)
        return read(file, size)

    def interrupt(loading: loads._Loading) -> None:
        loading.stop.set()
        given_up.set()

    monkeypatch.setattr(archives.ArchiveFile, "read", slowly)
    monkeypatch.setattr(loads._Loading, "interrupt", interrupt)
    with pytest.raises(IntegrityError, match="has DiffID"):
        loaded(files)
    assert in_store(ctx) == {}


def test_a_path_that_is_not_there(ctx: Context, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        list(load(ctx, f"{tmp_path}/nothing"))


# --- fuzzing ---------------------------------------------------------------------------------------------------------

SCRAPS = [b'"Config"', b"null", b"-1", b'"sha256:', b"[[", b"{}", b"\0", b"\xff", b"..", b"/", b"9" * 30, b'"size"']


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[int, float, bytes]]:
    """(which member's bytes, where in them, what instead)."""
    return draw(
        st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1), st.sampled_from(SCRAPS)), min_size=1, max_size=4)
    )


@settings(max_examples=150)
@given(st.booleans(), mutations(), st.floats(0, 1))
def test_no_archive_makes_an_error_that_is_not_ours(
    tmp_path_factory: pytest.TempPathFactory, is_oci: bool, changes: list[tuple[int, float, bytes]], cut: float
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    ctx = Context(Paths(str(directory / "root")), {}, "erofs")
    files = oci() if is_oci else docker_files(LAYER)
    for member, where, scrap in changes:
        name = sorted(files)[member % len(files)]
        at = int(where * len(files[name]))
        files[name] = files[name][:at] + scrap + files[name][at + len(scrap) :]
    data = tar(files)
    (directory / "archive").write_bytes(data if cut < 0.8 else data[: int(cut * len(data))])
    try:
        images = list(load(ctx, str(directory / "archive")))
    except MiniError:
        assert not os.listdir(ctx.paths.downloads) if os.path.isdir(ctx.paths.downloads) else True
        return
    for image in images:
        assert digest(Path(ctx.paths.blob(image.image.id)).read_bytes()) == image.image.id
        for diff_id in image.image.diff_ids:
            assert digest(Path(ctx.paths.layer(diff_id)).read_bytes()) == diff_id
