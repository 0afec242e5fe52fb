"""Tokens over their life, credentials of helpers, logins, and foreign layers: what is sent where, and what never is."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.context import Context
from engine.errors import RegistryError, Unauthorized, UsageError
from engine.images import auth
from engine.images.credentials import Credential
from engine.images.login import domain_of, login
from engine.images.pull import pull
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Transport
from engine.paths import Paths
from tests.support import layers, push
from tests.support.registry import FakeRegistry, Handler, cut, replace, status

MANIFEST = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}'
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setattr(Transport.__init__, "__defaults__", (3, 0.001))
    with FakeRegistry() as registry:
        registry.manifest("a/b", "latest", MANIFEST)
        yield registry


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


class Tokens:
    """The registry's token server: every token is good for `uses` requests, and what it was asked is written down."""

    def __init__(self, fake: FakeRegistry, uses: int = 1000, **answer: Any) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        self._fake, self._uses, self._answer = fake, uses, answer
        self._left: dict[str, int] = {}
        fake.fault("(GET|HEAD) /v2/", *[self._guard] * 1000)
        fake.fault(" /token", *[self._give] * 1000)

    def _guard(self, handler: Handler) -> bool:
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self._left.get(token, 0) > 0:
            self._left[token] -= 1
            return False
        handler.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{self._fake.url}/token",service="s"'})
        return True

    def _give(self, handler: Handler) -> bool:
        query = urlsplit(handler.path).query or handler.body.decode()
        self.asked.append((handler.command, parse_qs(query), handler.headers.get("Authorization")))
        token = f"t{len(self.asked)}"
        self._left[token] = self._uses
        handler.answer(200, json.dumps({"token": token, **self._answer}).encode())
        return True


