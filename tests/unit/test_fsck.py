"""fsck on stores that are damaged in every way: what it says, that it changes nothing, and that a repair mends it all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.context import Context
from engine.paths import Paths
from engine.storage import orphans
from engine.storage.drivers import ErofsDriver
from engine.storage.findings import Finding
from engine.storage.images import Image, ImageStore
from engine.storage.layers import layer_lock
from engine.storage.volumes import Volumes
from engine.system import fsck
from tests.support.layers import directory, file


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Store:
    """A data root with images whose layers are real tars, each of one file."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(str(root))
        self.context = Context(self.paths, {"MINI_CGROUP_PARENT": "/mini-test-fsck", "MINI_BRIDGE": "mtfsck"})
        self.images = ImageStore(self.paths)
        self.driver = ErofsDriver(self.paths)

    def layer(self, text: str) -> str:
        tar = directory("etc") + file(f"etc/{text}", text.encode() * 1000) + bytes(1024)
        with layer_lock(self.paths, digest(tar)[7:]), self.driver.layer_sink(digest(tar)) as sink:
            sink.write(tar)
            sink.commit()
        return digest(tar)

    def image(self, name: str, *texts: str) -> Image:
        diff_ids = [self.layer(text) for text in texts]
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "created": "2024-05-01T00:00:00Z",
             "config": {"Labels": {"of": name}}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        ).encode()  # fmt: skip
        sizes = [self.driver.layer_size(d) for d in diff_ids]
        media = "application/vnd.oci.image"
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": f"{media}.manifest.v1+json",
             "config": {"mediaType": f"{media}.config.v1+json", "digest": digest(config), "size": len(config)},
             "layers": [{"mediaType": f"{media}.layer.v1.tar", "digest": d, "size": s}
                        for d, s in zip(diff_ids, sizes, strict=True)]}
        ).encode()  # fmt: skip
        self.driver.prepare(diff_ids)
        return self.images.put(
            manifest, config, tag=f"{name}:1", repo_digest=f"{name}@{digest(manifest)}", size=sum(sizes)
        )

    def fsck(self, repair: bool = False) -> fsck.Report:
        return fsck.fsck(self.context, repair)

    def said(self, repair: bool = False) -> list[str]:
        return sorted(f"{f.kind} {f.what.split()[0]}" for f in self.fsck(repair).findings)

    def everything(self) -> dict[str, bytes | None]:
        top = Path(self.paths.root)
        return {
            str(p.relative_to(top)): p.read_bytes() if p.is_file() else None
            for p in top.rglob("*")
            if "locks" not in p.parts and "quarantine" not in p.parts
        }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "root")
    store.image("one", "base", "one")
    store.image("two", "base", "two")
    return store


