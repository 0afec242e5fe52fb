"""The registry API, as a client: manifests and blobs of one repository, from its registry or from mirrors.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md. Which addresses stand for a domain:
- Docker Hub's names (`docker.io`) live at registry-1.docker.io; every other domain is the host itself.
- https, except where the host is loopback: then http.
- `MINI_REGISTRY_MIRRORS="docker.io=http://127.0.0.1:5000,…"`: mirrors, tried in the order given, with the credentials
  of their own host; then, as in containerd, the registry itself, whatever the mirror's failure was; of several errors
  the one that got furthest is reported. `MINI_REGISTRY_FALLBACK=no` leaves the registry itself out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from engine.errors import (
    IntegrityError,
    ManifestUnknown,
    MiniError,
    RegistryError,
    RegistryUnreachable,
    Unauthorized,
    UsageError,
)
from engine.images.auth import Authorizer, find_credential
from engine.images.reference import DEFAULT_DOMAIN, Reference
from engine.images.transport import READ_ERRORS, Transport, is_loopback, origin, unreachable
from engine.oci.digest import is_digest
from engine.oci.image import INDEX_TYPES, MANIFEST_TYPES, Descriptor, load_json

HUB_ADDRESS = "https://registry-1.docker.io"
ACCEPT = ", ".join(INDEX_TYPES + MANIFEST_TYPES)
MAX_MANIFEST = 4 << 20
_MAX_ERROR_BODY = 64 << 10


@dataclass(frozen=True, slots=True)
class RawManifest:
    """A manifest or index as the registry sent it, byte for byte, its digest verified."""

    data: bytes
    digest: str
    content_type: str


class Registry:
    """One repository, at the addresses that stand for it. Safe to use from several threads; close it at the end.

    `actions` is what tokens are asked for: `pull`, or `pull,push`.
    """

    def __init__(
        self,
        reference: Reference,
        environ: Mapping[str, str],
        transport: Transport | None = None,
        actions: str = "pull",
    ) -> None:
        self.reference = reference
        self.transport = transport or Transport(environ)
        scope = f"repository:{reference.path}:{actions}"
        self._endpoints = [
            Endpoint(domain, base, Authorizer(self.transport, base, scope, find_credential(domain, environ)))
            for domain, base in addresses(reference.domain, environ)
        ]

    def push_endpoint(self) -> Endpoint:
        """The one address that pushes go to: the registry's own, never a mirror's; unless there are only mirrors."""
        own = (e for e in self._endpoints if e.domain == self.reference.domain)
        return next(own, self._endpoints[0])

    def get_manifest(self, name: str) -> RawManifest:
        """The manifest or index of a tag or digest. Raises ManifestUnknown, Unauthorized, RegistryUnreachable …"""
        response = self._get(f"manifests/{name}", {"Accept": ACCEPT})
        data = self.read_body(response, MAX_MANIFEST, "manifest")
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        promised = name if is_digest(name) else response.headers.get("Docker-Content-Digest", "")
        if promised.startswith("sha512:"):
            promised = ""
        if promised and promised != digest:
            raise IntegrityError(f"the manifest of {self.reference} is not what was promised: {digest}, not {promised}")
        return RawManifest(data, digest, response.headers.get("Content-Type", ""))

    def get_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob (an image's config), verified. Raises IntegrityError, RegistryError."""
        if descriptor.size > limit:
            raise RegistryError(f"blob {descriptor.digest} has {descriptor.size} bytes, more than the limit of {limit}")
        data = self.read_body(self.open_blob(descriptor), descriptor.size, "blob")
        if len(data) != descriptor.size or "sha256:" + hashlib.sha256(data).hexdigest() != descriptor.digest:
            raise IntegrityError(f"blob {descriptor.digest} of {self.reference} does not have its digest and size")
        return data

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> requests.Response:
        """The blob from byte `offset` on, unread, as `response.raw`; or all of it, where the answer is 200, not 206."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self._get(f"blobs/{descriptor.digest}", headers)

    def read_body(self, response: requests.Response, limit: int, what: str) -> bytes:
        """All of a small body, undecoded; closes the response. Raises RegistryError beyond `limit` bytes."""
        with response:
            try:
                data: bytes = response.raw.read(limit + 1, decode_content=False)
            except READ_ERRORS as e:
                raise unreachable(response.url, e) from e
        if len(data) > limit:
            raise RegistryError(f"{origin(response.url)} sends a {what} of more than {limit} bytes")
        return data

    def close(self) -> None:
        self.transport.close()

    def _get(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        """The first good answer of an endpoint; that endpoint is asked first from then on."""
        failures: list[MiniError] = []
        endpoints = list(self._endpoints)
        for endpoint in endpoints:
            try:
                response = self._ask(endpoint, path, headers, last=endpoint is endpoints[-1])
            except (RegistryError, IntegrityError) as e:
                failures.append(e)
                continue
            if failures:
                self._endpoints = [endpoint, *(e for e in endpoints if e is not endpoint)]
            return response
        raise max(failures, key=_weight)

    def _ask(self, endpoint: Endpoint, path: str, headers: Mapping[str, str], last: bool) -> requests.Response:
        url = f"{endpoint.base}/v2/{self.reference.path}/{path}"
        attempts = None if last else 1
        # Twice is enough: the first 401 gets a token, the second says that this one (expired in between) is not enough.
        for _ in range(3):
            sent = endpoint.authorizer.header
            response = self.transport.send("GET", url, headers, sent, attempts=attempts)
            if response.status_code in (200, 206):
                return response
            challenge = response.headers.get("WWW-Authenticate", "")
            detail = self.read_error(response)
            # A challenge from where a redirect led is not the registry's, and gets no answer.
            ours = origin(response.url) == origin(url)
            if response.status_code != 401 or not ours or not endpoint.authorizer.answer(challenge, sent):
                break
        raise self._error(response, path, detail)

    def read_error(self, response: requests.Response) -> tuple[str, str]:
        """(code, text for people) of an error answer, which may be anything at all; closes the response."""
        try:
            body = self.read_body(response, _MAX_ERROR_BODY, "error message")
            first = load_json(body, "error")["errors"][0]
            code, message = str(first.get("code") or ""), str(first.get("message") or "")
        except (MiniError, LookupError, TypeError, AttributeError):
            return "", ""
        words = code.lower().replace("_", " ")
        text = ": ".join(w for w in (words, message) if w)
        return code, "".join(c if c.isprintable() else " " for c in text)[:300]

    def _error(self, response: requests.Response, path: str, detail: tuple[str, str]) -> RegistryError:
        code, text = detail
        reference, where = self.reference, urlsplit(response.url).netloc
        status = response.status_code
        if status in (401, 403):
            return Unauthorized(
                f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
                f"authorization: {text or f'{where} answers {status}'}",
                f'check the name; for a private repository, log in first ("docker login {reference.domain}" writes the '
                "~/.docker/config.json that mini reads)",
            )
        if status == 404 and code == "NAME_UNKNOWN":
            return ManifestUnknown(f"repository {reference.familiar_name} not found: {text}")
        if status == 404 and path.startswith("manifests/"):
            return ManifestUnknown(f"manifest for {reference.familiar()} not found: {text or 'manifest unknown'}")
        if status == 404:
            return RegistryError(f"{where} does not have {path} of {reference.familiar_name}: {text or 'not found'}")
        if status == 429:
            return RegistryError(
                f"{where} answers too many requests: {text or '429'}",
                "wait, log in for a higher limit, or use a mirror (MINI_REGISTRY_MIRRORS)",
            )
        return RegistryError(
            f"{where} answers {status} to {path} of {reference.familiar_name}: {text or response.reason}"
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a repository's registry. `domain` is whose credentials the authorizer has."""

    domain: str
    base: str
    authorizer: Authorizer


