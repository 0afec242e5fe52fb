"""`mini search`."""

from __future__ import annotations

from engine.cli import templates, values
from engine.cli.templates import Row
from engine.context import Context
from engine.errors import UsageError
from engine.images.search import Found, search

HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
MAX_LIMIT = 100
_WIDTH = 45
_FILTERS = ("is-automated", "is-official", "stars")


def main(context: Context, term: str, filter: list[str], format: str | None, limit: int, no_trunc: bool) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    wanted = [_filter(text) for text in filter]
    rows = [
        Row(
            "*formatter.searchContext",
            {
                "Name": found.name,
                "Description": _one_line(found.description, no_trunc),
                "StarCount": str(found.stars),
                "IsOfficial": "[OK]" if found.official else "",
                "IsAutomated": "[OK]" if found.automated else "",
            },
        )
        for found in search(term, context.environ, limit)
        if all(_matches(found, name, value) for name, value in wanted)
    ]
    templates.show(rows, ("Name", "Description", "StarCount", "IsOfficial"), HEADERS, format, None)


def _filter(text: str) -> tuple[str, int]:
    """A filter's name, and its number: the least stars, or 0 and 1 for false and true."""
    name, _, value = text.partition("=")
    if name not in _FILTERS:
        raise UsageError(f"invalid filter '{name}'", f"there are: {', '.join(_FILTERS)}")
    try:
        return name, values.integer(value) if name == "stars" else values.boolean(value)
    except ValueError:
        raise UsageError(f"invalid filter '{name}={value}'") from None


def _matches(found: Found, name: str, value: int) -> bool:
    if name == "stars":
        return found.stars >= value
    return bool(value) == (found.official if name == "is-official" else found.automated)


def _one_line(text: str, no_trunc: bool) -> str:
    text = " ".join(text.split())
    return text if no_trunc or len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
