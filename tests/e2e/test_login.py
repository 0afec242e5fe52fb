"""`mini login` and `logout` as a user has them: prompts on a terminal, words, the file, and pulls that then succeed."""

from __future__ import annotations

import base64
import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import layers
from tests.support.images import DebianRegistry
from tests.support.pki import Authority, needs_openssl
from tests.support.registry import FakeRegistry, Handler
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
WARNING = "WARNING! Your credentials are stored unencrypted in '{}'."


@pytest.fixture
def private() -> Iterator[FakeRegistry]:
    """A registry that lets nobody in but me, with an image."""

    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            return False
        handler.answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
        return True

    with FakeRegistry() as fake:
        fake.image("app", "1", [layers.archive(layers.file("f", b"x"))])
        fake.fault("/v2/", *[guard] * 1000)
        yield fake


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Mini]:
    mini = Mini({"DOCKER_CONFIG": str(tmp_path), "MINI_CERTS_D": "", "MINI_STORAGE_DRIVER": "erofs"})
    yield mini
    mini.close()


def written(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "config.json").read_text())


def test_login_pull_logout(user: Mini, private: FakeRegistry, tmp_path: Path) -> None:
    image, config = f"{private.address}/app:1", tmp_path / "config.json"
    refused = user.run("pull", image, check=False)
    assert refused.code == 1 and f"mini login {private.address}" in refused.stderr
    done = user.run("login", "-u", "me", "--password-stdin", private.address, input="secret\n")
    assert done.stdout == "Login Succeeded\n"
    assert WARNING.format(config) in done.stderr and "secret" not in done.stderr
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    user.run("pull", "-q", image)
    out = user.run("logout", private.address)
    assert (out.stdout, out.stderr) == (f"Removing login credentials for {private.address}\n", "")
    assert written(tmp_path)["auths"] == {}
    assert user.run("pull", image, check=False).code == 1
    assert user.run("logout").out == "Removing login credentials for https://index.docker.io/v1/"


def test_a_password_on_the_command_line_is_warned_of(user: Mini, private: FakeRegistry) -> None:
    done = user.run("login", "-u", "me", "-p", "secret", private.address)
    assert done.out == "Login Succeeded"
    assert done.stderr.startswith("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["-u", "me", "-p", "x", "--password-stdin"],
            "conflicting options: cannot specify both --password and --password-stdin",
        ),
        (["--password-stdin"], "the --password-stdin option requires --username to be set"),
        (["-u", "me", "--password-stdin"], "password is empty"),
        (["-u", "me"], "Cannot perform an interactive login from a non TTY device"),
        ([], "Cannot perform an interactive login from a non TTY device"),
    ],
)
def test_what_cannot_be_a_login(user: Mini, private: FakeRegistry, arguments: list[str], said: str) -> None:
    result = user.run("login", *arguments, private.address, check=False)
    assert result.code == 1 and said in result.stderr
    assert private.requests == []


def test_a_wrong_password_stores_nothing(user: Mini, private: FakeRegistry, tmp_path: Path) -> None:
    result = user.run("login", "-u", "me", "--password-stdin", private.address, input="wrong", check=False)
    assert result.code == 1
    said = f"login attempt to {private.url}/v2/ failed with status: 401 Unauthorized"
    assert said in result.stderr and "wrong" not in result.stderr
    assert not (tmp_path / "config.json").exists()


def test_prompts_on_a_terminal(user: Mini, private: FakeRegistry, tmp_path: Path) -> None:
    terminal = user.terminal("login", private.address)
    try:
        terminal.expect("Username: ")
        terminal.write("me\n")
        terminal.expect("Password: ")
        terminal.write("secret\n")
        shown = terminal.expect("Login Succeeded")
        assert "secret" not in shown, "a password is not echoed"
        assert terminal.wait() == 0
        assert terminal.attributes() == terminal.attributes_before
    finally:
        terminal.close()
    assert written(tmp_path)["auths"][private.address] == {"auth": BASIC.removeprefix("Basic ")}


def test_ctrl_c_at_the_password_puts_the_terminal_back(user: Mini, private: FakeRegistry) -> None:
    terminal = user.terminal("login", "-u", "me", private.address)
    try:
        terminal.expect("Password: ")
        terminal.write("\x03")
        assert terminal.wait() == 130
        assert terminal.attributes() == terminal.attributes_before
    finally:
        terminal.close()


