"""HTTP as a registry client needs it: safe redirects, time-outs, retries, and errors that say what to do.

Built on the adapter of `requests` (its connection pool) and not on its Session, which would read the whole body of a
redirect, decode it, keep cookies and add credentials from `.netrc`. What is particular here, each for a reason:
- Redirects are followed here, and the Authorization header is dropped at the first hop to another scheme, host or port.
- `Accept-Encoding: identity`, and bodies are read raw: a decoded body no longer has the digest that was asked for.
- Proxies come from the environment, but loopback is never proxied (`proxies.py`).
- Certificates are checked against the system's store, as Docker does, and what `certs.d` has for the host.
- A server that drips is one that does not answer: `Patience`.
"""

from __future__ import annotations

import email.utils
import errno
import os
import random
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from engine.errors import RegistryError, RegistryUnreachable, UsageError
from engine.images import certs
from engine.images.certs import Tls
from engine.images.connections import Adapter, ssl_context
from engine.images.proxies import proxy_for
from engine.images.workers import Interrupted as Interrupted

CONNECT_TIMEOUT = 15.0
READ_TIMEOUT = 60.0
# A body that brings less than this many bytes in this many seconds is given up: 1 KiB a second.
STALL_TIME = 60.0
STALL_BYTES = 60 << 10
MAX_REDIRECTS = 10
MAX_RETRY_AFTER = 60.0
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)

# What reading a body can raise: urllib3's errors come undressed where `response.raw` is read.
READ_ERRORS = (urllib3.exceptions.HTTPError, requests.RequestException, OSError)


# A request's body: a form, bytes, or pieces, which can be sent once.
Body = Mapping[str, str] | bytes | Iterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Access:
    """What requests to one address are made with. The headers and client certificates are for its own origin only.

    `chosen`: the address is a registry that the user or the administrator named, and so is told who we are.
    """

    tls: Tls = Tls()
    headers: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = True

    def abroad(self) -> Access:
        """What is left of it where a redirect or a challenge leads to another origin: whom to trust."""
        return Access(Tls(self.tls.authorities, (), self.tls.verify), chosen=False)


STRANGER = Access(chosen=False)


