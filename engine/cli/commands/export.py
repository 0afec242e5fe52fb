"""`mini export`."""

from __future__ import annotations

from engine.cli.output import Output
from engine.context import Context


def main(context: Context, container: str, output: str | None) -> None:
    from engine.containers.export import export

    with Output(output) as fd:
        export(context, container, fd)
