"""`mini cp`."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import UsageError


def main(context: Context, source: str, destination: str, archive: bool, follow_link: bool, quiet: bool) -> None:
    from engine.cli.formats import size
    from engine.containers.copy import STREAM, copy

    for what, value in (("source", source), ("destination", destination)):
        if not value:
            raise UsageError(f"{what} can not be empty")
    sys.stdout.flush()
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    copied = copy(context, source, destination, archive=archive, follow=follow_link, stdin=stdin, stdout=stdout)
    if copied.where != STREAM and not quiet and sys.stdout.isatty():
        print(f"Successfully copied {size(copied.size)} to {copied.where}", file=sys.stderr)
