"""What is on a network now: `networks/NAME/endpoints/CONTAINER_ID`, one JSON file an endpoint.

    an Endpoint's fields, and
    Name, Aliases     by which other containers of the network find it: the container's name; its short ID, --network-alias …

Written when the container's interface is up, removed when it ends, replaced as a whole. `network inspect`, the DNS server and
`network rm` read them. A file of a container that was killed with its monitor stays until the next who looks at that
container (`views.refresh`), or fsck, finds that it does not run.
"""

from __future__ import annotations

from engine import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write(directory: str, owner: str, endpoint: dict[str, Any]) -> None:
    """Not flushed to the disk: after a power loss no container is on a network."""
    files.make_dirs(directory)
    files.write_json(f"{directory}/{owner}", endpoint, sync=False)


def read(directory: str, owner: str) -> dict[str, Any] | None:
    """None for a container that is not on the network."""
    try:
        found: dict[str, Any] = files.read_json(f"{directory}/{owner}")
    except FileNotFoundError:
        return None
    return found


def read_all(directory: str) -> dict[str, dict[str, Any]]:
    """Every endpoint by its owner's ID."""
    found = {}
    for owner in files.names_in(directory):
        if not owner.startswith(".") and (endpoint := read(directory, owner)):
            found[owner] = endpoint
    return found


def remove(directory: str, owner: str) -> None:
    """Idempotent."""
    files.remove_file(f"{directory}/{owner}")
