"""Pushes: what a registry has afterwards, what was sent for it, and what happens where the registry does not play along."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from engine.context import Context
from engine.errors import IntegrityError, MiniError, NotFound, RegistryError, Unauthorized, UsageError
from engine.images.pull import pull
from engine.images.push import Pushed, push
from engine.images.reference import Reference
from engine.images.server import RegistryServer
from engine.images.transport import Transport
from engine.paths import Paths
from engine.storage.images import Image, ImageStore
from tests.support.push import digest_of, push_image
from tests.support.registry import FakeRegistry, break_upload, lose_answer, status
from tests.support.requirements import CHECKOUT


def tar(size: int, seed: int = 0) -> bytes:
    """A layer with one file of so many random bytes, which do not get smaller by compression."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(f"file{seed}")
        entry.size = size
        archive.addfile(entry, io.BytesIO(random.Random(seed).randbytes(size)))
    return out.getvalue()


TARS = [tar(150_000, n) for n in range(7)]
UNAUTHORIZED = json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]})


class Recorder:
    """A PushProgress that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.bytes = 0
        self._lock = threading.Lock()

    def start(self, repository: str) -> None:
        self.told.append(repository)

    def layer(self, short_id: str, total: int) -> Any:
        recorder = self

        class Layer:
            def update(self, count: int) -> None:
                with recorder._lock:
                    recorder.bytes += count

            def status(self, text: str) -> None:
                recorder.told.append(f"{short_id}: {text}")

        return Layer()

    def finish(self, tag: str, digest: str, size: int) -> None:
        self.told.append(f"{tag}: {digest} {size}")

    def close(self) -> None:
        self.told.append("close")

    def count(self, text: str) -> int:
        return sum(t.endswith(text) for t in self.told)


class Bench:
    """A data root with an image pulled from one registry (`origin`), and a registry to push to that can misbehave."""

    def __init__(self, root: Path, origin: RegistryServer, fake: FakeRegistry) -> None:
        self.ctx = Context(Paths(str(root)), {"HOME": "/"}, "erofs")
        self.origin = origin
        self.fake = fake
        self.store = ImageStore(self.ctx.paths)
        self.progress = Recorder()

    def image(self, tars: list[bytes] = TARS[:3], tag: str = "1", **options: Any) -> Image:
        """Pulled from the origin as lib/app."""
        push_image(self.origin.url, "lib/app", tag, tars, **options)
        return pull(self.ctx, Reference.parse(f"{self.origin.address}/lib/app:{tag}")).image

    def push(self, image: Image | None, name: str, **options: Any) -> Pushed:
        if image:
            self.store.tag(image, Reference.parse(name).canonical())
        self.progress = Recorder()
        return push(self.ctx, Reference.parse(name), progress=self.progress, **options)[-1]

    def to_fake(self, image: Image, name: str = "dst/app:1") -> Pushed:
        return self.push(image, f"{self.fake.address}/{name}")

    def manifest(self, name: str = "dst/app", tag: str = "1") -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.fake.content[f"/v2/{name}/manifests/{tag}"][1])
        return document

    def check(self, image: Image, name: str = "dst/app", tag: str = "1") -> None:
        """What is at the fake registry is this image: config by its ID, layers by their DiffIDs; no upload is left."""
        document = self.manifest(name, tag)
        assert document["config"]["digest"] == image.id
        diff_ids = []
        for entry in [document["config"], *document["layers"]]:
            data = self.fake.content[f"/v2/{name}/blobs/{entry['digest']}"][1]
            assert (digest_of(data), len(data)) == (entry["digest"], entry["size"])
            diff_ids.append(digest_of(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data))
        assert diff_ids == [image.id, *image.diff_ids]
        assert self.fake.uploads == {}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(Transport.__init__, "__defaults__", (5, 0.001))  # back-off in milliseconds
    with RegistryServer(str(tmp_path / "origin")) as origin, FakeRegistry() as fake:
        yield Bench(tmp_path / "root", origin, fake)


@pytest.mark.parametrize("media", ["oci", "docker"])
def test_an_image_is_pushed_with_its_id_its_layers_and_the_type_it_came_in(bench: Bench, media: str) -> None:
    image = bench.image(media=media)
    pushed = bench.to_fake(image)
    bench.check(image)
    content_type, data = bench.fake.content["/v2/dst/app/manifests/1"]
    assert (digest_of(data), len(data)) == (pushed.digest, pushed.size)
    types = {content_type, *(entry["mediaType"] for entry in json.loads(data)["layers"])}
    family = "application/vnd.oci.image." if media == "oci" else "application/vnd.docker."
    assert all(t.startswith(family) for t in types) and len(types) == 2


def test_what_is_told(bench: Bench) -> None:
    image = bench.image(TARS)
    pushed = bench.to_fake(image)
    top_first = [d[7:19] for d in reversed(image.diff_ids)]
    told = bench.progress.told
    assert told[0] == f"{bench.fake.address}/dst/app"
    assert told[1:10] == [*(f"{d}: Preparing" for d in top_first), *(f"{d}: Waiting" for d in top_first[5:])]
    assert sorted(t for t in told if "Pushed" in t) == sorted(f"{d}: Pushed" for d in top_first)
    assert told[-2:] == [f"1: {pushed.digest} {pushed.size}", "close"]
    assert bench.progress.bytes == sum(map(len, TARS))


def test_pushing_again_uploads_nothing_and_names_the_same(bench: Bench) -> None:
    image = bench.image()
    first = bench.to_fake(image)
    before = len(bench.fake.requests)
    second = bench.to_fake(image)
    assert (second.digest, second.size) == (first.digest, first.size)
    assert {method for method, _, _ in bench.fake.requests[before:]} == {"HEAD", "PUT"}
    assert bench.progress.count("Layer already exists") == 3


def test_a_store_without_memory_compresses_to_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    first = bench.to_fake(bench.image())
    other = Bench(tmp_path / "other", bench.origin, bench.fake)
    before = len(bench.fake.requests)
    assert other.to_fake(other.image()).digest == first.digest
    assert len(bench.fake.asked("POST ")) and before < len(bench.fake.requests)


def test_another_image_on_the_same_layers_uploads_what_is_new(bench: Bench) -> None:
    bench.to_fake(bench.image(TARS[:2]))
    image = bench.image(TARS[:3], tag="2")
    bench.to_fake(image, "dst/app:2")
    assert bench.progress.count("Layer already exists") == 2 and bench.progress.count("Pushed") == 1
    bench.check(image, tag="2")


def test_a_layer_is_taken_over_from_where_it_was_pushed_before(bench: Bench) -> None:
    image = bench.image()
    bench.to_fake(image)
    bench.to_fake(image, "other/app:1")
    assert bench.progress.count("Mounted from dst/app") == 3
    bench.check(image, "other/app")
    assert len(bench.fake.asked("PATCH .*/other/")) == 1, "the config alone"


@pytest.mark.parametrize(
    "answer", [status(202, {"Location": "/v2/other/app/blobs/uploads/77"}), status(403), status(405)]
)
def test_a_registry_that_does_not_mount_gets_an_upload(bench: Bench, answer: Any) -> None:
    image = bench.image(TARS[:1])
    bench.to_fake(image)
    bench.fake.fault("POST .*mount=", answer)
    bench.fake.uploads["/v2/other/app/blobs/uploads/77"] = bytearray()
    bench.to_fake(image, "other/app:1")
    assert bench.progress.count("Pushed") == 1
    bench.fake.uploads.pop("/v2/other/app/blobs/uploads/77", None)
    bench.check(image, "other/app")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_within_one_registry_the_manifest_stays_byte_for_byte(bench: Bench, compression: str) -> None:
    came = push_image(bench.origin.url, "lib/app", "1", TARS[:3], compression=compression)
    image = pull(bench.ctx, Reference.parse(f"{bench.origin.address}/lib/app:1")).image
    pushed = bench.push(image, f"{bench.origin.address}/elsewhere:2")
    assert pushed.digest == came["manifest_digest"]
    assert bench.progress.count("Mounted from lib/app") == 3


def test_layers_that_came_uncompressed_go_uncompressed(bench: Bench) -> None:
    came = push_image(bench.origin.url, "lib/app", "1", TARS[:3], compression="none")
    image = pull(bench.ctx, Reference.parse(f"{bench.origin.address}/lib/app:1")).image
    assert bench.to_fake(image).digest == came["manifest_digest"]


def test_the_image_is_known_by_its_new_digest(bench: Bench) -> None:
    image = bench.image()
    pushed = bench.to_fake(image)
    found = bench.store.resolve(f"{bench.fake.address}/dst/app@{pushed.digest}")
    assert found.id == image.id
    assert bench.store.resolve(f"{bench.origin.address}/lib/app:1").manifests[0] == image.manifests[0]


def test_all_tags(bench: Bench) -> None:
    one, two = bench.image(TARS[:1]), bench.image(TARS[1:2], tag="2")
    for tag, image in (("b", one), ("a", two), ("c", one)):
        bench.store.tag(image, f"{bench.fake.address}/dst/app:{tag}")
    bench.store.tag(one, f"{bench.fake.address}/dst/application:d")
    bench.push(None, f"{bench.fake.address}/dst/app", all_tags=True)
    assert [t.partition(":")[0] for t in bench.progress.told if "sha256" in t] == ["a", "b", "c"]
    for tag, image in (("a", two), ("b", one), ("c", one)):
        bench.check(image, tag=tag)


def test_what_is_not_there(bench: Bench) -> None:
    image = bench.image()
    name = f"{bench.fake.address}/dst/app"
    with pytest.raises(NotFound, match=f"^An image does not exist locally with the tag: {name}$"):
        bench.push(None, f"{name}:1")
    bench.store.tag(image, f"{name}:1")
    with pytest.raises(NotFound, match=f"^tag does not exist: {name}:2$"):
        bench.push(None, f"{name}:2")
    with pytest.raises(UsageError, match="^cannot push a digest reference$"):
        bench.push(None, f"{name}@sha256:{'0' * 64}")
    assert bench.fake.requests == []


# --- a registry that does not play along ---------------------------------------------------------------------------


def test_an_upload_goes_on_where_the_connection_broke(bench: Bench) -> None:
    """A layer that needs several pieces: a reset after some of them is mended by the rest alone."""
    image = bench.image([tar(6_000_000)])
    bench.fake.fault("PATCH ", break_upload(2_000_000), break_upload(1_500_000))
    bench.to_fake(image)
    bench.check(image)
    assert len(bench.fake.asked("POST ")) == 2, "one for the layer, one for the config"
    assert bench.progress.bytes == image.size, "each byte is told once"


def test_an_upload_that_the_registry_forgot_begins_again(bench: Bench) -> None:
    image = bench.image([tar(3_000_000)])
    bench.fake.fault("PATCH ", break_upload(1_000_000))
    bench.fake.fault("GET .*/uploads/", status(404))
    bench.to_fake(image)
    bench.fake.uploads.clear()
    bench.check(image)


def test_what_was_put_together_wrongly_is_sent_again(bench: Bench) -> None:
    """The registry says that it has more than it has."""
    image = bench.image([tar(3_000_000)])
    bench.fake.fault("PATCH ", break_upload(1_000_000))
    bench.fake.fault("GET .*/uploads/", status(204, {"Range": "0-1999999"}))
    bench.to_fake(image)
    bench.fake.uploads.clear()
    bench.check(image)


@pytest.mark.parametrize("pattern", ["PATCH ", "PUT .*uploads", "POST .*uploads", "HEAD ", "PUT .*manifests"])
@pytest.mark.parametrize("answer", [status(503), status(429, {"Retry-After": "0"}), lose_answer])
def test_passing_trouble_is_ridden_out(bench: Bench, pattern: str, answer: Any) -> None:
    image = bench.image(TARS[:1])
    bench.fake.fault(pattern, answer, answer)
    bench.to_fake(image)
    bench.fake.uploads.clear()  # those whose answer was lost
    bench.check(image)


@pytest.mark.parametrize("pattern", ["PATCH ", "PUT .*uploads", "POST .*uploads", "HEAD ", "PUT .*manifests"])
@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (403, Unauthorized, "denied: requested access to the resource is denied"),
        (401, Unauthorized, "denied: requested access to the resource is denied"),
        (500, RegistryError, "answers 500"),
        (413, RegistryError, "answers 413"),
    ],
)
def test_lasting_trouble_is_one_error(bench: Bench, pattern: str, code: int, error: type[MiniError], says: str) -> None:
    image = bench.image(TARS[:1])
    bench.fake.fault(pattern, *[status(code, body=UNAUTHORIZED.encode())] * 100)
    with pytest.raises(error, match=says) as caught:
        bench.to_fake(image)
    assert "\n" not in caught.value.message
    assert "/v2/dst/app/manifests/1" not in bench.fake.content
    assert bench.fake.uploads == {}, "what was begun is taken away"
    assert not any("dst/app@" in name for name in image.names)


def test_an_answer_that_is_not_a_registrys(bench: Bench) -> None:
    image = bench.image(TARS[:1])
    bench.fake.fault("POST ", status(200, {"Content-Type": "text/html"}, b"<html>welcome</html>"))
    with pytest.raises(RegistryError, match="answers 200 to blobs/uploads"):
        bench.to_fake(image)


def bearer(bench: Bench, scope: str) -> Any:
    challenge = f'Bearer realm="{bench.fake.url}/token",service="s",scope="{scope}"'
    return status(401, {"WWW-Authenticate": challenge}, UNAUTHORIZED.encode())


def test_a_token_is_asked_for_that_may_push(bench: Bench) -> None:
    image = bench.image(TARS[:1])
    bench.fake.put("/token", b'{"token": "t"}')
    bench.fake.fault("GET /token", *[_token] * 9)
    bench.fake.fault("HEAD ", bearer(bench, "repository:dst/app:pull"))
    bench.fake.fault("POST ", bearer(bench, "repository:dst/app:pull,push"))
    bench.to_fake(image)
    bench.check(image)
    scopes = [unquote(path) for _, path, _ in bench.fake.requests if path.startswith("/token")]
    assert scopes and all(re.search("scope=repository:dst/app:pull,push(&|$)", s) for s in scopes)
    assert all("Authorization" in headers for headers in bench.fake.asked("PATCH|PUT"))


def _token(handler: Any) -> bool:
    handler.answer(200, b'{"token": "t%d"}' % len(handler.fake.requests))
    return True


def test_a_token_that_expires_during_an_upload_is_renewed(bench: Bench) -> None:
    image = bench.image([tar(3_000_000)])
    bench.fake.fault("GET /token", *[_token] * 9)
    bench.fake.fault("HEAD ", bearer(bench, "repository:dst/app:pull,push"))
    bench.fake.fault("PATCH |PUT .*uploads", bearer(bench, "repository:dst/app:pull,push"))
    bench.fake.fault("PUT .*uploads", bearer(bench, "repository:dst/app:pull,push"))
    bench.to_fake(image)
    bench.check(image)
    assert len({headers["Authorization"] for headers in bench.fake.asked("/v2/") if "Authorization" in headers}) == 3


def test_a_mirror_gets_pushes_only_where_it_is_all_there_is(bench: Bench) -> None:
    image = bench.image(TARS[:1])
    bench.ctx.environ |= {"MINI_REGISTRY_MIRRORS": f"docker.io={bench.fake.url}", "MINI_REGISTRY_FALLBACK": "no"}
    bench.push(image, "dst/app:1")
    bench.check(image)
    before = len(bench.fake.requests)
    del bench.ctx.environ["MINI_REGISTRY_FALLBACK"]
    with FakeRegistry() as mirror:
        bench.ctx.environ["MINI_REGISTRY_MIRRORS"] = f"{bench.fake.address}={mirror.url}"
        bench.to_fake(image)
        assert mirror.requests == []
    assert len(bench.fake.requests) > before


def test_credentials_stay_at_the_registry(bench: Bench) -> None:
    """A registry that has uploads go to another host does not get the password sent there, too."""
    image = bench.image(TARS[:1])
    folder = bench.ctx.paths.root
    with open(f"{folder}/config.json", "w") as file:
        json.dump({"auths": {bench.fake.address: {"username": "u", "password": "secret"}}}, file)
    bench.ctx.environ["DOCKER_CONFIG"] = folder
    with FakeRegistry() as stranger:
        place = "/v2/dst/app/blobs/uploads/1"
        stranger.uploads[place] = bytearray()
        bench.fake.fault("HEAD ", status(401, {"WWW-Authenticate": 'Basic realm="x"'}))
        bench.fake.fault("POST ", status(202, {"Location": f"{stranger.url}{place}"}))
        bench.to_fake(image)
    assert any("Authorization" in headers for _, _, headers in bench.fake.requests)
    assert stranger.requests and not any("Authorization" in headers for _, _, headers in stranger.requests)


def test_a_damaged_layer_is_not_pushed(bench: Bench) -> None:
    image = bench.image(TARS[:1])
    path = bench.ctx.paths.layer(image.diff_ids[0])
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"!")
    with pytest.raises(IntegrityError, match="is damaged in the store"):
        bench.to_fake(image)
    assert "/v2/dst/app/manifests/1" not in bench.fake.content
    assert not [p for p in bench.fake.content if "/blobs/" in p]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_push_that_is_ended_leaves_nothing_that_has_a_name(bench: Bench, number: int) -> None:
    """Ended while two layers are on their way; then the same push goes through."""
    image = bench.image([tar(2_000_000, n) for n in range(2)])
    arrived, go_on = threading.Event(), threading.Event()

    def stuck(handler: Any) -> bool:
        arrived.set()
        go_on.wait(60)
        handler.reset()
        return True

    bench.fake.fault("PATCH ", stuck, stuck)
    name = f"{bench.fake.address}/dst/app:1"
    bench.store.tag(image, name)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MINI_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "--root", bench.ctx.paths.root, "push", name],
        cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert arrived.wait(60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    go_on.set()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in err
    assert not [path for path in bench.fake.content if re.search("/(blobs|manifests)/", path)]
    bench.to_fake(image)
    bench.fake.uploads.clear()
    bench.check(image)
