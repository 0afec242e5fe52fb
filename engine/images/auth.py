"""Who mini is to a registry: Docker's credentials file, and the answers to a 401.

https://distribution.github.io/distribution/spec/auth/token/ and /oauth/. A registry names its token server (the realm)
itself, so the realm gets the credentials of that registry and of no other, and on conditions only (CVE-2020-15157): the
challenge came from the registry's own address, not from where a redirect led; the realm of an https registry is https.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from engine.errors import RegistryError, Unauthorized, UsageError
from engine.images.transport import READ_ERRORS, Transport, is_loopback, origin, unreachable
from engine.oci.image import load_json

# Docker Hub's key in the credentials file, from the days of the first registry protocol.
HUB_KEY = "https://index.docker.io/v1/"
_MAX_ANSWER = 1 << 20
_CHALLENGE = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?')


@dataclass(frozen=True, slots=True)
class Credential:
    """One entry of `auths`: a user and password, or a token that the registry's token server gave at login."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_credential(domain: str, environ: Mapping[str, str]) -> Credential | None:
    """What `config.json` (DOCKER_CONFIG or ~/.docker) knows for the registry `domain`, which is as in references.

    Raises UsageError where the file is damaged.
    """
    folder = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME") or "/", ".docker")
    path = os.path.join(folder, "config.json")
    try:
        with open(path, "rb") as file:
            config = load_json(file.read(), path)
    except FileNotFoundError:
        return None
    except (OSError, RegistryError) as e:
        raise UsageError(f"cannot read the credentials in {path}: {e}") from e
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    wanted = ("docker.io", "index.docker.io", "registry-1.docker.io") if domain == "docker.io" else (domain,)
    for key, entry in auths.items():
        if isinstance(entry, dict) and _host_of(key) in wanted:
            return _credential(entry, path)
    return None


class Authorizer:
    """The Authorization header for one repository at one address. Thread-safe: a token is fetched once for all."""

    def __init__(self, transport: Transport, base: str, scope: str, credential: Credential | None) -> None:
        self._transport = transport
        self._base = base
        self._scope = scope
        self._credential = credential
        self._header: str | None = None
        self._lock = threading.Lock()
        if credential and credential.registry_token:
            self._header = f"Bearer {credential.registry_token}"

    @property
    def header(self) -> str | None:
        """What to send now; None until the registry asks."""
        return self._header

    def answer(self, challenge: str, rejected: str | None) -> bool:
        """Deals with a 401 to a request that was sent with the header `rejected`: True where trying again makes sense.

        Raises Unauthorized or RegistryError where the token server refuses or cannot be trusted.
        """
        with self._lock:
            if self._header != rejected:
                return True
            offered = parse_challenge(challenge)
            if "bearer" in offered:
                fresh = f"Bearer {self._token(offered['bearer'])}"
            elif "basic" in offered and self._credential and self._credential.username:
                fresh = self._credential.basic()
            else:
                return False
            if fresh == rejected:
                return False
            self._header = fresh
            return True

    def _token(self, parameters: Mapping[str, str]) -> str:
        realm = parameters.get("realm", "")
        self._check_realm(realm)
        query = {"service": parameters.get("service", ""), "scope": parameters.get("scope") or self._scope}
        query = {k: v for k, v in query.items() if v}
        authorization, data, method, url = None, None, "GET", realm
        credential = self._credential
        if credential and credential.identity_token:
            secret = {"grant_type": "refresh_token", "refresh_token": credential.identity_token, "client_id": "mini"}
            method, data = "POST", query | secret
        else:
            if credential and credential.username:
                authorization = credential.basic()
                query["account"] = credential.username
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        response = self._transport.send(method, url, {"Accept": "application/json"}, authorization, data)
        try:
            body = response.raw.read(_MAX_ANSWER, decode_content=False)
        except READ_ERRORS as e:
            raise unreachable(url, e) from e
        finally:
            response.close()
        if response.status_code in (400, 401, 403):
            who = f"the user {credential.username}" if authorization and credential else "an anonymous user"
            raise Unauthorized(f"{origin(realm)} refuses a token to {who} for {query.get('scope', 'any scope')}")
        if response.status_code != 200:
            raise RegistryError(f"{origin(realm)} answers {response.status_code} to the request for a token")
        answer = load_json(body, f"the token server {origin(realm)}")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise RegistryError(f"{origin(realm)} answers without a token")
        return token

    def _check_realm(self, realm: str) -> None:
        """Refuses a realm that is not https, except for an http registry: there, loopback or its own host will do."""
        parts, base = urlsplit(realm), urlsplit(self._base)
        if parts.scheme == "https" and parts.hostname:
            return
        near = is_loopback(parts.hostname or "") or parts.hostname == base.hostname
        if parts.scheme == "http" and base.scheme == "http" and near:
            return
        raise Unauthorized(
            f"{base.netloc} names a token server that is not trusted: {realm or 'none'}",
            "the token server of an https registry must be https",
        )


def parse_challenge(value: str) -> dict[str, dict[str, str]]:
    """WWW-Authenticate (RFC 9110 11.6.1), challenges joined by commas: parameters by scheme, names in lower case."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for match in _CHALLENGE.finditer(value):
        name, quoted, plain = match.groups()
        if quoted is None and plain is None:
            current = found.setdefault(name.lower(), {})
        else:
            current[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return found


def _host_of(key: str) -> str:
    """Keys are hosts, or addresses such as `https://index.docker.io/v1/` from older logins."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _credential(entry: Mapping[str, Any], path: str) -> Credential | None:
    values = {k: v if isinstance(v := entry.get(k), str) else "" for k in ("username", "password", "auth")}
    if values["auth"]:
        try:
            user, _, password = base64.b64decode(values["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as e:
            raise UsageError(f"cannot read the credentials in {path}: an entry of auths is damaged") from e
        values["username"], values["password"] = user, password.rstrip("\0")
    identity, registry = entry.get("identitytoken"), entry.get("registrytoken")
    found = Credential(
        values["username"],
        values["password"],
        identity if isinstance(identity, str) else "",
        registry if isinstance(registry, str) else "",
    )
    return found if found != Credential() else None
