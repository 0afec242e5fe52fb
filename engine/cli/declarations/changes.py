"""Commands on the files of a container, as Docker has them."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import Declarations, String, Strings, flag, option

commands = Declarations()


@commands.command("cp", "CONTAINER:SRC_PATH DEST_PATH|-", aliases=("container cp",))
def cp(
    source: Annotated[str, typer.Argument()],
    destination: Annotated[str, typer.Argument()],
    archive: Annotated[bool, flag("-a", "--archive", help="Archive mode (copy all uid/gid information)")] = False,
    follow_link: Annotated[bool, flag("-L", "--follow-link", help="Always follow symbol link in SRC_PATH")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Suppress what is told on a terminal about the copy")] = False,
) -> None:
    """Copy files/folders between a container and the local filesystem

    The other way: SRC_PATH|- CONTAINER:DEST_PATH. Use '-' as the source to read a tar archive from stdin and extract it to a
    directory in a container, as the destination to write a tar archive to stdout. A CONTAINER:PATH may also be
    volume:NAME/PATH, of a volume.
    """


@commands.command("diff", "CONTAINER", aliases=("container diff",), target="changes:diff")
def diff(container: Annotated[str, typer.Argument()]) -> None:
    """Inspect changes to files or directories on a container's filesystem"""


@commands.command("commit", "CONTAINER [REPOSITORY[:TAG]]", aliases=("container commit",), target="changes:commit")
def commit(
    container: Annotated[str, typer.Argument()],
    reference: Annotated[String, typer.Argument()] = None,
    author: Annotated[
        str, option("-a", "--author", help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")')
    ] = "",
    change: Annotated[
        Strings, option("-c", "--change", kind="list", help="Apply Dockerfile instruction to the created image")
    ] = None,
    message: Annotated[str, option("-m", "--message", help="Commit message")] = "",
    pause: Annotated[bool, flag("-p", "--pause", help="Pause container during commit (default true)")] = True,
) -> None:
    """Create a new image from a container's changes"""
