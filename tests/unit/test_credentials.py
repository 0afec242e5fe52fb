"""Docker's credentials file and helper programs: what is found, kept, forgotten, and what stays as it was."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import StoreError, UsageError
from engine.images.credentials import HUB_KEY, Credential, CredentialStore, HelperError

# A helper as docker-credential-helpers has them: it keeps entries in a file, and writes down what it was asked.
HELPER = """#!/bin/sh
here=$(dirname "$0")
input=$(cat)
echo "$1 $input" >> "$here/asked"
case $1 in
get)
    [ -f "$here/kept" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$here/kept" ;;
store) printf '%s' "$input" > "$here/kept" ;;
erase) rm -f "$here/kept" ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def store(home: Path, config: dict[str, Any] | None = None, path: str = "/nowhere:/usr/bin:/bin") -> CredentialStore:
    if config is not None:
        (home / ".docker").mkdir(parents=True, exist_ok=True)
        (home / ".docker/config.json").write_text(json.dumps(config))
    return CredentialStore({"HOME": str(home), "PATH": path})


def helper(folder: Path, name: str = "test", text: str = HELPER) -> str:
    """Installs a helper; the PATH with it."""
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(text)
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def written(home: Path) -> Any:
    return json.loads((home / ".docker/config.json").read_text())


def test_a_login_is_found_again_and_nobody_else_can_read_it(home: Path) -> None:
    store(home).store("ghcr.io", Credential("me", "pass:wörd"))
    assert store(home).find("ghcr.io") == Credential("me", "pass:wörd")
    assert store(home).find("docker.io") is None
    assert stat.S_IMODE(os.stat(home / ".docker/config.json").st_mode) == 0o600
    assert os.listdir(home / ".docker") == ["config.json"], "no lock or temporary file is left in somebody's home"


def test_docker_reads_what_is_written(home: Path) -> None:
    """The layout of docker/cli's config file, Docker Hub under its old key."""
    store(home).store("docker.io", Credential("me", "pw"))
    store(home).store("r.test:5000", Credential("me", identity_token="idt"))
    assert written(home)["auths"] == {
        HUB_KEY: {"auth": base64.b64encode(b"me:pw").decode()},
        "r.test:5000": {"auth": base64.b64encode(b"me:").decode(), "identitytoken": "idt"},
    }
    assert store(home).find("r.test:5000") == Credential("me", identity_token="idt")


def test_what_mini_does_not_know_stays_as_it_is(home: Path) -> None:
    config = {
        "HttpHeaders": {"X": "ü"},
        "auths": {"a.test": {"auth": "bWU6cHc=", "email": "x"}, "https://b.test/v1/": {"auth": "bWU6cHc="}},
        "proxies": {"default": {"httpProxy": "http://x"}},
        "plugins": {"p": {"k": "v"}},
    }
    kept = store(home, config)
    os.chmod(home / ".docker/config.json", 0o644)
    kept.store("c.test", Credential("me", "pw"))
    assert list(written(home)) == list(config), "the order, too"
    kept.erase("c.test")
    assert written(home) == config
    assert stat.S_IMODE(os.stat(home / ".docker/config.json").st_mode) == 0o600
    kept.erase("b.test")
    assert list(written(home)["auths"]) == ["a.test"], "an address of an older login is this registry's, too"


def test_forgetting_what_is_not_there_writes_nothing(home: Path) -> None:
    store(home).erase("ghcr.io")
    assert not home.exists()


