"""The registry client: challenges, redirects with credentials watched, retries, mirrors, and one clear error for each failure."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.errors import (
    IntegrityError,
    ManifestUnknown,
    RegistryError,
    RegistryUnreachable,
    Unauthorized,
    UsageError,
)
from engine.images import transport
from engine.images.auth import Authorizer, parse_challenge
from engine.images.credentials import Credential, CredentialStore
from engine.images.endpoints import endpoints
from engine.images.proxies import is_loopback
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Transport, origin
from engine.oci.image import Descriptor
from tests.support.push import digest_of
from tests.support.registry import Action, FakeRegistry, Handler, encode, redirect, replace, status

MANIFEST = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}'
DIGEST = digest_of(MANIFEST)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.manifest("a/b", "latest", MANIFEST)
        yield registry


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def client(fake: FakeRegistry, environ: dict[str, str] | None = None, name: str = "a/b", **options: Any) -> Registry:
    reference = Reference.parse(name if "." in name else f"{fake.address}/{name}")
    return Registry(reference, {"HOME": "/nowhere", **(environ or {})}, Transport({}, backoff=0.001, **options))


def docker_config(folder: Path, auths: dict[str, Any]) -> dict[str, str]:
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    return {"DOCKER_CONFIG": str(folder)}


def login(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def blob(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", digest_of(data), len(data))


# --- tokens ------------------------------------------------------------------------------------------------------------


def require_token(fake: FakeRegistry, *tokens: str) -> None:
    """From now on a request for content needs one of `tokens`, and /token hands them out, one after the other."""
    left = list(tokens)

    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") in [f"Bearer {t}" for t in tokens]:
            return False
        scope = "repository:a/b:pull"
        challenge = f'Bearer realm="{fake.url}/token",service="the, registry",scope="{scope}"'
        handler.answer(401, b"{}", {"WWW-Authenticate": challenge})
        return True

    def token(handler: Handler) -> bool:
        handler.answer(200, json.dumps({"token": left.pop(0)}).encode())
        return True

    fake.fault("GET /v2/", *[guard] * 50)
    fake.fault(" /token", *[token] * 50)


def test_an_anonymous_token_is_fetched_once_and_kept(fake: FakeRegistry) -> None:
    require_token(fake, "t1")
    registry = client(fake)
    for _ in range(3):
        assert registry.get_manifest("latest").data == MANIFEST
    (asked,) = [p for _, p, _ in fake.requests if p.startswith("/token")]
    assert parse_qs(urlsplit(asked).query) == {"service": ["the, registry"], "scope": ["repository:a/b:pull"]}
    assert "Authorization" not in fake.asked("/token")[0]


def test_a_token_that_expires_between_two_requests_is_renewed(fake: FakeRegistry) -> None:
    require_token(fake, "t1", "t2")
    registry = client(fake)
    registry.get_manifest("latest")
    fake.fault(f"GET .*{DIGEST}", status(401, {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}))
    assert registry.get_manifest(DIGEST).digest == DIGEST
    assert [h.get("Authorization") for h in fake.asked(f"GET .*{DIGEST}")] == ["Bearer t1", "Bearer t2"]


def test_the_docker_login_is_used_for_the_token(fake: FakeRegistry, tmp_path: Path) -> None:
    require_token(fake, "t1")
    client(fake, docker_config(tmp_path, {fake.address: login("me", "pass:word")})).get_manifest("latest")
    (headers,) = fake.asked("GET /token")
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"me:pass:word").decode()
    # The password goes to the realm only: the registry sees nothing, then the token.
    assert [h.get("Authorization") for h in fake.asked("GET /v2/")] == [None, "Bearer t1"]


def test_an_identity_token_is_exchanged_by_post(fake: FakeRegistry, tmp_path: Path) -> None:
    require_token(fake, "t1")
    bodies: list[bytes] = []

    def token(handler: Handler) -> bool:
        bodies.append(handler.body)
        handler.answer(200, b'{"access_token": "t1"}')
        return True

    fake.fault("POST /token", token)
    client(fake, docker_config(tmp_path, {fake.address: {"identitytoken": "idt"}})).get_manifest("latest")
    form = parse_qs(bodies[0].decode())
    assert (form["grant_type"], form["refresh_token"], form["scope"]) == (
        ["refresh_token"],
        ["idt"],
        ["repository:a/b:pull"],
    )


def test_basic_authentication(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.fault("GET /v2/", status(401, {"WWW-Authenticate": 'Basic realm="x"'}))
    client(fake, docker_config(tmp_path, {fake.address: login("me", "pw")})).get_manifest("latest")
    assert fake.asked("GET /v2/")[-1]["Authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()


@pytest.mark.parametrize(
    "refusal",
    [
        [status(401, {"WWW-Authenticate": 'Basic realm="x"'})] * 5,
        [status(401)] * 5,
        [
            status(
                403, body=b'{"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}'
            )
        ],
    ],
    ids=["basic", "no-challenge", "denied"],
)
def test_a_refusal_is_told_in_dockers_words(fake: FakeRegistry, refusal: list[Action]) -> None:
    fake.fault("GET /v2/", *refusal)
    with pytest.raises(
        Unauthorized, match=r"pull access denied for .*/a/b, repository does not exist or may require"
    ) as error:
        client(fake).get_manifest("latest")
    assert error.value.hint
    assert len(fake.requests) <= 2


def test_a_registry_that_never_accepts_its_own_tokens_is_not_asked_for_ever(fake: FakeRegistry) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}
    fake.fault("GET /v2/", *[status(401, challenge)] * 50)
    for n in range(50):
        fake.fault("GET /token", status(200, body=f'{{"token": "t{n}"}}'.encode()))
    with pytest.raises(Unauthorized):
        client(fake).get_manifest("latest")
    assert len(fake.requests) < 10


def test_a_refused_token_is_one_error(fake: FakeRegistry) -> None:
    fake.fault("GET /v2/", status(401, {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}))
    fake.fault("GET /token", status(401))
    with pytest.raises(Unauthorized, match="anonymous"):
        client(fake).get_manifest("latest")


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b'{"token": 5}', b'{"token": "a\\nb"}', b'{"token": "\xc3\xa9"}', b'{"token": ""}']
)
def test_what_is_not_a_token_is_refused(fake: FakeRegistry, answer: bytes) -> None:
    fake.fault("GET /v2/", status(401, {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}))
    fake.fault("GET /token", status(200, body=answer))
    with pytest.raises(RegistryError):
        client(fake).get_manifest("latest")


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        ("https://registry.test", "http://registry.test/token"),
        ("https://registry.test", "http://127.0.0.1:1/token"),
        ("http://127.0.0.1:1", "http://auth.test/token"),
        ("https://registry.test", "file:///etc/passwd"),
        ("https://registry.test", ""),
        ("https://registry.test", "https:///token"),
    ],
)
def test_credentials_do_not_go_to_a_realm_without_tls(base: str, realm: str) -> None:
    authorizer = Authorizer(Transport({}), base, "s", lambda: Credential("me", "secret"))
    with pytest.raises(Unauthorized, match="not trusted"):
        authorizer.answer(f'Bearer realm="{realm}"', None)


def test_a_challenge_from_where_a_redirect_led_is_not_answered(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    """CVE-2020-15157."""
    fake.fault("GET /v2/", redirect(f"{other.url}/v2/x"))
    other.fault("GET /", status(401, {"WWW-Authenticate": f'Bearer realm="{other.url}/token"'}), status(401))
    auths = {fake.address: login("me", "secret"), "docker.io": login("hub", "secret")}
    with pytest.raises(Unauthorized):
        client(fake, docker_config(tmp_path, auths)).get_manifest("latest")
    assert other.asked("token") == []


def test_challenges_are_read_as_the_rfc_has_them() -> None:
    value = 'Basic realm="a, b", Bearer realm="https://x/t?a=1",service=s , scope="r:a/b:pull,push", error="q\\"q"'
    assert parse_challenge(value) == {
        "basic": {"realm": "a, b"},
        "bearer": {"realm": "https://x/t?a=1", "service": "s", "scope": "r:a/b:pull,push", "error": 'q"q'},
    }
    assert parse_challenge("") == {} and parse_challenge("Negotiate") == {"negotiate": {}}


# --- the credentials file ----------------------------------------------------------------------------------------------


def test_the_key_of_docker_hub_is_the_old_one(tmp_path: Path) -> None:
    environ = docker_config(
        tmp_path, {"https://index.docker.io/v1/": login("hub", "pw"), "ghcr.io": {"username": "u", "password": "p"}}
    )
    assert CredentialStore(environ).find("docker.io") == Credential("hub", "pw")
    assert CredentialStore(environ).find("ghcr.io") == Credential("u", "p")
    assert CredentialStore(environ).find("ghcr.io:444") is None
    assert CredentialStore(environ).find("evil-ghcr.io") is None
    assert "pw" not in repr(CredentialStore(environ).find("docker.io"))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": {"docker.io": {"auth": "%%%"}}}', '{"auths": {"docker.io": {"auth": "/w=="}}}']
)
def test_a_damaged_credentials_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=str(tmp_path)):
        CredentialStore({"DOCKER_CONFIG": str(tmp_path)}).find("docker.io")


@pytest.mark.parametrize(
    "text", ["{}", '{"auths": null}', '{"auths": {"docker.io": {}}}', '{"auths": {"docker.io": 5}, "credsStore": ""}']
)
def test_a_credentials_file_without_credentials_means_anonymous(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert CredentialStore({"DOCKER_CONFIG": str(tmp_path)}).find("docker.io") is None


# --- redirects ---------------------------------------------------------------------------------------------------------


def test_credentials_stay_behind_on_a_redirect_to_another_port(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    data = b"content"
    other.put("/elsewhere", data)
    fake.fault("GET /v2/a/b/blobs", status(401, {"WWW-Authenticate": "Basic"}), redirect(f"{other.url}/elsewhere"))
    registry = client(fake, docker_config(tmp_path, {fake.address: login("me", "pw")}))
    assert registry.get_blob(blob(data), 100) == data
    assert "Authorization" in fake.asked("blobs")[-1]
    assert [h.get("Authorization") for h in other.asked("")] == [None]


def test_credentials_do_not_come_back_after_a_redirect_back(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    fake.put("/back", b"content")
    other.fault("GET /there", redirect(f"{fake.url}/back"))
    fake.fault("GET /v2/a/b/blobs", status(401, {"WWW-Authenticate": "Basic"}), redirect(f"{other.url}/there"))
    registry = client(fake, docker_config(tmp_path, {fake.address: login("me", "pw")}))
    assert registry.get_blob(blob(b"content"), 100) == b"content"
    assert "Authorization" not in fake.asked("/back")[0]


def test_credentials_are_kept_on_a_redirect_within_the_registry(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.put("/v2/moved", b"content")
    fake.fault("GET /v2/a/b/blobs", status(401, {"WWW-Authenticate": "Basic"}), redirect("/v2/moved"))
    registry = client(fake, docker_config(tmp_path, {fake.address: login("me", "pw")}))
    assert registry.get_blob(blob(b"content"), 100) == b"content"
    assert "Authorization" in fake.asked("moved")[0]


def test_netrc_and_cookies_add_nothing(fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    fake.fault("GET /v2/", replace(MANIFEST, {"Set-Cookie": "a=b; Path=/"}))
    registry = client(fake)
    registry.get_manifest("latest")
    registry.get_manifest(DIGEST)
    assert all("Authorization" not in h and "Cookie" not in h for h in fake.asked(""))


def test_a_redirect_loop_ends(fake: FakeRegistry) -> None:
    fake.fault("GET /v2/", *[redirect("/v2/again")] * 50)
    with pytest.raises(RegistryError, match="redirects more than"):
        client(fake).get_manifest("latest")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://127.0.0.1:99999/", "//[::1"])
def test_a_redirect_to_what_is_not_http_is_refused(fake: FakeRegistry, target: str) -> None:
    fake.fault("GET /v2/", redirect(target))
    with pytest.raises(RegistryError):
        client(fake).get_manifest("latest")


# --- manifests and small blobs -----------------------------------------------------------------------------------------


def test_a_manifest_by_tag_and_by_digest(fake: FakeRegistry) -> None:
    for name in ("latest", DIGEST):
        raw = client(fake).get_manifest(name)
        assert (raw.data, raw.digest, raw.content_type) == (
            MANIFEST,
            DIGEST,
            "application/vnd.oci.image.manifest.v1+json",
        )
    assert "application/vnd.docker.distribution.manifest.list.v2+json" in fake.requests[0][2]["Accept"]


def test_an_unknown_manifest_is_told_in_dockers_words(fake: FakeRegistry) -> None:
    with pytest.raises(ManifestUnknown) as error:
        client(fake, name="a/b:nosuch").get_manifest("nosuch")
    assert (
        error.value.message == f"manifest for {fake.address}/a/b:nosuch not found: manifest unknown: manifest unknown"
    )


@pytest.mark.parametrize("action", [replace(MANIFEST + b" "), encode], ids=["other", "encoded"])
def test_a_manifest_that_does_not_have_its_digest_is_refused(fake: FakeRegistry, action: Action) -> None:
    fake.fault("GET /v2/", action)
    with pytest.raises(IntegrityError):
        client(fake).get_manifest(DIGEST)


def test_a_manifest_that_does_not_have_the_digest_of_its_header_is_refused(fake: FakeRegistry) -> None:
    fake.fault("GET /v2/", replace(MANIFEST, {"Docker-Content-Digest": "sha256:" + "0" * 64}))
    with pytest.raises(IntegrityError):
        client(fake).get_manifest("latest")


def test_a_giant_manifest_is_not_read(fake: FakeRegistry) -> None:
    fake.fault("GET /v2/", replace(bytes(5 << 20)))
    with pytest.raises(RegistryError, match="more than"):
        client(fake).get_manifest("latest")


@pytest.mark.parametrize("wrong", [b"contenT", b"content+", b"conten"])
def test_a_config_that_does_not_have_its_digest_is_refused(fake: FakeRegistry, wrong: bytes) -> None:
    fake.fault("GET /v2/", replace(wrong))
    with pytest.raises((IntegrityError, RegistryError)):
        client(fake).get_blob(blob(b"content"), 100)


def test_a_config_beyond_the_limit_is_not_even_asked_for(fake: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match="more than the limit"):
        client(fake).get_blob(Descriptor("x", DIGEST, 101), 100)
    assert fake.requests == []


# --- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_asked_again(fake: FakeRegistry, code: int) -> None:
    fake.fault("GET /v2/", status(code, {"Retry-After": "0"}), status(code))
    assert client(fake).get_manifest("latest").digest == DIGEST
    assert len(fake.requests) == 3


def test_retries_end(fake: FakeRegistry) -> None:
    body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow \x1b[31mdown"}]}'
    fake.fault("GET /v2/", *[status(429, body=body)] * 50)
    with pytest.raises(RegistryError, match="too many requests") as error:
        client(fake, attempts=3).get_manifest("latest")
    assert len(fake.requests) == 3
    assert "\x1b" not in error.value.message


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2199 23:59:59 GMT"])
def test_a_registry_that_says_to_come_back_much_later_is_believed(fake: FakeRegistry, value: str) -> None:
    fake.fault("GET /v2/", status(429, {"Retry-After": value}))
    with pytest.raises(RegistryError, match="too many requests"):
        client(fake).get_manifest("latest")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("code", [400, 404, 405, 410, 418])
def test_a_lasting_failure_is_not_asked_again(fake: FakeRegistry, code: int) -> None:
    fake.fault("GET /v2/", status(code, body=b"<html>" * 1000))
    with pytest.raises(RegistryError):
        client(fake).get_manifest("latest")
    assert len(fake.requests) == 1


def test_a_connection_that_breaks_before_the_answer_is_tried_again(fake: FakeRegistry) -> None:
    def hang_up(handler: Handler) -> bool:
        handler.reset()
        return True

    fake.fault("GET /v2/", hang_up, hang_up)
    assert client(fake).get_manifest("latest").digest == DIGEST


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        registry = Registry(Reference.parse(f"{address}/x"), {"HOME": "/"}, Transport({}, backoff=0.001))
        with pytest.raises(RegistryUnreachable, match=f"cannot reach {address}: connection refused") as error:
            registry.get_manifest("latest")
    assert error.value.hint


def test_a_name_that_does_not_resolve() -> None:
    registry = Registry(Reference.parse("nosuch.invalid/x"), {"HOME": "/"}, Transport({}, attempts=1))
    with pytest.raises(RegistryUnreachable, match="nosuch.invalid"):
        registry.get_manifest("latest")


def test_a_server_that_never_answers(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        registry = Registry(Reference.parse(f"{address}/x"), {"HOME": "/"}, Transport({}, attempts=2, backoff=0.001))
        with pytest.raises(RegistryUnreachable, match=f"no answer from {address} in time"):
            registry.get_manifest("latest")


def test_a_server_that_does_not_speak_http() -> None:
    with FakeRegistry() as fake:

        def babble(handler: Handler) -> bool:
            handler.wfile.write(b"\0\0\0not http at all\r\n\r\n")
            handler.close_connection = True
            return True

        fake.fault("GET", *[babble] * 9)
        with pytest.raises(RegistryUnreachable):
            client(fake, attempts=2).get_manifest("latest")


# --- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate for localhost, good for a day."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    subprocess.run([*command, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no program openssl")


@needs_openssl
def test_certificates_are_checked(certificate: tuple[str, str]) -> None:
    with FakeRegistry(tls=certificate) as fake:
        fake.manifest("a/b", "latest", MANIFEST)
        environ = {"HOME": "/", "MINI_REGISTRY_MIRRORS": f"r.test={fake.url}", "MINI_REGISTRY_FALLBACK": "no"}
        reference = Reference.parse("r.test/a/b")
        with pytest.raises(RegistryUnreachable, match=f"cannot trust {fake.address}: TLS") as error:
            Registry(reference, environ, Transport({})).get_manifest("latest")
        assert "SSL_CERT_FILE" in (error.value.hint or "") and "certs.d" in (error.value.hint or "")
        trusting = Registry(reference, environ, Transport({"SSL_CERT_FILE": certificate[0]}))
        assert trusting.get_manifest("latest").digest == DIGEST


@needs_openssl
def test_https_never_leads_to_http(certificate: tuple[str, str], fake: FakeRegistry) -> None:
    with FakeRegistry(tls=certificate) as secure:
        secure.fault("GET /v2/", redirect(f"{fake.url}/v2/a/b/manifests/latest"))
        environ = {"HOME": "/", "MINI_REGISTRY_MIRRORS": f"r.test={secure.url}", "MINI_REGISTRY_FALLBACK": "no"}
        with pytest.raises(RegistryError, match="redirects to http, which is refused"):
            Registry(Reference.parse("r.test/a/b"), environ, Transport({"SSL_CERT_FILE": certificate[0]})).get_manifest(
                "latest"
            )
    assert fake.requests == []


def test_https_to_a_server_that_speaks_http_says_so(fake: FakeRegistry) -> None:
    environ = {"HOME": "/", "MINI_REGISTRY_MIRRORS": f"r.test=https://{fake.address}", "MINI_REGISTRY_FALLBACK": "no"}
    with pytest.raises(RegistryUnreachable, match="does not speak https"):
        Registry(Reference.parse("r.test/a/b"), environ, Transport({})).get_manifest("latest")


# --- addresses and mirrors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "environ", "expected"),
    [
        ("docker.io", {}, ["https://registry-1.docker.io"]),
        ("ghcr.io", {}, ["https://ghcr.io"]),
        ("localhost:5000", {}, ["http://localhost:5000"]),
        ("127.0.0.9:5000", {}, ["http://127.0.0.9:5000"]),
        ("[::1]:5000", {}, ["http://[::1]:5000"]),
        ("localhost.evil.com", {}, ["https://localhost.evil.com"]),
        ("127.0.0.1.evil.com:5000", {}, ["https://127.0.0.1.evil.com:5000"]),
        ("192.168.1.1:5000", {}, ["https://192.168.1.1:5000"]),
        ("docker.io", {"MINI_REGISTRY_MIRRORS": "docker.io=http://m:1/, index.docker.io=https://n"},
         ["http://m:1", "https://n", "https://registry-1.docker.io"]),
        ("docker.io", {"MINI_REGISTRY_MIRRORS": "docker.io=http://m:1", "MINI_REGISTRY_FALLBACK": "no"}, ["http://m:1"]),
        ("quay.io", {"MINI_REGISTRY_MIRRORS": "docker.io=http://m:1", "MINI_REGISTRY_FALLBACK": "no"}, ["https://quay.io"]),
        ("10.0.0.1:5000", {"MINI_REGISTRY_MIRRORS": "10.0.0.1:5000=http://10.0.0.1:5000", "MINI_REGISTRY_FALLBACK": "no"},
         ["http://10.0.0.1:5000"]),
    ],
)  # fmt: skip
def test_which_addresses_stand_for_a_domain(domain: str, environ: dict[str, str], expected: list[str]) -> None:
    found = endpoints(domain, {"MINI_CERTS_D": "", **environ})
    assert [e.root for e in found] == [f"{base}/v2" for base in expected]


@pytest.mark.parametrize(
    "value", ["docker.io", "docker.io=", "docker.io=127.0.0.1:5000", "=http://m", "a=ftp://m", "a=http://u:p@m"]
)
def test_a_malformed_mirror_is_a_usage_error(value: str) -> None:
    with pytest.raises(UsageError, match="MINI_REGISTRY_MIRRORS"):
        endpoints("docker.io", {"MINI_REGISTRY_MIRRORS": value})


def test_loopback_by_name_only() -> None:
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("localhost.com", "128.0.0.1", "127.0.0.1.nip.io", "0.0.0.0", "::", "")))
    assert origin("HTTPS://Host/x") == origin("https://host:443/y") != origin("https://host:444/")


def mirrored(*mirrors: FakeRegistry | str) -> dict[str, str]:
    urls = [m if isinstance(m, str) else m.url for m in mirrors]
    return {"HOME": "/", "MINI_REGISTRY_MIRRORS": ",".join(f"r.test={u}" for u in urls), "MINI_REGISTRY_FALLBACK": "no"}


def test_the_next_mirror_is_asked_after_any_failure_and_then_first(fake: FakeRegistry, other: FakeRegistry) -> None:
    data = b"content"
    fake.blob("a/b", data)
    registry = Registry(
        Reference.parse("r.test/a/b"), mirrored(other, "http://127.0.0.1:1", fake), Transport({}, backoff=0.001)
    )
    other.fault("GET /v2/", status(503))
    assert registry.get_manifest("latest").digest == DIGEST
    assert registry.get_blob(blob(data), 100) == data
    assert len(other.requests) == 1, "a mirror that fails is not retried, and not asked again for each blob"


def test_of_several_failures_the_one_that_got_furthest_is_told(fake: FakeRegistry, other: FakeRegistry) -> None:
    registry = Registry(
        Reference.parse("r.test/a/b:x"), mirrored(fake, "http://127.0.0.1:1"), Transport({}, backoff=0.001)
    )
    with pytest.raises(ManifestUnknown):
        registry.get_manifest("x")
    other.fault("GET /v2/", status(403))
    registry = Registry(Reference.parse("r.test/a/b:x"), mirrored(fake, other), Transport({}, backoff=0.001))
    with pytest.raises(Unauthorized):
        registry.get_manifest("x")


def test_a_mirror_gets_its_own_credentials_and_not_those_of_the_registry(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.fault("GET /v2/", *[status(401, {"WWW-Authenticate": "Basic"})] * 3)
    environ = mirrored(fake) | docker_config(tmp_path, {"r.test": login("me", "secret")})
    with pytest.raises(Unauthorized):
        Registry(Reference.parse("r.test/a/b"), environ, Transport({})).get_manifest("latest")
    assert all("Authorization" not in h for h in fake.asked(""))
