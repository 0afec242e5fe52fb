"""Whole pulls, from a registry on loopback into a data root: what is there afterwards, and what is not."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli.progress import choose_progress
from engine.context import Context
from engine.errors import IntegrityError, ManifestUnknown, PlatformMismatch, RegistryError, RegistryUnreachable
from engine.images.pull import PulledImage, pull
from engine.images.reference import Reference
from engine.images.transport import Transport
from engine.paths import Paths
from engine.storage.images import ImageStore
from tests.support.push import digest_of, platform_json
from tests.support.registry import FakeRegistry, cut, hold, replace, status


def tar(name: str, content: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


LAYERS = [tar(f"file{n}", random.Random(n).randbytes(200_000)) for n in range(5)]


class Recorder:
    """A Progress that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.bytes = 0
        self._lock = threading.Lock()

    def start(self, reference: Reference) -> None:
        self.told.append("start")

    def layer(self, short_id: str, total: int) -> Any:
        recorder = self

        class Layer:
            def update(self, count: int) -> None:
                with recorder._lock:
                    recorder.bytes += count

            def status(self, text: str) -> None:
                recorder.told.append(f"{short_id}: {text}")

        return Layer()

    def close(self) -> None:
        self.told.append("close")

    def finish(self, digest: str, status: str) -> None:
        self.told += [digest, status]

    def count(self, text: str) -> int:
        return sum(t.endswith(text) for t in self.told)


class Bench:
    def __init__(self, fake: FakeRegistry, root: Path) -> None:
        self.fake = fake
        self.ctx = Context(Paths(str(root)), {"HOME": "/"}, "erofs")
        self.progress = Recorder()

    def pull(self, name: str = "a/b", **options: Any) -> PulledImage:
        self.progress = Recorder()
        return pull(self.ctx, Reference.parse(f"{self.fake.address}/{name}"), progress=self.progress, **options)

    def store(self) -> ImageStore:
        return ImageStore(self.ctx.paths)

    def stored_layers(self) -> list[str]:
        """The DiffIDs there are; each tar must have its own."""
        folder = self.ctx.paths.layers
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                assert digest_of(file.read()) == f"sha256:{name.removesuffix('.tar')}"
        return [f"sha256:{n.removesuffix('.tar')}" for n in names]

    def assert_clean(self) -> None:
        """No image, no tag, nothing half-made; whole layers may stay, and first bytes of blobs, for the next pull."""
        assert self.store().list_() == []
        self.stored_layers()
        self.partials()
        for folder in (self.ctx.paths.tags, self.ctx.paths.blobs):
            assert not os.path.isdir(folder) or os.listdir(folder) == []

    def partials(self) -> dict[str, int]:
        """Digest → bytes of it that are kept. Nothing else may lie there, and no byte may be wrong."""
        folder, found = self.ctx.paths.downloads, {}
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            _, digest, suffix = name.split(".")
            assert suffix == "part"
            with open(f"{folder}/{name}", "rb") as file:
                data = file.read()
            (blob,) = {d for path, (_, d) in self.fake.content.items() if path.endswith(f"/blobs/sha256:{digest}")}
            assert data and blob.startswith(data)
            found[f"sha256:{digest}"] = len(data)
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(Transport.__init__, "__defaults__", (5, 0.001))  # back-off in milliseconds
    with FakeRegistry() as fake:
        yield Bench(fake, tmp_path / "root")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_pulled_image_is_named_and_whole(bench: Bench, compression: str) -> None:
    pushed = bench.fake.image("a/b", "1", LAYERS, compression=compression)
    result = bench.pull("a/b:1")
    assert result.digest == pushed["digest"]
    assert result.image.id == pushed["config"]["digest"]
    assert result.image.size == sum(map(len, LAYERS))
    assert result.image.diff_ids == [digest_of(t) for t in LAYERS]
    assert sorted(result.image.names) == [f"{bench.fake.address}/a/b:1", f"{bench.fake.address}/a/b@{pushed['digest']}"]
    assert bench.stored_layers() == sorted(map(digest_of, LAYERS))
    with open(bench.ctx.paths.blob(pushed["digest"]), "rb") as file:
        assert file.read() == bench.fake.content["/v2/a/b/manifests/1"][1], "the manifest is kept verbatim"
    assert os.listdir(bench.ctx.paths.downloads) == []


