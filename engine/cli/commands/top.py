"""`mini top`."""

from __future__ import annotations

from engine.cli import formats
from engine.containers.processes import top
from engine.context import Context

_COLUMN = 20  # as wide as Docker has it here


def main(context: Context, container: str, ps_options: list[str]) -> None:
    titles, rows = top(context, container, ps_options)
    print(formats.table([titles, *rows], minimum=_COLUMN), end="")
