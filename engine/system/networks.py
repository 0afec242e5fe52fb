"""Networks of the user's: made, removed, pruned, and put back where somebody took their bridges and rules away.

Whoever adds or removes a network holds the lock `networks` exclusively, who joins one holds it shared until it has an address
there. A network is a record first and a bridge then; it is no bridge first and no record then: so one that is there can always
be made whole again (`bridge.ensure`), and what a killed command leaves is a directory without a record.
"""

from __future__ import annotations

import os

from engine import events, files, times
from engine.containers import publishing, records
from engine.containers.netoptions import PREDEFINED
from engine.containers.views import refresh
from engine.errors import Conflict, MiniError, NotFound, UsageError
from engine.runtime.network import bridge, endpoints, ipam, netlink
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.model import (
    BRIDGE_OPTION,
    DEFAULT_MTU,
    DRIVERS,
    MTU_OPTION,
    Network,
    Networks,
    valid_name,
)
from engine.system import netrequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.context import Context
    from engine.system.netrequest import Request

# Docker's: the first is often its own bridge's
_POOLS = [f"172.{n}.0.0/16" for n in range(17, 32)] + [f"192.168.{n}.0/20" for n in range(0, 256, 16)]


def all_of(ctx: Context) -> Networks:
    return Networks(ctx.paths, ctx.bridge, ctx.subnet)


def _lock(ctx: Context) -> files.FileLock:
    return files.FileLock(ctx.paths.lock("networks"))


def create(ctx: Context, request: Request) -> Network:
    """Makes a network and its bridge. UsageError, Conflict and Unsupported in Docker's words."""
    netrequest.check(request)
    if request.name in PREDEFINED:
        raise Conflict(f"operation is not permitted on predefined {request.name} network")
    if not valid_name(request.name):
        raise UsageError(f"invalid network name {request.name!r}", "only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed")
    with _lock(ctx):
        networks = all_of(ctx)
        others = networks.list_()
        if any(other.name == request.name for other in others):
            raise Conflict(f"network with name {request.name} already exists")
        network = _network(request, others)
        networks.add(network)
        try:
            bridge.ensure(network, ctx.paths.lock(f"network-{network.bridge}"), ctx.log)
        except BaseException:
            networks.remove(network)
            raise
    _tell(ctx, network, "create")
    return network


def _tell(ctx: Context, network: Network, action: str) -> None:
    events.emit(ctx.paths, "network", action, network.id, {"name": network.name, "type": network.driver})


def _network(request: Request, others: list[Network]) -> Network:
    """The network asked for, with subnets that nobody has. Conflict where there is none."""
    chosen = [n for n in others if n.driver == "bridge"]
    pool4, pool6 = request.pool(4), request.pool(6)
    id = os.urandom(32).hex()
    name = request.options.get(f"{BRIDGE_OPTION}.name") or f"br-{id[:12]}"
    bridge.check_ifname(name)
    if pool4.subnet:
        _check_overlap(id, name, pool4.subnet, chosen)
    else:
        pool4.subnet = _free_subnet(_POOLS, chosen)
    ipv6 = None
    if request.ipv6:
        if pool6.subnet:
            _check_overlap(id, name, pool6.subnet, chosen)
        else:
            pool6.subnet = _free_subnet(_local_subnets(others), chosen)
        ipv6 = {
            "subnet": pool6.subnet, "gateway": pool6.gateway_address(), "ip_range": pool6.ip_range, "aux": pool6.aux
        }  # fmt: skip
    for other in chosen:
        if other.bridge == name:
            raise Conflict(_conflict(id, name, other, "have same bridge name"))
    return Network(
        request.name, id, "bridge", times.timestamp(), name, str(Subnet(pool4.subnet)), pool4.gateway_address(),
        int(request.options.get(MTU_OPTION) or DEFAULT_MTU), request.internal, request.labels, request.options,
        pool4.ip_range, pool4.aux, ipv6, request.ipam(), request.ipam_options, request.attachable,
    )  # fmt: skip


def _conflict(id: str, name: str, other: Network, why: str) -> str:
    return f"cannot create network {id} ({name}): conflicts with network {other.id} ({other.bridge}): networks {why}"


def _subnets(network: Network) -> list[Subnet]:
    return [Subnet(network.subnet), *([Subnet(network.ipv6["subnet"])] if network.ipv6 else [])]