def flip(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(600)
        byte = file.read(1)
        file.seek(600)
        file.write(bytes([byte[0] ^ 1]))


def index_of(store: Store, name: str) -> str:
    return store.paths.index(store.images.resolve(f"{name}:1").chain_id)


def config_of(store: Store, name: str) -> str:
    return store.paths.blob(store.images.resolve(f"{name}:1").id)


def layer_of(store: Store, name: str, number: int) -> str:
    return store.paths.layer(store.images.resolve(f"{name}:1").diff_ids[number])


def record_of(store: Store, name: str) -> str:
    return store.paths.image(store.images.resolve(f"{name}:1").id)


def test_a_whole_store_has_no_findings_and_a_repair_changes_nothing(store: Store) -> None:
    Volumes(store.paths).create("data")
    before = store.everything()
    assert store.fsck().findings == []
    assert store.fsck(repair=True).findings == []
    assert store.everything() == before
    kept = [*Path(store.paths.layers).iterdir(), *Path(store.paths.blobs).iterdir()]
    assert store.fsck().checked == {
        "images": 2, "layers": 3, "bytes": sum(p.stat().st_size for p in kept), "containers": 0, "volumes": 1,
    }  # fmt: skip


def test_no_data_root_is_no_damage_and_none_is_made(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").fsck(repair=True).findings == []
    assert not (tmp_path / "none").exists()


# What can be made again: after a repair everything is as before, and nothing has to be pulled.

MENDED: list[tuple[str, Callable[[Store], object], list[str]]] = [
    ("an index with a wrong bit", lambda s: flip(index_of(s, "one")), ["damaged index"]),
    ("an index cut short", lambda s: os.truncate(index_of(s, "one"), 1024), ["damaged index"]),
    ("no index", lambda s: os.unlink(index_of(s, "one")), ["missing image"]),
    ("a record cut short", lambda s: os.truncate(record_of(s, "one"), 20), ["damaged image"]),
    ("a record of nothing", lambda s: Path(record_of(s, "one")).write_text("[]"), ["damaged image"]),
    ("a record that says something else", lambda s: _edit(record_of(s, "one"), size=1), ["damaged image"]),
    ("a record without its layers", lambda s: _edit(record_of(s, "one"), diff_ids=[]), ["damaged image"]),
    ("no record", lambda s: os.unlink(record_of(s, "one")), ["damaged image"]),
    ("a layer of no image", lambda s: s.layer("stray"), ["rubbish layer"]),
    ("an index of no image", lambda s: s.driver.prepare([s.images.resolve("one:1").diff_ids[0]]), ["rubbish index"]),
    ("a document of no image", lambda s: Path(s.paths.blob(digest(b"x"))).write_bytes(b"x"), ["rubbish document"]),
    ("a half-written name", lambda s: Path(s.paths.tags, ".x.1.tmp").write_text("x"), ["rubbish tags/.x.1.tmp"]),
    ("a half-written record", lambda s: Path(s.paths.images, ".y.tmp").touch(), ["rubbish images/.y.tmp"]),
    ("a half-made index", lambda s: Path(index_of(s, "one") + ".tmp").touch(), ["rubbish indexes/sha256/"]),
    ("half-made directories", lambda s: _half_unpacked(s), ["rubbish trees/sha256/"] * 2),
    ("a download", lambda s: Path(s.paths.downloads, f"{'a' * 64}.tar.1.1").touch(), ["rubbish downloads/"]),
    ("a half-made volume", lambda s: os.makedirs(f"{s.paths.volumes}/.new-1/_data"), ["rubbish volumes/.new-1"]),
    ("a half-removed volume", lambda s: os.makedirs(f"{s.paths.volumes}/.removed-1"), ["rubbish volumes/.removed-1"]),
]  # fmt: skip


def _edit(path: str, **values: object) -> None:
    Path(path).write_text(json.dumps(json.loads(Path(path).read_text()) | values))


def _half_unpacked(store: Store) -> None:
    for end in (".new", ".gone"):
        os.makedirs(f"{store.paths.trees}/{'a' * 64}{end}/etc")


@pytest.mark.parametrize("damage, said", [m[1:] for m in MENDED], ids=[m[0] for m in MENDED])
def test_mended(store: Store, damage: Callable[[Store], object], said: list[str]) -> None:
    Volumes(store.paths).create("data")
    os.makedirs(store.paths.trees)
    before = store.everything()
    damage(store)
    damaged = store.everything()
    found = store.said()
    assert [f[: len(s)] for f, s in zip(found, said, strict=True)] == said
    assert store.everything() == damaged
    report = store.fsck(repair=True)
    assert not [done for done in report.done.values() if done.startswith(("not", "left"))]
    assert len(report.done) == len(report.findings) and not report.pull
    after = store.everything()
    assert {n: c for n, c in after.items() if not n.startswith("images/")} == {
        n: c for n, c in before.items() if not n.startswith("images/")
    }
    assert [
        json.loads(c or b"") for n, c in sorted(after.items()) if n.endswith(".json") and n.startswith("images/")
    ] == [json.loads(c or b"") for n, c in sorted(before.items()) if n.endswith(".json") and n.startswith("images/")]
    assert store.fsck().findings == []


# What cannot: it goes into quarantine as it is, and a pull brings it back.

LOST: list[tuple[str, Callable[[Store], str], list[str], set[str]]] = [
    ("the top layer", lambda s: layer_of(s, "one", 1), ["one"], {"damaged layer"}),
    ("a layer of both", lambda s: layer_of(s, "one", 0), ["one", "two"], {"damaged layer"}),
    ("the config", lambda s: config_of(s, "one"), ["one"], {"damaged document"}),
    ("the manifest", lambda s: s.paths.blob(s.images.resolve("one:1").manifest_digest), ["one"], {"damaged document"}),
]


@pytest.mark.parametrize("missing", [False, True], ids=["damaged", "missing"])
@pytest.mark.parametrize("choose, lost, said", [c[1:] for c in LOST], ids=[c[0] for c in LOST])
def test_lost(store: Store, choose: Callable[[Store], str], lost: list[str], said: set[str], missing: bool) -> None:
    before = store.everything()
    path = choose(store)
    if missing:
        os.unlink(path)
    else:
        flip(path) if os.stat(path).st_size > 600 else os.truncate(path, 10)
        wrong = Path(path).read_bytes()
    report = store.fsck(repair=True)
    assert report.damaged
    assert {f"{f.kind} {f.what.split()[0]}" for f in report.findings} == ({"damaged image"} if missing else said)
    assert sorted(name.partition("@")[0] for name in report.pull.values()) == lost
    if not missing:
        (kept,) = Path(store.paths.quarantine).glob(f"*/{os.path.relpath(path, store.paths.root)}")
        assert kept.read_bytes() == wrong
        assert not os.path.exists(path)
    for name in lost:  # what `pull` does
        store.image(name, "base", name)
    assert store.fsck(repair=True).findings == []
    assert store.everything().keys() == before.keys()


def test_an_image_of_which_nothing_is_left_is_forgotten_and_named(store: Store) -> None:
    one = store.images.resolve("one:1")
    os.unlink(store.paths.blob(one.id))
    os.unlink(store.paths.image(one.id))
    report = store.fsck(repair=True)
    assert [f.kind for f in report.findings] == ["damaged"]
    assert list(report.pull.values()) == [f"one@{one.manifest_digest}"]
    assert [i.tags for i in store.images.list_()] == [["docker.io/library/two:1"]]
    # its layers are kept for the pull, until nothing is unknown any more
    assert os.path.exists(store.paths.layer(one.diff_ids[1]))
    store.image("one", "base", "one")
    assert store.said() == []


def test_a_name_that_cannot_be_read(store: Store) -> None:
    path = Path(store.paths.tags, os.listdir(store.paths.tags)[0])
    path.write_bytes(b"\xff")
    assert store.said(repair=True) == ["damaged name"]
    assert store.said() == []
    assert list(Path(store.paths.quarantine).rglob(path.name))


def test_a_volume_keeps_its_content_whatever_its_record(store: Store) -> None:
    for name, break_it in (("cut", lambda p: os.truncate(p, 3)), ("lost", os.unlink)):
        volume = Volumes(store.paths).create(name, {"a": "b"})
        Path(volume.path, "file").write_text("content")
        break_it(f"{volume.directory}/volume.json")
    assert store.said(repair=True) == ["damaged volume"] * 2
    assert [v.name for v in Volumes(store.paths).list_()] == ["cut", "lost"]
    assert [Path(v.path, "file").read_text() for v in Volumes(store.paths).list_()] == ["content"] * 2
    assert store.said() == []


# --- beside others ---------------------------------------------------------------------------------------------------


@contextmanager
def another_process(act: Callable[[], object]) -> Iterator[None]:
    """Does it in a child, and keeps what it took until the end of the block."""
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(done[1])
            kept = act()
            os.write(ready[1], b".")
            os.read(done[0], 1)
            del kept
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    try:
        yield
    finally:
        os.close(done[1])
        os.waitpid(child, 0)


def test_what_a_pull_in_progress_has_is_no_rubbish(store: Store) -> None:
    stray = store.layer("stray")
    name = f"{'ab' * 32}.tar.1.1"

    def pulling() -> object:
        locks = [store.images.adding(), layer_lock(store.paths, name)]
        for lock in locks:
            lock.__enter__()
        Path(store.paths.downloads, name).write_bytes(b"half")
        return locks

    with another_process(pulling):
        assert store.said(repair=True) == []
    assert os.path.exists(store.paths.layer(stray))
    assert store.said(repair=True) == ["rubbish downloads/" + name, "rubbish layer"]
    assert not os.path.exists(store.paths.layer(stray))


def test_what_a_pull_goes_on_with_is_no_rubbish_but_prune_takes_it(store: Store) -> None:
    part = Path(store.paths.downloads, f"{'a' * 64}.{'b' * 64}.part")
    part.write_bytes(b"the first bytes")
    assert store.said(repair=True) == []
    assert part.exists()
    fsck.sweep(store.context)
    assert not part.exists()


def test_a_pull_that_begins_during_the_check_keeps_its_layer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = store.layer("stray")
    run = fsck.Repair.run
    report = None

    def late(repair: fsck.Repair, findings: list[Finding]) -> object:
        with another_process(lambda: store.images.adding().__enter__()):
            return run(repair, findings)

    monkeypatch.setattr(fsck.Repair, "run", late)
    report = store.fsck(repair=True)
    assert list(report.done.values()) == ["left alone: an image is being pulled or loaded"]
    assert os.path.exists(store.paths.layer(stray))


def test_what_a_pull_collects(store: Store) -> None:
    """What killed ones left more than a day ago, unless another is adding layers; never what an image has."""
    strays = [store.paths.layer(store.layer(name)) for name in ("old", "young")]
    index = index_of(store, "one")
    for path in (strays[0], index, layer_of(store, "one", 1), config_of(store, "one")):
        os.utime(path, (0, 0))
    with another_process(lambda: store.images.adding().__enter__()):
        orphans.collect(store.images)
        assert all(map(os.path.exists, strays))
    orphans.collect(store.images)
    assert [os.path.exists(path) for path in strays] == [False, True]
    assert [str(f) for f in store.fsck(repair=True).findings if f.kind != "rubbish"] == []
    assert store.fsck().findings == []


def test_with_a_record_that_is_damaged_nothing_is_an_orphan(store: Store) -> None:
    """Nobody knows what it needed: neither a pull nor a repair takes what may be its layers."""
    kept = layer_of(store, "one", 1)
    os.utime(kept, (0, 0))
    for path in (config_of(store, "one"), record_of(store, "one")):
        os.truncate(path, 5)
    orphans.collect(store.images)
    fsck.sweep(store.context)
    store.fsck(repair=True)
    assert os.path.exists(kept)


def test_beside_pulls_and_removals_nothing_is_ever_damaged(store: Store) -> None:
    """Another process adds and removes images as fast as it can: no check sees anything but whole images."""
    stop = Path(store.paths.root, "stop")
    child = os.fork()
    if not child:
        code = 1
        try:
            while not stop.exists():
                with store.images.adding():
                    store.image("three", "base", "three")
                store.images.remove("three:1")
            code = 0
        finally:
            os._exit(code)
    try:
        reports = [store.fsck(repair=n % 2 == 1) for n in range(30)]
    finally:
        stop.touch()
        code = os.waitpid(child, 0)[1]
    assert code == 0
    assert [f for r in reports for f in r.findings if f.kind == "damaged"] == []
    stop.unlink()
    assert store.fsck(repair=True).damaged is False
    assert store.fsck().findings == []
