"""Help in Docker's layout: usage, description, aliases, and options sorted by name with their type words."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.cli.declare import Facts

_READABLE = 24


def command(path: str, declared: Any, facts: Facts | None) -> str:
    """`declared` is Typer's command object; `path` the words that reached it ("mini run")."""
    program = path.split()[0]
    options = visible_options(declared.params)
    usage = " ".join(filter(None, (path, "[OPTIONS]" if options else "", facts.arguments if facts else "")))
    parts = [f"Usage:  {usage}\n\n{paragraph(declared.help or '')}\n"]
    if facts and len(facts.aliases) > 1:
        parts.append(f"Aliases:\n  {', '.join(f'{program} {name}' for name in sorted(facts.aliases))}\n")
    if options:
        parts.append(f"Options:\n{option_lines(options)}")
    return "\n".join(parts)


def group(path: str, declared: Any, is_root: bool) -> str:
    options = visible_options(declared.params)
    usage = f"{path} [OPTIONS] COMMAND" if is_root else f"{path} COMMAND"
    parts = [f"Usage:  {usage}\n\n{paragraph(declared.help or '')}\n"]
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, child in declared.commands.items():
        if not child.hidden:
            panels.setdefault(child.rich_help_panel or "Commands", []).append((name, summary(child.help)))
    for panel, rows in panels.items():
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {text}" for name, text in rows]
        parts.append(f"{panel}:\n" + "\n".join(wrapped(line, width + 4) for line in lines) + "\n")
    if options:
        parts.append(f"{'Global Options' if is_root else 'Options'}:\n{option_lines(options)}")
    parts.append(f"Run '{path} COMMAND --help' for more information on a command.")
    return "\n".join(parts)


def visible_options(params: list[Any]) -> list[Any]:
    found = [p for p in params if p.param_type_name == "option" and not p.hidden and "--help" not in p.opts]
    return sorted(found, key=long_name)


def long_name(param: Any) -> str:
    return next((str(o) for o in param.opts if o.startswith("--")), str(param.opts[0]))


def option_lines(options: list[Any]) -> str:
    """`  -e, --env list   Set environment variables`, the descriptions in one column."""
    rows = []
    for param in options:
        short = next((o for o in param.opts if not o.startswith("--")), "")
        names = long_name(param)
        kind = "" if param.is_flag else f" {param.metavar}"
        rows.append((f"  {short}, {names}{kind}" if short else f"      {names}{kind}", param.help or ""))
    width = max(len(left) for left, _ in rows) + 3
    if width + _READABLE > shutil.get_terminal_size((80, 24)).columns:
        indent = " " * 10
        return "".join(f"{left}\n{wrapped(indent + text, len(indent))}\n" for left, text in rows)
    return "".join(wrapped(f"{left:<{width}}{text}", width) + "\n" for left, text in rows)


def summary(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def paragraph(text: str) -> str:
    return "\n".join(wrapped(line, 0) for line in text.strip().splitlines())


def wrapped(line: str, indent: int) -> str:
    """The line folded to the terminal, continued at `indent`; never into a column too narrow to read."""
    width = max(shutil.get_terminal_size((80, 24)).columns, indent + _READABLE)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
