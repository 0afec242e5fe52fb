"""`--format`: what a command shows, as JSON or by a Go template (gotemplate/), as Docker's client has it.

A listing (docker/cli, cli/command/formatter) is rows of fields, one execution of the template each; `table …` aligns the columns
and puts titles above them, which the same template makes from the titles of the fields. Parsed once, whatever the number of rows.
The template engine is loaded only where a template is asked for.
"""

from __future__ import annotations

from engine.cli import formats
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from engine.cli.gotemplate.parser import Template
    from engine.cli.gotemplate.values import Struct

PREFIX = "template parsing error: "
_NIL_TYPE = "*v1.Platform"  # the one field that may be nil
_HEADER_TYPE = "formatter.SubHeaderContext"


class Row(dict):  # type: ignore[type-arg]
    """The fields of one line. `labels` are what its method Label answers from, None where it has no such method."""

    __slots__ = ("go_type", "labels")

    def __init__(self, go_type: str, fields: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> None:
        super().__init__(fields)
        self.go_type, self.labels = go_type, labels

    def struct(self) -> Struct:
        """As a template has it."""
        from engine.cli.gotemplate.values import Nil, Struct

        for name, value in self.items():
            if value is None:
                self[name] = Nil(_NIL_TYPE)
        methods = {} if self.labels is None else {"Label": (1, self._label)}
        return Struct(self.go_type, self, methods, json=self.json)

    def _label(self, name: str) -> str:
        return (self.labels or {}).get(name, "")

    def json(self) -> str:
        """Docker's: a map, so by name, and fit to stand in HTML."""
        from engine.cli.gotemplate.jsontext import compact

        return compact({name: self[name] for name in sorted(self)}, escape_html=True)


def compact_json(value: Any) -> str:
    """JSON as Go writes it, without blanks."""
    from engine.cli.gotemplate.jsontext import compact

    return compact(value)


def parse(format: str, prefix: str = PREFIX, name: str = "", exit_code: int | None = None) -> Template:
    """The template; `prefix` and `exit_code` are of the UsageError for what is none."""
    from engine.cli.gotemplate.parser import Template

    try:
        return Template(format, name)
    except UsageError as e:
        raise failure(prefix, e, exit_code) from None


def execute(template: Template, value: Any, prefix: str = PREFIX, exit_code: int | None = None) -> str:
    """The text for one value."""
    from engine.cli.gotemplate.execute import execute

    try:
        return execute(template, value)
    except UsageError as e:
        raise failure(prefix, e, exit_code) from None


def show_one(format: str, value: Any, name: str = "") -> None:
    """Prints one object that is shown by itself (`version`, `info`); as in Docker, the line ends also after an error."""
    template = parse("{{json .}}" if format == "json" else format, name=name, exit_code=64)
    try:
        print(execute(template, value, prefix=""))
    except UsageError:
        print()
        raise


def failure(prefix: str, error: UsageError, exit_code: int | None) -> UsageError:
    """The error as a command tells it."""
    told = UsageError(prefix + error.message)
    told.exit_code = exit_code
    return told


def show(
    items: Sequence[Row],
    columns: Sequence[str],
    headers: Mapping[str, str],
    format: str | None,
    only: str | None,
    raw: str | None = None,
) -> None:
    """Prints a listing: by `--format`, or (`-q`) the field `only`, or the columns as a table. `raw` is what `raw` means."""
    if format and format != "table":
        text = rows(raw if raw and format == "raw" else format, items, headers)
    elif only:
        text = "".join(item[only] + "\n" for item in items)
    else:
        text = formats.table([[headers[c] for c in columns], *([item[c] for c in columns] for item in items)])
    print(text, end="")


def rows(format: str, items: Iterable[Row], headers: Mapping[str, str]) -> str:
    """One text for each item, each with a line feed; `headers` are the column titles of a `table` format."""
    if format == "json":
        return "".join(item.json() + "\n" for item in items)
    is_table = format.startswith("table")
    template = parse(format.removeprefix("table").strip(" ").replace("\\t", "\t").replace("\\n", "\n"))
    body = "".join(execute(template, item.struct()) + "\n" for item in items)
    return formats.tabulated(_header(template, headers) + "\n" + body) if is_table else body


def _header(template: Template, headers: Mapping[str, str]) -> str:
    """What the template makes of the titles; as far as it comes, where it cannot be made of them."""
    from engine.cli.gotemplate.execute import execute
    from engine.cli.gotemplate.functions import HEADER_FUNCTIONS
    from engine.cli.gotemplate.values import Map

    titles = Map(headers)
    titles.go_type = _HEADER_TYPE
    titles.methods = {"Label": (1, _label_title)}
    out: list[str] = []
    try:
        execute(template, titles, functions=HEADER_FUNCTIONS, out=out)
    except UsageError:
        # the rows have been made: as in Docker, a title is not worth an error
        pass
    return "".join(out)


def _label_title(name: str) -> str:
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
