"""`search`: images by a word, at Docker Hub or at another registry.

Docker Hub and a few others answer the search of the first registry protocol (`/v1/search`), which has no specification but its
clients. A registry that does not is asked for its catalog (`/v2/_catalog`), if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests

from engine.errors import RegistryError, Unauthorized
from engine.images.auth import Authorizer
from engine.images.credentials import CredentialStore
from engine.images.endpoints import Endpoint, endpoints
from engine.images.reference import DEFAULT_DOMAIN
from engine.images.registry import read_error
from engine.images.transport import Access, Transport, next_page, origin, read_body
from engine.oci.image import load_json

HUB_SEARCH = "https://index.docker.io/v1/search"
_MAX_ANSWER = 4 << 20
_MAX_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """A repository. What a catalog does not tell is empty."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


def search(term: str, environ: Mapping[str, str], limit: int) -> list[Found]:
    """At most `limit` repositories for the word, or for the word behind `HOST/` at that registry, the most fitting first.

    Raises RegistryError and its kind.
    """
    domain, word = _split(term)
    transport = Transport(environ)
    try:
        itself = [e for e in endpoints(domain, environ) if e.domain == domain]
        if domain == DEFAULT_DOMAIN and itself:
            return _Searched(transport, environ, itself[0]).search(HUB_SEARCH, word, limit)
        endpoint = (itself or endpoints(domain, environ))[0]
        asked = _Searched(transport, environ, endpoint)
        try:
            return asked.search(f"{origin(endpoint.root)}/v1/search", word, limit)
        except _NoSuchService:
            names = [n for n in asked.catalog() if word.lower() in n]
            return [Found(name if domain == DEFAULT_DOMAIN else f"{domain}/{name}") for name in names[:limit]]
    finally:
        transport.close()


class _NoSuchService(RegistryError):
    """The registry has no search."""


class _Searched:
    """One registry that is searched."""

    def __init__(self, transport: Transport, environ: Mapping[str, str], endpoint: Endpoint) -> None:
        self._transport = transport
        self._root = endpoint.root
        self._access = Access(endpoint.tls, endpoint.headers)
        find = partial(CredentialStore(environ).find, endpoint.domain)
        self._authorizer = Authorizer(transport, endpoint.root, "registry:catalog:*", find, self._access)

    def search(self, url: str, word: str, limit: int) -> list[Found]:
        answer, _ = self._ask(f"{url}?{urlencode({'q': word, 'n': limit})}")
        results = answer.get("results")
        if not isinstance(results, list):
            raise _NoSuchService(f"{origin(url)} answers its search with something else")
        return [_found(entry) for entry in results if isinstance(entry, dict)][:limit]

    def catalog(self) -> list[str]:
        names: list[str] = []
        query = "n=1000"
        for _ in range(_MAX_PAGES):
            answer, link = self._ask(f"{self._root}/_catalog?{query}")
            page = answer.get("repositories")
            names += [n for n in page if isinstance(n, str)] if isinstance(page, list) else []
            query = next_page(link)
            if not query:
                break
        return names

    def _ask(self, url: str) -> tuple[Mapping[str, Any], str]:
        """The JSON at the address, and its Link header."""
        for _ in range(2):
            near = origin(url) == origin(self._root)
            sent = self._authorizer.header if near else None
            access = self._access if near else self._access.abroad()
            response = self._transport.send("GET", url, {"Accept": "application/json"}, sent, access=access)
            if response.status_code == 200:
                body = read_body(response, _MAX_ANSWER, "list")
                return load_json(body, f"the answer of {origin(url)}"), response.headers.get("Link", "")
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status_code != 401 or not near or not self._authorizer.answer(challenge, sent):
                break
            response.close()
        raise self._error(response)

    def _error(self, response: requests.Response) -> RegistryError:
        where, status = urlsplit(response.url).netloc, response.status_code
        _, text = read_error(response)
        if "/v1/" in response.url and status in (404, 405, 501):
            return _NoSuchService(f"{where} has no search")
        if status in (401, 403):
            return Unauthorized(
                f"{where} does not let itself be searched: {text or status}", f"log in: mini login {where}"
            )
        return RegistryError(f"{where} answers {status} to the search: {text or response.reason}")


def _split(term: str) -> tuple[str, str]:
    """(registry, word), by the rule by which references begin with a host."""
    first, slash, rest = term.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DEFAULT_DOMAIN, term
    return DEFAULT_DOMAIN if first == "index.docker.io" else first, rest


def _found(entry: Mapping[str, Any]) -> Found:
    stars = entry.get("star_count")
    return Found(
        str(entry.get("name") or ""),
        str(entry.get("description") or ""),
        stars if isinstance(stars, int) else 0,
        entry.get("is_official") is True,
        entry.get("is_automated") is True,
    )
