"""`mini stats`: what containers use, by Docker's formulas (docker/cli, cli/command/container/stats_helpers.go).

CPU %   (the container's time since the last sample ÷ all processors' time since then) × processors × 100
MEM     usage − inactive_file: page cache that nobody used lately counts as free, as the kernel takes it back first
LIMIT   the container's, or the host's memory where it has none
NET     bytes through the container's own interfaces, without loopback; nothing on the host's network
BLOCK   bytes from and to block devices
PIDS    tasks, threads among them
"""

from __future__ import annotations

import os

from engine.containers import lifecycle, records
from engine.containers.views import refresh
from engine.errors import MiniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context


class Sample:
    """One look at a container. Times in nanoseconds, sizes in bytes; all 0 for one that does not run."""

    __slots__ = ("cpu", "limit", "memory", "pids", "read", "received", "sent", "system", "written")

    def __init__(self) -> None:
        self.cpu = self.system = self.memory = self.limit = self.pids = 0
        self.received = self.sent = self.read = self.written = 0

    @property
    def memory_percent(self) -> float:
        return self.memory / self.limit * 100 if self.limit else 0.0


def find(ctx: Context, name: str) -> Record:
    """NotFound in Docker's words, and with the config read, for it may go while it is watched."""
    record = records.find(ctx.paths, name)
    record.config["Name"]
    return record


def running(ctx: Context, all: bool = False) -> list[Record]:
    """The containers that run, or with `all` every one, newest first."""
    return [r for r in records.list_all(ctx.paths) if all or _runs(ctx, r)]


def _runs(ctx: Context, record: Record) -> bool:
    try:
        return bool(refresh(ctx, record)["Running"])
    except MiniError:
        return False


def sample(ctx: Context, record: Record) -> Sample:
    """What the container uses now. NotFound once it is removed."""
    record.lock()
    found = Sample()
    state = refresh(ctx, record)
    if not state["Running"] or state["Restarting"]:
        return found
    used = lifecycle.cgroup_of(ctx, record).stats()
    if not used:
        return found
    host = host_memory()
    memory = used.get("memory", {})
    found.cpu = used.get("cpu", {}).get("usage", {}).get("total", 0)
    found.system = host_cpu()
    found.memory = _in_use(memory)
    found.limit = min(memory.get("usage", {}).get("limit") or host, host)
    found.pids = used.get("pids", {}).get("current", 0)
    found.read, found.written = (_transferred(used.get("blkio", {}), op) for op in ("read", "write"))
    if record.config["HostConfig"]["NetworkMode"] != "host":
        found.received, found.sent = interfaces(state["Pid"])
    return found


def _in_use(memory: dict[str, Any]) -> int:
    usage = memory.get("usage", {}).get("usage", 0)
    raw = memory.get("raw", {})
    inactive = raw.get("total_inactive_file", raw.get("inactive_file", 0))
    return int(usage - inactive if inactive < usage else usage)


def _transferred(blkio: dict[str, Any], op: str) -> int:
    return sum(entry["value"] for entry in blkio.get("ioServiceBytesRecursive", ()) if entry["op"].lower() == op)


def cpu_percent(before: Sample, now: Sample) -> float:
    """Between two samples; 0 where nothing can be said."""
    used, passed = now.cpu - before.cpu, now.system - before.system
    return used / passed * (os.cpu_count() or 1) * 100 if used > 0 and passed > 0 else 0.0


def host_cpu() -> int:
    """All processors' time since boot, idle time too: the first seven numbers of /proc/stat's first line, in nanoseconds."""
    with open("/proc/stat") as file:
        ticks = sum(int(field) for field in file.readline().split()[1:8])
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def host_memory() -> int:
    with open("/proc/meminfo") as file:
        return int(file.readline().split()[1]) * 1024


def interfaces(pid: int) -> tuple[int, int]:
    """(bytes received, bytes sent) in the process's network namespace, without loopback: /proc/PID/net/dev."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev") as file:
            lines = file.readlines()[2:]
    except (FileNotFoundError, ProcessLookupError, OSError):
        return 0, 0
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            fields = numbers.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent
