"""How a command is declared: a Typer command whose help reads as Docker's, plus the few facts that Typer has no field for.

A declaration is a function without a body: its name says what runs (`engine.cli.commands.NAME`), its parameters are the
options and arguments, its docstring is the description. `metavar` is the type word that Docker's help shows, and decides
how the value is read (`engine.cli.values`); everything reaches Typer as `str`, `list[str]` or `bool`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from engine.cli import helptext

Declared = Callable[..., None]
String = str | None
Strings = list[str] | None

COMMON = "Common Commands"
FORMAT_HELP = (
    "Format output: 'json' (one object a line), or a template such as '{{.ID}}' or 'table {{.ID}}\\t{{.Names}}'"
)
INSPECT_FORMAT_HELP = "Format output: 'json', or a template such as '{{.State.Status}}' or '{{json .Config}}'"

NO_HELP_SHORTHAND = {"help_option_names": ["--help"]}
HELP_SHORTHAND = {"help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """Renders its help in Docker's layout. Everything else is Typer's."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        facts = getattr(self.callback, "facts", None)
        formatter.write(helptext.command(ctx.command_path, self, facts))


class Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(helptext.group(ctx.command_path, self, ctx.parent is None))


class Facts:
    """What Typer does not know of a command: what runs, the arguments in its usage line, its other names."""

    __slots__ = ("aliases", "arguments", "target")

    def __init__(self, target: str, arguments: str, aliases: tuple[str, ...]) -> None:
        self.target = target
        self.arguments = arguments
        self.aliases = aliases


def option(*spellings: str, kind: str = "string", help: str) -> Any:
    """An option with a value; `kind` is the type word of Docker's help. Repeatable where the parameter is a list."""
    return typer.Option(*spellings, metavar=kind, help=help, show_default=False)


def flag(*spellings: str, help: str) -> Any:
    return typer.Option(*spellings, help=help, show_default=False)


class Declarations:
    """The commands of one module, in the order that help shows them."""

    def __init__(self) -> None:
        self._commands: list[tuple[Facts, Declared, dict[str, Any]]] = []

    def command(
        self,
        path: str,
        arguments: str = "",
        *,
        also: Declared | None = None,
        aliases: tuple[str, ...] = (),
        hidden: bool = False,
        interspersed: bool = True,
        panel: str = "Commands",
        target: str | None = None,
    ) -> Callable[[Declared], Declared]:
        """Declares `path` ("run", "volume ls") and its aliases (shown in its own help only). No help lists a `hidden` one.

        `also` is a declaration whose parameters come first; `interspersed=False` ends the options at the first argument, as
        whatever follows IMAGE belongs to the container. `target` names module and function under `engine.cli.commands`.
        """

        def declare(declaration: Declared) -> Declared:
            facts = Facts(target or f"{path.split()[-1]}:main", arguments, (path, *aliases))
            callback = _callback(declaration, also, facts)
            settings = HELP_SHORTHAND if "-h" not in _spellings(callback) else NO_HELP_SHORTHAND
            options = {
                "cls": Command,
                "context_settings": {**settings, "allow_interspersed_args": interspersed},
                "rich_help_panel": panel,
                "hidden": hidden,
            }
            self._commands.append((facts, callback, options))
            return declaration

        return declare

    def register(self, apps: dict[str, typer.Typer]) -> None:
        """Adds the commands to the application ("") and its groups, by the words of their paths."""
        for facts, callback, options in self._commands:
            for name in facts.aliases:
                group, _, word = name.rpartition(" ")
                hidden = options["hidden"] or _hidden(facts.aliases[0], name)
                apps[group].command(word, **{**options, "hidden": hidden})(callback)


def _hidden(path: str, name: str) -> bool:
    """`image ls` is listed for `images`, in its own group; `image list` is not."""
    return name != path and (" " not in name or name.endswith((" list", " remove", " ps")))


def _callback(declaration: Declared, also: Declared | None, facts: Facts) -> Callable[..., None]:
    """What Typer calls: runs the command with the declared parameters as its values."""

    def run(context: typer.Context, **values: Any) -> None:
        from engine.cli import execute

        raise typer.Exit(execute.typed(facts.aliases[0], context.obj, values))

    parameters = [
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
    ]
    for source in filter(None, (also, declaration)):
        hints = get_type_hints(source, include_extras=True)
        for parameter in inspect.signature(source).parameters.values():
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=parameters[0].kind))
    # Typer reads both; a parameter without default (an argument) may follow one with, as keywords are all it uses.
    run.__signature__ = _Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.facts = facts  # type: ignore[attr-defined]
    run.__name__ = declaration.__name__
    run.__doc__ = declaration.__doc__
    return run


class _Signature(inspect.Signature):
    """A signature in order of declaration: Python would have required parameters first."""

    def __init__(self, parameters: list[inspect.Parameter]) -> None:
        super().__init__(parameters, __validate_parameters__=False)


def _spellings(callback: Callable[..., None]) -> set[str]:
    found: set[str] = set()
    for annotation in callback.__annotations__.values():
        for extra in getattr(annotation, "__metadata__", ()):
            found.update(getattr(extra, "param_decls", None) or ())
    return found
