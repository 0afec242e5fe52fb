"""A registry that misbehaves, in every way that issue 3 lists: each pull gives one clear error or recovers, and the store stays
clean. Where a fault is passing, the pull recovers by itself; where it lasts, the pull that comes after it does."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.context import Context
from engine.errors import IntegrityError, ManifestUnknown, MiniError, RegistryError, RegistryUnreachable
from engine.images import connections, transport
from engine.images.pull import pull
from engine.images.reference import Reference
from engine.images.transport import Transport
from engine.paths import Paths
from engine.storage.images import ImageStore
from tests.support import layers, push
from tests.support.registry import Action, FakeRegistry, Handler, cut, encode, passing, redirect, replace, status

TARS = [layers.archive(layers.file(f"f{n}", random.Random(n).randbytes(150_000))) for n in range(3)]
INDEX = push.OCI + "index.v1+json"


class Bench:
    """A registry with an index of one image of three layers, and a data root."""

    def __init__(self, fake: FakeRegistry, root: Path) -> None:
        self.fake = fake
        self.ctx = Context(Paths(str(root)), {"HOME": "/", "MINI_CERTS_D": ""}, "erofs")
        self.image = fake.image("a/b", None, TARS)
        entry = {k: self.image[k] for k in ("mediaType", "digest", "size")}
        entry["platform"] = push.platform_json(push.default_platform())
        self.index = fake.index("a/b", "1", [entry])
        self.layer = self.image["layers"][1]["digest"]
        self.config = self.image["config"]["digest"]

    def pull(self) -> None:
        found = pull(self.ctx, Reference.parse(f"{self.fake.address}/a/b:1"))
        assert found.image.diff_ids == [push.digest_of(t) for t in TARS]

    def assert_clean(self) -> None:
        """No image, no name; layers are whole, and what is kept for the next pull is right."""
        paths = self.ctx.paths
        assert ImageStore(paths).list_() == [] and not _names(paths.tags) and not _names(paths.blobs)
        for name in _names(paths.layers):
            with open(f"{paths.layers}/{name}", "rb") as file:
                assert file.read() in TARS
        for name in _names(paths.downloads):
            blob = self.fake.content[f"/v2/a/b/blobs/sha256:{name.split('.')[1]}"][1]
            with open(f"{paths.downloads}/{name}", "rb") as file:
                assert blob.startswith(file.read())

    def assert_pulled(self) -> None:
        paths = self.ctx.paths
        assert [i.diff_ids for i in ImageStore(paths).list_()] == [[push.digest_of(t) for t in TARS]]
        assert _names(paths.downloads) == []


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(Transport.__init__, "__defaults__", (3, 0.001))
    monkeypatch.setattr(transport, "STALL_TIME", 0.5)
    monkeypatch.setattr(transport, "STALL_BYTES", 1000)  # far below what a loaded machine brings, far above a drip
    with FakeRegistry() as fake:
        yield Bench(fake, tmp_path / "root")


def flipped(handler: Handler) -> bool:
    """The right size, one bit wrong."""
    content_type, data = handler.fake.content[handler.path]
    handler.answer(200, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], {"Content-Type": content_type})
    return True


def short(handler: Handler) -> bool:
    """A complete answer, says its length, that lacks the last bytes."""
    content_type, data = handler.fake.content[handler.path]
    handler.answer(200, data[:-5], {"Content-Type": content_type})
    return True


def long(handler: Handler) -> bool:
    content_type, data = handler.fake.content[handler.path]
    handler.answer(200, data + b"more", {"Content-Type": content_type})
    return True


def endless(handler: Handler) -> bool:
    """Without a length, and without an end until the client hangs up."""
    content_type, data = handler.fake.content[handler.path]
    handler.send_response(200)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        return True


def drip(handler: Handler) -> bool:
    _, data = handler.fake.content[handler.path]
    handler.answer(200, b"", length=len(data))
    try:
        for n in range(len(data)):
            handler.wfile.write(data[n : n + 1])
            time.sleep(0.005)
    except OSError:
        pass
    handler.close_connection = True
    return True


def hang_up(handler: Handler) -> bool:
    handler.reset()
    return True


def head_that_drips(handler: Handler) -> bool:
    """Headers, and always one more byte of them, in time for a time-out that starts again with each."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    handler.close_connection = True
    try:
        for _ in range(4000):
            handler.wfile.write(b"x")
            time.sleep(0.005)
    except OSError:
        pass
    return True


