"""Texts for people, exactly as Docker's: tables, ages, sizes, the status of a container, a shortened ID or command.

Sources: docker/go-units (duration.go, size.go), docker/cli (cli/command/formatter), moby (container/state.go). `now` and times are
seconds since the epoch.
"""

from __future__ import annotations

import time

from engine.times import seconds_of as seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_COLUMN_GAP = 3
_COLUMN_MINIMUM = 10
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}


def table(rows: Sequence[Sequence[str]], minimum: int = _COLUMN_MINIMUM) -> str:
    """Columns as text/tabwriter lays them out for Docker: at least ten wide, three apart, nothing after the last."""
    if not rows:
        return ""
    widths = [max(minimum, *(len(row[i]) + _COLUMN_GAP for row in rows)) for i in range(len(rows[0]) - 1)]
    lines = ("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows)
    return "".join(line + "\n" for line in lines)


def tabulated(text: str) -> str:
    """Lines with tabs as text/tabwriter aligns them: a column is as wide as its widest cell in lines that follow each other.

    What stands behind the last tab of a line is in no column.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in lines]
    open_ = [at for at, cells in enumerate(lines) if len(cells) > 1]
    column = 0
    while open_:
        for block in _neighbours(open_):
            width = max(_COLUMN_MINIMUM, *(len(lines[at][column]) + _COLUMN_GAP for at in block))
            for at in block:
                widths[at].append(width)
        column += 1
        open_ = [at for at in open_ if len(lines[at]) > column + 1]
    return "\n".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(cells, wide, strict=False)) + cells[-1]
        for cells, wide in zip(lines, widths, strict=True)
    )


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    """Ascending numbers, split where one is left out."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def duration(seconds: float) -> str:
    """go-units' HumanDuration: "Less than a second", "About a minute", "3 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, unit, name in ((24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 730, 24 * 30, "months")):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{int(seconds // 3600) // 24 // 365} years"


def size(count: float) -> str:
    """go-units' HumanSizeWithPrecision(3): powers of 1000, "7.83MB"."""
    return _scaled(count, 1000.0, _DECIMAL, 3)


def exact_size(count: float) -> str:
    """go-units' HumanSize, which `system df` and `prune` have: one digit more, "7.834MB"."""
    return _scaled(count, 1000.0, _DECIMAL, 4)


def binary_size(count: float) -> str:
    """go-units' BytesSize: powers of 1024, "7.789GiB"."""
    return _scaled(count, 1024.0, _BINARY, 4)


def _scaled(count: float, base: float, units: Sequence[str], digits: int) -> str:
    unit = 0
    while count >= base and unit < len(units) - 1:
        count /= base
        unit += 1
    return f"{count:.{digits}g}{units[unit]}"


def short_id(value: str) -> str:
    return value.removeprefix("sha256:")[:12]


def ellipsis(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: str) -> str:
    """Go's strconv.Quote."""
    out = [
        _ESCAPES.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 0x80 else f"\\u{ord(c):04x}")
        for c in text
    ]
    return '"' + "".join(out) + '"'


def local_time(seconds: float) -> str:
    """Go's time.Time.String() as Docker shows CreatedAt: "2026-11-24 05:47:42 +0000 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def ago(timestamp: str, now: float) -> str:
    return f"{duration(max(0.0, now - seconds_of(timestamp)))} ago"


def status(state: dict[str, Any], now: float) -> str:
    """moby's State.String(): "Up 2 minutes", "Exited (0) 3 seconds ago", "Created"."""
    up = duration(max(0.0, now - seconds_of(state.get("StartedAt", ""))))
    ended = f"{duration(max(0.0, now - seconds_of(state.get('FinishedAt', ''))))} ago"
    word = state["Status"]
    if word == "paused":
        return f"Up {up} (Paused)"
    if word == "restarting":
        return f"Restarting ({state['ExitCode']}) {ended}"
    if word == "running":
        health = (state.get("Health") or {}).get("Status", "none")
        words = {"none": "", "starting": " (health: starting)"}
        return f"Up {up}{words.get(health, f' ({health})')}"
    if word == "removing":
        return "Removal In Progress"
    if word == "dead":
        return "Dead"
    if word == "created":
        return "Created"
    return f"Exited ({state['ExitCode']}) {ended}"


def command(path: str, arguments: Sequence[str], truncate: bool) -> str:
    """The COMMAND column: path and arguments, those with blanks in single quotes, cut to 20, quoted as Go does."""
    words = [path, *(f"'{a}'" if " " in a else a for a in arguments)]
    text = " ".join(words)
    return quoted(ellipsis(text, 20) if truncate else text)


def labels(values: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((values or {}).items()))


def host_port(address: str, port: object) -> str:
    """`0.0.0.0:80`, `[::]:80`: Go's net.JoinHostPort."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