def _check_overlap(id: str, name: str, subnet: str, others: list[Network]) -> None:
    wanted = Subnet(subnet)
    for other in others:
        if any(wanted.overlaps(taken) for taken in _subnets(other)):
            raise Conflict(
                "Pool overlaps with other one on this address space", f"network {other.name} has {other.subnet}"
            )


def _free_subnet(candidates: Iterable[str], others: list[Network]) -> str:
    """The first that overlaps neither a network's nor what the host reaches elsewhere."""
    from engine.runtime.network import setup

    taken = [subnet for other in others for subnet in _subnets(other)]
    for text in candidates:
        subnet = Subnet(text)
        if any(subnet.overlaps(other) for other in taken):
            continue
        try:
            setup.check_free("", [subnet])
        except Conflict:
            continue
        return text
    raise Conflict(
        "could not find an available, non-overlapping address pool among the defaults to assign to the network",
        "choose one with --subnet, or remove networks that nothing uses: mini network prune",
    )


def _local_subnets(others: list[Network]) -> Iterator[str]:
    """Unique local ones (RFC 4193): fd, 40 random bits, which are those of this store's default network's ID, and a number."""
    (default,) = (n for n in others if n.name == "bridge")
    digits = default.id[:10]
    prefix = f"fd{digits[:2]}:{digits[2:6]}:{digits[6:]}"
    return (str(Subnet(f"{prefix}:{number:x}::/64")) for number in range(1, 1 << 16))


# --- remove and prune ----------------------------------------------------------------------------------------------


def remove(ctx: Context, name: str) -> None:
    """Removes a network that no running container is on. Conflict, NotFound in Docker's words."""
    with _lock(ctx):
        networks = all_of(ctx)
        network = networks.get(name)
        if network.name in DRIVERS:
            raise Conflict(f"{network.name} is a pre-defined network and cannot be removed")
        if users(ctx, network):
            raise Conflict(f"error while removing network: network {network.name} id {network.id} has active endpoints")
        bridge.remove(network, ctx.log)
        networks.remove(network)
    _tell(ctx, network, "destroy")


def users(ctx: Context, network: Network) -> list[str]:
    """IDs of the containers that are on the network now, or about to be."""
    paths = ctx.paths
    holders = {*endpoints.read_all(paths.endpoints(network.name)), *ipam.leases(paths.leases(network.name)).values()}
    return [container_id for container_id in sorted(holders) if is_active(ctx, container_id)]


def is_active(ctx: Context, container_id: str) -> bool:
    """Whether it runs, or is just being started; one that was killed is put right."""
    record = records.Record(ctx.paths, container_id)
    try:
        return bool(refresh(ctx, record)["Running"]) or records.is_alive(record.load_state(), "MonitorPid")
    except MiniError:
        return False


def prune(ctx: Context, match: Callable[[dict[str, str], float], bool]) -> list[str]:
    """Removes the networks that no running container is on, and `match(labels, created)` lets go; their names."""
    removed = []
    for network in all_of(ctx).list_():
        if network.name in DRIVERS or not match(network.labels, times.seconds_of(network.created)):
            continue
        try:
            remove(ctx, network.name)
        except (Conflict, NotFound):
            # in use, or removed meanwhile
            continue
        removed.append(network.name)
    events.emit(ctx.paths, "network", "prune", "", {"reclaimed": "0"})
    return removed


# --- reload --------------------------------------------------------------------------------------------------------


def reload(ctx: Context) -> list[str]:
    """Makes bridges, rules and cables of every network whole that is in use, or that the user made. What was mended."""
    mended = []
    for network in all_of(ctx).list_():
        if network.driver != "bridge" or not (network.name not in DRIVERS or users(ctx, network)):
            continue
        if not bridge.ready(network):
            bridge.ensure(network, ctx.paths.lock(f"network-{network.bridge}"), ctx.log)
            mended.append(network.name)
        _plug_again(ctx, network)
    if publishing.put_back(ctx):
        mended.append("published ports")
    return mended


def _plug_again(ctx: Context, network: Network) -> None:
    """A bridge that was deleted has left its ports behind."""
    with netlink.Netlink() as route:
        index = netlink.link_index(route, network.bridge)
        for endpoint in endpoints.read_all(ctx.paths.endpoints(network.name)).values():
            port = endpoint["host_ifname"]
            if netlink.link_master(route, port) == 0:
                changes = [netlink.set_master(port, index, network.bridge)]
                if not network.allows("enable_icc"):
                    changes.append(netlink.isolate_port(port))
                route.apply(changes, ctx.log)
