"""`mini rmi`."""

from __future__ import annotations

from engine.cli.each import each
from engine.context import Context
from engine.errors import NotFound
from engine.system import imageuse


def main(context: Context, image: list[str], force: bool, no_prune: bool) -> int:
    def remove(name: str) -> None:
        for event, what in imageuse.remove(context, name, force):
            print(f"{event}: {what}")

    return each(image, remove, forgiven=NotFound if force else None)
