"""The registry API, as a client that writes: blobs and manifests into one repository.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md, "Push". An upload is POST (a place to write to), PATCH
(the bytes, one chunked body, as Docker sends it), PUT (the digest, which the registry verifies). Where the connection
breaks, GET of the place tells how much has arrived, and the rest goes after it. That is safe whatever the registry
answers: what has been put together wrongly does not have the digest, and is sent again from the start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import requests

from engine.errors import IntegrityError, MiniError, RegistryError, StoreError, Unauthorized
from engine.images.compression import deflate
from engine.images.registry import Registry, read_error
from engine.images.transport import (
    MAX_RETRY_AFTER,
    READ_ERRORS,
    RETRIED_STATUSES,
    Access,
    Interrupted,
    Transient,
    absolute,
    check_downgrade,
    origin,
    retry_after,
)

# Attempts of which none brought the upload further.
MAX_FRUITLESS = 5
READ_SIZE = 1 << 20
_SMALL = 64 << 10


class Blob(Protocol):
    """What is to be uploaded. `digest` and `size` are known when `stream` has been read to its end."""

    digest: str
    size: int

    def stream(self, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on: the same at every call."""


class Bytes:
    """A small blob, in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.size = len(data)

    def stream(self, offset: int) -> Iterator[bytes]:
        yield self.data[offset:]


class LayerTar:
    """A layer's tar in the store, gzipped on its way (or, not `compressed`, as it is), verified against its DiffID.

    `on_bytes` is told how many bytes of the tar have gone on, each byte once however often it is sent. The gzip stream
    depends on nothing but the bytes (and the version of ISA-L): it is always cut in the same places.
    """

    def __init__(self, path: str, diff_id: str, compressed: bool, on_bytes: Callable[[int], None]) -> None:
        self.digest = ""
        self.size = 0
        self._path = path
        self._diff_id = diff_id
        self._compressed = compressed
        self._on_bytes = on_bytes
        self._told = 0

    def stream(self, offset: int) -> Iterator[bytes]:
        """Raises IntegrityError before the last bytes, where the tar is not what it was; StoreError."""
        whole = hashlib.sha256()
        position = 0
        for piece in deflate(self._tar()) if self._compressed else self._tar():
            whole.update(piece)
            position += len(piece)
            if position > offset:
                yield piece[-(position - offset) :] if position - len(piece) < offset else piece
        self.digest, self.size = f"sha256:{whole.hexdigest()}", position

    def _tar(self) -> Iterator[bytes]:
        content = hashlib.sha256()
        position = 0
        try:
            with open(self._path, "rb") as file:
                held = file.read(READ_SIZE)
                while data := held:
                    held = file.read(READ_SIZE)
                    content.update(data)
                    position += len(data)
                    if not held and f"sha256:{content.hexdigest()}" != self._diff_id:
                        raise IntegrityError(
                            f"layer {self._diff_id} is damaged in the store", "remove and pull it again"
                        )
                    yield data
                    if position > self._told:
                        self._on_bytes(position - self._told)
                        self._told = position
        except FileNotFoundError as e:
            raise StoreError(f"layer {self._diff_id} was removed while it was pushed") from e
        except OSError as e:
            raise StoreError(f"cannot read layer {self._diff_id}: {e.strerror}") from e


class Uploader:
    """Writes into the registry's repository. Thread-safe, as the registry is."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._transport = registry.transport
        self._address = registry.push_address()
        self._top = f"{self._address.endpoint.root}/{registry.reference.path}"

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has the blob. Raises Unauthorized, RegistryUnreachable …"""
        response = self._ask("HEAD", f"{self._top}/blobs/{digest}")
        _finish(response)
        if response.status_code in (200, 404):
            return response.status_code == 200
        raise self._error(response, f"blob {digest}")

    def mount(self, candidates: Iterable[tuple[str, str]]) -> tuple[tuple[str, str] | None, str | None]:
        """Takes a blob over from another repository of the registry: the first (digest, repository) that it has and lets us.

        (The one that was taken, or None; where to upload to instead, if the registry has told.)
        """
        place = None
        for digest, source in candidates:
            query = urlencode({"mount": digest, "from": source})
            try:
                response = self._ask("POST", f"{self._top}/blobs/uploads/?{query}", {"Content-Length": "0"})
            except Unauthorized:
                continue
            _finish(response)
            if response.status_code in (201, 202) and place:
                self._cancel(place)
            if response.status_code == 201:
                return (digest, source), None
            place = self._place(response) if response.status_code == 202 else None
        return None, place

    def upload(self, blob: Blob, place: str | None = None) -> None:
        """Uploads the blob, going on where a broken connection stopped, and has the registry verify its digest.

        `place` is where, if the registry has told already. Raises the registry's errors; what arrived until then is taken
        away again, if the registry can be reached.
        """
        offset, fruitless, begun = 0, 0, 0
        try:
            while True:
                if place is None:
                    place, offset, begun = self._start(), 0, begun + 1
                try:
                    self._attempt(blob, place, offset)
                    return
                except _Again as e:
                    there = None if e.restart else self._reached(place)
                    fruitless = 0 if there and there[1] > offset else fruitless + 1
                    if max(fruitless, begun) >= MAX_FRUITLESS:
                        raise e.cause from None
                    self._transport.pause(max(1, fruitless), e.wait)
                    if not there:
                        self._cancel(place)
                    place, offset = there or (None, 0)
        except MiniError:
            if place:
                self._cancel(place)
            raise

    def put_manifest(self, name: str, data: bytes, media_type: str) -> str:
        """Puts a manifest under a tag or its digest; returns its digest. Every blob it names must be there."""
        response = self._ask("PUT", f"{self._top}/manifests/{name}", {"Content-Type": media_type}, data)
        if response.status_code not in (200, 201, 202):
            raise self._error(response, f"manifest {name}")
        _finish(response)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        told = response.headers.get("Docker-Content-Digest", digest)
        if told.startswith("sha256:") and told != digest:
            raise IntegrityError(f"{origin(self._top)} stored the manifest {digest} as {told}")
        return digest

    def _start(self) -> str:
        response = self._ask("POST", f"{self._top}/blobs/uploads/", {"Content-Length": "0"})
        if response.status_code != 202:
            raise self._error(response, "blobs/uploads")
        _finish(response)
        return self._place(response)

    def _attempt(self, blob: Blob, place: str, offset: int) -> None:
        """Sends everything from `offset` on, then the digest. Raises _Again where another attempt makes sense."""
        stream = self._watched(blob.stream(offset))
        response = self._once("PATCH", place, {"Content-Type": "application/octet-stream"}, stream)
        if response.status_code not in (200, 201, 202, 204):
            raise self._refusal(response, "the upload")
        _finish(response)
        place = self._place(response)
        joint = "&" if urlsplit(place).query else "?"
        digest = urlencode({"digest": blob.digest})
        response = self._once("PUT", f"{place}{joint}{digest}", {"Content-Length": "0"})
        if response.status_code in (200, 201, 204):
            _finish(response)
            return
        refusal = self._refusal(response, f"blob {blob.digest}", restart=response.status_code in (400, 404, 416))
        # A registry that took an earlier PUT, whose answer was lost, knows the upload no more.
        if response.status_code != 404 or not self.has_blob(blob.digest):
            raise refusal

    def _watched(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Ends the request, wherever it is, once the push is given up."""
        for piece in pieces:
            if self._transport.stop.is_set():
                raise Interrupted
            if piece:
                yield piece

    def _reached(self, place: str) -> tuple[str, int] | None:
        """Where the upload goes on and how much of it has arrived; None where the registry does not tell, or nothing has."""
        try:
            response = self._ask("GET", place)
        except RegistryError:
            return None
        _finish(response)
        first, _, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
        # `0-0` is one byte, or (in Docker's registry) none.
        if response.status_code not in (200, 204) or first != "0" or not last.isdigit() or last == "0":
            return None
        return self._place(response), int(last) + 1

    def _cancel(self, place: str) -> None:
        try:
            # twice: the registry may just be closing the connection on which it has refused
            _finish(self._ask("DELETE", place, attempts=2))
        except (RegistryError, Interrupted):
            # It is the registry's to sweep up, too.
            pass

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], data: Iterable[bytes] | None = None
    ) -> requests.Response:
        """One request with a body that cannot be repeated. Raises _Again where the connection broke."""
        try:
            return self._transport.send(
                method, url, headers, self._authorization(url), data, attempts=1, access=self._access(url)
            )
        except Transient as e:
            raise _Again(e) from e

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        attempts: int | None = None,
    ) -> requests.Response:
        """The answer, after whatever the registry wants to know of who asks. Raises Unauthorized where that is not enough."""
        for _ in range(3):
            sent = self._authorization(url)
            response = self._transport.send(
                method, url, headers or {}, sent, data, attempts=attempts, access=self._access(url)
            )
            if response.status_code not in (401, 403):
                return response
            if not self._answers(response, sent):
                break
        raise self._error(response, "")

    def _answers(self, response: requests.Response, sent: str | None) -> bool:
        """Whether a refusal could be answered with another token; then the response is closed."""
        ours = origin(response.url) == origin(self._top)
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code != 401 or not ours or not self._address.authorizer.answer(challenge, sent):
            return False
        _finish(response)
        return True

    def _authorization(self, url: str) -> str | None:
        """Who we are is told to the registry only, not to another host that it has us upload to."""
        return self._address.authorizer.header if origin(url) == origin(self._top) else None

    def _access(self, url: str) -> Access:
        access = self._address.access
        return access if origin(url) == origin(self._top) else access.abroad()

    def _place(self, response: requests.Response) -> str:
        """Where the upload goes on. A registry behind a proxy may not know that it is reached by https."""
        place = absolute(response.url, response.headers.get("Location", ""))
        here, there = urlsplit(self._top), urlsplit(place)
        if here.netloc == there.netloc and here.scheme == "https":
            place = urlunsplit(there._replace(scheme="https"))
        check_downgrade(self._top, place)
        return place

    def _refusal(self, response: requests.Response, what: str, restart: bool = False) -> Exception:
        """_Again for an answer that may be another next time, else the error."""
        sent = response.request.headers.get("Authorization")
        if response.status_code == 401 and self._answers(response, sent):
            return _Again(RegistryError(f"{origin(self._top)} refuses {what}"))
        error = self._error(response, what)
        wait = retry_after(response.headers.get("Retry-After"))
        again = restart or response.status_code in (*RETRIED_STATUSES, 404, 416)
        return _Again(error, restart, wait) if again and (wait or 0) <= MAX_RETRY_AFTER else error

    def _error(self, response: requests.Response, what: str) -> RegistryError:
        """The error of an answer, in Docker's words: those of the registry; closes the response."""
        _, text = read_error(response)
        where, status = urlsplit(response.url).netloc, response.status_code
        if status in (401, 403):
            domain = self._registry.reference.domain
            return Unauthorized(
                text or "denied: requested access to the resource is denied",
                f"log in with an account that may push to {self._registry.reference.familiar_name}: mini login {domain}",
            )
        hint = "a proxy in front of the registry limits how large an upload may be" if status == 413 else None
        return RegistryError(f"{where} answers {status} to {what or 'a request'}: {text or response.reason}", hint)


def _finish(response: requests.Response) -> None:
    """Reads the little that there may be to read, so that the connection can be used again."""
    try:
        response.raw.read(_SMALL, decode_content=False)
    except READ_ERRORS:
        pass
    response.close()


class _Again(Exception):
    """The attempt failed for `cause`, and another may not. `restart`: what has arrived is of no use.

    `wait`: the seconds after which the registry wants to be asked again, if it has named any.
    """

    def __init__(self, cause: RegistryError, restart: bool = False, wait: float | None = None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.restart = restart
        self.wait = wait
