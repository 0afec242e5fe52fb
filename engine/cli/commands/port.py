"""`mini port`."""

from __future__ import annotations

import sys

from engine.cli.values import port_number
from engine.containers import views
from engine.containers.listing import published
from engine.context import Context


def main(context: Context, container: str, private_port: str | None) -> int:
    ports = published(views.inspect(context, container))
    if private_port is None:
        for port in sorted(ports, key=lambda p: (int(p.partition("/")[0]), p)):
            for binding in ports[port]:
                print(f"{port} -> {_address(binding)}")
        return 0
    number, _, protocol = private_port.partition("/")
    bindings = ports.get(f"{port_number(number)}/{protocol or 'tcp'}")
    if not bindings:
        print(f"Error: No public port '{private_port}' published for {container}", file=sys.stderr)
        return 1
    for binding in bindings:
        print(_address(binding))
    return 0


def _address(binding: dict[str, str]) -> str:
    host = binding["HostIp"]
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"
