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


@commands.command("network create", "NETWORK", target="network:create")
def network_create(
    name: Annotated[str, typer.Argument()],
    attachable: Annotated[bool, flag("--attachable", help="Accepted: every container may be attached")] = False,
    aux_addresses: Annotated[
        Strings, option("--aux-address", kind="map", help="Addresses that no container gets (NAME=IP)")
    ] = None,
    driver: Annotated[
        str, option("-d", "--driver", help='Driver to manage the network (default "bridge", the only one)')
    ] = "bridge",
    gateways: Annotated[Strings, option("--gateway", kind="list", help="IPv4 or IPv6 gateway of a subnet")] = None,
    internal: Annotated[bool, flag("--internal", help="Restrict external access to the network")] = False,
    ip_ranges: Annotated[
        Strings, option("--ip-range", kind="list", help="Allocate container ip from a sub-range")
    ] = None,
    ipam_driver: Annotated[
        str, option("--ipam-driver", help='IP Address Management driver (default "default", the only one)')
    ] = "default",
    ipam_options: Annotated[Strings, option("--ipam-opt", kind="map", help="Set IPAM driver specific options")] = None,
    ipv6: Annotated[bool, flag("--ipv6", help="Enable IPv6 networking")] = False,
    labels: Annotated[Strings, option("--label", kind="list", help="Set metadata on a network")] = None,
    options: Annotated[
        Strings, option("-o", "--opt", kind="map", help="Set driver specific options (com.docker.network.…)")
    ] = None,
    subnets: Annotated[
        Strings, option("--subnet", kind="list", help="Subnet in CIDR format that represents a network segment")
    ] = None,
) -> None:
    """Create a network"""


@commands.command("network connect", "NETWORK CONTAINER", target="network:connect")
def network_connect(
    network: Annotated[str, typer.Argument()],
    container: Annotated[str, typer.Argument()],
    aliases: Annotated[
        Strings, option("--alias", kind="list", help="Add network-scoped alias for the container")
    ] = None,
    driver_options: Annotated[
        Strings, option("--driver-opt", kind="list", help="Driver options for the network")
    ] = None,
    gateway_priority: Annotated[
        str, option("--gw-priority", kind="int", help="Highest gw-priority provides the default gateway")
    ] = "0",
    ip: Annotated[String, option("--ip", help="IPv4 address (e.g., 172.30.100.104)")] = None,
    ip6: Annotated[String, option("--ip6", help="IPv6 address (e.g., 2001:db8::33)")] = None,
    links: Annotated[Strings, option("--link", kind="list", help="Add a name for another container")] = None,
) -> None:
    """Connect a container to a network"""


@commands.command("network disconnect", "NETWORK CONTAINER", target="network:disconnect")
def network_disconnect(
    network: Annotated[str, typer.Argument()],
    container: Annotated[str, typer.Argument()],
    force: Annotated[bool, flag("-f", "--force", help="Force the container to disconnect from a network")] = False,
) -> None:
    """Disconnect a container from a network"""


@commands.command("network inspect", "NETWORK [NETWORK...]", target="inspect:networks")
def network_inspect(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
    verbose: Annotated[bool, flag("-v", "--verbose", help="Accepted: there is no more to be shown")] = False,
) -> None:
    """Display detailed information on one or more networks"""


@commands.command("network ls", aliases=("network list",), target="network:list_")
def network_ls(
    filter: Annotated[
        Strings, option("-f", "--filter", kind="filter", help='Provide filter values (e.g. "driver=bridge")')
    ] = None,
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not truncate the output")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only display network IDs")] = False,
) -> None:
    """List networks"""


@commands.command("network rm", "NETWORK [NETWORK...]", aliases=("network remove",), target="network:remove")
def network_rm(
    network: Annotated[list[str], typer.Argument()],
    force: Annotated[bool, flag("-f", "--force", help="No error for a network that does not exist")] = False,
) -> None:
    """Remove one or more networks"""


@commands.command("network prune", target="prune:networks")
def network_prune(
    filter: Annotated[
        Strings, option("--filter", kind="filter", help='Provide filter values (e.g. "until=<timestamp>")')
    ] = None,
    force: Annotated[bool, flag("-f", "--force", help="Do not prompt for confirmation")] = False,
) -> None:
    """Remove all unused networks"""


@commands.command("network reload", target="network:reload")
def network_reload() -> None:
    """Put back bridges, cables and packet filter rules that somebody took away

    Names what was mended. It happens by itself before a container starts.
    """
