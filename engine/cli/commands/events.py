"""`mini events`."""

from __future__ import annotations

import sys
import time

from engine.cli import templates, values
from engine.context import Context
from engine.system import eventstream
from engine.times import timestamp

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
        return lambda event: templates.compact_json(_struct(event, "events.Message"))
    prefix, code = "Error parsing format: ", 64
    template = templates.parse(format, prefix, exit_code=code)
    # Docker's client tries it on an event of no kind first
    nothing = {"Type": "", "Action": "", "Actor": {"ID": "", "Attributes": {}}, "scope": "", "time": 0, "timeNano": 0}
    templates.execute(template, _struct(nothing, "*events.Message"), prefix, code)
    return lambda event: templates.execute(template, _struct(event, "events.Message"))


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


def _struct(event: dict[str, Any], go_type: str) -> Any:
    """What a template has."""
    from engine.cli.gotemplate.values import Map, Struct, number, string

    found = _as_docker(event)
    attributes = Map(found["Actor"]["Attributes"])
    attributes.go_type = "map[string]string"
    actor = {"ID": found["Actor"]["ID"], "Attributes": attributes}
    fields = {
        "Status": found.get("status", ""),
        "ID": found.get("id", ""),
        "From": found.get("from", ""),
        "Type": string("events.Type", found["Type"]),
        "Action": string("events.Action", found["Action"]),
        "Actor": Struct("events.Actor", actor),
        "Scope": found["scope"],
        "Time": number("int64", found["time"]),
        "TimeNano": number("int64", found["timeNano"]),
    }
    return Struct(go_type, fields, json=lambda: templates.compact_json(Struct("", _json_order(found))))


def _json_order(found: dict[str, Any]) -> dict[str, Any]:
    from engine.cli.gotemplate.values import Struct

    return found | {"Actor": Struct("", found["Actor"])}
