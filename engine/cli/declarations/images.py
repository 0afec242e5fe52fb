"""Commands on images."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declarations.containers import FORMAT_HELP, INSPECT_FORMAT_HELP, String
from engine.cli.declare import command, flag, option


def declare(apps: dict[str, typer.Typer]) -> None:
    common = "Common Commands"

    @command("pull", apps, "NAME[:TAG|@DIGEST]", panel=common, aliases=("image pull",))
    def pull(
        name: Annotated[str, typer.Argument()],
        platform: Annotated[
            String, option("--platform", help="Platform of the image, where it has several (os[/arch[/variant]])")
        ] = None,
        quiet: Annotated[bool, flag("-q", "--quiet", help="Suppress verbose output")] = False,
    ) -> None:
        """Download an image from a registry"""

    @command("images", apps, "[REPOSITORY[:TAG]]", panel=common, aliases=("image ls", "image list"))
    def images(
        repository: Annotated[String, typer.Argument()] = None,
        all: Annotated[bool, flag("-a", "--all", help="Show all images (mini has no hidden ones)")] = False,
        digests: Annotated[bool, flag("--digests", help="Show digests")] = False,
        format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
        no_trunc: Annotated[bool, flag("--no-trunc", help="Don't truncate output")] = False,
        quiet: Annotated[bool, flag("-q", "--quiet", help="Only show image IDs")] = False,
    ) -> None:
        """List images"""

    @command("rmi", apps, "IMAGE [IMAGE...]", aliases=("image rm", "image remove"))
    def rmi(
        image: Annotated[list[str], typer.Argument()],
        force: Annotated[bool, flag("-f", "--force", help="Force removal of the image")] = False,
    ) -> None:
        """Remove one or more images"""

    @command("tag", apps, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", aliases=("image tag",))
    def tag(source: Annotated[str, typer.Argument()], target: Annotated[str, typer.Argument()]) -> None:
        """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"""

    @command("image inspect", apps, "IMAGE [IMAGE...]", target="inspect:images")
    def inspect_image(
        names: Annotated[list[str], typer.Argument()],
        format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
    ) -> None:
        """Display detailed information on one or more images"""
