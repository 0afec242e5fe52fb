"""`network connect` and `disconnect`: a container's networks change, whether it runs or not.

Of one that runs, the interface is there, or gone, when the command returns; the default routes follow (networking.gateways),
and so does /etc/hosts. What a container gets in its next lives is its config.
"""

from __future__ import annotations

from engine import files
from engine.containers import netoptions, networking, records
from engine.containers.views import refresh
from engine.errors import Conflict, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context

_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_HOST = "container cannot be disconnected from host network or connected to host network"


def connect(ctx: Context, network: str, container: str, asked: dict[str, Any]) -> None:
    """`asked` is Docker's EndpointConfig. NotFound, Conflict and UsageError in Docker's words."""
    name = networking.network_of(ctx, network).name
    record = records.find(ctx.paths, container)
    with record.lock():
        state = refresh(ctx, record)
        _check(record, name, asked)
        if name in networking.endpoints(ctx, record):
            raise Conflict(f"endpoint with name {record.name} already exists in network {name}")
        networks = networking.wanted(record.config)
        before = dict(networks)
        networks[name] = _as_written(record, name, asked)
        # written first: whoever is killed meanwhile leaves a container that can be disconnected, or connected again
        record.save_config()
        if state["Status"] in ("running", "paused"):
            try:
                _plug(ctx, record, state["Pid"], name, networks[name])
            except BaseException:
                record.config["NetworkSettings"]["Networks"] = before
                record.save_config()
                raise


def _check(record: Record, name: str, asked: dict[str, Any]) -> None:
    mode = record.config["HostConfig"]["NetworkMode"]
    if mode == "host" or mode.startswith(netoptions.CONTAINER):
        raise Conflict(_SHARED)
    if name == "host":
        raise Conflict(_HOST)
    if name == "none" or "none" in networking.wanted(record.config):
        raise Conflict(_NONE)
    if name == "bridge" and asked["Aliases"]:
        raise UsageError("network-scoped alias is supported only for containers in user defined networks")
    netoptions.check_addresses(asked)
    if name == "bridge" and asked["IPAMConfig"]:
        raise UsageError("user specified IP address is supported on user defined networks only")


def _as_written(record: Record, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """As Docker writes it down: nothing is null, and what the container is called anyway is an alias, too."""
    aliases = networking.aliases(record, asked) if netoptions.is_user_defined(name) else []
    return asked | {
        "IPAMConfig": asked["IPAMConfig"] or {},
        "DriverOpts": asked["DriverOpts"] or {},
        "Aliases": aliases,
    }


def _plug(ctx: Context, record: Record, pid: int, name: str, asked: dict[str, Any]) -> None:
    joined = networking.join(ctx, record.id, name, asked, again=True)
    try:
        networking.plug(ctx, record, joined, pid, _free_ifname(ctx, record))
    except BaseException:
        networking.leave(ctx, record, name)
        raise
    _hosts(record, lambda lines: [*lines, *_own_lines(record, joined.addresses)])
    _lead(ctx, record, pid)


def _free_ifname(ctx: Context, record: Record) -> str:
    """The number after the highest, as Docker's."""
    numbers = [int(e["ifname"].removeprefix("eth")) for e in networking.endpoints(ctx, record).values() if e["ifname"]]
    return f"eth{max(numbers, default=-1) + 1}"


def _own_lines(record: Record, addresses: list[str]) -> list[str]:
    from engine.runtime.network import hostfiles

    return hostfiles.own_lines(networking.full_name(record.config["Config"]), addresses).splitlines(keepends=True)


def _hosts(record: Record, change: Any) -> None:
    """Rewrites the container's /etc/hosts in place: it is bound into the container, which may have changed it, too."""
    path = f"{record.directory}/hosts"
    lines = files.read_bytes(path).decode(errors="surrogateescape").splitlines(keepends=True)
    with open(path, "r+", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(change(lines)))
        file.truncate()


def _lead(ctx: Context, record: Record, pid: int) -> None:
    """Default routes to where they belong now."""
    from engine.runtime.network import attach as link

    now = networking.endpoints(ctx, record)
    joined = networking.joined_now(ctx, record)
    for name, key in zip(networking.gateways(joined), ("gateway", "gateway6"), strict=True):
        if name:
            link.set_default(pid, now[name]["ifname"], [now[name][key]], ctx.log)
    host = record.config["HostConfig"]
    if host.get("PortBindings") or host.get("PublishAllPorts"):
        from engine.containers import publishing

        publishing.follow(ctx, record)


def disconnect(ctx: Context, network: str, container: str, force: bool = False) -> None:
    """NotFound and Conflict in Docker's words. `force`: also from a network that is no more."""
    record = records.find(ctx.paths, container) if force else None
    try:
        name = networking.network_of(ctx, network).name
    except NotFound:
        if record is None or network not in networking.wanted(record.config):
            raise
        name = network
    record = record or records.find(ctx.paths, container)
    with record.lock():
        state = refresh(ctx, record)
        endpoint = networking.endpoints(ctx, record).get(name)
        if record.config["HostConfig"]["NetworkMode"] == "host" and name == "host":
            raise Conflict(_HOST)
        if name not in networking.wanted(record.config):
            the = "" if state["Running"] else "the "
            raise Conflict(f"container {record.id} is not connected to {the}network {name}")
        if endpoint and state["Pid"]:
            _unplug(ctx, record, state["Pid"], name, endpoint)
        del networking.wanted(record.config)[name]
        record.save_config()


def _unplug(ctx: Context, record: Record, pid: int, name: str, endpoint: dict[str, Any]) -> None:
    from engine.runtime.network import attach as link

    if endpoint["host_ifname"]:
        link.detach(endpoint["host_ifname"], ctx.log)
    networking.leave(ctx, record, name)
    gone = _own_lines(record, [a for a in (endpoint["address"], endpoint["address6"]) if a])
    _hosts(record, lambda lines: [line for line in lines if line not in gone])
    _lead(ctx, record, pid)
