"""certs.d: mirrors, certificates and headers of a registry, as containerd and Docker have them; and that none goes astray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import RegistryError, RegistryUnreachable, UsageError
from engine.images.certs import CAPABILITIES, Tls, certificates, directories, hosts
from engine.images.endpoints import endpoints
from engine.images.reference import Reference
from engine.images.registry import Registry
from engine.images.transport import Access, Transport
from engine.oci.image import Descriptor
from tests.support.pki import Authority, needs_openssl
from tests.support.push import digest_of
from tests.support.registry import FakeRegistry, redirect, status
from tests.support.terminal import Terminal

MANIFEST = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}'
DIGEST = digest_of(MANIFEST)


def write(folder: Path, domain: str, text: str) -> dict[str, str]:
    """A hosts.toml for a domain; the environment that finds it."""
    (folder / domain).mkdir(parents=True, exist_ok=True)
    (folder / domain / "hosts.toml").write_text(text)
    return environ(folder)


def environ(*folders: Path) -> dict[str, str]:
    return {"HOME": "/nowhere", "MINI_CERTS_D": ":".join(map(str, folders))}


def client(domain: str, environ: dict[str, str]) -> Registry:
    return Registry(Reference.parse(f"{domain}/a/b"), environ, Transport(environ, attempts=2, backoff=0.001))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.manifest("a/b", "latest", MANIFEST)
        yield registry


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.manifest("a/b", "latest", MANIFEST)
        yield registry


# --- what is written down ----------------------------------------------------------------------------------------------

FULL = """
server = "https://upstream.test"
ca = ["a.pem", "/abs/b.pem"]
skip_verify = true

[host."https://second.test:444/v2/hub"]
  capabilities = ["pull", "Resolve"]
  client = [["c.cert", "c.key"], ["both.pem", ""]]
[host."first.test"]
  ca = "f.pem"
  client = "me.pem"
  [host."first.test".header]
    X-One = "1"
    X-Two = ["a", "b"]
[host."http://third.test/some/path/"]
[host."http://third.test/api"]
  override_path = true
