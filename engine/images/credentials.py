"""Who a user is to registries: Docker's credentials file and the helper programs that it names.

`config.json` (in DOCKER_CONFIG or ~/.docker) is shared with docker, podman and others, so what mini does not know in it
stays as it is. Three places can hold a registry's credentials; Docker's order decides which does:

    credHelpers[HOST]  a program for this host      docker-credential-NAME get | store | erase
    credsStore         a program for all hosts      https://github.com/docker/docker-credential-helpers
    auths[HOST]        the file itself: base64 of user:password, or an identity token
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.errors import NotFound, RegistryError, StoreError, UsageError
from engine.files import make_dirs, remove_file, store_error
from engine.oci.image import load_json

# Docker Hub's key in the credentials file, from the days of the first registry protocol.
HUB_KEY = "https://index.docker.io/v1/"
HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
# What a helper calls the user of an identity token.
_TOKEN_USER = "<token>"
# A helper may have to ask a person to unlock a keyring.
_HELPER_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and password, or a token that the registry's token server gave at login."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class HelperError(UsageError):
    """A credential helper that cannot be run or fails. Who only wants to read something public does without it."""


class CredentialStore:
    """The credentials of one user; `environ` says where their file is and where programs are looked up.

    Domains are as in references (`docker.io`, `ghcr.io`, `localhost:5000`).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        folder = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME") or "/", ".docker")
        self.path = os.path.join(folder, "config.json")

    def find(self, domain: str) -> Credential | None:
        """The credentials for a registry, None where there are none.

        Raises UsageError where the file is damaged, HelperError where the helper for this registry fails.
        """
        config = self._read()
        helper = self.helper(domain)
        if helper:
            return self._ask_helper(helper, key_of(domain))
        for key in self._keys(config, domain):
            found = self._credential(config["auths"][key])
            if found:
                return found
        return None

    def helper(self, domain: str) -> str | None:
        """The name of the helper that holds this registry's credentials (`docker-credential-NAME`), None for the file."""
        config = self._read()
        chosen = config.get("credHelpers")
        if isinstance(chosen, dict):
            for host in (key_of(domain), *_names(domain)):
                if isinstance(name := chosen.get(host), str) and name:
                    return name
        store = config.get("credsStore")
        return store if isinstance(store, str) and store else None

    def store(self, domain: str, credential: Credential) -> bool:
        """Keeps what a login proved right, in the helper if there is one, else in the file, replaced as one step (0600).

        Returns whether a password lies in the file now that did not before. Raises HelperError, UsageError, StoreError.
        """
        helper, key = self.helper(domain), key_of(domain)
        entry: dict[str, str] = {}
        if helper:
            user = _TOKEN_USER if credential.identity_token else credential.username
            secret = credential.identity_token or credential.password
            self._run(helper, "store", json.dumps({"ServerURL": key, "Username": user, "Secret": secret}))
        elif credential.identity_token:
            entry = {"auth": _encode(credential.username, ""), "identitytoken": credential.identity_token}
        else:
            entry = {"auth": _encode(credential.username, credential.password)}
        with self._changing() as config:
            # With a helper the entry is empty and says that there is one, as docker writes it.
            known = _auths(config).get(key)
            _auths(config)[key] = entry
        return known != entry and bool(entry) and bool(credential.password)

    def erase(self, domain: str) -> None:
        """Forgets a registry's credentials; no error where there are none. Raises HelperError, UsageError, StoreError."""
        helper = self.helper(domain)
        if not helper and not self._keys(self._read(), domain):
            return
        with self._changing() as config:
            for key in self._keys(config, domain):
                del config["auths"][key]
        if helper:
            self._run(helper, "erase", key_of(domain))

    # --- the file --------------------------------------------------------------------------------------------------

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                data = file.read()
            return dict(load_json(data, self.path)) if data.strip() else {}
        except FileNotFoundError:
            return {}
        except (OSError, RegistryError) as e:
            raise UsageError(f"cannot read the credentials in {self.path}: {e}") from e

    def _keys(self, config: Mapping[str, Any], domain: str) -> list[str]:
        """The keys of `auths` that mean this registry: hosts, or addresses from older logins."""
        auths = config.get("auths")
        if not isinstance(auths, dict):
            return []
        return [key for key, entry in auths.items() if isinstance(entry, dict) and _host_of(key) in _names(domain)]

    def _credential(self, entry: Mapping[str, Any]) -> Credential | None:
        values = {k: v for k, v in entry.items() if isinstance(v, str)}
        user, password = values.get("username", ""), values.get("password", "")
        if auth := values.get("auth"):
            try:
                user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError) as e:
                raise UsageError(f"cannot read the credentials in {self.path}: an entry of auths is damaged") from e
            password = password.rstrip("\0")
        found = Credential(user, password, values.get("identitytoken", ""), values.get("registrytoken", ""))
        return found if found != Credential() else None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The document, to be changed in place: under a lock, so that of two logins at once none is lost."""
        real = os.path.realpath(self.path)
        folder = os.path.dirname(real)
        make_dirs(folder, 0o700)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise store_error(e, "open the directory", folder) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            config = self._read()
            before = json.dumps(config)
            yield config
            if json.dumps(config) != before:
                _replace(real, json.dumps(config, indent="\t", ensure_ascii=False).encode())
        finally:
            os.close(lock)

    # --- helper programs -------------------------------------------------------------------------------------------

    def _ask_helper(self, helper: str, key: str) -> Credential | None:
        try:
            answer = load_json(self._run(helper, "get", key), f"docker-credential-{helper}")
        except NotFound:
            return None
        except RegistryError as e:
            raise HelperError(e.message) from e
        user, secret = answer.get("Username"), answer.get("Secret")
        if not isinstance(user, str) or not isinstance(secret, str) or not secret:
            return None
        return Credential(identity_token=secret) if user == _TOKEN_USER else Credential(user, secret)

    def _run(self, helper: str, action: str, text: str) -> bytes:
        """The helper's output. NotFound where it says that there are no such credentials; HelperError for any failure else.

        What a helper writes when it fails may hold anything, secrets too: only its first line is shown, and none of `store`.
        """
        name = f"docker-credential-{helper}"
        if "/" in helper:
            raise HelperError(f"{self.path} names a credential helper {helper!r}, which is not a program's name")
        program = _which(name, self._environ.get("PATH", os.defpath))
        if not program:
            hint = f"install it, or take it out of credsStore and credHelpers in {self.path}"
            raise HelperError(f"the credential helper {name} is not installed", hint)
        try:
            done = subprocess.run(
                [program, action], input=text.encode(), capture_output=True, env=dict(self._environ),
                timeout=_HELPER_TIMEOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired as e:
            raise HelperError(f"the credential helper {name} does not answer") from e
        except OSError as e:
            raise HelperError(f"cannot run the credential helper {name}: {os.strerror(e.errno or 0)}") from e
        if done.returncode == 0:
            return done.stdout
        said = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace").partition("\n")[0]
        if "credentials not found" in said:
            if action == "erase":
                return b""
            raise NotFound(f"{name}: {said}")
        shown = "" if action == "store" else "".join(c for c in said if c.isprintable())[:200]
        raise HelperError(f"{name} {action}: {shown or f'exit code {done.returncode}'}")


def key_of(domain: str) -> str:
    """What a registry is called in the file and to helpers."""
    return HUB_KEY if domain in HUB_NAMES else domain


def _names(domain: str) -> tuple[str, ...]:
    return HUB_NAMES if domain in HUB_NAMES else (domain,)


def _host_of(key: str) -> str:
    """Keys are hosts, or addresses such as `https://index.docker.io/v1/` from older logins."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _encode(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _auths(config: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(config.get("auths"), dict):
        config["auths"] = {}
    auths: dict[str, Any] = config["auths"]
    return auths


def _replace(path: str, data: bytes) -> None:
    """As `files.write_atomic` with mode 0600, and the file stays its owner's: root may log in for somebody (sudo -E)."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        remove_file(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.geteuid() == 0:
                owner = os.stat(path if os.path.exists(path) else os.path.dirname(path))
                os.fchown(fd, owner.st_uid, owner.st_gid)
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as e:
        remove_file(temporary)
        raise _write_error(e, path) from e


def _write_error(e: OSError, path: str) -> StoreError:
    return StoreError(f"cannot write the credentials to {path}: {os.strerror(e.errno or 0)}")


def _which(name: str, path: str) -> str | None:
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder, name)
        # Only absolute folders: a program of the current directory must not see passwords.
        if os.path.isabs(folder) and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    return None
