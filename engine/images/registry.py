"""The registry API, as a client: manifests, blobs and tags of one repository, from its registry or from mirrors.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md. `endpoints.py` says which addresses are asked. As
in containerd, whatever the failure of a mirror was, the next address is asked, and at last the registry itself; of several
errors the one that got furthest is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode, urlsplit

import requests

from engine.errors import (
    IntegrityError,
    ManifestUnknown,
    MiniError,
    RegistryError,
    RegistryUnreachable,
    Unauthorized,
)
from engine.images import foreign
from engine.images.auth import Authorizer
from engine.images.credentials import CredentialStore
from engine.images.endpoints import Endpoint, endpoints
from engine.images.reference import DEFAULT_DOMAIN, Reference, is_tag
from engine.images.transport import Access, Transient, Transport, next_page, origin, read_body
from engine.oci.digest import is_digest
from engine.oci.image import INDEX_TYPES, MANIFEST_TYPES, Descriptor, load_json

ACCEPT = ", ".join(INDEX_TYPES + MANIFEST_TYPES)
MAX_MANIFEST = 4 << 20
_MAX_ERROR_BODY = 64 << 10
_MAX_TAGS_PAGE = 4 << 20
_MAX_TAGS = 100_000


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
        scope, store = f"repository:{reference.path}:{actions}", CredentialStore(environ)
        self._addresses = [Address(e, self.transport, scope, store) for e in endpoints(reference.domain, environ)]

    def push_address(self) -> Address:
        """The one address that pushes go to: the registry's own, never a mirror's; unless there are only mirrors."""
        able = [a for a in self._addresses if "push" in a.endpoint.capabilities]
        if not able:
            raise RegistryError(f"no address of {self.reference.domain} may be pushed to, says its hosts.toml")
        return next((a for a in able if a.endpoint.domain == self.reference.domain), able[0])

    def get_manifest(self, name: str) -> RawManifest:
        """The manifest or index of a tag or digest. Raises ManifestUnknown, Unauthorized, RegistryUnreachable …"""
        need = "pull" if is_digest(name) else "resolve"
        data, headers = self._small(f"manifests/{name}", MAX_MANIFEST, "manifest", {"Accept": ACCEPT}, need)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        promised = name if is_digest(name) else headers.get("Docker-Content-Digest", "")
        if promised.startswith("sha512:"):
            promised = ""
        if promised and promised != digest:
            raise IntegrityError(f"the manifest of {self.reference} is not what was promised: {digest}, not {promised}")
        return RawManifest(data, digest, headers.get("Content-Type", ""))

    def get_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob (an image's config), verified. Raises IntegrityError, RegistryError."""
        if descriptor.size > limit:
            raise RegistryError(f"blob {descriptor.digest} has {descriptor.size} bytes, more than the limit of {limit}")
        data, _ = self._small(f"blobs/{descriptor.digest}", descriptor.size, "blob", {}, "pull")
        if len(data) != descriptor.size or "sha256:" + hashlib.sha256(data).hexdigest() != descriptor.digest:
            raise IntegrityError(f"blob {descriptor.digest} of {self.reference} does not have its digest and size")
        return data

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> requests.Response:
        """The blob from byte `offset` on, unread, as `response.raw`; or all of it, where the answer is 200, not 206."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if descriptor.urls:
            plain = all(a.endpoint.root.startswith("http:") for a in self._addresses)
            found = foreign.open_layer(self.transport, descriptor, headers, plain)
            if found:
                return found
        return self._get(f"blobs/{descriptor.digest}", headers, "pull")

    def list_tags(self) -> list[str]:
        """Every tag of the repository, in the registry's order; its list may have pages (Link, RFC 8288)."""
        found: list[str] = []
        path, seen = "tags/list", set[str]()
        while path not in seen:
            seen.add(path)
            data, headers = self._small(path, _MAX_TAGS_PAGE, "list of tags", {}, "resolve")
            tags = load_json(data, f"the tags of {self.reference.familiar_name}").get("tags") or []
            if not isinstance(tags, list) or not all(isinstance(t, str) and is_tag(t) for t in tags):
                raise RegistryError(f"the registry's list of the tags of {self.reference.familiar_name} is malformed")
            found += tags
            if len(found) > _MAX_TAGS:
                raise RegistryError(f"{self.reference.familiar_name} has more than {_MAX_TAGS} tags")
            query = next_page(headers.get("Link", ""))
            path = f"tags/list?{query}" if query else path
        return list(dict.fromkeys(found))

    def close(self) -> None:
        self.transport.close()

    def _small(
        self, path: str, limit: int, what: str, headers: Mapping[str, str], need: str
    ) -> tuple[bytes, Mapping[str, str]]:
        """All of a small body, and the headers it came with. A connection that breaks meanwhile is tried again."""
        for attempt in range(1, self.transport.attempts + 1):
            response = self._get(path, headers, need)
            try:
                return read_body(response, limit, what), response.headers
            except Transient:
                if attempt == self.transport.attempts:
                    raise
                self.transport.pause(attempt, None)
        raise AssertionError("unreachable")

    def _get(self, path: str, headers: Mapping[str, str], need: str) -> requests.Response:
        """The first good answer of an address that can do what is needed; that one is asked first from then on."""
        failures: list[MiniError] = []
        addresses = [a for a in self._addresses if need in a.endpoint.capabilities]
        if not addresses:
            raise RegistryError(
                f"no address of {self.reference.domain} may be asked for this: {need!r} is not among its capabilities",
                f"see hosts.toml of {self.reference.domain}",
            )
        for address in addresses:
            try:
                response = self._ask(address, path, headers, last=address is addresses[-1])
            except (RegistryError, IntegrityError) as e:
                failures.append(e)
                continue
            if failures:
                self._addresses = [address, *(a for a in self._addresses if a is not address)]
            return response
        raise max(failures, key=_weight)

    def _ask(self, address: Address, path: str, headers: Mapping[str, str], last: bool) -> requests.Response:
        url = address.url(f"{self.reference.path}/{path}")
        attempts = None if last else 1
        # Twice is enough: the first 401 gets a token, the second says that this one (expired in between) is not enough.
        for _ in range(3):
            sent = address.authorizer.header
            response = self.transport.send("GET", url, headers, sent, attempts=attempts, access=address.access)
            if response.status_code in (200, 206):
                return response
            challenge = response.headers.get("WWW-Authenticate", "")
            detail = read_error(response)
            # A challenge from where a redirect led is not the registry's, and gets no answer.
            ours = origin(response.url) == origin(url)
            if response.status_code != 401 or not ours or not address.authorizer.answer(challenge, sent):
                break
        raise self._error(response, path, detail, address.authorizer.trouble)

    def _error(
        self, response: requests.Response, path: str, detail: tuple[str, str], trouble: str | None
    ) -> RegistryError:
        code, text = detail
        reference, where = self.reference, urlsplit(response.url).netloc
        status = response.status_code
        if status in (401, 403):
            return Unauthorized(
                f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
                f"authorization: {text or f'{where} answers {status}'}",
                trouble
                or f"check the name; for a private repository, log in first: mini login {_login_name(reference.domain)}",
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


class Address:
    """One endpoint, and the authorization that it wants."""

    def __init__(self, endpoint: Endpoint, transport: Transport, scope: str, store: CredentialStore) -> None:
        self.endpoint = endpoint
        self.access = Access(endpoint.tls, endpoint.headers)
        find = partial(store.find, endpoint.domain)
        self.authorizer = Authorizer(transport, endpoint.root, scope, find, self.access)

    def url(self, path: str) -> str:
        joint = "&" if "?" in path else "?"
        namespace = f"{joint}{urlencode({'ns': self.endpoint.namespace})}" if self.endpoint.namespace else ""
        return f"{self.endpoint.root}/{path}{namespace}"


def read_error(response: requests.Response) -> tuple[str, str]:
    """(code, text for people) of an error answer, which may be anything at all; closes the response."""
    try:
        body = read_body(response, _MAX_ERROR_BODY, "error message")
        first = load_json(body, "error")["errors"][0]
        code, message = str(first.get("code") or ""), str(first.get("message") or "")
    except (MiniError, LookupError, TypeError, AttributeError):
        return "", ""
    words = code.lower().replace("_", " ")
    text = ": ".join(w for w in (words, message) if w)
    return code, "".join(c if c.isprintable() else " " for c in text)[:300]


def _login_name(domain: str) -> str:
    return "" if domain == DEFAULT_DOMAIN else domain


def _weight(error: MiniError) -> int:
    """How far a request got: an answer tells more than no answer, and a refusal more than a plain 404."""
    if isinstance(error, RegistryUnreachable):
        return 0
    return 1 if isinstance(error, ManifestUnknown) else 2