def test_who_is_logged_in_needs_no_password(user: Mini, private: FakeRegistry) -> None:
    user.run("login", "-u", "me", "--password-stdin", private.address, input="secret")
    again = user.run("login", private.address)
    assert again.stderr.startswith("Authenticating with existing credentials... [Username: me]\n")
    assert "WARNING" not in again.stderr, "nothing is stored that was not there"
    assert again.out == "Login Succeeded"


def test_old_credentials_are_asked_for_again(user: Mini, private: FakeRegistry, tmp_path: Path) -> None:
    entry = {"auth": base64.b64encode(b"me:old").decode()}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {private.address: entry}}))
    terminal = user.terminal("login", private.address)
    try:
        terminal.expect("Stored credentials invalid or expired")
        terminal.expect("Username (me): ")
        terminal.write("\n")
        terminal.expect("Password: ")
        terminal.write("secret\n")
        terminal.expect("Login Succeeded")
    finally:
        terminal.close()


def test_a_helper_keeps_the_password(user: Mini, private: FakeRegistry, tmp_path: Path) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(
        f"#!/bin/sh\ncase $1 in store) cat > {tmp_path}/kept;; get) cat {tmp_path}/kept;; erase) rm {tmp_path}/kept;; esac\n"
    )
    program.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "test", "other": 1}')
    told = {"PATH": f"{tmp_path}:{user.environ['PATH']}"}
    done = user.run("login", "-u", "me", "--password-stdin", private.address, input="secret", env=told)
    assert (done.out, done.stderr) == ("Login Succeeded", "")
    assert written(tmp_path) == {"credsStore": "test", "other": 1, "auths": {private.address: {}}}
    user.run("pull", "-q", f"{private.address}/app:1", env=told)
    user.run("logout", private.address, env=told)
    assert not (tmp_path / "kept").exists()


def test_help_reads_as_dockers(user: Mini) -> None:
    shown = user.run("login", "--help").out
    assert shown.startswith("Usage:  mini login [OPTIONS] [SERVER]\n\nAuthenticate to a registry")
    for option in ("-p, --password string", "--password-stdin", "-u, --username string"):
        assert option in shown


@needs_openssl
@pytest.mark.requires("docker-registry")
def test_login_push_pull_at_a_real_registry_with_tls_and_passwords(user: Mini, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "htpasswd").write_text("me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
    registry = DebianRegistry(str(tmp_path), authority.server, str(tmp_path / "htpasswd"))
    domain = registry.address.replace("127.0.0.1", "localhost")
    folder = tmp_path / "certs.d" / domain
    folder.mkdir(parents=True)
    told = {"MINI_CERTS_D": str(tmp_path / "certs.d")}
    layer = layers.archive(layers.file("f", b"content"))
    try:
        user.run("import", "-", f"{domain}/app:1", input=layer)
        plain = user.run("login", "-u", "me", "--password-stdin", domain, input="secret", env=told, check=False)
        assert plain.code == 1, "http is spoken to loopback, unless something else is written down"
        (folder / "hosts.toml").write_text(f'server = "https://{domain}"\n')
        untrusted = user.run("login", "-u", "me", "--password-stdin", domain, input="secret", env=told, check=False)
        assert untrusted.code == 1 and "cannot trust" in untrusted.stderr
        shutil.copy(authority.ca, folder / "ca.crt")
        wrong = user.run("login", "-u", "me", "--password-stdin", domain, input="wrong", env=told, check=False)
        assert wrong.code == 1 and "401 Unauthorized" in wrong.stderr
        assert user.run("push", f"{domain}/app:1", env=told, check=False).code == 1
        user.run("login", "-u", "me", "--password-stdin", domain, input="secret", env=told)
        user.run("push", f"{domain}/app:1", env=told)
        user.run("rmi", f"{domain}/app:1")
        digest = user.run("pull", "-q", f"{domain}/app:1", env=told).out
        assert user.run("images", "--digests", "--format", "{{.Digest}}").out == digest
        user.run("logout", domain, env=told)
        assert user.run("pull", f"{domain}/app:1", env=told, check=False).code == 1
    finally:
        registry.close()
