"""`mini logs`."""

from __future__ import annotations

import sys
import time

from engine import views
from engine.cli import formats, values
from engine.context import Context


def main(context: Context, container: str, follow: bool, since: str | None, tail: str, timestamps: bool) -> None:
    count = None if tail == "all" or tail.startswith("-") else values.tail(tail)
    earliest = values.since(since, time.time()) if since else None
    for entry in views.read_logs(context, container, follow, count):
        if earliest is not None and formats.seconds_of(entry.time) < earliest:
            continue
        stream = sys.stdout.buffer if entry.stream == "stdout" else sys.stderr.buffer
        stream.write(entry.time.encode() + b" " + entry.data if timestamps else entry.data)
        stream.flush()
