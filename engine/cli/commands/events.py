"""`mini events`."""

from __future__ import annotations

import sys
import time

from engine.cli import templates, values
from engine.context import Context
from engine.runtime.logs import timestamp
from engine.system import eventstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(context: Context, filter: list[str], format: str | None, since: str | None, until: str | None) -> None:
    now = time.time_ns()
    filters = eventstream.Filters(filter)
    show = _shower(format)
    start = values.moment(since, now) if since else None
    end = values.moment(until, now) if until else None
    for event in eventstream.read(context.paths, start, end):
        if filters.match(event):
            print(show(event))
            sys.stdout.flush()


def _shower(format: str | None) -> Any:
    if not format:
        return _line
    if format == "json":
        return lambda event: templates.compact_json(_as_docker(event))
    parts = templates.parse(format)
    return lambda event: templates.render(parts, _fields(event))


def _line(event: dict[str, Any]) -> str:
    actor = event["Actor"]
    words = [timestamp(event["timeNano"]), event["Type"], event["Action"], actor["ID"]]
    if attributes := ", ".join(f"{key}={value}" for key, value in sorted(actor["Attributes"].items())):
        words.append(f"({attributes})")
    return " ".join(words)


def _as_docker(event: dict[str, Any]) -> dict[str, Any]:
    """With the fields of older APIs in front, which only containers and images have."""
    actor = {"ID": event["Actor"]["ID"], "Attributes": dict(sorted(event["Actor"]["Attributes"].items()))}
    old = {}
    if event["Type"] in ("container", "image"):
        old = {"status": event["Action"], "id": actor["ID"]}
        if event["Type"] == "container":
            old["from"] = actor["Attributes"].get("image", "")
    return (
        old
        | {"Type": event["Type"], "Action": event["Action"], "Actor": actor}
        | {key: event[key] for key in ("scope", "time", "timeNano")}
    )


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    """The names that a template has."""
    found = _as_docker(event)
    return {
        "Type": found["Type"],
        "Action": found["Action"],
        "Actor": found["Actor"],
        "ID": found.get("id", ""),
        "Status": found.get("status", ""),
        "From": found.get("from", ""),
        "Scope": found["scope"],
        "Time": found["time"],
        "TimeNano": found["timeNano"],
    }
