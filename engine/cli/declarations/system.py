"""Commands on mini itself and on objects of any kind."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import (
    COMMON,
    FORMAT_HELP,
    INSPECT_FORMAT_HELP,
    Declarations,
    String,
    Strings,
    flag,
    option,
)

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


@commands.command("completion", "SHELL", target="completion:script")
def completion(shell: Annotated[str, typer.Argument()]) -> None:
    """Generate the autocompletion script for bash, zsh or fish

    For this shell: source <(mini completion bash), the same in zsh, or mini completion fish | source

    For all that come, write it to one of these:
      /etc/bash_completion.d/mini
      _mini in a directory of zsh's $fpath
      ~/.config/fish/completions/mini.fish
    """


@commands.command("__complete", "-- [WORD...]", target="completion:complete", hidden=True)
def complete(words: Annotated[Strings, typer.Argument()] = None) -> None:
    """Print what the last word of a command line may become, one a line"""


@commands.command("inspect", "NAME|ID [NAME|ID...]", target="inspect:anything")
def inspect(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
    size: Annotated[bool, flag("-s", "--size", help="Display total file sizes if the type is container")] = False,
    type: Annotated[
        String, option("--type", help="Only inspect objects of the given type (container, image, volume, network)")
    ] = None,
) -> None:
    """Return low-level information on mini objects"""


@commands.command("system start", target="boot:start")
def system_start() -> None:
    """Start the containers whose restart policy says so, as after a reboot"""


@commands.command("system install", target="boot:install")
def system_install() -> None:
    """Write a systemd unit that runs `mini system start` when the host starts"""


Filter = Annotated[
    Strings, option("--filter", kind="filter", help='Provide filter values (e.g. "until=<timestamp>", "label=<label>")')
]
Force = Annotated[bool, flag("-f", "--force", help="Do not prompt for confirmation")]


@commands.command("system df", target="df:main")
def system_df(
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    verbose: Annotated[bool, flag("-v", "--verbose", help="Show detailed information on space usage")] = False,
) -> None:
    """Show disk usage, true to du: allocated blocks, shared layers once"""


@commands.command("system prune", target="prune:system")
def system_prune(
    all: Annotated[bool, flag("-a", "--all", help="Remove all unused images not just dangling ones")] = False,
    filter: Filter = None,
    force: Force = False,
    volumes: Annotated[bool, flag("--volumes", help="Prune anonymous volumes")] = False,
) -> None:
    """Remove unused data, and what killed commands left"""


@commands.command("container prune", target="prune:containers")
def container_prune(filter: Filter = None, force: Force = False) -> None:
    """Remove all stopped containers"""


@commands.command("volume prune", target="prune:volumes")
def volume_prune(
    all: Annotated[bool, flag("-a", "--all", help="Remove all unused volumes, not just anonymous ones")] = False,
    filter: Filter = None,
    force: Force = False,
) -> None:
    """Remove unused local volumes"""


@commands.command("image prune", target="prune:images")
def image_prune(
    all: Annotated[bool, flag("-a", "--all", help="Remove all unused images, not just dangling ones")] = False,
    filter: Filter = None,
    force: Force = False,
    keep_storage: Annotated[
        String,
        option("--keep-storage", kind="bytes", help="Longest unused first, until all images take no more than this"),
    ] = None,
    unused_for: Annotated[
        String, option("--unused-for", kind="duration", help='Only images not used for so long ("720h")')
    ] = None,
) -> None:
    """Remove unused images"""


@commands.command("fsck", aliases=("system fsck",))
def fsck(
    quiet: Annotated[bool, flag("-q", "--quiet", help="Say what is damaged, and nothing else")] = False,
    repair: Annotated[
        bool, flag("--repair", help="Quarantine what is damaged, make again what can be, remove rubbish")
    ] = False,
) -> None:
    """Check that images, containers and volumes are whole

    Every layer is hashed, every index made again and compared, every reference followed both ways.
    Nothing is changed without --repair. Exit code 1: something is damaged.
    """
