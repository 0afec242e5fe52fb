"""What changes a container that is there: `rename`, `rm --link` and `update`."""

from __future__ import annotations

from engine import events
from engine.containers import bundle, config, limits, networking, records, restart
from engine.containers.netoptions import CONTAINER
from engine.containers.options import CreateOptions, UpdateOptions
from engine.containers.views import refresh
from engine.errors import Conflict, MiniError, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context

MAXIMUM_CPU_SHARES = 262144  # cpu.shares, Linux: kernel/sched/core.c, MAX_SHARES
_LIMITS = (
    "blkio_weight", "cpu_period", "cpu_quota", "cpu_shares", "cpus", "cpuset_cpus", "cpuset_mems", "kernel_memory", "memory",
    "memory_reservation", "memory_swap", "pids_limit",
)  # fmt: skip


def rename(ctx: Context, name: str, new: str) -> None:
    """Gives a container another name, whether it runs or not. Conflict where that is taken; UsageError for none."""
    if not name or not new:
        raise UsageError("Neither old nor new names may be empty")
    record = records.find(ctx.paths, name)
    with record.lock():
        old = record.name
        if new.removeprefix("/") == old:
            raise Conflict("Renaming a container with the same name as its current name")
        try:
            records.rename(record, config.check_name(f"/{new.removeprefix('/')}"))
        except (Conflict, UsageError) as e:
            raise type(e)(f"Error when allocating new name: {e.message}", e.hint) from None
        networking.renamed(ctx, record)
    events.container(record, "rename", oldName=f"/{old}")


def unlink(ctx: Context, link: str) -> None:
    """Removes the link CONTAINER/ALIAS, from the container's next life on: one that runs keeps its hosts file, as in Docker."""
    name, slash, alias = link.strip("/").rpartition("/")
    if not slash:
        records.find(ctx.paths, link)
        raise Conflict("Conflict, cannot remove the default link name of the container")
    try:
        record = records.find(ctx.paths, name)
    except NotFound:
        raise NotFound(f"No such container: {link}") from None
    with record.lock():
        links = record.config["HostConfig"].get("Links") or []
        left = [text for text in links if text.rpartition(":")[2] != alias]
        if left == links:
            raise NotFound(f"No such container: {link}")
        record.config["HostConfig"]["Links"] = left or None
        record.save_config()


def check(asked: UpdateOptions) -> None:
    """What is wrong whatever the container is; UsageError in Docker's words."""
    values = {name: getattr(asked, name) for name in _LIMITS}
    if not asked.memory:
        # what it has to fit to is the container's
        values["memory_swap"] = None
    limits.check(CreateOptions(**values))
    if asked.cpu_shares is not None and not 0 <= asked.cpu_shares <= MAXIMUM_CPU_SHARES:
        raise UsageError(f"invalid cpu-shares {asked.cpu_shares}: the maximum is {MAXIMUM_CPU_SHARES}")
    if asked.restart is not None:
        restart.parse(asked.restart)
    if asked.publish_add or asked.publish_rm:
        from engine.containers import portoptions

        portoptions.bindings([*asked.publish_add, *asked.publish_rm])


def merged(host: dict[str, Any], asked: UpdateOptions) -> dict[str, Any]:
    """Docker's HostConfig with the changes; Conflict where they do not fit to what stands. 0 is no change, as in Docker."""
    memory, swap = asked.memory or host["Memory"], asked.memory_swap or host["MemorySwap"]
    if asked.memory and not asked.memory_swap and 0 < swap < memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if 0 < swap < memory or (swap > 0 and not memory):
        raise Conflict("Minimum memoryswap limit should be larger than memory limit, see usage")
    _check_processors(host, asked)
    changed: dict[str, Any] = {
        "Memory": memory,
        "MemorySwap": swap or 2 * memory,
        "MemoryReservation": asked.memory_reservation or host["MemoryReservation"],
        "NanoCpus": round(asked.cpus * 1e9) if asked.cpus else host["NanoCpus"],
        "CpuShares": asked.cpu_shares or host["CpuShares"],
        "CpuPeriod": asked.cpu_period or host["CpuPeriod"],
        "CpuQuota": asked.cpu_quota or host["CpuQuota"],
        "CpusetCpus": asked.cpuset_cpus or host["CpusetCpus"],
        "CpusetMems": asked.cpuset_mems or host["CpusetMems"],
        "BlkioWeight": asked.blkio_weight or host["BlkioWeight"],
        "PidsLimit": host["PidsLimit"] if asked.pids_limit is None else asked.pids_limit,
    }
    if asked.restart is not None:
        changed["RestartPolicy"] = restart.parse(asked.restart)
        if host["AutoRemove"] and changed["RestartPolicy"]["Name"] != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
    if asked.publish_add or asked.publish_rm:
        changed["PortBindings"] = _ports(host, asked)
    return host | changed


