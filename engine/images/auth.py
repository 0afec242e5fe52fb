"""Who mini is to a registry: the answers to a 401.

https://distribution.github.io/distribution/spec/auth/token/ and /oauth/. What registries want, by their challenge:
- Basic: user and password with each request (Amazon ECR, Artifactory, a plain htpasswd).
- Bearer: a token for one repository, from the token server (the realm) that the challenge names. It is fetched by GET,
  anonymously or with user and password (Docker Hub, GHCR, Quay, GitLab, Harbor, Google), or by POST with the identity
  token that a login gave (Azure), or with the refresh token that came with the last one.

A registry names its token server itself, so the realm gets the credentials of that registry and of no other, and on
conditions only (CVE-2020-15157): the challenge came from the registry's own address, not from where a redirect led; the
realm of an https registry is https.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit

import requests

from engine.errors import RegistryError, Unauthorized
from engine.images.credentials import Credential, HelperError
from engine.images.proxies import is_loopback
from engine.images.transport import STRANGER, Access, Transport, origin, read_body
from engine.oci.image import load_json

CLIENT = "mini"
_MAX_ANSWER = 1 << 20
# The specification's life of a token that does not say, and how long before its end it is not used any more, in seconds.
_SHORTEST_LIFE = 60.0
_MARGIN = 10.0
_CHALLENGE = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?')


class TokenRefused(Unauthorized):
    """The token server does not accept who asks. `reason` is what it says itself, if anything."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Authorizer:
    """The Authorization header for one repository at one address. Thread-safe: a token is fetched once for all.

    `find` is asked for credentials once, when the registry first wants any: public images need no helper program.
    `base` is an address of the registry, `access` what it and its token server are spoken to with. After `answer`,
    `identity_token` is what the token server gave in exchange for a password where `offline` asked for it (a login).
    """

    def __init__(
        self,
        transport: Transport,
        base: str,
        scope: str,
        find: Callable[[], Credential | None],
        access: Access = STRANGER,
        offline: bool = False,
    ) -> None:
        self.identity_token = ""
        self.trouble: str | None = None
        self._transport = transport
        self._base = base
        self._scope = scope
        self._find: Callable[[], Credential | None] | None = find
        self._access = access
        self._offline = offline
        self._credential: Credential | None = None
        self._refresh_token = ""
        self._challenge: Mapping[str, str] = {}
        self._header: str | None = None
        self._expires = float("inf")
        self._lock = threading.Lock()

    @property
    def header(self) -> str | None:
        """What to send now; None until the registry asks. A token about to expire is renewed first.

        Raises Unauthorized or RegistryError where it cannot be.
        """
        with self._lock:
            if time.monotonic() >= self._expires:
                self._header = self._bearer(self._challenge)
            return self._header

    def answer(self, challenge: str, rejected: str | None) -> bool:
        """Deals with a 401 to a request that was sent with the header `rejected`: True where trying again makes sense.

        Raises Unauthorized or RegistryError where the token server refuses or cannot be trusted.
        """
        with self._lock:
            if self._header != rejected:
                return True
            offered = parse_challenge(challenge)
            if not offered:
                return False
            credential = self._known()
            if "bearer" in offered:
                fresh = self._bearer(offered["bearer"], rejected)
            elif "basic" in offered and credential and credential.username:
                fresh = credential.basic()
            else:
                return False
            if fresh == rejected:
                return False
            self._header = fresh
            return True

    def _known(self) -> Credential | None:
        """The credentials, looked up once. A helper that fails is remembered as the reason why there are none."""
        if self._find:
            try:
                self._credential = self._find()
            except HelperError as e:
                self.trouble = e.message
            self._find = None
        return self._credential

    def _bearer(self, parameters: Mapping[str, str], rejected: str | None = None) -> str:
        credential = self._known()
        if credential and credential.registry_token and f"Bearer {credential.registry_token}" != rejected:
            return f"Bearer {credential.registry_token}"
        self._challenge = parameters
        return f"Bearer {self._token(parameters)}"

    def _token(self, parameters: Mapping[str, str]) -> str:
        realm = parameters.get("realm", "")
        self._check_realm(realm)
        wanted = {"service": parameters.get("service", ""), "scope": _joined(parameters.get("scope", ""), self._scope)}
        wanted = {k: v for k, v in wanted.items() if v}
        response = self._ask(realm, wanted)
        body = read_body(response, _MAX_ANSWER, "token")
        if response.status_code in (400, 401, 403):
            user = self._credential.username or "this user" if self._credential else ""
            who = f"the user {user}" if user else "an anonymous user"
            what = f"{origin(realm)} refuses a token to {who} for {wanted.get('scope', 'any scope')}"
            raise TokenRefused(what, _reason(body))
        if response.status_code != 200:
            raise RegistryError(f"{origin(realm)} answers {response.status_code} to the request for a token")
        answer = load_json(body, f"the token server {origin(realm)}")
        token = answer.get("token") or answer.get("access_token")
        if not _is_token(token):
            raise RegistryError(f"{origin(realm)} answers without a token")
        refresh = answer.get("refresh_token")
        if isinstance(refresh, str) and _is_token(refresh):
            self._refresh_token = refresh
            self.identity_token = refresh if self._offline else ""
        life = answer.get("expires_in")
        known = isinstance(life, int | float) and 0 < life < 1e9
        self._expires = time.monotonic() + max(float(life) if known and life else 0.0, _SHORTEST_LIFE) - _MARGIN
        return str(token)

    def _ask(self, realm: str, wanted: dict[str, str]) -> requests.Response:
        """The token server's answer: by GET, as all of them have it, or by POST where there is a token to refresh.

        A refresh token that has expired itself is forgotten where there is a password; a server that has no GET (405, 404)
        is given the password by POST.
        """
        credential = self._credential
        refresh = self._refresh_token or (credential.identity_token if credential else "")
        if refresh:
            response = self._post(realm, wanted, {"grant_type": "refresh_token", "refresh_token": refresh})
            if response.status_code == 200 or not (credential and credential.username and credential.password):
                return response
            response.close()
            self._refresh_token = ""
        query, authorization = dict(wanted), None
        if credential and credential.username:
            authorization = credential.basic()
            query["account"] = credential.username
        if self._offline:
            query |= {"offline_token": "true", "client_id": CLIENT}
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm
        response = self._send("GET", url, authorization, None)
        if response.status_code in (404, 405) and credential and credential.username:
            response.close()
            secret = {"grant_type": "password", "username": credential.username, "password": credential.password}
            response = self._post(realm, wanted, secret)
        return response

    def _post(self, realm: str, wanted: dict[str, str], secret: dict[str, str]) -> requests.Response:
        form = {**wanted, **secret, "client_id": CLIENT}
        if self._offline:
            form["access_type"] = "offline"
        return self._send("POST", realm, None, form)

    def _send(self, method: str, url: str, authorization: str | None, data: dict[str, str] | None) -> requests.Response:
        access = self._access if origin(url) == origin(self._base) else self._access.abroad()
        return self._transport.send(method, url, {"Accept": "application/json"}, authorization, data, access=access)

    def _check_realm(self, realm: str) -> None:
        """Refuses a realm that is not https, except for an http registry: there, loopback or its own host will do."""
        base = urlsplit(self._base)
        try:
            parts = urlsplit(realm)
        except ValueError:
            parts = urlsplit("")
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


def _joined(asked: str, own: str) -> str:
    """The scope to ask for: the challenge's, with our own actions where it is of the same repository.

    A registry names the scope of one request; a token that can push as well is fetched once instead of twice.
    """
    if not asked:
        return own
    resource, _, actions = asked.rpartition(":")
    own_resource, _, own_actions = own.rpartition(":")
    if resource != own_resource:
        return asked
    return f"{resource}:{','.join(dict.fromkeys([*own_actions.split(','), *actions.split(',')]))}"


def _reason(body: bytes) -> str:
    """Why a token was refused, from an answer that has no fixed form (Docker Hub: `details`; the distribution's `errors`)."""
    try:
        answer = load_json(body, "refusal")
        errors = answer.get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else answer
        text = first.get("details") or first.get("message") or ""
    except RegistryError:
        return ""
    return "".join(c for c in text if c.isprintable())[:200] if isinstance(text, str) else ""


def _is_token(value: object) -> bool:
    """Whether it can stand in a header: else it could smuggle another one in."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value) and " " not in value
