"""Commands on registries: what is in them, what goes to them, and one of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import COMMON, FORMAT_HELP, Declarations, String, Strings, flag, option

commands = Declarations()


@commands.command("push", "NAME[:TAG]", panel=COMMON, aliases=("image push",))
def push(
    name: Annotated[str, typer.Argument()],
    all_tags: Annotated[bool, flag("-a", "--all-tags", help="Push all tags of an image to the repository")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Suppress verbose output")] = False,
) -> None:
    """Upload an image to a registry"""


@commands.command("login", "[SERVER]", panel=COMMON, target="login:login")
def login(
    server: Annotated[String, typer.Argument()] = None,
    username: Annotated[String, option("-u", "--username", help="Username")] = None,
    password: Annotated[String, option("-p", "--password", help="Password or Personal Access Token (PAT)")] = None,
    password_stdin: Annotated[
        bool, flag("--password-stdin", help="Take the Password or Personal Access Token (PAT) from stdin")
    ] = False,
) -> None:
    """Authenticate to a registry

    Defaults to Docker Hub if no server is specified.
    """


@commands.command("logout", "[SERVER]", panel=COMMON, target="login:logout")
def logout(server: Annotated[String, typer.Argument()] = None) -> None:
    """Log out from a registry

    If no server is specified, the default is Docker Hub.
    """


@commands.command("search", "TERM", panel=COMMON)
def search(
    term: Annotated[str, typer.Argument()],
    filter: Annotated[
        Strings, option("-f", "--filter", kind="filter", help="Filter output: is-official=true, stars=NUMBER")
    ] = None,
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    limit: Annotated[str, option("--limit", kind="int", help="Max number of search results (default 25)")] = "25",
    no_trunc: Annotated[bool, flag("--no-trunc", help="Don't truncate output")] = False,
) -> None:
    """Search Docker Hub for images, or the registry HOST with HOST/TERM"""


@commands.command("manifest inspect", "MANIFEST", target="manifest:inspect")
def manifest_inspect(
    name: Annotated[str, typer.Argument()],
    verbose: Annotated[
        bool, flag("-v", "--verbose", help="Output additional info including layers and platform")
    ] = False,
) -> None:
    """Display an image manifest, or manifest list"""


@commands.command("registry serve", target="registry:serve")
def registry_serve(
    root: Annotated[
        String, option("--root", help="Directory of what is served (default: registry/ of the data root)")
    ] = None,
    host: Annotated[str, option("--host", help="Address to listen on (default 127.0.0.1)")] = "127.0.0.1",
    port: Annotated[str, option("--port", kind="int", help="Port to listen on, 0 for any (default 5000)")] = "5000",
    verbose: Annotated[bool, flag("-v", "--verbose", help="Print a line for each request")] = False,
) -> None:
    """Serve images to docker, podman, skopeo and other machines' mini

    Speaks the registry API without authentication and without TLS. Ends at ctrl-c.
    """