def _check_processors(host: dict[str, Any], asked: UpdateOptions) -> None:
    """`--cpus` is a quota and a period of its own: a container has either."""
    for what, given, standing in (
        ("CPU Period", asked.cpu_period, host["CpuPeriod"]),
        ("CPU Quota", asked.cpu_quota, host["CpuQuota"]),
    ):
        if asked.cpus and standing:
            raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as {what} has already been set")
        if given and host["NanoCpus"]:
            raise Conflict(f"Conflicting options: {what} cannot be updated as NanoCPUs has already been set")


def _ports(host: dict[str, Any], asked: UpdateOptions) -> dict[str, Any]:
    from engine.containers import portoptions

    mode: str = host["NetworkMode"]
    if mode in ("host", "none") or mode.startswith(CONTAINER):
        raise Conflict(f"a container with the network {mode.partition(':')[0]} publishes no ports")
    left = portoptions.without(host.get("PortBindings") or {}, asked.publish_rm)
    for port, there in portoptions.bindings(asked.publish_add).items():
        left.setdefault(port, []).extend(there)
    return dict(sorted(left.items()))


def update(ctx: Context, name: str, asked: UpdateOptions) -> None:
    """Changes limits of a container, running or not, and its restart policy.

    Of one that runs, the kernel takes them first, and then they are written down, as one step; what the kernel refuses is
    taken back, and nothing is written.
    """
    check(asked)
    record = records.find(ctx.paths, name)
    with record.lock():
        state = refresh(ctx, record)
        old = record.config["HostConfig"]
        try:
            new = merged(old, asked)
            runs = state["Running"] and not state["Restarting"]
            if runs:
                _apply(ctx, record, old, new)
            record.config["HostConfig"] = new
            if new.get("PortBindings") != old.get("PortBindings"):
                try:
                    _publish(ctx, record, old, runs)
                except MiniError:
                    if runs:
                        _apply(ctx, record, new, old)
                    raise
        except MiniError as e:
            raise Conflict(f"Cannot update container {record.id}: {e.message}", e.hint) from None
        record.save_config()
    events.container(record, "update")


def _publish(ctx: Context, record: Record, old: dict[str, Any], runs: bool) -> None:
    """Writes the ports down, and has the monitor of one that runs open and close them; what it refuses is not written."""
    from engine.containers import publishing

    exposed = record.config["Config"].get("ExposedPorts") or {}
    added: dict[str, Any] = {port: {} for port in record.config["HostConfig"]["PortBindings"] if port not in exposed}
    if added:
        record.config["Config"]["ExposedPorts"] = dict(sorted((exposed | added).items()))
    record.save_config()
    if not runs:
        return
    try:
        publishing.follow(ctx, record)
    except MiniError:
        record.config["HostConfig"] = old
        if added:
            record.config["Config"]["ExposedPorts"] = exposed
        record.save_config()
        raise


def _apply(ctx: Context, record: Record, old: dict[str, Any], new: dict[str, Any]) -> None:
    from engine.containers import lifecycle

    cgroup = lifecycle.cgroup_of(ctx, record)
    try:
        cgroup.set_limits(_limits(old, new))
    except MiniError:
        cgroup.set_limits(_limits(new, old))
        raise


def _limits(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """OCI resources for what differs; what had a limit and has none now gets the kernel's default."""
    wanted = {key: value for key, value in bundle.resources(new).items() if key != "devices"}
    changed = {key for key in new if new[key] != old.get(key)}
    found: dict[str, Any] = {}
    if changed & {"Memory", "MemorySwap", "MemoryReservation"}:
        found["memory"] = {"limit": -1, "swap": -1, **({"reservation": -1} if old["MemoryReservation"] else {})}
        found["memory"] |= wanted.get("memory", {})
    if changed & {"NanoCpus", "CpuPeriod", "CpuQuota", "CpuShares", "CpusetCpus", "CpusetMems"}:
        found["cpu"] = {"quota": -1, "period": limits.CPU_PERIOD, "shares": 1024} | wanted.get("cpu", {})
    if "BlkioWeight" in changed and new["BlkioWeight"]:
        found["blockIO"] = wanted["blockIO"]
    if "PidsLimit" in changed:
        found["pids"] = {"limit": new["PidsLimit"] or 0}
    return found
