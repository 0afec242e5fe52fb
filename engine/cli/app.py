"""The Typer application: every command, option and help text of mini is declared from here, and nowhere else.

It is a complete command line by itself. `mini` enters it for help only; whatever runs is parsed by
`engine.cli.parse` from `engine.cli.table`, which `python -m engine.cli.derive` writes from this application, because importing
Typer takes longer than starting a container.
"""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declarations import archives, changes, containers, images, lives, objects, registries, system
from engine.cli.declare import HELP_SHORTHAND, Group, flag, option


def _make(help: str) -> typer.Typer:
    return typer.Typer(
        cls=Group,
        help=help,
        context_settings=HELP_SHORTHAND,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )


app = typer.Typer(
    cls=Group,
    help="A daemonless container engine: pull images, run them in containers",
    rich_markup_mode=None,
    context_settings=HELP_SHORTHAND,
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)
_GROUPS = {
    "container": "Manage containers",
    "image": "Manage images",
    "manifest": "Look at images in registries",
    "network": "Manage networks",
    "registry": "Be a registry",
    "system": "Manage mini",
    "volume": "Manage volumes",
}


@app.callback()
def root(
    context: typer.Context,
    root: Annotated[
        str | None, option("--root", help="Data root (default: MINI_ROOT, var/ of a checkout, or /var/lib/mini)")
    ] = None,
    storage_driver: Annotated[
        str | None,
        option("--storage-driver", help="Storage driver: erofs or directory (default: the best the kernel has)"),
    ] = None,
    debug: Annotated[bool, flag("-D", "--debug", help="Show what is done, and tracebacks of errors")] = False,
    version: Annotated[bool, flag("-v", "--version", help="Print version information and quit")] = False,
) -> None:
    from engine.cli import execute

    context.obj = {"root": root, "storage_driver": storage_driver, "debug": debug}
    if version:
        raise typer.Exit(execute.command("version", "version:short", context.obj, {}))
    if context.invoked_subcommand is None:
        print(context.get_help())


def _assemble() -> None:
    apps = {"": app, **{name: _make(text) for name, text in _GROUPS.items()}}
    for declarations in (containers, lives, changes, images, registries, archives, system, objects):
        declarations.commands.register(apps)
    for name in _GROUPS:
        app.add_typer(apps[name], name=name, rich_help_panel="Management Commands")


_assemble()
