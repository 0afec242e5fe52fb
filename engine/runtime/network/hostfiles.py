"""The texts of a container's /etc/hosts and /etc/resolv.conf, as Docker lays them out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HOST_GATEWAY = "host-gateway"

_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
EMBEDDED = ("127.0.0.11",)  # the container's resolver (dns.py), as in Docker
_NO_DOTS = "ndots:0"  # so that a short name is not tried with the search domains first
_PUBLIC_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
_SYSTEMD_STUB = "127.0.0.53"


def hosts(
    hostname: str,
    addresses: Sequence[str] = (),
    extra_hosts: Sequence[str] = (),
    gateway: str | None = None,
    base: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The text of /etc/hosts, with a line for each of the container's own addresses.

    `extra_hosts` are `NAME:IP` (`--add-host`); the IP `host-gateway` stands for `gateway`. `links` are (address, names) of
    others. `base` is the host's own file under `--network host`: it is taken verbatim, unless there are `extra_hosts`, as
    Docker does.
    """
    if base is not None and not extra_hosts:
        return base
    text = _LOCALHOST
    for entry in extra_hosts:
        name, _, ip = entry.partition(":")
        text += f"{gateway if ip == HOST_GATEWAY and gateway else ip}\t{name}\n"
    text += "".join(f"{address}\t{names}\n" for address, names in links)
    return text + own_lines(hostname, addresses)


def own_lines(hostname: str, addresses: Sequence[str]) -> str:
    """The lines of /etc/hosts for the container itself."""
    short, dot, _ = hostname.partition(".")
    return "".join(f"{address}\t{hostname}{' ' + short if dot else ''}\n" for address in addresses)


def host_resolv_conf(path: str = "/etc/resolv.conf", systemd: str = "/run/systemd/resolve/resolv.conf") -> str:
    """The host's resolver configuration; empty where it has none.

    Where its only nameserver is the stub of systemd-resolved, on a loopback address that a container does not reach:
    the file in which that names the real ones.
    """
    text = _read(path)
    if nameservers(text) == [_SYSTEMD_STUB]:
        return _read(systemd) or text
    return text


def host_nameservers() -> list[str]:
    """Whom the host asks for names; public ones where nobody is named."""
    return nameservers(_read("/etc/resolv.conf")) or list(_PUBLIC_NAMESERVERS)


def resolv_conf(
    host_text: str,
    mode: str,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """The text of /etc/resolv.conf for a container on a network of driver `mode`.

    Driver host: the host's, verbatim. Otherwise without nameservers that the container does not reach: those on loopback,
    which are the host's own, and IPv6 ones; where none is left, public ones. `dns`, `search`, `options` replace the
    host's one by one; a search of "." means none. Unlike Docker, these too never leave the host's loopback in the file.
    """
    if dns == EMBEDDED and not any(option.startswith("ndots:") for option in options):
        options = [*(options or _last(host_text, ("options",))), _NO_DOTS]
    if dns or search or options:
        return _build(host_text, mode, dns, search, options)
    if mode == "host":
        return host_text
    kept = _reachable_lines(host_text)
    if not nameservers(kept):
        kept += "\n" + "\n".join(f"nameserver {ip}" for ip in _PUBLIC_NAMESERVERS) + "\n"
    return kept


def nameservers(text: str) -> list[str]:
    """The addresses of resolv.conf(5)'s nameserver lines."""
    return [words[1] for words in map(str.split, text.splitlines()) if len(words) > 1 and words[0] == "nameserver"]


def _build(host_text: str, mode: str, dns: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    if not dns:
        own = nameservers(host_text)
        dns = own if mode == "host" else [ip for ip in own if _reachable(ip)] or _PUBLIC_NAMESERVERS
    search = search or _last(host_text, ("search", "domain"))
    options = options or _last(host_text, ("options",))
    text = ""
    if search and list(search) != ["."]:
        text += f"search {' '.join(search)}\n"
    text += "".join(f"nameserver {ip}\n" for ip in dns)
    if any(options):
        text += f"options {' '.join(options)}\n"
    return text


def _last(text: str, keywords: tuple[str, ...]) -> list[str]:
    """The values of the last line with one of the keywords: resolv.conf(5) lets the last one win."""
    found: list[str] = []
    for words in map(str.split, text.splitlines()):
        if words and words[0] in keywords:
            found = words[1:]
    return found


def _reachable_lines(text: str) -> str:
    """The text without the nameservers out of reach, and, as Docker has it, without blank lines after these."""
    kept = []
    after_removed = False
    for line in text.splitlines(keepends=True):
        removed = not all(map(_reachable, nameservers(line))) or (after_removed and not line.strip())
        if not removed:
            kept.append(line)
        after_removed = removed
    return "".join(kept)


def _reachable(ip: str) -> bool:
    return not ip.startswith("127.") and ":" not in ip


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