def test_what_is_told(bench: Bench) -> None:
    pushed = bench.fake.image("a/b", "1", LAYERS)
    result = bench.pull("a/b:1")
    told = bench.progress.told
    assert told[:6] == ["start", *(f"{x['digest'][7:19]}: Pulling fs layer" for x in pushed["layers"])]
    assert told[-3:] == ["close", pushed["digest"], result.status]
    assert result.status == f"Downloaded newer image for {bench.fake.address}/a/b:1"
    assert bench.progress.count("Pull complete") == 5
    assert bench.progress.bytes == sum(x["size"] for x in pushed["layers"])


def test_what_is_there_is_not_fetched_again(bench: Bench) -> None:
    bench.fake.image("a/b", "1", LAYERS[:2])
    bench.pull("a/b:1")
    bench.fake.requests.clear()
    assert bench.pull("a/b:1").status == f"Image is up to date for {bench.fake.address}/a/b:1"
    assert bench.progress.count("Already exists") == 0, "Docker shows no layers of an image that is there"
    assert len(bench.fake.asked("/blobs/")) == 1, "the config alone"
    bench.fake.image("a/b", "1", LAYERS[:3])
    assert bench.pull("a/b:1").status.startswith("Downloaded newer image")
    assert (bench.progress.count("Already exists"), bench.progress.count("Pull complete")) == (2, 1)


def test_another_tag_of_the_same_image_is_news(bench: Bench) -> None:
    bench.fake.image("a/b", "1", LAYERS[:1])
    bench.fake.image("a/b", "2", LAYERS[:1])
    first, second = bench.pull("a/b:1"), bench.pull("a/b:2")
    assert first.image.id == second.image.id
    assert second.status.startswith("Downloaded newer image")
    assert len(bench.store().list_()) == 1


def test_a_tag_moves_to_the_new_image(bench: Bench) -> None:
    bench.fake.image("a/b", "1", LAYERS[:1])
    old = bench.pull("a/b:1").image
    bench.fake.image("a/b", "1", LAYERS[:2])
    new = bench.pull("a/b:1").image
    assert bench.store().resolve(f"{bench.fake.address}/a/b:1").id == new.id != old.id
    assert bench.store().resolve(old.id).tags == []


def test_by_digest_there_is_no_tag(bench: Bench) -> None:
    pushed = bench.fake.image("a/b", None, LAYERS[:1])
    result = bench.pull(f"a/b:1@{pushed['digest']}")
    assert result.status.endswith(f" for {bench.fake.address}/a/b@{pushed['digest']}")
    assert result.image.names == [f"{bench.fake.address}/a/b@{pushed['digest']}"]
    assert bench.pull(f"a/b@{pushed['digest']}").status.startswith("Image is up to date")


def test_a_layer_that_an_image_has_twice_is_fetched_once(bench: Bench) -> None:
    pushed = bench.fake.image("a/b", "1", [LAYERS[0], LAYERS[1], LAYERS[0]])
    result = bench.pull("a/b:1")
    assert len(result.image.diff_ids) == 3 and len(bench.stored_layers()) == 2
    assert len(bench.fake.asked(pushed["layers"][0]["digest"])) == 1


def test_an_image_without_layers(bench: Bench) -> None:
    bench.fake.image("a/b", "1", [])
    assert bench.pull("a/b:1").image.diff_ids == []


def test_an_index_is_pulled_for_the_platform(bench: Bench) -> None:
    images = {p: bench.fake.image("a/b", None, [tar(p)], p) for p in ("linux/amd64", "linux/arm64", "linux/s390x")}
    entries = [
        {k: i[k] for k in ("mediaType", "digest", "size")} | {"platform": platform_json(p)} for p, i in images.items()
    ]
    index = bench.fake.index("a/b", "1", entries)
    result = bench.pull("a/b:1", platform="linux/s390x")
    assert (result.digest, result.image.id) == (index["digest"], images["linux/s390x"]["config"]["digest"])
    assert result.image.repo_digests == [f"{bench.fake.address}/a/b@{index['digest']}"]
    with pytest.raises(PlatformMismatch):
        bench.pull("a/b:1", platform="linux/mips64le")


