"""Which proxy a request goes through, by the environment's word.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in lower or upper case, read as Go's httpproxy package reads them
(https://pkg.go.dev/golang.org/x/net/http/httpproxy), which docker, podman and containerd use. Loopback is never proxied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's address for a request to `url`, None where it goes straight there."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if not host or is_loopback(host) or _excluded(host, _port(url), _setting("NO_PROXY", environ)):
        return None
    proxy = _setting(f"{parts.scheme.upper()}_PROXY", environ) or _setting("ALL_PROXY", environ)
    return (proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def is_loopback(host: str) -> bool:
    """Whether the host (no port, no brackets) is this machine by its very name: localhost, 127.0.0.0/8, ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _setting(name: str, environ: Mapping[str, str]) -> str:
    return (environ.get(name.lower()) or environ.get(name) or "").strip()


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def _excluded(host: str, port: int, listed: str) -> bool:
    """NO_PROXY: `*`, an address, a network (10.0.0.0/8), a name with its subdomains, `.name` for these alone; `:port` narrows."""
    return any(_fits(entry.strip().lower(), host, port) for entry in listed.split(",") if entry.strip())


def _fits(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (name.endswith("]") or ":" not in name):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    entry = entry.removeprefix("*")
    return host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}")
