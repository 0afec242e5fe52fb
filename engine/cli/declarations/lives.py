"""Commands on containers that live: attach, pause, restart, watch, change."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import FORMAT_HELP, INSPECT_FORMAT_HELP, Declarations, String, Strings, flag, option

commands = Declarations()
MANY = "CONTAINER [CONTAINER...]"
Containers = Annotated[list[str], typer.Argument()]
Container = Annotated[str, typer.Argument()]


@commands.command("attach", "CONTAINER", aliases=("container attach",))
def attach(
    container: Container,
    detach_keys: Annotated[
        String, option("--detach-keys", help="Override the key sequence for detaching a container")
    ] = None,
    no_stdin: Annotated[bool, flag("--no-stdin", help="Do not attach STDIN")] = False,
    sig_proxy: Annotated[
        bool, flag("--sig-proxy", help="Proxy all received signals to the process (default true)")
    ] = True,
) -> None:
    """Attach local standard input, output, and error streams to a running container"""


@commands.command("pause", MANY, aliases=("container pause",), target="lifecycle:pause")
def pause(container: Containers) -> None:
    """Pause all processes within one or more containers"""


@commands.command("unpause", MANY, aliases=("container unpause",), target="lifecycle:unpause")
def unpause(container: Containers) -> None:
    """Unpause all processes within one or more containers"""


@commands.command("restart", MANY, aliases=("container restart",), target="lifecycle:restart")
def restart(
    container: Containers,
    signal: Annotated[String, option("-s", "--signal", help="Signal to send to the container")] = None,
    timeout: Annotated[
        String, option("-t", "--timeout", "--time", kind="int", help="Seconds to wait before killing the container")
    ] = None,
) -> None:
    """Restart one or more containers"""


@commands.command("rename", "CONTAINER NEW_NAME", aliases=("container rename",))
def rename(container: Container, new_name: Annotated[str, typer.Argument()]) -> None:
    """Rename a container"""


@commands.command("top", "CONTAINER [ps OPTIONS]", interspersed=False, aliases=("container top",))
def top(container: Container, ps_options: Annotated[Strings, typer.Argument()] = None) -> None:
    """Display the running processes of a container"""


@commands.command("stats", "[CONTAINER...]", aliases=("container stats",))
def stats(
    container: Annotated[Strings, typer.Argument()] = None,
    all: Annotated[bool, flag("-a", "--all", help="Show all containers (default shows just running)")] = False,
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    no_stream: Annotated[bool, flag("--no-stream", help="Show the first result and quit")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not truncate output")] = False,
) -> None:
    """Display a live stream of container(s) resource usage statistics"""


@commands.command("port", "CONTAINER [PRIVATE_PORT[/PROTO]]", aliases=("container port",))
def port(container: Container, private_port: Annotated[String, typer.Argument()] = None) -> None:
    """List port mappings or a specific mapping for the container"""


@commands.command("update", MANY, aliases=("container update",))
def update(
    container: Containers,
    blkio_weight: Annotated[
        String,
        option("--blkio-weight", kind="int", help="Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    ] = None,
    cpu_period: Annotated[
        String, option("--cpu-period", kind="int", help="Limit CPU CFS (Completely Fair Scheduler) period")
    ] = None,
    cpu_quota: Annotated[
        String, option("--cpu-quota", kind="int", help="Limit CPU CFS (Completely Fair Scheduler) quota")
    ] = None,
    cpu_shares: Annotated[String, option("-c", "--cpu-shares", kind="int", help="CPU shares (relative weight)")] = None,
    cpus: Annotated[String, option("--cpus", kind="decimal", help="Number of CPUs")] = None,
    cpuset_cpus: Annotated[String, option("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)")] = None,
    cpuset_mems: Annotated[String, option("--cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)")] = None,
    kernel_memory: Annotated[
        String, option("--kernel-memory", kind="bytes", help="Kernel memory limit: not supported, refused")
    ] = None,
    memory: Annotated[String, option("-m", "--memory", kind="bytes", help="Memory limit")] = None,
    memory_reservation: Annotated[
        String, option("--memory-reservation", kind="bytes", help="Memory soft limit")
    ] = None,
    memory_swap: Annotated[
        String,
        option("--memory-swap", kind="bytes", help="Limit of memory plus swap: '-1' to enable unlimited swap"),
    ] = None,
    pids_limit: Annotated[
        String, option("--pids-limit", kind="int", help="Tune container pids limit (set -1 for unlimited)")
    ] = None,
    publish_add: Annotated[
        Strings, option("--publish-add", kind="list", help="Publish another port, at once where the container runs")
    ] = None,
    publish_rm: Annotated[
        Strings,
        option("--publish-rm", kind="list", help="Publish a port no more (as -p has it, or the container's port)"),
    ] = None,
    restart: Annotated[String, option("--restart", help="Restart policy to apply when a container exits")] = None,
) -> None:
    """Update configuration of one or more containers"""


@commands.command("events", aliases=("system events",))
def events(
    filter: Annotated[
        Strings, option("-f", "--filter", kind="filter", help="Filter output based on conditions provided")
    ] = None,
    format: Annotated[String, option("--format", help=INSPECT_FORMAT_HELP)] = None,
    since: Annotated[String, option("--since", help="Show all events created since timestamp")] = None,
    until: Annotated[String, option("--until", help="Stream events until this timestamp")] = None,
) -> None:
    """Get real time events"""