def test_layers_are_fetched_side_by_side(bench: Bench) -> None:
    """Each of the first three answers only when all three were asked for: one after the other would never end."""
    pushed = bench.fake.image("a/b", "1", LAYERS)
    barrier = threading.Barrier(3, timeout=60)

    def meet(handler: Any) -> bool:
        barrier.wait()
        return False

    blobs = "|".join(layer["digest"] for layer in pushed["layers"])
    bench.fake.fault(blobs, meet, meet, meet)
    bench.pull("a/b:1")
    assert not barrier.broken


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ([replace(b"x" * 100)], IntegrityError),
        ([status(404)], RegistryError),
        ([status(500)] * 50, RegistryError),
        ([cut(50_000, polite=True), *[cut(0)] * 50], RegistryUnreachable),
    ],
    ids=["wrong bytes", "missing", "server error", "cut off"],
)
def test_a_layer_that_cannot_be_had_fails_the_pull_and_leaves_no_image(
    bench: Bench, faults: list[Any], error: Any
) -> None:
    pushed = bench.fake.image("a/b", "1", LAYERS)
    bench.fake.fault(pushed["layers"][3]["digest"], *faults)
    with pytest.raises(error):
        bench.pull("a/b:1")
    bench.assert_clean()
    assert not any(t.name.startswith("layer-") for t in threading.enumerate())
    bench.fake.clear_faults()
    bench.pull("a/b:1")  # and the next one finds what is there, and ends it
    assert bench.stored_layers() == sorted(map(digest_of, LAYERS))


def test_a_config_that_lies_about_a_layer_is_found_out(bench: Bench) -> None:
    pushed = bench.fake.image("a/b", None, [LAYERS[0], LAYERS[1]])
    document = json.loads(bench.fake.content[f"/v2/a/b/manifests/{pushed['digest']}"][1])
    document["layers"].reverse()
    bench.fake.manifest("a/b", "1", document)
    with pytest.raises(IntegrityError, match="DiffID"):
        bench.pull("a/b:1")
    bench.assert_clean()


def test_an_unknown_image_leaves_nothing_at_all(bench: Bench) -> None:
    with pytest.raises(ManifestUnknown):
        bench.pull("no/such:image")
    bench.assert_clean()
    assert "start" not in bench.progress.told


def test_one_failure_ends_the_layers_that_hang(bench: Bench) -> None:
    pushed = bench.fake.image("a/b", "1", LAYERS[:3])
    never = threading.Event()
    held = threading.Barrier(3, timeout=60)

    def when_both_hang(handler: Any) -> bool:
        held.wait()
        return replace(b"wrong")(handler)

    def hang(handler: Any) -> bool:
        held.wait()
        return hold(never, after=1000)(handler)

    bench.fake.fault(pushed["layers"][0]["digest"], when_both_hang)
    for layer in pushed["layers"][1:]:
        bench.fake.fault(layer["digest"], hang)
    try:
        with pytest.raises(IntegrityError):
            bench.pull("a/b:1")
        assert not any(t.name.startswith("layer-") for t in threading.enumerate())
        bench.assert_clean()
    finally:
        never.set()


def test_two_pulls_at_once_fetch_each_layer_once(bench: Bench) -> None:
    pushed = bench.fake.image("a/b", "1", LAYERS)
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(pull(bench.ctx, Reference.parse(f"{bench.fake.address}/a/b:1")).image.id)
        except BaseException as e:
            results.append(e)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [pushed["config"]["digest"]] * 4
    for layer in pushed["layers"]:
        assert len(bench.fake.asked(layer["digest"])) == 1


def test_a_removal_that_takes_a_layer_meanwhile_is_made_good(bench: Bench) -> None:
    """`rmi` of another image between the layers and the name: once by itself, and only once."""
    bench.fake.image("a/b", "old", LAYERS[:1])
    pushed = bench.fake.image("a/b", "new", LAYERS[:2])

    def remove(handler: Any) -> bool:
        assert bench.store().find(f"{bench.fake.address}/a/b:old")
        bench.store().remove(f"{bench.fake.address}/a/b:old")
        return False

    bench.pull("a/b:old")
    bench.fake.requests.clear()
    bench.fake.fault(pushed["layers"][1]["digest"], remove)
    assert bench.pull("a/b:new").image.diff_ids == [digest_of(t) for t in LAYERS[:2]]
    assert [len(bench.fake.asked(layer["digest"])) for layer in pushed["layers"]] == [1, 1]
    first = pushed["layers"][0]["digest"][7:19]
    told = [t.partition(": ")[2] for t in bench.progress.told if t.startswith(first)]
    assert told == ["Already exists", "Pulling fs layer", "Downloading", "Download complete", "Pull complete"]


