"""Parses a command line from the derived table, by the rules of Docker's flags library (pflag).

Differences from Click's parser that Docker users rely on: `--rm=false`, `-e=A=b`, and nothing after IMAGE is mini's.
The values of each option are converted by `engine.cli.values`; errors are UsageErrors in Docker's words, with the usage line.
"""

from __future__ import annotations

from engine.cli import values
from engine.cli.table import ALIASES, COMMANDS, GROUPS
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

FLAG_ERROR = 125
HELP = ("--help", "-h")


class HelpWanted(Exception):
    """Help is asked for, which is Typer's part: `words` is the command line for it.

    `unasked` is that of a group without its command: nobody's output, so that it belongs on stderr.
    """

    def __init__(self, *words: str, unasked: bool = False) -> None:
        super().__init__()
        self.words = list(words)
        self.unasked = unasked


class CommandLineError(UsageError):
    """The line cannot be read; `usage` is what follows the message."""

    def __init__(self, message: str, usage: str, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.usage = usage
        self.exit_code = exit_code


class Parsed:
    """A command line that was understood: which command, the values of its options and arguments, the global options."""

    __slots__ = ("globals", "path", "target", "values")

    def __init__(self, path: str, target: str, values: dict[str, Any], globals: dict[str, Any]) -> None:
        self.path = path
        self.target = target
        self.values = values
        self.globals = globals


def parse(argv: list[str]) -> Parsed:
    """The command line without the program's name. Raises HelpWanted or CommandLineError."""
    globals, words = _options("", argv)
    if globals["version"]:
        return Parsed("version", "version:short", {}, globals)
    is_help = words[:1] == ["help"]
    if is_help:
        words = [*words[1:], "--help"]
    if not words or words[0] in HELP:
        raise HelpWanted("--help")
    called, rest = _command(words, is_help)
    found, arguments = _options(called, rest)
    _place(called, arguments, found)
    path = ALIASES.get(called, called)
    return Parsed(path, COMMANDS[path][0], found, globals)


def convert(path: str, raw: dict[str, Any]) -> dict[str, Any]:
    """What Typer parsed of the command, as `Parsed.values` has it: each text read as its option's kind. CommandLineError."""
    found = {name: raw[name] or [] if many else raw[name] for name, _, many in COMMANDS[path][3]}
    for option in COMMANDS[path][4]:
        name, _, many, _, _ = option
        found[name] = [] if many else raw[name]
        for text in (raw[name] or []) if many else [raw[name]]:
            if isinstance(text, str):
                _store(path, option, text, found)
    return found


def _command(words: list[str], is_help: bool) -> tuple[str, list[str]]:
    """(the command as it was called: a path or an alias, the words after it)."""
    called, *rest = words
    if called in GROUPS:
        if not rest or rest[0] in HELP:
            raise HelpWanted(called, "--help", unasked=not rest)
        called, *rest = f"{called} {rest[0]}", *rest[1:]
    if not called or ALIASES.get(called, called) not in COMMANDS:
        raise _unknown_command(words, is_help)
    return called, rest


def _entry(called: str) -> tuple[Any, ...]:
    return COMMANDS[ALIASES.get(called, called)]


def _options(path: str, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Splits the words into the values of the options and the arguments."""
    _, _, interspersed, _, declared, _ = _entry(path)
    found: dict[str, Any] = {}
    by_spelling = {}
    for option in declared:
        name, kind, many, default, spellings = option
        found[name] = [] if many else default
        if isinstance(default, str):
            found[name] = values.convert(name, kind, default, spellings)
        for spelling in spellings:
            by_spelling[spelling] = option
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments.extend(rest)
        elif len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if not interspersed:
                arguments.extend(rest)
        elif word[1] == "-":
            _long(path, word, rest, by_spelling, found)
        else:
            _shorts(path, word, rest, by_spelling, found)
    return found, arguments


def _long(path: str, word: str, rest: Any, by_spelling: dict[str, Any], found: dict[str, Any]) -> None:
    name, equals, text = word.partition("=")
    option = by_spelling.get(name)
    if option is None:
        if name == "--help":
            raise HelpWanted(*path.split(), "--help")
        raise _flag_error(path, f"unknown flag: {name}", _suggestion(name, by_spelling))
    if not option[1]:
        _store(path, option, text if equals else "true", found)
    elif equals:
        _store(path, option, text, found)
    else:
        following = next(rest, None)
        if following is None:
            raise _flag_error(path, f"flag needs an argument: {name}")
        _store(path, option, following, found)


def _shorts(path: str, word: str, rest: Any, by_spelling: dict[str, Any], found: dict[str, Any]) -> None:
    """`-it`, `-eA=b`, `-e=A=b`, `-e A=b`. An error shows the letters that were left, as pflag does."""
    letters = word[1:]
    while letters:
        option = by_spelling.get("-" + letters[0])
        if option is None:
            if letters[0] == "h":
                raise HelpWanted(*path.split(), "--help")
            raise _flag_error(path, f"unknown shorthand flag: '{letters[0]}' in -{letters}")
        if letters[1:2] == "=":
            _store(path, option, letters[2:], found)
            return
        if not option[1]:
            _store(path, option, "true", found)
            letters = letters[1:]
            continue
        text = letters[1:] or next(rest, None)
        if text is None:
            raise _flag_error(path, f"flag needs an argument: '{letters[0]}' in -{letters}")
        _store(path, option, text, found)
        return


def _store(path: str, option: tuple[Any, ...], text: str, found: dict[str, Any]) -> None:
    name, kind, many, _, spellings = option
    try:
        value = values.convert(name, kind or "bool", text, spellings)
    except UsageError as e:
        raise _flag_error(path, e.message) from None
    if many:
        found[name].append(value)
    else:
        found[name] = value


def _place(path: str, words: list[str], found: dict[str, Any]) -> None:
    """Gives the arguments their names, or raises Docker's error about their number."""
    arguments = _entry(path)[3]
    least = sum(required for _, required, _ in arguments)
    unlimited = any(many for _, _, many in arguments)
    if len(words) < least or (len(words) > len(arguments) and not unlimited):
        raise _count_error(path, least, None if unlimited else len(arguments))
    for position, (name, _, many) in enumerate(arguments):
        if many:
            found[name] = words[position:]
        else:
            found[name] = words[position] if position < len(words) else None


def usage_line(path: str) -> str:
    _, arguments, _, _, options, _ = _entry(path)
    return "Usage:  " + " ".join(filter(None, ("mini", path, "[OPTIONS]" if options else "", arguments)))


def _program(path: str) -> str:
    return f"mini {path}".rstrip()


def _flag_error(path: str, message: str, hint: str | None = None) -> CommandLineError:
    usage = f"{usage_line(path)}\n\nRun '{_program(path)} --help' for more information"
    return CommandLineError(message, usage, FLAG_ERROR, hint)


def _count_error(path: str, least: int, most: int | None) -> CommandLineError:
    if most == 0:
        wants = "accepts no arguments"
    elif most is None:
        wants = f"requires at least {least} argument{'s' * (least != 1)}"
    elif most == least:
        wants = f"requires {least} argument{'s' * (least != 1)}"
    else:
        at_least = f"at least {least} and " if least else ""
        wants = f"requires {at_least}at most {most} argument{'s' * (most != 1)}"
    usage = f"{usage_line(path)}\n\nSee '{_program(path)} --help' for more information"
    return CommandLineError(f"mini: '{_program(path)}' {wants}", usage, 1)


def _unknown_command(words: list[str], is_help: bool) -> CommandLineError:
    prefix = f"{words[0]} " if words[0] in GROUPS else ""
    word = words[1] if prefix else words[0]
    program = f"mini {prefix}".rstrip()
    usage = (f"Usage:  {program} COMMAND\n\n" if prefix else "") + f"Run '{program} --help' for more information"
    paths = (path.removeprefix(prefix) for path in (*COMMANDS, *ALIASES, *GROUPS) if path.startswith(prefix))
    known = [path for path in paths if path and " " not in path]
    what = f"unknown help topic: {prefix}{word}" if is_help else f"mini: unknown command: {program} {word}"
    return CommandLineError(what, usage, 1, _suggestion(word, known))


def _suggestion(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=2, cutoff=0.65)
    return f"did you mean {' or '.join(near)}?" if near else None
