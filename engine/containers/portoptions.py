"""`-p` and `--expose` → PortBindings and ExposedPorts, read and refused as Docker does (go-connections, nat; cli, opts.go).

80   8080:80   127.0.0.1:8080:80   127.0.0.1::80   [::1]:8080:80   8000-8002:80-82   8000-8010:80   8080:80/udp
published=8080,target=80,protocol=udp
"""

from __future__ import annotations

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from engine.containers.options import CreateOptions

    Bindings = dict[str, list[dict[str, str]]]

PROTOCOLS = ("tcp", "udp")
DISCARDED = "Published ports are discarded when using host network mode"


def check(options: CreateOptions) -> None:
    """UsageError for what Docker's client refuses."""
    if options.publish:
        bindings(options.publish)
    if options.expose:
        exposed(options.expose)


def bindings(specs: Iterable[str]) -> Bindings:
    """HostConfig.PortBindings: by container port (`80/tcp`), where on the host. An empty address or port is chosen at the start."""
    found: Bindings = {}
    for spec in specs:
        for port, binding in _parse(_plain(spec)):
            found.setdefault(port, []).append(binding)
    return dict(sorted(found.items()))


def exposed(
    specs: Sequence[str], image: Mapping[str, Any] | None = None, published: Iterable[str] = ()
) -> dict[str, Any]:
    """Config.ExposedPorts: the image's, those of `--expose`, and those that are published."""
    ports = {*(image or ()), *published}
    for spec in specs:
        if ":" in spec:
            raise UsageError(f"invalid port format for --expose: {spec}")
        protocol, numbers = _split_protocol(spec)
        try:
            first, last = _range(numbers)
        except ValueError as e:
            raise UsageError(f"invalid range format for --expose: {spec}, error: {e}") from None
        if protocol not in (*PROTOCOLS, "sctp"):
            raise UsageError(f"invalid proto: {protocol}")
        ports.update(f"{number}/{protocol}" for number in range(first, last + 1))
    return {port: {} for port in sorted(ports)}


def _plain(spec: str) -> str:
    """The long form, `published=8080,target=80`, as the short one."""
    if "=" not in spec:
        return spec
    fields = {"published": "", "target": "", "protocol": "tcp"}
    for field in spec.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise UsageError(f"invalid publish opts format (should be name=value but got '{field}')")
        fields[key] = value
    return f"{fields['published']}:{fields['target']}/{fields['protocol']}"


def _parse(spec: str) -> list[tuple[str, dict[str, str]]]:
    """(container port, binding) for each port that one `-p` publishes."""
    front, _, inner = spec.rpartition(":")
    address, _, outer = front.rpartition(":")
    protocol, inner = _split_protocol(inner)
    address = _address(address) if address else ""
    if not inner:
        raise UsageError(f"no port specified: {spec}<empty>")
    first, last = _ports("containerPort", inner)
    low, high = _ports("hostPort", outer) if outer else (0, 0)
    if outer and last - first != high - low and last != first:
        raise UsageError(f"invalid ranges specified for container and host Ports: {inner} and {outer}")
    if protocol not in (*PROTOCOLS, "sctp"):
        raise UsageError(f"invalid proto: {protocol}")
    if protocol == "sctp":
        raise UsageError(f"cannot publish {first}/sctp", "tcp and udp can be published, and sctp only exposed")
    found = []
    for number in range(first, last + 1):
        host = str(low + number - first) if outer else ""
        if first == last and low != high:
            host = f"{low}-{high}"
        found.append((f"{number}/{protocol}", {"HostIp": address, "HostPort": host}))
    return found


def _address(text: str) -> str:
    from engine.runtime.network.ipam import number_of

    plain = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if number_of(plain) is None:
        raise UsageError(f"invalid IP address: {plain}")
    return plain


def _split_protocol(text: str) -> tuple[str, str]:
    """(protocol, numbers) of `80/udp`; tcp where none is said."""
    numbers, _, rest = text.partition("/")
    return rest.partition("/")[0].lower() or "tcp", numbers


def _ports(what: str, text: str) -> tuple[int, int]:
    try:
        return _range(text)
    except ValueError:
        raise UsageError(f"invalid {what}: {text}") from None


def _range(text: str) -> tuple[int, int]:
    """`80` or `80-90`. ValueError in Go's words."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    low, high = number(first), number(last if dash else first)
    if high < low:
        raise ValueError(f"invalid range specified for port: {text}")
    return low, high


def number(text: str) -> int:
    """A port's number. ValueError in Go's words."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def without(published: Bindings, specs: Iterable[str]) -> Bindings:
    """`published` without what `--publish-rm` names, as `-p` does or by the container's port alone. UsageError where it is not."""
    left = {port: list(there) for port, there in published.items()}
    for spec in specs:
        for port, binding in _parse(_plain(spec)):
            there = left.get(port, [])
            gone = [b for b in there if not binding["HostPort"] or binding == b]
            if not gone:
                raise UsageError(
                    f"{spec} is not published", "what is: mini inspect -f '{{json .HostConfig.PortBindings}}'"
                )
            left[port] = [b for b in there if b not in gone]
    return {port: there for port, there in left.items() if there}
