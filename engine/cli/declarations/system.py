"""Commands on mini itself and on objects of any kind."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import COMMON, INSPECT_FORMAT_HELP, Declarations, String, option

commands = Declarations()


@commands.command("version", panel=COMMON)
def version(format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None) -> None:
    """Show the mini version information"""


@commands.command("info", panel=COMMON, aliases=("system info",))
def info(format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None) -> None:
    """Display system-wide information"""


@commands.command("demo", panel=COMMON)
def demo() -> None:
    """Show the main job for real, with no network needed"""


@commands.command("inspect", "NAME|ID [NAME|ID...]", target="inspect:anything")
def inspect(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
    type: Annotated[
        String, option("--type", help="Only inspect objects of the given type (container, image, volume, network)")
    ] = None,
) -> None:
    """Return low-level information on mini objects"""