class Patience:
    """Ends the reading of a body that comes too slowly (STALL_BYTES in STALL_TIME). Time-outs of the socket cannot: each
    byte starts them again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._start = time.monotonic()
        self._count = 0

    def received(self, count: int) -> bool:
        """Whether STALL_TIME is over, in which enough came. Raises Transient where it is over and too little did."""
        self._count += count
        now = time.monotonic()
        if now - self._start < STALL_TIME:
            return False
        if self._count < STALL_BYTES:
            where = urlsplit(self._url).netloc.rpartition("@")[2]
            slow = f"{self._count} bytes in {now - self._start:.0f} seconds"
            raise Transient(f"{where} sends too slowly: {slow}", "check the network, or try again")
        self._start, self._count = now, 0
        return True


class Transport:
    """Sends requests; safe to share between threads.

    `attempts` is how often one request is tried, `backoff` the first pause in seconds (doubled each time, with jitter).
    `stop`, once set, ends pauses and makes further requests raise Interrupted.
    """

    def __init__(self, environ: Mapping[str, str], attempts: int = 5, backoff: float = 0.5) -> None:
        self.attempts = attempts
        self.backoff = backoff
        self.stop = threading.Event()
        self._environ = environ
        self._authorities = _certificates(environ)
        self._folders = certs.directories(environ)
        self._adapters: dict[Tls | None, requests.adapters.HTTPAdapter] = {}
        self._known: dict[tuple[Tls, bool, str], Tls] = {}
        self._live: weakref.WeakSet[requests.Response] = weakref.WeakSet()
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None = None,
        data: Body = None,
        attempts: int | None = None,
        access: Access = STRANGER,
    ) -> requests.Response:
        """The answer, whatever its status, its body unread; the caller closes it. `response.url` is where it came from.

        `access` is what the address of `url` is spoken to with, besides what certs.d has for it. Raises
        RegistryUnreachable where there was none after all attempts, RegistryError for a refused redirect, UsageError
        for certificates that cannot be used.
        """
        limit = attempts or self.attempts
        for attempt in range(1, limit + 1):
            try:
                response = self._follow(method, url, headers, authorization, data, access)
            except Transient:
                if attempt == limit:
                    raise
                self.pause(attempt, None)
                continue
            if response.status_code not in RETRIED_STATUSES or attempt == limit:
                return response
            wait = retry_after(response.headers.get("Retry-After"))
            if wait is not None and wait > MAX_RETRY_AFTER:
                return response
            response.close()
            self.pause(attempt, wait)
        raise AssertionError("unreachable")

    def pause(self, attempt: int, wait: float | None) -> None:
        """Sleeps before the next attempt: `wait` if the server named one, else an exponential, jittered back-off."""
        if wait is None:
            wait = min(self.backoff * 2 ** (attempt - 1), 30.0) * random.uniform(0.5, 1.0)
        if self.stop.wait(wait):
            raise Interrupted

    def interrupt(self) -> None:
        """Sets `stop`, and wakes the threads that wait for a server: their reads fail at once (urllib3 2.3)."""
        self.stop.set()
        with self._lock:
            live = list(self._live)
        for response in live:
            try:
                response.raw.shutdown()
            except (AttributeError, ValueError, RuntimeError, OSError):
                continue

    def close(self) -> None:
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        data: Body,
        access: Access,
    ) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._once(method, url, headers, authorization, data, access)
            target = response.headers.get("Location")
            if response.status_code not in REDIRECTS or not target or method not in ("GET", "HEAD"):
                return response
            response.close()
            target = absolute(url, target)
            check_downgrade(url, target)
            if origin(target) != origin(url):
                authorization, access = None, access.abroad()
            url = target
        raise RegistryError(f"{origin(url)} redirects more than {MAX_REDIRECTS} times")

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        data: Body,
        access: Access,
    ) -> requests.Response:
        if self.stop.is_set():
            raise Interrupted
        sent = {"Accept-Encoding": "identity", "User-Agent": "mini", **access.headers, **headers}
        if authorization:
            sent["Authorization"] = authorization
        try:
            proxy = proxy_for(url, self._environ)
            prepared = requests.Request(method, url, headers=sent, data=data).prepare()
            response = self._adapter(url, access).send(
                prepared,
                stream=True,
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                verify=access.tls.verify,
                proxies={urlsplit(url).scheme: proxy} if proxy else {},
            )
            with self._lock:
                self._live.add(response)
            return response
        except (ValueError, requests.exceptions.InvalidURL) as e:
            raise RegistryError(f"not a usable address: {url}") from e
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
            raise unreachable(url, e) from e

    def _adapter(self, url: str, access: Access) -> requests.adapters.HTTPAdapter:
        """The connections that are made with these certificates and those of the host's folder; plain http has its own."""
        parts = urlsplit(url)
        with self._lock:
            key = None
            if parts.scheme == "https":
                key = self._known.get((access.tls, access.chosen, parts.netloc))
                if key is None:
                    found = certs.certificates(parts.netloc, self._folders)
                    key = access.tls.joined(found if access.chosen else Tls(found.authorities))
                    self._known[access.tls, access.chosen, parts.netloc] = key
            if key not in self._adapters:
                context = ssl_context(self._authorities, key) if key else None
                self._adapters[key] = Adapter(context)
            return self._adapters[key]


def read_body(response: requests.Response, limit: int, what: str) -> bytes:
    """All of a small body, undecoded; closes the response. Raises RegistryError beyond `limit` bytes, RegistryUnreachable."""
    url = response.url
    patience, parts, left = Patience(url), [], limit + 1
    with response:
        try:
            while left and (data := response.raw.read1(left, decode_content=False)):
                parts.append(data)
                left -= len(data)
                patience.received(len(data))
        except READ_ERRORS as e:
            raise unreachable(url, e) from e
    if not left:
        raise RegistryError(f"{origin(url)} sends a {what} of more than {limit} bytes")
    body = b"".join(parts)
    promised = response.headers.get("Content-Length", "")
    if promised.isdigit() and len(body) < int(promised) and response.request.method != "HEAD":
        raise unreachable(url, ConnectionResetError())
    return body


class Transient(RegistryUnreachable):
    """No answer this time; the same request may succeed in a moment."""