def environ(folder: Path, fake: FakeRegistry, entry: dict[str, str] | None = None, **more: Any) -> dict[str, str]:
    config = {"auths": {fake.address: entry or {"auth": BASIC.removeprefix("Basic ")}}, **more}
    (folder / "config.json").write_text(json.dumps(config))
    return {"HOME": "/nowhere", "DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}


def client(fake: FakeRegistry, environ: dict[str, str], actions: str = "pull") -> Registry:
    return Registry(Reference.parse(f"{fake.address}/a/b"), environ, actions=actions)


# --- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_that_expires_in_the_middle_of_a_layer_is_renewed(fake: FakeRegistry, tmp_path: Path) -> None:
    tar = layers.archive(layers.file("f", random.Random(1).randbytes(400_000)))
    pushed = fake.image("a/b", "1", [tar])
    tokens = Tokens(fake, uses=1)
    connection = iter([cut(100_000, polite=True), cut(100_000, polite=True)])

    def break_off(handler: Handler) -> bool:
        return tokens._guard(handler) or next(connection, lambda _: False)(handler)

    fake.fault(f"GET .*{pushed['layers'][0]['digest']}", *[break_off] * 100)
    ctx = Context(Paths(str(tmp_path / "root")), environ(tmp_path, fake), "erofs")
    assert pull(ctx, Reference.parse(f"{fake.address}/a/b:1")).image.diff_ids == [push.digest_of(tar)]
    assert len(tokens.asked) == 5, "one a request: manifest, config, and three pieces of the layer"


def test_a_token_is_renewed_before_it_expires(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(fake, expires_in=300)
    registry = client(fake, {"HOME": "/nowhere"})
    registry.get_manifest("latest")
    registry.get_manifest("latest")
    assert len(tokens.asked) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 295)
    registry.get_manifest("latest")
    assert len(tokens.asked) == 2
    assert [h.get("Authorization") for h in fake.asked("/v2/")] == [None, "Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_refresh_token_spares_the_password(fake: FakeRegistry, tmp_path: Path) -> None:
    tokens = Tokens(fake, uses=1, refresh_token="r1")
    registry = client(fake, environ(tmp_path, fake))
    for _ in range(2):
        registry.get_manifest("latest")
    assert [(method, header) for method, _, header in tokens.asked] == [("GET", BASIC), ("POST", None)]
    form = tokens.asked[1][1]
    assert (form["grant_type"], form["refresh_token"], form["client_id"]) == (["refresh_token"], ["r1"], ["mini"])


def test_a_refresh_token_that_has_expired_is_replaced(fake: FakeRegistry, tmp_path: Path) -> None:
    tokens = Tokens(fake, uses=1, refresh_token="r1")
    registry = client(fake, environ(tmp_path, fake))
    registry.get_manifest("latest")
    fake.fault("POST /token", status(401))
    registry.get_manifest("latest")
    assert [method for method, _, _ in tokens.asked] == ["GET", "GET"]


@pytest.mark.parametrize("code", [404, 405])
def test_a_token_server_without_get_is_asked_by_post(fake: FakeRegistry, tmp_path: Path, code: int) -> None:
    tokens = Tokens(fake)
    fake.fault("GET /token", status(code))
    client(fake, environ(tmp_path, fake)).get_manifest("latest")
    ((method, form, header),) = tokens.asked
    assert (method, header, form["grant_type"]) == ("POST", None, ["password"])
    assert (form["username"], form["password"]) == (["me"], ["secret"])


def test_a_registry_token_is_sent_as_it_is(fake: FakeRegistry, tmp_path: Path) -> None:
    tokens = Tokens(fake)
    tokens._left["mine"] = 1
    client(fake, environ(tmp_path, fake, {"registrytoken": "mine"})).get_manifest("latest")
    assert tokens.asked == []


@pytest.mark.parametrize(
    ("asked", "own", "joined"),
    [
        ("", "repository:a/b:pull", "repository:a/b:pull"),
        ("repository:a/b:pull", "repository:a/b:pull,push", "repository:a/b:pull,push"),
        ("repository:x/a/b:pull", "repository:a/b:pull,push", "repository:x/a/b:pull"),
        ("registry:catalog:*", "repository:a/b:pull", "registry:catalog:*"),
        ("", "", ""),
    ],
)
def test_one_token_for_all_that_will_be_done(asked: str, own: str, joined: str) -> None:
    assert auth._joined(asked, own) == joined


# --- helpers -----------------------------------------------------------------------------------------------------------


def helper(folder: Path, text: str) -> None:
    (folder / "docker-credential-test").write_text(f"#!/bin/sh\necho asked >> {folder}/asked\n{text}\n")
    (folder / "docker-credential-test").chmod(0o755)


def test_a_helper_is_asked_once_and_only_if_the_registry_wants_credentials(fake: FakeRegistry, tmp_path: Path) -> None:
    told = environ(tmp_path, fake, credsStore="test")
    helper(tmp_path, """echo '{"Username": "me", "Secret": "secret"}'""")
    client(fake, told).get_manifest("latest")
    assert not (tmp_path / "asked").exists()
    tokens = Tokens(fake, uses=1)
    registry = client(fake, told)
    for _ in range(3):
        registry.get_manifest("latest")
    assert {header for _, _, header in tokens.asked} == {BASIC}
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_broken_helper_is_no_obstacle_to_what_is_public_and_named_where_it_is(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    told = environ(tmp_path, fake, credsStore="test")
    helper(tmp_path, "echo the keyring is locked; exit 1")
    Tokens(fake)
    client(fake, told).get_manifest("latest")
    fake.clear_faults()
    fake.fault("GET /v2/", *[status(401, {"WWW-Authenticate": "Basic"})] * 3)
    with pytest.raises(Unauthorized) as error:
        client(fake, told).get_manifest("latest")
    assert "the keyring is locked" in (error.value.hint or "")


# --- login -------------------------------------------------------------------------------------------------------------


def prove(fake: FakeRegistry, password: str = "secret") -> Credential:
    return login(fake.address, Credential("me", password), {"HOME": "/nowhere", "MINI_CERTS_D": ""})


def test_a_login_at_a_registry_with_a_token_server(fake: FakeRegistry) -> None:
    tokens = Tokens(fake)
    assert prove(fake) == Credential("me", "secret")
    ((method, query, header),) = tokens.asked
    assert (method, header) == ("GET", BASIC)
    assert query == {"service": ["s"], "account": ["me"], "offline_token": ["true"], "client_id": ["mini"]}


def test_an_identity_token_is_kept_in_place_of_the_password(fake: FakeRegistry) -> None:
    Tokens(fake, refresh_token="idt")
    assert prove(fake) == Credential(identity_token="idt")


def test_a_login_by_basic_authentication(fake: FakeRegistry) -> None:
    fake.fault("GET /v2/", status(401, {"WWW-Authenticate": 'Basic realm="r"'}))
    assert prove(fake) == Credential("me", "secret")
    assert [h.get("Authorization") for h in fake.asked("/v2/")] == [None, BASIC]


@pytest.mark.parametrize("challenge", ['Basic realm="r"', 'Bearer realm="{url}/token"', ""])
def test_a_wrong_password_is_told_in_dockers_words(fake: FakeRegistry, challenge: str) -> None:
    fake.fault("GET /v2/", *[status(401, {"WWW-Authenticate": challenge.replace("{url}", fake.url)})] * 9)
    fake.fault("/token", *[status(401)] * 9)
    fake.fault("GET /token", status(401, body=b'{"details": "incorrect username or password"}'))
    with pytest.raises(Unauthorized) as error:
        prove(fake, "wrong")
    if challenge.startswith("Bearer"):
        assert error.value.message == f'Get "{fake.url}/v2/": unauthorized: incorrect username or password'
    else:
        assert error.value.message == f"login attempt to {fake.url}/v2/ failed with status: 401 Unauthorized"
    assert "wrong" not in error.value.message
    assert len(fake.requests) < 5


def test_a_server_that_is_no_registry_is_not_logged_in_to(fake: FakeRegistry) -> None:
    fake.fault("GET /v2/", status(404))
    with pytest.raises(RegistryError, match="answers 404"):
        prove(fake)


def test_a_mirror_is_not_logged_in_to_instead_of_the_registry(fake: FakeRegistry) -> None:
    told = {"MINI_REGISTRY_MIRRORS": f"docker.io={fake.url}", "MINI_REGISTRY_FALLBACK": "no", "HOME": "/"}
    with pytest.raises(UsageError, match="mirrors only"):
        login("docker.io", Credential("me", "secret"), told)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("server", "domain"),
    [
        (None, "docker.io"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("https://r.test:5000/v2/", "r.test:5000"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_which_registry_is_meant(server: str | None, domain: str) -> None:
    assert domain_of(server) == domain


@pytest.mark.parametrize("server", [" ", "https://", "a b", "u:p@r.test", "r.test:99999", "[::1", "a\nb", "/x"])
def test_what_is_no_registry(server: str) -> None:
    with pytest.raises(UsageError):
        domain_of(server)


# --- foreign layers ----------------------------------------------------------------------------------------------------

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
TAR = layers.archive(layers.file("f", b"licensed"))


def foreign_image(fake: FakeRegistry, urls: list[str], media_type: str = FOREIGN) -> str:
    """An image whose layer has addresses of its own; its digest."""
    pushed = fake.image("a/b", None, [TAR])
    document = json.loads(fake.content[f"/v2/a/b/manifests/{pushed['digest']}"][1])
    document["layers"][0] |= {"mediaType": media_type, "urls": urls}
    fake.manifest("a/b", "1", document)
    digest: str = document["layers"][0]["digest"]
    return digest


def pull_foreign(fake: FakeRegistry, tmp_path: Path) -> list[str]:
    ctx = Context(Paths(str(tmp_path / "root")), environ(tmp_path, fake), "erofs")
    return pull(ctx, Reference.parse(f"{fake.address}/a/b:1")).image.diff_ids


@pytest.mark.parametrize("media_type", [FOREIGN, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"])
def test_a_foreign_layer_is_fetched_from_its_own_address_without_credentials(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path, media_type: str
) -> None:
    """CVE-2020-15157: the address is a stranger's, and his 401 gets no password, either."""
    digest = foreign_image(fake, [f"{other.url}/denied", f"{other.url}/layer"], media_type)
    other.put("/layer", fake.content.pop(f"/v2/a/b/blobs/{digest}")[1])
    challenge = {"WWW-Authenticate": f'Bearer realm="{other.url}/token", Basic realm="x"'}
    other.fault("GET /denied", *[status(401, challenge)] * 9)
    Tokens(fake)
    assert pull_foreign(fake, tmp_path) == [push.digest_of(TAR)]
    assert [p for _, p, _ in other.requests] == ["/denied", "/layer"]
    assert all("Authorization" not in h for h in other.asked(""))


def test_a_foreign_layer_that_breaks_off_goes_on(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path) -> None:
    digest = foreign_image(fake, [f"{other.url}/layer"])
    other.put("/layer", fake.content.pop(f"/v2/a/b/blobs/{digest}")[1])
    other.fault("GET /layer", cut(20, polite=True))
    assert pull_foreign(fake, tmp_path) == [push.digest_of(TAR)]
    assert [h.get("Range") for h in other.asked("/layer")] == [None, "bytes=20-"]


def test_the_registry_is_asked_where_no_address_has_the_layer(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    foreign_image(
        fake, [f"{other.url}/gone", "ftp://r.test/x", "file:///etc/passwd", "http://127.0.0.1:1/", "nonsense"]
    )
    assert pull_foreign(fake, tmp_path) == [push.digest_of(TAR)]


def test_an_ordinary_layer_has_no_other_address(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path) -> None:
    foreign_image(fake, [f"{other.url}/layer"], "application/vnd.oci.image.layer.v1.tar+gzip")
    assert pull_foreign(fake, tmp_path) == [push.digest_of(TAR)]
    assert other.requests == []


def test_an_https_registry_does_not_lead_to_http(other: FakeRegistry) -> None:
    """Into this machine's own network, for instance."""
    from engine.images.foreign import open_layer
    from engine.oci.image import Descriptor

    layer = Descriptor(FOREIGN, push.digest_of(b""), 0, urls=(f"{other.url}/layer",))
    assert open_layer(Transport({}), layer, {}, plain=False) is None
    assert other.requests == []


def test_wrong_bytes_from_a_foreign_address_are_refused(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    from engine.errors import MiniError

    foreign_image(fake, [f"{other.url}/layer"])
    other.fault("GET /layer", *[replace(b"x" * 100)] * 9)
    with pytest.raises(MiniError, match="bytes|promised"):
        pull_foreign(fake, tmp_path)