"""


def test_everything_that_a_hosts_toml_can_say(tmp_path: Path) -> None:
    write(tmp_path, "r.test", FULL)
    found = hosts("r.test", [str(tmp_path)])
    assert found is not None
    folder = f"{tmp_path}/r.test"
    assert [h.root for h in found] == [
        "https://second.test:444/v2/hub/v2", "https://first.test/v2", "http://third.test/some/path/v2",
        "http://third.test/api", "https://upstream.test/v2",
    ]  # fmt: skip
    second, first, third, _, server = found
    assert second.capabilities == {"pull", "resolve"} and first.capabilities == CAPABILITIES
    assert second.tls == Tls(clients=((f"{folder}/c.cert", f"{folder}/c.key"), (f"{folder}/both.pem", "")))
    assert first.tls == Tls((f"{folder}/f.pem",), ((f"{folder}/me.pem", ""),))
    assert first.headers == {"X-One": "1", "X-Two": "a, b"}
    assert third.tls == Tls()
    assert server.tls == Tls((f"{folder}/a.pem", "/abs/b.pem"), (), False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[host", "not TOML"),
        ("server = 5", "server must be a string"),
        ("host = 5", "host a table"),
        ('[host."https://m"]\ncapabilities = ["fly"]', "unknown capability 'fly'"),
        ('[host."https://m"]\ncapabilites = ["pull"]', "'capabilites' is not known"),
        ('[host."ftp://m"]', "is not an address"),
        ('[host."https://u:p@m"]', "is not an address"),
        ('[host."https://m:99999"]', "is not an address"),
        ('[host."https://m"]\nskip_verify = "yes"', "skip_verify must be true or false"),
        ('[host."https://m"]\nca = 5', "ca must be"),
        ('[host."https://m"]\nclient = [["a", "b", "c"]]', "client must be"),
        ('[host."https://m".header]\n"X Y" = "a"', "cannot be sent"),
        ('[host."https://m".header]\nX = "a\\r\\nb"', "cannot be sent"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_file(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "r.test", text)
    with pytest.raises(UsageError, match=said) as error:
        hosts("r.test", [str(tmp_path)])
    assert f"{tmp_path}/r.test/hosts.toml" in error.value.message


@pytest.mark.parametrize("folder", ["r.test:5000", "r.test_5000_", "_default"])
def test_the_folders_of_a_host_with_a_port(tmp_path: Path, folder: str) -> None:
    write(tmp_path, folder, 'server = "https://found.test"')
    assert [e.root for e in endpoints("r.test:5000", environ(tmp_path))] == ["https://found.test/v2"]


def test_an_earlier_directory_hides_a_later_one(tmp_path: Path) -> None:
    write(tmp_path / "one", "r.test", 'server = "https://one.test"')
    write(tmp_path / "two", "r.test", 'server = "https://two.test"')
    write(tmp_path / "two", "s.test", 'server = "https://three.test"')
    both = environ(tmp_path / "one", tmp_path / "two", tmp_path / "nosuch")
    assert [e.root for d in ("r.test", "s.test", "t.test") for e in endpoints(d, both)] == [
        "https://one.test/v2", "https://three.test/v2", "https://t.test/v2",
    ]  # fmt: skip


def test_a_domain_is_never_a_path(tmp_path: Path) -> None:
    (tmp_path / "certs.d").mkdir()
    (tmp_path / "hosts.toml").write_text('server = "https://evil.test"')
    assert hosts("..", [str(tmp_path / "certs.d")]) is None
    assert hosts("../x", [str(tmp_path / "certs.d")]) is None


def test_where_certs_d_is_looked_for() -> None:
    assert directories({"MINI_CERTS_D": "/a:/b"}) == ["/a", "/b"]
    assert directories({"MINI_CERTS_D": ""}) == []
    assert directories({"HOME": "/root"})[-3:] == [f"/etc/{name}/certs.d" for name in ("mini", "containerd", "docker")]


def test_the_environment_comes_before_hosts_toml(tmp_path: Path) -> None:
    told = write(tmp_path, "docker.io", '[host."http://file.test"]\n')
    told["MINI_REGISTRY_MIRRORS"] = "docker.io=http://env.test"
    roots = ["http://env.test/v2", "http://file.test/v2", "https://registry-1.docker.io/v2"]
    assert [e.root for e in endpoints("docker.io", told)] == roots
    assert [e.domain for e in endpoints("docker.io", told)] == ["env.test", "file.test", "docker.io"]
    assert [e.root for e in endpoints("docker.io", told | {"MINI_REGISTRY_FALLBACK": "no"})] == roots[:1]


# --- what is done with it ----------------------------------------------------------------------------------------------


def test_mirrors_are_asked_in_their_order_and_told_whose_they_are(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    fake.fault("GET", status(404))
    other.content = {f"{path.replace('/v2/', '/root/')}?ns=r.test": entry for path, entry in other.content.items()}
    told = write(tmp_path, "r.test", f'[host."{fake.url}"]\n[host."{other.url}/root"]\noverride_path = true')
    assert client("r.test", told).get_manifest("latest").digest == DIGEST
    assert [p for _, p, _ in fake.requests] == ["/v2/a/b/manifests/latest?ns=r.test"]


def test_an_address_is_asked_only_for_what_it_can_do(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path) -> None:
    text = f'server = "{other.url}"\n[host."{fake.url}"]\ncapabilities = ["pull"]'
    fake.content = {f"{path}?ns=r.test": entry for path, entry in fake.content.items()}
    registry = client("r.test", write(tmp_path, "r.test", text))
    registry.get_manifest("latest")
    registry.get_manifest(DIGEST)
    assert ["latest" in p for _, p, _ in other.requests] == [True]
    assert ["latest" in p for _, p, _ in fake.requests] == [False]
    assert registry.push_address().endpoint.root == f"{other.url}/v2"
    nobody = client("s.test", write(tmp_path, "s.test", f'server = "{other.url}"\ncapabilities = ["pull"]'))
    with pytest.raises(RegistryError, match="'resolve' is not among its capabilities"):
        nobody.get_manifest("latest")


def test_headers_stay_with_the_address_they_are_for(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path) -> None:
    """Like credentials: a header may be one."""
    data = b"content"
    other.put("/elsewhere", data)
    fake.fault("GET /v2/a/b/blobs", redirect(f"{other.url}/elsewhere"))
    told = write(tmp_path, fake.address, f'[host."{fake.url}".header]\nX-Secret = "s"')
    client(fake.address, told).get_blob(Descriptor("x", digest_of(data), len(data)), 100)
    assert fake.asked("blobs")[0]["X-Secret"] == "s"
    assert "X-Secret" not in other.asked("elsewhere")[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@needs_openssl
@pytest.mark.parametrize("layout", ["none", "docker", "default", "containerd", "skip_verify"])
def test_whom_to_trust(authority: Authority, tmp_path: Path, layout: str) -> None:
    with FakeRegistry(authority.context()) as fake:
        fake.manifest("a/b", "latest", MANIFEST)
        told = environ(tmp_path)
        address = f'server = "{fake.url}"\n'
        if layout in ("docker", "default"):
            folder = tmp_path / (fake.address if layout == "docker" else "_default")
            folder.mkdir()
            shutil.copy(authority.ca, folder / "ca.crt")
        if layout == "containerd":
            address += f'ca = "{authority.ca}"'
        if layout == "skip_verify":
            address += "skip_verify = true"
        write(tmp_path, "r.test", address)
        registry = client("r.test", told)
        if layout == "none":
            with pytest.raises(RegistryUnreachable, match="cannot trust"):
                registry.get_manifest("latest")
        else:
            assert registry.get_manifest("latest").digest == DIGEST


@needs_openssl
@pytest.mark.parametrize("layout", ["none", "docker", "containerd"])
def test_who_we_are(authority: Authority, tmp_path: Path, layout: str) -> None:
    with FakeRegistry(authority.context(ask_client=True)) as fake:
        fake.manifest("a/b", "latest", MANIFEST)
        text = f'server = "{fake.url}"\nca = "{authority.ca}"\n'
        if layout == "containerd":
            text += f'client = [["{authority.client[0]}", "{authority.client[1]}"]]'
        told = write(tmp_path, "r.test", text)
        if layout == "docker":
            (tmp_path / fake.address).mkdir()
            for source, name in zip(authority.client, ("client.cert", "client.key"), strict=True):
                shutil.copy(source, tmp_path / fake.address / name)
        if layout == "none":
            with pytest.raises(RegistryUnreachable):
                client("r.test", told).get_manifest("latest")
        else:
            assert client("r.test", told).get_manifest("latest").digest == DIGEST


@needs_openssl
def test_our_certificate_is_not_shown_where_a_redirect_leads(authority: Authority, tmp_path: Path) -> None:
    """A stranger's registry could otherwise have us ask another one in our name."""
    with FakeRegistry(authority.context(ask_client=True)) as private, FakeRegistry(authority.context()) as stranger:
        private.put("/v2/secret", b"secret")
        folder = tmp_path / "_default"
        folder.mkdir()
        for source, name in ((authority.ca, "ca.crt"), *zip(authority.client, ("c.cert", "c.key"), strict=True)):
            shutil.copy(source, folder / name)
        stranger.fault("GET /v2/", redirect(f"{private.url}/v2/secret"))
        transport = Transport(environ(tmp_path), attempts=1)
        assert transport.send("GET", f"{private.url}/v2/secret", {}, access=Access()).status_code == 200
        with pytest.raises(RegistryUnreachable):
            transport.send("GET", f"{stranger.url}/v2/x", {}, access=Access())
        assert len(private.requests) == 1
        transport.close()


