"""`mini port`."""

from __future__ import annotations

import sys

from engine.cli import formats
from engine.cli.values import port_number
from engine.containers import views
from engine.containers.listing import published
from engine.context import Context


def main(context: Context, container: str, private_port: str | None) -> int:
    ports = published(views.inspect(context, container))
    if private_port is None:
        lines = [f"{port} -> {_address(binding)}" for port, bindings in ports.items() for binding in bindings]
        for line in sorted(lines, key=_natural):
            print(line)
        return 0
    number, _, protocol = private_port.partition("/")
    bindings = ports.get(f"{port_number(number)}/{protocol or 'tcp'}")
    if not bindings:
        print(f"Error: No public port '{private_port}' published for {container}", file=sys.stderr)
        return 1
    for line in sorted(map(_address, bindings), key=_natural):
        print(line)
    return 0


def _address(binding: dict[str, str]) -> str:
    return formats.host_port(binding["HostIp"], binding["HostPort"])


def _natural(line: str) -> list[tuple[bool, int, str]]:
    """Numbers in a line count as numbers: 80 comes before 443."""
    parts: list[str] = []
    for char in line:
        if parts and parts[-1][-1].isdigit() == char.isdigit():
            parts[-1] += char
        else:
            parts.append(char)
    return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]