def unreachable(url: str, cause: Exception) -> RegistryUnreachable:
    """The error for a request to `url` that got no (complete) answer, from what `requests` or urllib3 raised."""
    where = urlsplit(url).netloc.rpartition("@")[2]
    text = str(cause)
    if isinstance(cause, requests.exceptions.SSLError) or "SSLError" in text:
        return _tls_error(where, cause)
    if isinstance(cause, requests.exceptions.ProxyError):
        hint = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
        refused = re.search(r"Tunnel connection failed: ([0-9]{3}[\w ]*)", text)
        reason = f"the proxy answers {refused[1].strip()}" if refused else "the proxy does not answer"
        return RegistryUnreachable(f"cannot reach {where}: {reason}", hint)
    system = _system_error(cause)
    if isinstance(system, socket.gaierror):
        hint = "check the name, the network and the DNS; a mirror can be set with MINI_REGISTRY_MIRRORS"
        return RegistryUnreachable(f"cannot reach {where}: the name does not resolve", hint)
    if isinstance(cause, (requests.Timeout, urllib3.exceptions.TimeoutError)) or isinstance(system, TimeoutError):
        return Transient(f"no answer from {where} in time", "check the network, or try again")
    if system is not None and system.errno == errno.ECONNREFUSED:
        hint = "is the registry running, and is the port right?"
        return RegistryUnreachable(f"cannot reach {where}: connection refused", hint)
    reason = os.strerror(system.errno) if system is not None and system.errno else "the connection broke off"
    return Transient(f"cannot reach {where}: {reason.lower()}", "check the network, or try again")


def _tls_error(where: str, cause: Exception) -> RegistryUnreachable:
    text = str(cause)
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "record layer failure" in text:
        hint = f"if that is intended: MINI_REGISTRY_MIRRORS={where}=http://{where}"
        return RegistryUnreachable(f"{where} does not speak https, and plain http is used for loopback only", hint)
    system = _system_error(cause, ssl.SSLError)
    reason = getattr(system, "verify_message", "") or getattr(system, "reason", "") or "handshake failed"
    hint = f"put its certificate authority into /etc/mini/certs.d/{where}/ca.crt, or name a bundle in SSL_CERT_FILE"
    return RegistryUnreachable(f"cannot trust {where}: TLS: {reason}", hint)


def origin(url: str) -> str:
    """`scheme://host:port`, normalised: two addresses may share credentials only where this is equal."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError as e:
        raise RegistryError(f"not a usable address: {url}") from e
    host = (parts.hostname or "").lower()
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def absolute(url: str, location: str) -> str:
    """Where a Location header of an answer from `url` leads. Raises RegistryError."""
    try:
        target = urljoin(url, location)
        urlsplit(target)
        return target
    except ValueError as e:
        raise RegistryError(f"{origin(url)} redirects to an address that cannot be read") from e


def check_downgrade(source: str, target: str) -> None:
    """Raises RegistryError where https would be answered by something else."""
    scheme = urlsplit(target).scheme
    if scheme not in ("https", "http") or (scheme == "http" and urlsplit(source).scheme == "https"):
        raise RegistryError(f"{origin(source)} redirects to {scheme or 'nothing'}, which is refused")


def next_page(link: str) -> str:
    """The query that leads to the next page of a list, by a Link header (RFC 8288); "" where there is none."""
    target = link.partition("<")[2].partition(">")[0]
    return target.partition("?")[2].partition("#")[0] if 'rel="next"' in link else ""


def _certificates(environ: Mapping[str, str]) -> str | None:
    """The bundle of authorities: the environment's or the system's; None for what Python knows (macOS, Windows)."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := environ.get(name):
            if not os.path.exists(path):
                raise UsageError(f"{name} names {path}, which does not exist")
            return path
    system = ssl.get_default_verify_paths().openssl_cafile
    return next((p for p in (system, "/etc/ssl/certs/ca-certificates.crt") if p and os.path.exists(p)), None)


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number or a date (RFC 9110 10.2.3); None where it tells nothing."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _system_error(cause: BaseException, kind: type[OSError] = OSError) -> OSError | None:
    """The operating system's error at the bottom of what `requests` and urllib3 wrapped it in."""
    seen: set[int] = set()
    pending: list[object] = [cause]
    found = None
    while pending:
        e = pending.pop()
        if not isinstance(e, BaseException) or id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, kind) and not isinstance(e, (requests.RequestException, urllib3.exceptions.HTTPError)):
            found = e
        pending += [e.__cause__, e.__context__, getattr(e, "reason", None), *e.args]
    return found
