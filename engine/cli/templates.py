"""`--format`: `json`, and of Go's text/template what people type: `{{.ID}}`, `{{json .Config}}`, `table {{.ID}}\\t{{.Names}}`.

A template is a list of texts and of (function, path) pairs, read once and rendered for each object. Everything else of
the template language is refused with a UsageError that says what is understood.
"""

from __future__ import annotations

from engine.cli import formats
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Part = str | tuple[str, list[str]]

_HINT = "understood are 'json', fields such as {{.ID}} or {{.State.Status}}, and {{json .Field}}"
_FUNCTIONS = {
    "json": lambda value: compact_json(value),
    "upper": lambda value: go_text(value).upper(),
    "lower": lambda value: go_text(value).lower(),
    "": lambda value: go_text(value),
}


def compact_json(value: Any, sort_keys: bool = False) -> str:
    """JSON as Go writes it, without blanks; with `sort_keys` as it writes a map."""
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort_keys)


def show(
    items: Sequence[dict[str, str]],
    columns: Sequence[str],
    headers: dict[str, str],
    format: str | None,
    only: str | None,
) -> None:
    """Prints a listing: by `--format`, or (`-q`) the field `only`, or the columns as a table."""
    if only:
        text = "".join(item[only] + "\n" for item in items)
    elif format and format != "table":
        text = rows(format, items, headers)
    else:
        text = formats.table([[headers[c] for c in columns], *([item[c] for c in columns] for item in items)])
    print(text, end="")


def rows(format: str, items: Sequence[dict[str, Any]], headers: dict[str, str]) -> str:
    """One line for each item; `headers` are the fields that exist and the column titles of a `table` format."""
    if format == "json":
        return "".join(compact_json(item, sort_keys=True) + "\n" for item in items)
    is_table = format.startswith("table ")
    parts = parse(format.removeprefix("table ") if is_table else format)
    _check_fields(parts, headers)
    lines = [render(parts, dict(sorted(item.items()))) for item in items]
    if is_table:
        header = "".join(p if isinstance(p, str) else headers.get(p[1][0], "") if p[1] else "" for p in parts)
        return formats.table([line.split("\t") for line in (header, *lines)])
    return "".join(line + "\n" for line in lines)


def one(format: str, value: Any) -> str:
    """The text for one object that is shown by itself (`version`, `info`, one of `inspect`)."""
    if format == "json":
        return compact_json(value)
    return render(parse(format), value)


def parse(template: str) -> list[Part]:
    """The parts of a template. `\\t` and `\\n` are what they are in C, as on Docker's command line."""
    parts: list[Part] = []
    rest = template.replace("\\t", "\t").replace("\\n", "\n")
    while rest:
        text, opened, rest = rest.partition("{{")
        if text:
            parts.append(text)
        if opened:
            action, closed, rest = rest.partition("}}")
            if not closed:
                raise UsageError(f"template parsing error: unclosed action in {template!r}", _HINT)
            parts.append(_action(action.strip().strip("-").strip()))
    return parts


def _action(text: str) -> Part:
    function, _, path = text.rpartition(" ")
    function = function.strip()
    names = path.removeprefix(".").split(".") if path != "." else []
    plain = all(name.replace("_", "").isalnum() for name in names)
    if function not in _FUNCTIONS or not path.startswith(".") or not plain:
        raise UsageError(f"template parsing error: {{{{{text}}}}} is not understood", _HINT)
    return function, names


def render(parts: Sequence[Part], item: Any) -> str:
    """The text for one object. UsageError for a field that it does not have."""
    return "".join(part if isinstance(part, str) else _FUNCTIONS[part[0]](_field(item, part[1])) for part in parts)


def _field(value: Any, path: Sequence[str]) -> Any:
    """What is at the path. As in Docker, a key that a map of the user's lacks (a label) is `<no value>` and no error."""
    for name in path:
        if isinstance(value, dict) and name not in value and name[:1].isupper():
            field = ".".join(["", *path])
            raise UsageError(
                f'template parsing error: executing "" at <{field}>: map has no entry for key "{name}"',
                f"there are {', '.join(value)}",
            )
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _check_fields(parts: Sequence[Part], headers: dict[str, str]) -> None:
    for part in parts:
        if not isinstance(part, str) and part[1] and part[1][0] not in headers:
            known = ", ".join(sorted(headers))
            raise UsageError(f"template parsing error: no field .{part[1][0]} here", f"the fields are {known}")


def go_text(value: Any) -> str:
    """What Go's fmt prints for a value: `true`, `[a b]`, `map[k:v]`, `<no value>`."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + " ".join(go_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_text(v)}" for k, v in sorted(value.items())) + "]"
    return str(value)