def chunk_that_lies(handler: Handler) -> bool:
    """A chunked body (RFC 9112 7.1) whose chunk is not as long as it says."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ffff\r\n" + handler.fake.content[handler.path][1][:50])
    handler.close_connection = True
    return True


WHERE = ["manifests/1", "manifests/sha256", "CONFIG", "LAYER"]

PASSING: dict[str, list[Action]] = {
    "reset before the answer": [hang_up, hang_up],
    "reset at byte 0": [cut(0)],
    "reset at byte 1": [cut(1)],
    "reset at byte 300": [cut(300)],
    "closed at byte 300": [cut(300, polite=True)],
    "429": [status(429, {"Retry-After": "0"})],
    "503": [status(503), status(503)],
    "408 500 then well": [status(408), status(500)],
    "chunk that lies": [chunk_that_lies],
    "drip": [drip],
    "head that drips": [head_that_drips],
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_recovered_from(
    bench: Bench, where: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "head that drips":
        monkeypatch.setattr(connections, "HEAD_TIMEOUT", 1.0)
    pattern = where.replace("CONFIG", bench.config).replace("LAYER", bench.layer)
    bench.fake.fault(f"GET .*{pattern}", *PASSING[fault])
    bench.pull()
    bench.assert_pulled()


LASTING: dict[str, tuple[Action, type[MiniError] | tuple[type[MiniError], ...]]] = {
    "wrong digest": (flipped, IntegrityError),
    "short body": (short, IntegrityError),
    "long body": (long, (IntegrityError, RegistryError)),
    "reset at byte 1": (cut(1), RegistryUnreachable),
    "hangs up": (hang_up, RegistryUnreachable),
    "429": (status(429), RegistryError),
    "503": (status(503), RegistryError),
    "404": (status(404), RegistryError),
    "403": (status(403), RegistryError),
    "encoded on the way": (encode, (IntegrityError, RegistryError)),
    "redirected in a circle": (redirect("/v2/a/b/again"), RegistryError),
    "redirected to a file": (redirect("file:///etc/passwd"), RegistryError),
    "html": (replace(b"<html>sorry</html>", {"Content-Type": "text/html"}), (IntegrityError, RegistryError)),
    "empty": (replace(b""), (IntegrityError, RegistryError)),
}


@pytest.mark.parametrize("where", WHERE[1:])
@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_is_one_error_and_the_next_pull_is_well(bench: Bench, where: str, fault: str) -> None:
    action, error = LASTING[fault]
    pattern = where.replace("CONFIG", bench.config).replace("LAYER", bench.layer)
    bench.fake.fault(f"GET .*{pattern}|GET .*/again", *[action] * 5000)
    with pytest.raises(error) as raised:
        bench.pull()
    message = raised.value.message
    assert message and "\n" not in message and len(message) < 400
    bench.assert_clean()
    bench.fake.clear_faults()
    bench.pull()
    bench.assert_pulled()


def test_a_body_without_an_end_is_read_to_its_right_size_and_no_further(bench: Bench) -> None:
    bench.fake.fault(f"GET .*{bench.layer}", endless)
    bench.pull()
    bench.assert_pulled()
    bench.fake.fault("GET .*manifests/sha256", endless)
    with pytest.raises(RegistryError, match="more than"):
        bench.pull()


def test_401_at_the_second_request(bench: Bench) -> None:
    """The token server is named only then, and asked once."""
    challenge = {"WWW-Authenticate": f'Bearer realm="{bench.fake.url}/token"'}

    def guard(handler: Handler) -> bool:
        return "Authorization" not in handler.headers and status(401, challenge)(handler)

    bench.fake.fault("GET /v2/", passing, *[guard] * 20)
    bench.fake.fault("GET /token", status(200, body=b'{"token": "t"}'))
    bench.pull()
    bench.assert_pulled()
    assert len(bench.fake.asked("/token")) == 1


def test_credentials_do_not_follow_a_redirect_to_another_host(bench: Bench, tmp_path: Path) -> None:
    """As registries do that keep blobs elsewhere (S3 refuses a request with two authorizations)."""
    config = {"auths": {bench.fake.address: {"username": "me", "password": "secret"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    bench.ctx.environ["DOCKER_CONFIG"] = str(tmp_path)
    with FakeRegistry() as elsewhere:
        for path, entry in bench.fake.content.items():
            elsewhere.content[path.replace("/v2/a/b/blobs/", "/store/")] = entry

        def move(handler: Handler) -> bool:
            if handler.headers.get("Authorization") is None:
                return status(401, {"WWW-Authenticate": "Basic"})(handler)
            return redirect(elsewhere.url + handler.path.replace("/v2/a/b/blobs/", "/store/"))(handler)

        bench.fake.fault("GET .*/blobs/", *[move] * 20)
        bench.pull()
        bench.assert_pulled()
        assert len(elsewhere.requests) == 4
        assert all("Authorization" not in h and "Cookie" not in h for h in elsewhere.asked(""))


def huge(size: int) -> Callable[[Handler], bool]:
    """A JSON document of that size, sent as long as somebody listens."""

    def act(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Type", INDEX)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.close_connection = True
        sent = 0
        try:
            handler.wfile.write(b'{"a": "')
            while sent < size:
                handler.wfile.write(b"x" * (1 << 16))
                sent += 1 << 16
        except OSError:
            pass
        handler.fake.sent = sent  # type: ignore[attr-defined]
        return True

    return act


@pytest.mark.parametrize("where", ["manifests/1", "manifests/sha256"])
def test_a_manifest_of_100_megabytes_is_not_read(bench: Bench, where: str) -> None:
    bench.fake.fault(f"GET .*{where}", huge(100 << 20))
    with pytest.raises(RegistryError, match="more than"):
        bench.pull()
    bench.assert_clean()
    assert getattr(bench.fake, "sent", 0) < 16 << 20, "sockets hold a few megabytes, and the client hangs up"


def test_a_config_that_claims_100_megabytes_is_not_asked_for(bench: Bench) -> None:
    document = json.loads(bench.fake.content[f"/v2/a/b/manifests/{bench.image['digest']}"][1])
    document["config"]["size"] = 100 << 20
    bench.fake.manifest("a/b", "1", document)
    with pytest.raises(RegistryError, match="more than the limit"):
        bench.pull()
    bench.assert_clean()
    assert bench.fake.asked("/blobs/") == []


def test_indexes_that_lead_to_indexes_for_ever(bench: Bench) -> None:
    """A digest cannot be in what it is the digest of; but a registry can make up another index for each that is asked for."""
    count = 0

    def another(handler: Handler) -> bool:
        nonlocal count
        count += 1
        inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "n": count}).encode()
        entry = {"mediaType": INDEX, "digest": push.digest_of(inner), "size": len(inner)}
        handler.answer(200, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode())
        return True

    bench.fake.fault("GET .*manifests", *[another] * 100)
    with pytest.raises((RegistryError, IntegrityError)):
        bench.pull()
    assert count < 10
    bench.assert_clean()


def test_indexes_nested_too_deep_and_too_wide(bench: Bench) -> None:
    deep: dict[str, Any] = bench.index
    for _ in range(6):
        deep = bench.fake.index("a/b", "1", [{k: deep[k] for k in ("mediaType", "digest", "size")}])
    with pytest.raises(RegistryError, match="nested more than"):
        bench.pull()
    wide = [bench.fake.index("a/b", None, []) for _ in range(3)]
    many = [{k: w[k] for k in ("mediaType", "digest", "size")} for w in wide * 40]
    bench.fake.index("a/b", "1", many)
    bench.fake.requests.clear()
    with pytest.raises(RegistryError):
        bench.pull()
    assert len(bench.fake.requests) < 50
    bench.assert_clean()


def test_an_unknown_image(bench: Bench) -> None:
    with pytest.raises(ManifestUnknown):
        pull(bench.ctx, Reference.parse(f"{bench.fake.address}/no/such:1"))
    bench.assert_clean()


def test_a_layer_that_is_not_what_its_name_says_is_never_seen(bench: Bench) -> None:
    """The right digest and size of a blob that expands to another layer."""
    other = gzip.compress(b"something else")
    document = json.loads(bench.fake.content[f"/v2/a/b/manifests/{bench.image['digest']}"][1])
    document["layers"][1] |= bench.fake.blob("a/b", other)
    bench.fake.manifest("a/b", "1", document)
    with pytest.raises(IntegrityError, match="DiffID"):
        bench.pull()
    bench.assert_clean()
