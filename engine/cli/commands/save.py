"""`mini save`."""

from __future__ import annotations

from engine.cli.output import Output
from engine.context import Context


def main(context: Context, image: list[str], output: str | None) -> None:
    from engine.images.save import save

    with Output(output) as fd:
        save(context, image, fd)