_PULL = """
import sys
from engine.context import Context
from engine.images.pull import pull
from engine.images.reference import Reference
from engine.paths import Paths
pull(Context(Paths(sys.argv[1]), {"HOME": "/"}, "erofs"), Reference.parse(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_pull_that_is_interrupted_ends_at_once(bench: Bench, number: signal.Signals) -> None:
    """Ctrl-C while the servers hang: gone, and nothing half-made. SIGKILL: what is left is not an image, and no obstacle."""
    pushed = bench.fake.image("a/b", "1", LAYERS[:3])
    never = threading.Event()
    for layer in pushed["layers"][1:]:
        bench.fake.fault(layer["digest"], hold(never, after=1000))
    command = [sys.executable, "-c", _PULL, bench.ctx.paths.root, f"{bench.fake.address}/a/b:1"]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            while not (len(bench.fake.asked("/blobs/")) == 4 and bench.stored_layers()):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            process.wait(60)  # the servers would hang for 100 s
    finally:
        never.set()
    assert process.returncode == -number
    assert bench.store().list_() == []
    if number == signal.SIGINT:
        bench.assert_clean()
    bench.fake.clear_faults()
    assert bench.pull("a/b:1").image.diff_ids == [digest_of(t) for t in LAYERS[:3]]
    assert os.listdir(bench.ctx.paths.downloads) == []


def test_memory_stays_flat(bench: Bench, tmp_path: Path) -> None:
    """A layer of 256 MB goes through a process whose address space could not hold it."""
    layer = tar("big", bytes(256 << 20))
    bench.fake.image("a/b", "1", [layer], compression="zstd")
    script = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({200 << 20}, {200 << 20}))\n{_PULL}"
    command = [sys.executable, "-c", script, bench.ctx.paths.root, f"{bench.fake.address}/a/b:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert bench.stored_layers() == [digest_of(layer)]


def test_lines_where_there_is_no_terminal(bench: Bench) -> None:
    """What Docker writes into a pipe; the command line adds the canonical reference."""
    pushed = bench.fake.image("a/b", "1", LAYERS[:1])
    out = io.StringIO()
    pull(bench.ctx, Reference.parse(f"{bench.fake.address}/a/b:1"), progress=choose_progress(False, out))
    short = pushed["layers"][0]["digest"][7:19]
    assert out.getvalue().splitlines() == [
        "1: Pulling from a/b",
        f"{short}: Pulling fs layer",
        f"{short}: Download complete",
        f"{short}: Pull complete",
        f"Digest: {pushed['digest']}",
        f"Status: Downloaded newer image for {bench.fake.address}/a/b:1",
    ]
    quiet = io.StringIO()
    pull(bench.ctx, Reference.parse(f"{bench.fake.address}/a/b:1"), progress=choose_progress(True, quiet))
    assert quiet.getvalue() == ""


@pytest.mark.parametrize("columns", [70, 80])
def test_bars_where_there_is_one(columns: int) -> None:
    """Drawn on a real pty, read back as a terminal of that many columns would get it."""
    controller, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with open(terminal, "w") as stream:
        progress = choose_progress(False, stream)
        progress.start(Reference.parse("alpine:3"))
        layers = [progress.layer(f"{n}" * 12, 5_000_000) for n in range(3)]
        layers.pop().status("Already exists")
        for layer in layers:
            layer.status("Downloading")
        for _ in range(20):
            layers[0].update(100_000)
            time.sleep(0.02)  # tqdm draws at most every 0.1 s
        for layer in layers:
            layer.status("Pull complete")
        progress.close()
        progress.finish("sha256:x", "Downloaded")
        drawn = ""
        while "Status: Downloaded\r\n" not in drawn:
            drawn += os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert drawn.startswith("3: Pulling from library/alpine\r\n")
    bar = r"0{12}: Downloading +\[=+>? *\] +\d\.\d+MB/5\.00MB"
    assert re.search(bar + (r" +\d+\.?\d*[kM]B/s +\d\d:\d\d" if columns == 80 else ""), drawn)
    assert drawn.index("000000000000: Pull complete") < drawn.rindex("111111111111: Pull complete")
    told = "Layers: 2 downloaded (10MB), 1 shared with other images (5MB)\r\n"
    assert drawn.endswith(f"{told}Digest: sha256:x\r\nStatus: Downloaded\r\n")
    assert all(len(line) <= columns for line in re.split(r"[\r\n]|\x1b\[A", drawn))
