"""Who is called what on the networks of a container, read from `networks/NAME/endpoints/CONTAINER_ID` while it runs.

Those files come and go with the containers, so an answer is right as long as its directory has not changed; an atomic
replacement of a file in it changes it, too.
"""

from __future__ import annotations

import os
import time

from engine.files import read_json
from engine.runtime.network import endpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A directory that changed less long ago may change once more with the same time stamp: the kernel's clock ticks every 1 to 10 ms.
_SETTLED = 100_000_000  # nanoseconds


class Names:
    """What the container `owner` may resolve: the names on its own networks, and on no other."""

    __slots__ = ("_networks", "_owner", "_seen")

    def __init__(self, networks: str, owner: str) -> None:
        """`networks` is the directory of all networks (`Paths.networks`)."""
        self._networks = networks
        self._owner = owner
        self._seen: dict[str, tuple[int, list[dict[str, Any]]]] = {}

    def addresses(self, name: str) -> tuple[list[str], list[str]] | None:
        """The IPv4 and the IPv6 addresses of everyone called `name` (or `name.NETWORK`), in lower case; None for a stranger.

        What the container itself calls somebody by `--link` goes first.
        """
        for network in self._memberships():
            own = endpoints.read(f"{self._networks}/{network}/endpoints", self._owner) or {}
            links = {alias.lower(): other.lower() for alias, other in (own.get("Links") or {}).items()}
            name = links.get(name, name)
            short = name.removesuffix(f".{network.lower()}")
            found = [entry for entry in self._endpoints(network) if {name, short} & _names(entry)]
            if found:
                return (
                    [entry["address"] for entry in found if entry.get("address")],
                    [entry["address6"] for entry in found if entry.get("address6")],
                )
        return None

    def name_of(self, address: str) -> str | None:
        """The reverse: `NAME.NETWORK`, as Docker answers."""
        for network in self._memberships():
            for entry in self._endpoints(network):
                if address in (entry.get("address"), entry.get("address6")):
                    return f"{entry['Name']}.{network}"
        return None

    def outside(self) -> bool:
        """Whether one of the networks leads outside. On internal ones alone no name of elsewhere may be asked for, and nothing
        be told to elsewhere by asking (CVE-2024-29018)."""
        return any(not read_json(f"{self._networks}/{n}/network.json").get("internal") for n in self._memberships())

    def _memberships(self) -> list[str]:
        try:
            names = sorted(os.listdir(self._networks))
        except FileNotFoundError:
            return []
        return [name for name in names if os.path.exists(f"{self._networks}/{name}/endpoints/{self._owner}")]

    def _endpoints(self, network: str) -> list[dict[str, Any]]:
        directory = f"{self._networks}/{network}/endpoints"
        try:
            changed = os.stat(directory).st_mtime_ns
            seen = self._seen.get(network)
            if seen and seen[0] == changed:
                return seen[1]
            entries = list(endpoints.read_all(directory).values())
        except FileNotFoundError:
            return []
        if time.time_ns() - changed > _SETTLED:
            self._seen[network] = (changed, entries)
        return entries


def _names(entry: dict[str, Any]) -> set[str]:
    return {name.lower() for name in (entry["Name"], *(entry.get("Aliases") or ()))}
