"""What a host's administrator wrote down about a registry: mirrors, certificates, headers.

    CERTS.D/HOST[:PORT]/hosts.toml         containerd's, https://github.com/containerd/containerd/blob/main/docs/hosts.md
    CERTS.D/HOST[:PORT]/*.crt              Docker's: certificate authorities of that registry
    CERTS.D/HOST[:PORT]/NAME.cert, .key    and the client's certificate for it

    server = "https://registry-1.docker.io"         where the registry itself is; the default is https://HOST
    [host."https://mirror.example/v2/hub"]          asked before it, in the order of the file
      capabilities = ["pull", "resolve"]            resolve: tags; pull: content by digest; push
      ca = "mirror.pem"                             paths are relative to the file
      client = [["mirror.cert", "mirror.key"]]
      skip_verify = true
      override_path = true                          the path is the API's root as it stands: no /v2 is added
      [host."https://mirror.example/v2/hub".header]
        X-Tenant = "a"

`_default` stands for every host that has no folder. Directories are searched in order: a folder's hosts.toml hides those
of later directories, certificates of all of them count.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from engine.errors import UsageError

SYSTEM_DIRECTORIES = ("/etc/mini/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d")
CAPABILITIES = frozenset({"pull", "resolve", "push"})
_KEYS = {"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"}


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, and who we are: PEM files of authorities (besides the system's), (certificate, key) files of ours.

    An empty key means that the certificate's file holds it.
    """

    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()
    verify: bool = True

    def joined(self, other: Tls) -> Tls:
        authorities = tuple(dict.fromkeys(self.authorities + other.authorities))
        clients = tuple(dict.fromkeys(self.clients + other.clients))
        return Tls(authorities, clients, self.verify and other.verify)


@dataclass(frozen=True, slots=True)
class Host:
    """One address that a hosts.toml names. `root` is its API's, `https://mirror.example/v2`; "" for the registry's own."""

    root: str
    capabilities: frozenset[str] = CAPABILITIES
    tls: Tls = Tls()
    headers: Mapping[str, str] = field(default_factory=dict)


def directories(environ: Mapping[str, str]) -> list[str]:
    """MINI_CERTS_D (several are joined by colons) instead of the system's; a user's own come first."""
    chosen = environ.get("MINI_CERTS_D")
    if chosen is not None:
        return [d for d in chosen.split(os.pathsep) if d]
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "/", ".config")
    own = [] if os.geteuid() == 0 else [os.path.join(home, "mini/certs.d"), os.path.join(home, "docker/certs.d")]
    return [*own, *SYSTEM_DIRECTORIES]


def hosts(domain: str, searched: list[str]) -> list[Host] | None:
    """What hosts.toml says of a domain: mirrors in their order, the registry itself last. None where there is none.

    Raises UsageError, naming the file and what is wrong in it.
    """
    for directory in searched:
        for folder in _folders(directory, domain):
            path = os.path.join(folder, "hosts.toml")
            data = _read(path)
            if data is not None and data.strip():
                return _parse(path, data)
    return None


def certificates(netloc: str, searched: list[str]) -> Tls:
    """Docker's files for a host and port. A key that cannot be read is an error when the certificate is used."""
    found = Tls()
    for directory in searched:
        for folder in _folders(directory, netloc):
            names = _names(folder)
            authorities = tuple(os.path.join(folder, n) for n in names if n.endswith(".crt"))
            clients = tuple(_pair(folder, n, names) for n in names if n.endswith(".cert"))
            found = found.joined(Tls(authorities, clients))
            if names:
                break
    return found


def _folders(directory: str, domain: str) -> list[str]:
    """containerd has `host:port` as `host_port_` too, and `_default` for what has no folder."""
    host, colon, port = domain.rpartition(":")
    names = [f"{host}_{port}_", domain] if colon and port.isdigit() else [domain]
    return [
        os.path.join(directory, name) for name in (*names, "_default") if "/" not in name and name not in (".", "..")
    ]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _pair(folder: str, name: str, names: list[str]) -> tuple[str, str]:
    key = name.removesuffix(".cert") + ".key"
    if key not in names:
        raise UsageError(f"{os.path.join(folder, name)} has no key beside it: {key} is missing")
    return os.path.join(folder, name), os.path.join(folder, key)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise UsageError(f"cannot read {path}: {os.strerror(e.errno or 0)}") from e


def _parse(path: str, data: bytes) -> list[Host]:
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is not TOML: {e}") from e
    reader = _Reader(path)
    tables = document.pop("host", {})
    server = document.pop("server", "")
    if not isinstance(tables, dict) or not isinstance(server, str):
        raise UsageError(f"{path}: server must be a string, host a table")
    return [*(reader.host(url, table) for url, table in tables.items()), reader.host(server, document)]


class _Reader:
    """Reads the tables of one hosts.toml; every error names the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = os.path.dirname(path)

    def host(self, url: str, table: Any) -> Host:
        if not isinstance(table, dict):
            raise self._error(f"host {url!r} must be a table")
        unknown = sorted(set(table) - _KEYS)
        if unknown:
            raise self._error(f"{unknown[0]!r} is not known (of {url or 'the server'})")
        for name in ("skip_verify", "override_path"):
            if not isinstance(table.get(name, False), bool):
                raise self._error(f"{name} must be true or false")
        capabilities = {c.lower() for c in self._strings(table.get("capabilities", []), "capabilities")}
        if capabilities - CAPABILITIES:
            raise self._error(f"unknown capability {min(capabilities - CAPABILITIES)!r}: there are pull, resolve, push")
        authorities = tuple(map(self._file, self._strings(table.get("ca", []), "ca")))
        tls = Tls(authorities, self._clients(table.get("client", [])), not table.get("skip_verify", False))
        root = self._root(url, table.get("override_path", False)) if url else ""
        return Host(root, frozenset(capabilities) or CAPABILITIES, tls, self._headers(table.get("header", {})))

    def _root(self, url: str, override: bool) -> str:
        text = url if "://" in url else f"https://{url}"
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            usable = usable and not parts.query and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable:
            raise self._error(f"{url!r} is not an address: http[s]://HOST[:PORT][/PATH]")
        path = parts.path.rstrip("/")
        if not override and not path.endswith("/v2"):
            path += "/v2"
        return f"{parts.scheme}://{parts.netloc}{path}"

    def _clients(self, value: Any) -> tuple[tuple[str, str], ...]:
        """One file with both, several of those, or pairs of certificate and key."""
        pairs = []
        for entry in [value] if isinstance(value, str) else value if isinstance(value, list) else [None]:
            names = [entry, ""] if isinstance(entry, str) else entry
            if not isinstance(names, list) or len(names) != 2 or not all(isinstance(n, str) for n in names):
                raise self._error("client must be a file, or a list of files or of [certificate, key]")
            pairs.append((self._file(names[0]), self._file(names[1]) if names[1] else ""))
        return tuple(pairs)

    def _headers(self, value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise self._error("header must be a table")
        headers = {name: ", ".join(self._strings(entry, "header")) for name, entry in value.items()}
        for name, text in headers.items():
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or not text.isprintable():
                raise self._error(f"header {name!r} cannot be sent")
        return headers

    def _strings(self, value: Any, what: str) -> list[str]:
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(v, str) for v in found):
            raise self._error(f"{what} must be a string or a list of strings")
        return found

    def _file(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _error(self, text: str) -> UsageError:
        return UsageError(f"{self._path}: {text}")
