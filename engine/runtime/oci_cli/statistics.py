"""A cgroup's counters in the form of runc's `events --stats` (runc/types/events.go), which containerd reads."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def runc_stats(stats: dict[str, Any]) -> dict[str, Any]:
    """From `cgroups.stats.collect`. A part that the host does not count is empty."""
    return {
        "cpu": _cpu(stats.get("cpu", {})),
        "cpuset": {},
        "memory": _memory(stats["memory"]) if "memory" in stats else {},
        "pids": _pids(stats["pids"]) if "pids" in stats else {},
        "blkio": _blkio(stats["io"]) if "io" in stats else {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(cpu: dict[str, int]) -> dict[str, Any]:
    return {
        "usage": {"total": cpu.get("usage", 0), "kernel": cpu.get("system", 0), "user": cpu.get("user", 0)},
        "throttling": {
            "periods": cpu.get("periods", 0),
            "throttledPeriods": cpu.get("throttled_periods", 0),
            "throttledTime": cpu.get("throttled", 0),
        },
    }


def _memory(memory: dict[str, Any]) -> dict[str, Any]:
    limit = memory["limit"] if memory["limit"] is not None else (1 << 64) - 1
    usage = {"limit": limit, "usage": memory["usage"], "max": memory["peak"] or 0, "failcnt": memory["oom_kills"]}
    return {
        "usage": usage,
        "raw": {"total_inactive_file": memory["inactive_file"], "inactive_file": memory["inactive_file"]},
    }


def _pids(pids: dict[str, Any]) -> dict[str, Any]:
    return {"current": pids["current"], "limit": pids["limit"] or 0}


def _blkio(io: dict[str, int]) -> dict[str, Any]:
    def entries(unit: str) -> list[dict[str, Any]]:
        return [{"op": op.capitalize(), "value": io[f"{op}_{unit}"]} for op in ("read", "write")]

    return {"ioServiceBytesRecursive": entries("bytes"), "ioServicedRecursive": entries("ops")}
