"""`login`: proves credentials right at a registry, without any image.

GET of the API's root (`/v2/`), answered as any request is: distribution-spec "Determining Support", and moby's
registry/auth.go. A token server may give an identity token for the password, which is then all that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from engine.errors import RegistryError, Unauthorized, UsageError
from engine.images.auth import Authorizer, TokenRefused
from engine.images.credentials import HUB_KEY, HUB_NAMES, Credential
from engine.images.endpoints import Endpoint, endpoints
from engine.images.reference import DEFAULT_DOMAIN
from engine.images.registry import read_error
from engine.images.transport import Access, Transport

_HINT = "is the password right? Some registries want an access token in its place"


def domain_of(server: str | None) -> str:
    """The registry that `login SERVER` means: Docker Hub without one; addresses of older habits lose scheme and path.

    Raises UsageError where it is no host.
    """
    text = (server or HUB_KEY).strip()
    host = (text.partition("://")[2] if "://" in text else text).partition("/")[0]
    try:
        usable = bool(urlsplit(f"//{host}").hostname) and host.isprintable() and not set(host) & set(" @?#\\")
        usable = usable and urlsplit(f"//{host}").port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"not a registry: {server!r}", "a host, with its port if it has one: ghcr.io, localhost:5000")
    return DEFAULT_DOMAIN if host in HUB_NAMES else host


def login(domain: str, credential: Credential, environ: Mapping[str, str]) -> Credential:
    """What to keep, when the registry has accepted `credential`: itself, or the identity token that it was exchanged for.

    Raises Unauthorized, RegistryUnreachable and their kind.
    """
    transport = Transport(environ)
    try:
        token = _prove(transport, _endpoint(domain, environ), credential)
    finally:
        transport.close()
    return Credential(identity_token=token) if token else credential


def _endpoint(domain: str, environ: Mapping[str, str]) -> Endpoint:
    """The registry's own address: a mirror has credentials of its own."""
    own = [e for e in endpoints(domain, environ) if e.domain == domain]
    if not own:
        raise UsageError(f"{domain} itself is not asked, but its mirrors only", "log in to a mirror by its own name")
    return own[-1]


def _prove(transport: Transport, endpoint: Endpoint, credential: Credential) -> str:
    """The identity token, if the registry's token server gives one."""
    url, access = f"{endpoint.root}/", Access(endpoint.tls, endpoint.headers)
    authorizer = Authorizer(transport, endpoint.root, "", lambda: credential, access, offline=True)
    for _ in range(2):
        sent = authorizer.header
        response = transport.send("GET", url, {}, sent, access=access)
        challenge, status = response.headers.get("WWW-Authenticate", ""), response.status_code
        _, text = read_error(response)
        if status == 200:
            return authorizer.identity_token
        if status not in (401, 403):
            raise RegistryError(f'Get "{url}": the registry answers {status}: {text or response.reason}')
        try:
            if status == 403 or not authorizer.answer(challenge, sent):
                break
        except TokenRefused as e:
            reason = e.reason or "incorrect username or password"
            raise Unauthorized(f'Get "{url}": unauthorized: {reason}', _HINT) from e
    raise Unauthorized(f"login attempt to {url} failed with status: {status} {response.reason}", _HINT)
