"""Proxies of the environment: which requests go through them, by Go's rules, and that they do, over a proxy on loopback."""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import RegistryUnreachable
from engine.images.proxies import proxy_for
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Transport
from tests.support.pki import Authority, needs_openssl
from tests.support.push import digest_of
from tests.support.registry import FakeRegistry

MANIFEST = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}'
PROXIED = {"HTTP_PROXY": "http://p.test:3128", "https_proxy": "q.test:1"}


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("http://a.test/v2/", "", "http://p.test:3128"),
        ("https://a.test/v2/", "", "http://q.test:1"),
        ("http://localhost:5000/", "", None),
        ("http://127.0.0.9:5000/", "", None),
        ("http://[::1]:5000/", "", None),
        ("http://localhost.test/", "", "http://p.test:3128"),
        ("http://a.test/", "*", None),
        ("http://a.test/", "b.test, A.test", None),
        ("http://x.a.test/", "a.test", None),
        ("http://xa.test/", "a.test", "http://p.test:3128"),
        ("http://a.test/", ".a.test", "http://p.test:3128"),
        ("http://x.a.test/", ".a.test", None),
        ("http://x.a.test/", "*.a.test", None),
        ("http://a.test:5000/", "a.test:5000", None),
        ("http://a.test:5001/", "a.test:5000", "http://p.test:3128"),
        ("https://a.test/", "a.test:443", None),
        ("http://10.1.2.3/", "10.0.0.0/8", None),
        ("http://11.1.2.3/", "10.0.0.0/8", "http://p.test:3128"),
        ("http://10.1.2.3:80/", "10.1.2.3", None),
        ("http://[fd00::1]:5000/", "fd00::/8", None),
        ("http://[fd00::1]:5000/", "[fd00::1]:5000", None),
        ("http://10.1.2.3/", ",,", "http://p.test:3128"),
    ],
)
def test_which_proxy(url: str, no_proxy: str, expected: str | None) -> None:
    assert proxy_for(url, {**PROXIED, "NO_PROXY": no_proxy}) == expected


def test_without_a_proxy_and_with_one_for_all() -> None:
    assert proxy_for("http://a.test/", {}) is None
    assert proxy_for("https://a.test/", {"ALL_PROXY": "p.test:1"}) == "http://p.test:1"


class Proxy:
    """An http proxy that leads every request to `target`, whatever its host; `asked` holds the first line and headers of each."""

    def __init__(self, target: str, refusal: bytes = b"") -> None:
        self.asked: list[str] = []
        self._target = target
        self._refusal = refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:pass@127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(65536)):
            head += data
        self.asked.append(head.decode())
        if self._refusal:
            client.sendall(self._refusal)
            client.close()
            return
        host, _, port = self._target.rpartition(":")
        server = socket.create_connection((host, int(port)))
        if head.startswith(b"CONNECT"):
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            # A proxy is asked with the whole address; a server wants the path.
            method, address, rest = head.split(b" ", 2)
            path = b"/" + address.split(b"/", 3)[3]
            server.sendall(b" ".join((method, path, rest)))
        ends = {client: server, server: client}
        while ends:
            for source in select.select(list(ends), [], [])[0]:
                try:
                    data = source.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    client.close()
                    server.close()
                    return
                ends[source].sendall(data)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.manifest("a/b", "latest", MANIFEST)
        yield registry


def client(environ: dict[str, str], address: str = "http://r.test") -> Registry:
    told = {"HOME": "/nowhere", "MINI_CERTS_D": "", "MINI_REGISTRY_MIRRORS": f"r.test={address}", **environ}
    told["MINI_REGISTRY_FALLBACK"] = "no"
    return Registry(Reference.parse("r.test/a/b"), told, Transport(told, attempts=1))


def test_http_through_a_proxy(fake: FakeRegistry) -> None:
    proxy = Proxy(fake.address)
    registry = client({"HTTP_PROXY": proxy.url})
    assert registry.get_manifest("latest").digest == digest_of(MANIFEST)
    assert proxy.asked[0].startswith("GET http://r.test/v2/a/b/manifests/latest HTTP/1.1")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:pass').decode()}" in proxy.asked[0]
    assert fake.asked("")[0]["Host"] == "r.test"
    registry.close()
    proxy.close()


@needs_openssl
def test_https_through_a_tunnel_is_checked_as_without(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with FakeRegistry(authority.context()) as fake:
        fake.manifest("a/b", "latest", MANIFEST)
        proxy = Proxy(fake.address)
        told = {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": authority.ca}
        # The certificate is for localhost, which is never proxied, so that this name is refused: behind the tunnel.
        with pytest.raises(RegistryUnreachable, match="cannot trust r.test: TLS: .*[hH]ostname mismatch"):
            client(told, "https://r.test").get_manifest("latest")
        assert proxy.asked[0].startswith("CONNECT r.test:443 HTTP/1")
        assert "Proxy-Authorization" in proxy.asked[0] and fake.requests == []
        (tmp_path / "certs.d/r.test").mkdir(parents=True)
        (tmp_path / "certs.d/r.test/hosts.toml").write_text("skip_verify = true")
        told |= {"MINI_CERTS_D": str(tmp_path / "certs.d"), "HOME": "/nowhere"}
        registry = Registry(Reference.parse("r.test/a/b"), told, Transport(told, attempts=1))
        assert registry.get_manifest("latest").digest == digest_of(MANIFEST)
        assert all("Proxy-Authorization" not in h for h in fake.asked("")), "that is for the proxy alone"
        proxy.close()


def test_a_proxy_that_is_not_there_is_named_as_the_cause() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(RegistryUnreachable, match="cannot reach r.test: the proxy does not answer") as error:
            client({"HTTP_PROXY": f"127.0.0.1:{closed.getsockname()[1]}"}).get_manifest("latest")
    assert "NO_PROXY" in (error.value.hint or "")


def test_a_proxy_that_refuses_is_quoted() -> None:
    proxy = Proxy("", b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(RegistryUnreachable, match="the proxy answers 407 Proxy Authentication Required"):
        client({"HTTPS_PROXY": proxy.url}, "https://r.test").get_manifest("latest")
    proxy.close()
