"""A pull that was cut goes on where it stopped: in the same process, in another one after SIGKILL, after damage."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.context import Context
from engine.errors import IntegrityError, RegistryUnreachable, StoreError
from engine.images import download, transport
from engine.images.pull import pull
from engine.images.reference import Reference
from engine.images.transport import Transport
from engine.paths import Paths
from engine.storage import partial
from engine.storage.images import ImageStore
from engine.storage.layers import leftover_downloads, sweep_downloads
from engine.storage.partial import Partial
from tests.support import layers
from tests.support.push import digest_of
from tests.support.registry import FakeRegistry, Handler, cut, hold, replace

SIZE = 3_000_000


class Bench:
    """One image of one layer that does not compress, and a data root."""

    def __init__(self, fake: FakeRegistry, root: Path, compression: str = "gzip") -> None:
        self.fake = fake
        self.ctx = Context(Paths(str(root)), {"HOME": "/"}, "erofs")
        self.tar = layers.archive(layers.file("file", random.Random(1).randbytes(SIZE)))
        self.pushed = fake.image("a/b", "1", [self.tar], compression=compression)
        self.layer = self.pushed["layers"][0]["digest"]
        self.blob = fake.content[f"/v2/a/b/blobs/{self.layer}"][1]
        self.name = f"{fake.address}/a/b:1"

    def pull(self) -> str:
        return pull(self.ctx, Reference.parse(self.name)).image.diff_ids[0]

    def downloads(self) -> list[str]:
        folder = self.ctx.paths.downloads
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def kept(self) -> list[bytes]:
        """What is kept for the next pull."""
        found = []
        for name in self.downloads():
            if name.endswith(partial.SUFFIX):
                with open(f"{self.ctx.paths.downloads}/{name}", "rb") as file:
                    found.append(file.read())
        return found

    def ranges(self) -> list[int]:
        """Where each request for the layer began."""
        asked = self.fake.asked(self.layer)
        return [int(h.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")) for h in asked]

    def assert_pulled(self) -> None:
        self.fake.requests.clear()
        assert self.pull() == digest_of(self.tar)
        with open(self.ctx.paths.layer(digest_of(self.tar)), "rb") as file:
            assert file.read() == self.tar
        assert self.downloads() == []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(Transport.__init__, "__defaults__", (2, 0.001))
    with FakeRegistry() as fake:
        yield Bench(fake, tmp_path / "root")


def interrupt(bench: Bench, after: int) -> None:
    """A pull that fails for good when `after` bytes are there."""
    bench.fake.fault(bench.layer, cut(after, polite=True), *[cut(0)] * 20)
    with pytest.raises(RegistryUnreachable):
        bench.pull()
    bench.fake.clear_faults()


@pytest.mark.parametrize("after", [1, 100_000, 262_144, 2_999_000])
def test_the_next_pull_goes_on_at_the_byte(bench: Bench, after: int) -> None:
    interrupt(bench, after)
    assert bench.kept() == [bench.blob[:after]]
    assert ImageStore(bench.ctx.paths).list_() == []
    bench.assert_pulled()
    assert bench.ranges() == [after]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_whatever_the_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    monkeypatch.setattr(Transport.__init__, "__defaults__", (2, 0.001))
    with FakeRegistry() as fake:
        bench = Bench(fake, tmp_path, compression)
        interrupt(bench, 1_000_000)
        bench.assert_pulled()
        assert bench.ranges() == [1_000_000]


def test_a_blob_that_was_complete_is_not_asked_for_again(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt):
        with Partial(bench.ctx.paths, digest_of(bench.tar), bench.layer, len(bench.blob)) as kept:
            kept.append(bench.blob)
            raise KeyboardInterrupt
    bench.assert_pulled()
    assert bench.ranges() == []


@pytest.mark.parametrize(
    "damage", [lambda b: bytes(len(b)), lambda b: b[:-1] + b"x", lambda b: b"x" + b[1:]], ids=["zeros", "last", "first"]
)
def test_what_a_power_cut_damaged_is_fetched_again(bench: Bench, damage: object) -> None:
    interrupt(bench, 1_000_000)
    (name,) = os.listdir(bench.ctx.paths.downloads)
    with open(f"{bench.ctx.paths.downloads}/{name}", "wb") as file:
        file.write(damage(bench.blob[:1_000_000]))  # type: ignore[operator]
    bench.assert_pulled()
    assert bench.ranges()[-1] == 0


def test_a_longer_file_than_the_blob_is_not_believed(bench: Bench) -> None:
    interrupt(bench, 1_000_000)
    (name,) = os.listdir(bench.ctx.paths.downloads)
    with open(f"{bench.ctx.paths.downloads}/{name}", "ab") as file:
        file.write(bytes(SIZE * 2))
    bench.assert_pulled()
    assert bench.ranges() == [0]


def test_a_registry_that_sends_wrong_bytes_twice_is_an_error_and_nothing_is_kept(bench: Bench) -> None:
    interrupt(bench, 1_000_000)
    wrong = bench.blob[:-1] + bytes([bench.blob[-1] ^ 1])
    bench.fake.content[f"/v2/a/b/blobs/{bench.layer}"] = ("x", wrong)
    with pytest.raises(IntegrityError):
        bench.pull()
    assert bench.downloads() == []
    assert bench.ranges()[-2:] == [1_000_000, 0]


def test_a_server_without_ranges_sends_all_again(bench: Bench) -> None:
    interrupt(bench, 1_000_000)
    bench.fake.honours_ranges = False
    bench.fake.fault(bench.layer, cut(500_000, polite=True))  # and breaks off before what is new
    bench.assert_pulled()


def test_another_form_of_the_same_layer_does_not_mix_in(bench: Bench) -> None:
    interrupt(bench, 1_000_000)
    bench.pushed = bench.fake.image("a/b", "1", [bench.tar], compression="zstd")
    bench.fake.requests.clear()
    assert bench.pull() == digest_of(bench.tar)
    assert all("Range" not in h for h in bench.fake.asked("blobs"))
    sweep_downloads(bench.ctx.paths)
    assert bench.downloads() == [], "the layer is there: its other form is of no use any more"


def test_a_disk_that_cannot_hold_both_holds_the_layer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real ENOSPC, from /dev/full, for what is kept besides."""
    begin = Partial.__init__

    def on_a_full_disk(self: Partial, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, self._fd)
        os.close(full)

    monkeypatch.setattr(Partial, "__init__", on_a_full_disk)
    monkeypatch.setattr(Partial, "restart", lambda self: setattr(self, "size", 0))  # a device cannot be truncated
    bench.assert_pulled()


