"""Times as the documents have them: RFC 3339 texts, by hand, as `datetime` takes longer to import than `ps` to run."""

from __future__ import annotations

import time


def seconds_of(timestamp: str) -> float:
    """RFC 3339 ("2026-11-24T05:47:42.123456789Z", or with an offset) as seconds since the epoch; 0 for Go's zero time."""
    return nanoseconds_of(timestamp) / 1e9


def nanoseconds_of(timestamp: str) -> int:
    """The same in whole nanoseconds, as logs and events have it, which a float cannot hold."""
    try:
        year, month, day = int(timestamp[0:4]), int(timestamp[5:7]), int(timestamp[8:10])
        hour, minute, second = int(timestamp[11:13]), int(timestamp[14:16]), int(timestamp[17:19])
    except ValueError:
        return 0
    if year <= 1:
        return 0
    rest, fraction = timestamp[19:], 0
    zone = rest.lstrip(".").lstrip("0123456789")
    if digits := rest[1 : len(rest) - len(zone)]:
        fraction = int(f"{digits:0<9}"[:9])
    offset = 0
    if zone[:1] in ("+", "-"):
        offset = (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60) * (-1 if zone[0] == "-" else 1)
    seconds = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return seconds * 1_000_000_000 + fraction


def timestamp(nanoseconds: int | None = None) -> str:
    """RFC 3339 with nanoseconds in UTC, as Docker writes it; `nanoseconds` since the epoch, None for now."""
    if nanoseconds is None:
        nanoseconds = time.time_ns()
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar."""
    year -= month <= 2
    month_of_year = (month + 9) % 12
    day_of_year = (153 * month_of_year + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - 719468
