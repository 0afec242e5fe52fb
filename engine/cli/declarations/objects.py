"""Commands on volumes and networks."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import FORMAT_HELP, INSPECT_FORMAT_HELP, Declarations, String, Strings, flag, option

commands = Declarations()


@commands.command("volume create", "[VOLUME]", target="volume:create")
def volume_create(
    name: Annotated[String, typer.Argument()] = None,
    driver: Annotated[
        str, option("-d", "--driver", help='Specify volume driver name (default "local", the only one)')
    ] = "local",
    label: Annotated[Strings, option("--label", kind="list", help="Set metadata for a volume")] = None,
    opt: Annotated[
        Strings, option("-o", "--opt", kind="map", help="Set driver specific options: type, device, o, size")
    ] = None,
) -> None:
    """Create a volume

    type, device and o are what mount(8) takes: --opt type=tmpfs --opt device=tmpfs --opt o=size=100m, or --opt type=none
    --opt device=/srv --opt o=bind. size limits a volume where the file system has project quotas.
    """


@commands.command("volume export", "VOLUME", target="volume:export")
def volume_export(
    volume: Annotated[str, typer.Argument()],
    output: Annotated[String, option("-o", "--output", help="Write to a file, instead of STDOUT")] = None,
) -> None:
    """Write what is in a volume as a tar archive"""


@commands.command("volume import", "VOLUME FILE|-", target="volume:import_")
def volume_import(
    volume: Annotated[str, typer.Argument()],
    source: Annotated[str, typer.Argument()],
) -> None:
    """Put a tar archive into a volume that exists

    The archive may be compressed (gzip, zstd); - reads it from STDIN. What has the same name is replaced, the rest stays.
    """


@commands.command("volume inspect", "VOLUME [VOLUME...]", target="inspect:volumes")
def volume_inspect(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
) -> None:
    """Display detailed information on one or more volumes"""


@commands.command("volume ls", aliases=("volume list",), target="volume:list_")
def volume_ls(
    filter: Annotated[
        Strings, option("-f", "--filter", kind="filter", help='Provide filter values (e.g. "dangling=true")')
    ] = None,
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only display volume names")] = False,
) -> None:
    """List volumes"""


@commands.command("volume rm", "VOLUME [VOLUME...]", aliases=("volume remove",), target="volume:remove")
def volume_rm(
    volume: Annotated[list[str], typer.Argument()],
    force: Annotated[bool, flag("-f", "--force", help="No error for a volume that does not exist")] = False,
) -> None:
    """Remove one or more volumes

    You cannot remove a volume that is in use by a container.
    """


@commands.command("network inspect", "NETWORK [NETWORK...]", target="inspect:networks")
def network_inspect(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
) -> None:
    """Display detailed information on one or more networks"""


@commands.command("network ls", aliases=("network list",), target="network:list_")
def network_ls(
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not truncate the output")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only display network IDs")] = False,
) -> None:
    """List networks"""
