"""Commands that carry images and root file systems in and out as archives."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import FORMAT_HELP, Declarations, String, Strings, flag, option

commands = Declarations()
_PLATFORM_HELP = "Platform of the image, where it has several (os[/arch[/variant]])"


@commands.command("save", "IMAGE [IMAGE...]", aliases=("image save",))
def save(
    image: Annotated[list[str], typer.Argument()],
    output: Annotated[String, option("-o", "--output", help="Write to a file, instead of STDOUT")] = None,
) -> None:
    """Save one or more images to a tar archive (streamed to STDOUT by default)"""


@commands.command("load", aliases=("image load",))
def load(
    input: Annotated[
        String, option("-i", "--input", help="Read from a tar archive or a directory, instead of STDIN")
    ] = None,
    platform: Annotated[String, option("--platform", help=_PLATFORM_HELP)] = None,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Suppress the load output")] = False,
) -> None:
    """Load images from a tar archive or STDIN"""


@commands.command("import", "file|URL|- [REPOSITORY[:TAG]]", aliases=("image import",), target="import_image:main")
def import_image(
    source: Annotated[str, typer.Argument()],
    reference: Annotated[String, typer.Argument()] = None,
    changes: Annotated[
        Strings, option("-c", "--change", kind="list", help="Apply Dockerfile instruction to the created image")
    ] = None,
    message: Annotated[String, option("-m", "--message", help="Set commit message for imported image")] = None,
    platform: Annotated[String, option("--platform", help="Set platform of the image (os[/arch[/variant]])")] = None,
) -> None:
    """Import the contents from a tarball to create a filesystem image"""


@commands.command("export", "CONTAINER", aliases=("container export",))
def export(
    container: Annotated[str, typer.Argument()],
    output: Annotated[String, option("-o", "--output", help="Write to a file, instead of STDOUT")] = None,
) -> None:
    """Export a container's filesystem as a tar archive"""


@commands.command("history", "IMAGE", aliases=("image history",))
def history(
    image: Annotated[str, typer.Argument()],
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    human: Annotated[
        bool, flag("-H", "--human", help="Print sizes and dates in human readable format (default true)")
    ] = True,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Don't truncate output")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only show image IDs")] = False,
) -> None:
    """Show the history of an image"""
