"""Commands on mini itself and on objects of any kind."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declarations.containers import INSPECT_FORMAT_HELP, String
from engine.cli.declare import command, option


def declare(apps: dict[str, typer.Typer]) -> None:
    common = "Common Commands"

    @command("version", apps, panel=common)
    def version(format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None) -> None:
        """Show the mini version information"""

    @command("info", apps, panel=common, aliases=("system info",))
    def info(format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None) -> None:
        """Display system-wide information"""

    @command("demo", apps, panel=common)
    def demo() -> None:
        """Show the main job for real, with no network needed"""

    @command("inspect", apps, "NAME|ID [NAME|ID...]", target="inspect:anything")
    def inspect(
        names: Annotated[list[str], typer.Argument()],
        format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
        type: Annotated[
            String, option("--type", help="Only inspect objects of the given type (container, image, volume, network)")
        ] = None,
    ) -> None:
        """Return low-level information on mini objects"""