@needs_openssl
def test_authorities_besides_the_systems_and_only_for_that_host(authority: Authority, tmp_path: Path) -> None:
    with FakeRegistry(authority.context()) as fake, FakeRegistry(authority.context()) as stranger:
        folder = tmp_path / fake.address
        folder.mkdir()
        shutil.copy(authority.ca, folder / "ca.crt")
        transport = Transport(environ(tmp_path))
        assert transport.send("GET", f"{fake.url}/v2/", {}).status_code == 200
        with pytest.raises(RegistryUnreachable, match="cannot trust"):
            transport.send("GET", f"{stranger.url}/v2/", {})
        transport.close()


@needs_openssl
def test_a_token_server_of_the_same_authority_is_trusted(authority: Authority, tmp_path: Path) -> None:
    """A GitLab of one's own: the registry and its token server are two addresses, and one authority vouches for both."""
    with FakeRegistry(authority.context()) as fake, FakeRegistry(authority.context(ask_client=True)) as tokens:
        fake.manifest("a/b", "latest", MANIFEST)
        fake.fault("GET /v2/", status(401, {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token"'}))
        pair = f'client = [["{authority.client[0]}", "{authority.client[1]}"]]'
        told = write(tmp_path, "r.test", f'server = "{fake.url}"\nca = "{authority.ca}"\n{pair}')
        with pytest.raises(RegistryUnreachable):
            client("r.test", told).get_manifest("latest")  # our certificate is not shown to another address
        assert tokens.requests == []
    with FakeRegistry(authority.context()) as fake, FakeRegistry(authority.context()) as tokens:
        fake.manifest("a/b", "latest", MANIFEST)
        fake.fault("GET /v2/", status(401, {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token"'}))
        tokens.fault("GET /token", status(200, body=b'{"token": "t"}'))
        told = write(tmp_path, "r.test", f'server = "{fake.url}"\nca = "{authority.ca}"')
        assert client("r.test", told).get_manifest("latest").digest == DIGEST


@pytest.mark.parametrize("name", ["ca.crt", "client.cert"])
def test_a_certificate_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "r.invalid").mkdir()
    for file in (name, name.replace(".cert", ".key")):
        (tmp_path / "r.invalid" / file).write_text("nonsense")
    with pytest.raises(UsageError, match=f"{tmp_path}/r.invalid/{name}"):
        client("r.invalid", environ(tmp_path)).get_manifest("latest")


def test_a_client_certificate_without_its_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.test").mkdir()
    (tmp_path / "r.test/client.cert").write_text("")
    with pytest.raises(UsageError, match="client.key is missing"):
        certificates("r.test", [str(tmp_path)])


@needs_openssl
def test_an_encrypted_key_is_an_error_and_not_a_question(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "r.invalid").mkdir()
    shutil.copy(authority.client[0], tmp_path / "r.invalid/client.cert")
    encrypt = ["openssl", "pkey", "-in", authority.client[1], "-aes256", "-passout", "pass:secret"]
    with open(tmp_path / "r.invalid/client.key", "wb") as key:
        subprocess.run(encrypt, check=True, stdout=key)
    # On a terminal, since that is where OpenSSL asks.
    program = (
        "import sys; from engine.images.transport import Access, Transport; "
        "Transport(eval(sys.argv[1])).send('GET', sys.argv[2], {}, access=Access())"
    )
    command = [sys.executable, "-c", program, repr(environ(tmp_path)), "https://r.invalid/"]
    terminal = Terminal(command, dict(os.environ))
    try:
        terminal.expect("UsageError: cannot use the certificates in ")
        assert terminal.wait() == 1
    finally:
        terminal.close()
