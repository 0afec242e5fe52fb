"""`mini import`."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import InvalidReference
from engine.images.reference import Reference


def main(
    context: Context, source: str, reference: str | None, changes: list[str], message: str | None, platform: str | None
) -> None:
    from engine.images.import_root import import_root
    from engine.times import timestamp

    name = Reference.parse(reference) if reference else None
    if name and name.digest:
        raise InvalidReference("cannot import digest reference")
    image = import_root(
        context,
        sys.stdin.fileno() if source == "-" else source,
        name,
        timestamp(),
        changes=changes,
        message=message,
        platform=platform,
    )
    print(image.id)
