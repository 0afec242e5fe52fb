"""Writes `engine/cli/table.py` from the Typer application: `python -m engine.cli.derive`. A test compares the two."""

from __future__ import annotations

import os
from typing import Any

import typer

HEADER = '''"""The command line as data, derived from the Typer application: `python -m engine.cli.derive` writes this file.

COMMANDS: path -> (target, arguments of the usage line, options after arguments?, arguments, options, aliases).
An argument is (name, required, many); an option (name, kind, many, default, spellings), kind "" for a flag.
"""

'''


def table() -> str:
    """The text of table.py for the application as it is declared now."""
    from engine.cli.app import app

    root: Any = typer.main.get_command(app)
    commands = {"": _entry(root, "", "COMMAND", ())}
    aliases: dict[str, str] = {}
    groups: dict[str, str] = {}
    for path, command in _leaves(root, ""):
        facts = command.callback.facts
        canonical = facts.aliases[0]
        if path != canonical:
            aliases[path] = canonical
        else:
            commands[path] = _entry(command, facts.target, facts.arguments, facts.aliases)
    for name, child in root.commands.items():
        if hasattr(child, "commands"):
            groups[name] = child.help or ""
    return HEADER + "\n".join(_lines(commands, aliases, tuple(sorted(groups))))


def _leaves(group: Any, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += _leaves(command, f"{prefix}{name} ")
        else:
            found.append((prefix + name, command))
    return found


def _entry(command: Any, target: str, arguments_line: str, aliases: tuple[str, ...]) -> tuple[Any, ...]:
    arguments = []
    options = []
    for param in command.params:
        if param.param_type_name == "argument":
            arguments.append((param.name, bool(param.required), param.nargs == -1))
        elif "--help" not in param.opts:
            kind = "" if param.is_flag else param.metavar
            default = bool(param.default) if param.is_flag else None if param.multiple else param.default
            options.append((param.name, kind, bool(param.multiple), default, tuple(param.opts)))
    interspersed = command.context_settings.get("allow_interspersed_args", True) if target else False
    return (target, arguments_line, interspersed, tuple(arguments), tuple(options), aliases)


def _lines(commands: dict[str, Any], aliases: dict[str, str], groups: tuple[str, ...]) -> list[str]:
    lines = [
        "# fmt: off",
        "from __future__ import annotations",
        "",
        "COMMANDS: dict[str, tuple] = {  # type: ignore[type-arg]",
    ]
    for path, (target, arguments_line, interspersed, arguments, options, names) in sorted(commands.items()):
        lines += [
            f"    {path!r}: (",
            f"        {target!r}, {arguments_line!r}, {interspersed}, {arguments!r},",
            "        (",
        ]
        lines += [f"            {option!r}," for option in options]
        lines += ["        ),", f"        {names!r},", "    ),"]
    lines += ["}", "", "ALIASES = {"]
    lines += [f"    {alias!r}: {path!r}," for alias, path in sorted(aliases.items())]
    lines += ["}", "", f"GROUPS = {groups!r}", ""]
    return lines


def main() -> None:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "table.py")
    with open(path, "w") as file:
        file.write(table())


if __name__ == "__main__":
    main()