def test_a_config_that_is_a_link_stays_one(home: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text('{"auths": {}}')
    (home / ".docker").mkdir(parents=True)
    (home / ".docker/config.json").symlink_to(real)
    store(home).store("ghcr.io", Credential("me", "pw"))
    assert (home / ".docker/config.json").is_symlink()
    assert "ghcr.io" in json.loads(real.read_text())["auths"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_stays_his(home: Path) -> None:
    """`sudo -E mini login` must not take the user's file from him."""
    kept = store(home, {})
    os.chown(home / ".docker/config.json", 1234, 1235)
    kept.store("ghcr.io", Credential("me", "pw"))
    found = os.stat(home / ".docker/config.json")
    assert (found.st_uid, found.st_gid) == (1234, 1235)


def test_of_many_logins_at_once_none_is_lost(home: Path) -> None:
    threads = [
        threading.Thread(target=lambda n=n: store(home).store(f"r{n}.test", Credential("me", str(n))))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: (store(home).find(f"r{n}.test") or Credential()).password for n in range(20)} == {
        n: str(n) for n in range(20)
    }


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = CredentialStore({"DOCKER_CONFIG": str(tmp_path / "file")})
    with pytest.raises((StoreError, UsageError), match=str(tmp_path)):
        kept.store("ghcr.io", Credential("me", "pw"))


# --- helpers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "domain"),
    [
        ({"credsStore": "test"}, "ghcr.io"),
        ({"credHelpers": {"ghcr.io": "test"}, "credsStore": "nosuch"}, "ghcr.io"),
        ({"credHelpers": {"docker.io": "test"}}, "docker.io"),
        ({"credHelpers": {HUB_KEY: "test"}}, "docker.io"),
    ],
)
def test_a_helper_gets_stores_and_erases(home: Path, tmp_path: Path, config: dict[str, Any], domain: str) -> None:
    path = helper(tmp_path / "bin")
    kept = store(home, {**config, "auths": {domain: {"auth": "b2xkOm9sZA=="}}}, path)
    assert kept.find(domain) is None, "what the file says of a registry that has a helper does not count"
    kept.store(domain, Credential("me", "secret"))
    assert kept.find(domain) == Credential("me", "secret")
    assert "secret" not in (home / ".docker/config.json").read_text()
    kept.erase(domain)
    assert kept.find(domain) is None
    assert written(home)["auths"] == {}
    key = HUB_KEY if domain == "docker.io" else domain
    stored = json.dumps({"ServerURL": key, "Username": "me", "Secret": "secret"})
    asked = (tmp_path / "bin/asked").read_text().splitlines()
    assert asked == [f"get {key}", f"store {stored}", f"get {key}", f"erase {key}", f"get {key}"]


def test_a_helper_holds_identity_tokens_for_the_user_token(home: Path, tmp_path: Path) -> None:
    kept = store(home, {"credsStore": "test"}, helper(tmp_path / "bin"))
    kept.store("ghcr.io", Credential(identity_token="idt"))
    assert json.loads((tmp_path / "bin/kept").read_text())["Username"] == "<token>"
    assert kept.find("ghcr.io") == Credential(identity_token="idt")


def test_another_registry_does_not_ask_the_helper(home: Path, tmp_path: Path) -> None:
    kept = store(home, {"credHelpers": {"ghcr.io": "test"}}, helper(tmp_path / "bin"))
    assert kept.find("quay.io") is None
    assert not (tmp_path / "bin/asked").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho 'the keyring is locked'; exit 1\n", "the keyring is locked"),
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
        ("#!/bin/sh\necho '{'\n", "not JSON"),
        ("not a program\n", "docker-credential-test"),
    ],
)
def test_a_helper_that_fails_is_named(home: Path, tmp_path: Path, text: str, said: str) -> None:
    kept = store(home, {"credsStore": "test"}, helper(tmp_path / "bin", text=text))
    with pytest.raises(HelperError, match=said):
        kept.find("ghcr.io")


def test_what_a_helper_says_of_a_secret_is_not_repeated(home: Path, tmp_path: Path) -> None:
    kept = store(home, {"credsStore": "test"}, helper(tmp_path / "bin", text="#!/bin/sh\ncat; exit 1\n"))
    with pytest.raises(HelperError) as error:
        kept.store("ghcr.io", Credential("me", "secret"))
    assert "secret" not in error.value.message


@pytest.mark.parametrize("name", ["nosuch", "../../bin/sh", "x/y"])
def test_a_helper_is_a_program_of_the_path_and_nothing_else(home: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(HelperError):
        store(home, {"credsStore": name}).find("ghcr.io")


def test_the_current_directory_holds_no_helpers(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path / "bin")
    monkeypatch.chdir(tmp_path / "bin")
    with pytest.raises(HelperError, match="not installed"):
        store(home, {"credsStore": "test"}, ".::").find("ghcr.io")
