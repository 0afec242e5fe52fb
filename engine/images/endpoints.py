"""Which addresses stand for a registry's domain, in the order in which they are asked.

1. Mirrors of the environment: `MINI_REGISTRY_MIRRORS="docker.io=http://127.0.0.1:5000,…"`, in the order given.
2. Mirrors of the domain's hosts.toml (`certs.py`), in the order of the file.
3. The registry itself: hosts.toml's `server`, else https://HOST; registry-1.docker.io for Docker Hub's names; http where
   the host is loopback.

The environment comes first since it is nearer to the command. `MINI_REGISTRY_FALLBACK=no` leaves out 2 and 3 for a domain
that has a mirror in the environment. Plain http is spoken to loopback and to what was written down as http, and never else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from engine.errors import UsageError
from engine.images import certs
from engine.images.certs import CAPABILITIES, Tls
from engine.images.proxies import is_loopback
from engine.images.reference import DEFAULT_DOMAIN

HUB_ADDRESS = "https://registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. `root` is its API's (`https://ghcr.io/v2`), `domain` the one whose credentials it gets.

    `namespace` is the domain that a mirror stands for, which it is told (`?ns=docker.io`), since it may mirror several.
    """

    domain: str
    root: str
    capabilities: frozenset[str] = CAPABILITIES
    tls: Tls = Tls()
    headers: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""


def endpoints(domain: str, environ: Mapping[str, str]) -> list[Endpoint]:
    """The addresses of a domain as in references; never empty. Raises UsageError where what was written down is wrong."""
    found = [Endpoint(urlsplit(base).netloc, f"{base}/v2") for name, base in _mirrors(environ) if name == domain]
    if found and environ.get("MINI_REGISTRY_FALLBACK", "").lower() in ("no", "0", "false", "off"):
        return found
    own = own_address(domain)
    *mirrors, itself = certs.hosts(domain, certs.directories(environ)) or [certs.Host("")]
    for host in mirrors:
        netloc = urlsplit(host.root).netloc
        foreign = netloc != urlsplit(own).netloc
        names = (netloc, domain) if foreign else (domain, "")
        found.append(Endpoint(names[0], host.root, host.capabilities, host.tls, host.headers, names[1]))
    found.append(Endpoint(domain, itself.root or f"{own}/v2", itself.capabilities, itself.tls, itself.headers))
    return found


def own_address(domain: str) -> str:
    """Where a registry itself is, if nothing says otherwise."""
    if domain == DEFAULT_DOMAIN:
        return HUB_ADDRESS
    host = urlsplit(f"//{domain}").hostname or ""
    return f"{'http' if is_loopback(host) else 'https'}://{domain}"


def _mirrors(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    for entry in environ.get("MINI_REGISTRY_MIRRORS", "").replace(",", " ").split():
        domain, _, base = entry.partition("=")
        try:
            parts = urlsplit(base)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            usable = usable and not parts.query and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not domain or not usable:
            raise UsageError(
                f"MINI_REGISTRY_MIRRORS: {entry!r} is not DOMAIN=http[s]://HOST[:PORT]",
                "for instance MINI_REGISTRY_MIRRORS=docker.io=http://127.0.0.1:5000",
            )
        found.append((DEFAULT_DOMAIN if domain == "index.docker.io" else domain, base.rstrip("/")))
    return found
