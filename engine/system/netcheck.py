"""Networks in `fsck`: records, and what is in their directories of containers that are not on them.

A command that was killed leaves a directory without a record, which nobody sees; or in a container that runs an interface
that no endpoint tells of. A record is there before its bridge and goes after it, so that no bridge is without one.
"""

from __future__ import annotations

import _socket
import os
import time

from engine import files
from engine.containers import publishing
from engine.containers.records import Record, process_start
from engine.errors import MiniError, StoreError
from engine.runtime.network import attach as link
from engine.runtime.network import endpoints, ipam
from engine.runtime.network.model import valid_name
from engine.storage.findings import DAMAGED, RUBBISH, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.context import Context
    from engine.paths import Paths


def check(paths: Paths) -> list[Finding]:
    """The records."""
    found = []
    for name in files.names_in(paths.networks):
        state = record_state(paths, name)
        if state == "missing":
            found.append(Finding(RUBBISH, f"network {name}", "half-made or half-removed", "remove_network", name))
        elif state == "damaged":
            found.append(Finding(DAMAGED, f"network {name}", "its record is damaged", "quarantine_network", name))
        for path in half_written(paths, name):
            what = f"file {os.path.basename(path)} of network {name}"
            found.append(Finding(RUBBISH, what, "half-written", "remove_half_written", path))
    return found


def half_written(paths: Paths, name: str) -> list[str]:
    """What was to replace another file (`files.write_atomic`: .NAME.PID.tmp), and whoever wrote it is gone."""
    found = []
    for directory in (paths.network(name), paths.endpoints(name)):
        for entry in files.names_in(directory):
            pid = entry.removesuffix(".tmp").rpartition(".")[2]
            path = f"{directory}/{entry}"
            is_ours = entry.startswith(".") and entry.endswith(".tmp") and pid.isdigit()
            if is_ours and not _is_written_by(path, int(pid)):
                found.append(path)
    return found


def _is_written_by(path: str, pid: int) -> bool:
    """Whether `pid` lives and is older than the file: else its number is a zombie's, or another process has it now."""
    start = process_start(pid) / os.sysconf("SC_CLK_TCK")
    try:
        written = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return True
    return start > 0 and time.clock_gettime(time.CLOCK_BOOTTIME) - start > written - 1


def record_state(paths: Paths, name: str) -> str:
    """whole, missing or damaged."""
    try:
        record = files.read_json(f"{paths.network(name)}/network.json")
    except FileNotFoundError:
        return "missing"
    except StoreError:
        return "damaged"
    keys = {"name", "id", "driver", "created"}
    return "whole" if isinstance(record, dict) and keys <= record.keys() and valid_name(name) else "damaged"


def owners(paths: Paths) -> tuple[set[str], set[str]]:
    """IDs of containers with an address, and of those with an endpoint, on any network."""
    leases: set[str] = set()
    ends: set[str] = set()
    for name in files.names_in(paths.networks):
        leases.update(ipam.leases(paths.leases(name)).values())
        ends.update(n for n in files.names_in(paths.endpoints(name)) if not n.startswith("."))
    return leases, ends


def published(ctx: Context) -> set[str]:
    """IDs of the containers, at a bridge of ours, that the packet filter has ports of."""
    names = [name for name in files.names_in(ctx.paths.networks) if record_state(ctx.paths, name) == "whole"]
    bridges = {files.read_json(f"{ctx.paths.network(name)}/network.json").get("bridge") for name in names} | {
        ctx.bridge
    }
    try:
        return publishing.owners(bridges)
    except MiniError:  # no nf_tables
        return set()


def interfaces() -> set[str]:
    return {name for _, name in _socket.if_nameindex()}


def unknown_interfaces(paths: Paths, container_id: str, names: set[str]) -> list[str]:
    """Of a container that runs: what it has at a bridge, and no endpoint tells of. While it starts, they come one by one."""
    if Record(paths, container_id).load_state()["Status"] != "running":
        return []
    known = {
        endpoint["host_ifname"]
        for name in files.names_in(paths.networks)
        if (endpoint := endpoints.read(paths.endpoints(name), container_id))
    }
    return sorted(set(link.host_ends(container_id, names)) - known)


def forget(paths: Paths, container_id: str) -> None:
    """Whatever any network has of a container that is no more."""
    for host_end in link.host_ends(container_id):
        link.detach(host_end)
    for name in files.names_in(paths.networks):
        endpoints.remove(paths.endpoints(name), container_id)
        ipam.release(paths.leases(name), container_id)


def detach_unknown(paths: Paths, container_id: str) -> None:
    with Record(paths, container_id).lock(wait=False):
        for name in unknown_interfaces(paths, container_id, interfaces()):
            link.detach(name)
