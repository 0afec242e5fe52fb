"""Commands on images."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import COMMON, FORMAT_HELP, INSPECT_FORMAT_HELP, Declarations, String, Strings, flag, option

commands = Declarations()


@commands.command("pull", "NAME[:TAG|@DIGEST]", panel=COMMON, aliases=("image pull",))
def pull(
    name: Annotated[str, typer.Argument()],
    all_tags: Annotated[bool, flag("-a", "--all-tags", help="Download all tagged images in the repository")] = False,
    platform: Annotated[
        String, option("--platform", help="Platform of the image, where it has several (os[/arch[/variant]])")
    ] = None,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Suppress verbose output")] = False,
) -> None:
    """Download an image from a registry"""


@commands.command("images", "[REPOSITORY[:TAG]]", panel=COMMON, aliases=("image ls", "image list"))
def images(
    repository: Annotated[String, typer.Argument()] = None,
    all: Annotated[bool, flag("-a", "--all", help="Show all images (mini has no hidden ones)")] = False,
    digests: Annotated[bool, flag("--digests", help="Show digests")] = False,
    filter: Annotated[
        Strings, option("-f", "--filter", kind="filter", help="Filter output based on conditions provided")
    ] = None,
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Don't truncate output")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only show image IDs")] = False,
) -> None:
    """List images"""


@commands.command("rmi", "IMAGE [IMAGE...]", aliases=("image rm", "image remove"))
def rmi(
    image: Annotated[list[str], typer.Argument()],
    force: Annotated[bool, flag("-f", "--force", help="Force removal of the image")] = False,
    no_prune: Annotated[bool, flag("--no-prune", help="Do not delete untagged parents (mini has none)")] = False,
) -> None:
    """Remove one or more images"""


@commands.command("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", aliases=("image tag",))
def tag(source: Annotated[str, typer.Argument()], target: Annotated[str, typer.Argument()]) -> None:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"""


@commands.command("image inspect", "IMAGE [IMAGE...]", target="inspect:images")
def inspect_image(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
) -> None:
    """Display detailed information on one or more images"""