def addresses(domain: str, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """(credentials' domain, base address) of what stands for a domain, in the order to ask. Raises UsageError."""
    found = [(urlsplit(base).netloc, base) for name, base in _mirrors(environ) if name == domain]
    if found and environ.get("MINI_REGISTRY_FALLBACK", "").lower() in ("no", "0", "false", "off"):
        return found
    if domain == DEFAULT_DOMAIN:
        return [*found, (domain, HUB_ADDRESS)]
    host = urlsplit(f"//{domain}").hostname or ""
    return [*found, (domain, f"{'http' if is_loopback(host) else 'https'}://{domain}")]


def _mirrors(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    for entry in environ.get("MINI_REGISTRY_MIRRORS", "").replace(",", " ").split():
        domain, _, base = entry.partition("=")
        parts = urlsplit(base)
        if (
            not domain
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or "@" in parts.netloc
        ):
            raise UsageError(
                f"MINI_REGISTRY_MIRRORS: {entry!r} is not DOMAIN=http[s]://HOST[:PORT]",
                "for instance MINI_REGISTRY_MIRRORS=docker.io=http://127.0.0.1:5000",
            )
        found.append((DEFAULT_DOMAIN if domain == "index.docker.io" else domain, base.rstrip("/")))
    return found


def _weight(error: MiniError) -> int:
    """How far a request got: an answer tells more than no answer, and a refusal more than a plain 404."""
    if isinstance(error, RegistryUnreachable):
        return 0
    return 1 if isinstance(error, ManifestUnknown) else 2