def test_a_full_disk_gives_back_what_was_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.storage.layers import LayerSink

    interrupt(bench, 1_000_000)

    def full(self: LayerSink, chunk: bytes) -> None:
        raise StoreError("cannot write: no space left on device")

    monkeypatch.setattr(LayerSink, "write", full)
    with pytest.raises(StoreError):
        bench.pull()
    assert bench.downloads() == []


def test_what_nobody_goes_on_with_goes_after_a_week(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(bench, 1_000_000)
    paths = bench.ctx.paths
    (name,) = os.listdir(paths.downloads)
    Path(f"{paths.downloads}/{name.partition('.')[0]}.tar.99.1").write_bytes(b"killed")
    assert leftover_downloads(paths, resumable=True) == sorted([name, f"{name.partition('.')[0]}.tar.99.1"])
    sweep_downloads(paths)
    assert os.listdir(paths.downloads) == [name]
    old = time.time() - partial.KEPT - 1
    os.utime(f"{paths.downloads}/{name}", (old, old))
    sweep_downloads(paths)
    assert os.listdir(paths.downloads) == []


_PULL = """
import sys
from engine.context import Context
from engine.images.pull import pull
from engine.images.reference import Reference
from engine.paths import Paths
pull(Context(Paths(sys.argv[1]), {"HOME": "/"}, "erofs"), Reference.parse(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_another_process_goes_on_after_a_signal(bench: Bench, number: signal.Signals) -> None:
    never = threading.Event()
    bench.fake.fault(bench.layer, hold(never, after=1_500_000))
    command = [sys.executable, "-c", _PULL, bench.ctx.paths.root, bench.name]
    try:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 30
            while sum(map(len, bench.kept())) < 1_500_000:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            process.wait(60)
    finally:
        never.set()
    bench.assert_pulled()
    assert bench.ranges() == [1_500_000]


def drip(handler: Handler) -> bool:
    """The right headers, then a byte now and then, for as long as somebody listens."""
    _, data = handler.fake.content[handler.path]
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    handler.answer(206 if start else 200, b"", headers, length=len(data) - start)
    try:
        for n in range(start, len(data)):
            handler.wfile.write(data[n : n + 1])
            time.sleep(0.005)
    except OSError:
        pass
    handler.close_connection = True
    return True


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience, and a limit far below what a loaded machine brings, far above a drip."""
    monkeypatch.setattr(transport, "STALL_TIME", 0.5)
    monkeypatch.setattr(transport, "STALL_BYTES", 1000)


def test_a_slow_drip_is_left_for_a_better_connection(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    bench.fake.fault(bench.layer, drip, drip)
    bench.assert_pulled()
    first, second, third = bench.ranges()
    assert 0 == first < second < third, "what dripped in is kept"


def test_a_drip_that_never_ends_ends_the_pull(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    bench.fake.fault(bench.layer, *[drip] * 20)
    with pytest.raises(RegistryUnreachable, match="sends too slowly"):
        bench.pull()
    assert len(bench.ranges()) == download.MAX_STALLS
    assert bench.kept() == [bench.blob[: len(bench.kept()[0])]]


def test_a_manifest_that_drips_ends_the_pull(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    bench.fake.put("/v2/a/b/manifests/1", bytes(100_000))
    bench.fake.fault("manifests", *[drip] * 20)
    with pytest.raises(RegistryUnreachable, match="sends too slowly"):
        bench.pull()


def test_a_wrong_answer_to_a_range_is_not_kept(bench: Bench) -> None:
    interrupt(bench, 1_000_000)
    bench.fake.fault(bench.layer, replace(b"x" * len(bench.blob)))
    bench.assert_pulled()
