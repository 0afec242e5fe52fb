"""`mini logs`."""

from __future__ import annotations

import sys
import time

from engine.cli import values
from engine.containers import views
from engine.context import Context
from engine.errors import UsageError
from engine.times import nanoseconds_of


def main(
    context: Context,
    container: str,
    details: bool,
    follow: bool,
    since: str | None,
    tail: str,
    timestamps: bool,
    until: str | None,
) -> None:
    count = None if tail == "all" or tail.startswith("-") else values.tail(tail)
    now = time.time_ns()
    first, last = _moment("since", since, now), _moment("until", until, now)
    last_stream = sys.stdout.buffer
    for entry in views.read_logs(context, container, follow, count, first, last):
        moment = nanoseconds_of(entry.time) if first is not None or last is not None else 0
        if (first is not None and moment < first) or (last is not None and moment > last):
            continue
        stream = sys.stdout.buffer if entry.stream == "stdout" else sys.stderr.buffer
        if stream is not last_stream:
            # both may be one terminal: in the order of the log
            last_stream.flush()
            last_stream = stream
        line = _details(entry.attributes) + entry.data if details else entry.data
        stream.write(entry.time.encode() + b" " + line if timestamps else line)
        if follow:
            stream.flush()
    last_stream.flush()


def _details(attributes: dict[str, str]) -> bytes:
    """`a=1,b=x%2Fy ` and, without any, a blank: as Docker's daemon writes it."""
    from engine.cli.gotemplate.functions import urlquery

    pairs = (f"{urlquery(key)}={urlquery(value)}" for key, value in sorted(attributes.items()))
    return ",".join(pairs).encode() + b" "


def _moment(option: str, text: str | None, now: int) -> int | None:
    try:
        return values.moment(text, now) if text else None
    except UsageError as e:
        raise UsageError(f'invalid value for "{option}": {e.message}') from None
