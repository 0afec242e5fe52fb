"""cpu: shares of a contended processor, and a quota of each period. Documentation/scheduler/sched-bwc.rst"""

from __future__ import annotations

from engine.runtime.cgroups.fs import number, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Read = Callable[[str], str | None]


def settings(resources: dict[str, Any], read: Read) -> list[tuple[str, str]]:
    """`cpu.shares`, `period` and `quota` (µs; a quota below 0 is none), `burst`, `idle`, `realtimePeriod`,
    `realtimeRuntime`.
    """
    cpu = resources.get("cpu", {})
    plan = _bandwidth(cpu, "realtimePeriod", "realtimeRuntime", "cpu.rt_period_us", "cpu.rt_runtime_us", read)
    shares = [("cpu.shares", str(cpu["shares"]))] if cpu.get("shares") else []
    quota = _bandwidth(cpu, "period", "quota", "cpu.cfs_period_us", "cpu.cfs_quota_us", read)
    plan += weighed(cpu, shares, read)
    return plan + with_burst(cpu, quota, "cpu.cfs_burst_us", read)


def _bandwidth(
    cpu: dict[str, Any], period: str, quota: str, period_file: str, quota_file: str, read: Read
) -> list[tuple[str, str]]:
    """The two writes in the order in which quota ÷ period never exceeds both the old and the new one.

    The kernel checks each against what the parent has (sched-bwc.rst): a longer period goes first, a shorter one last.
    """
    plan = [(file, str(cpu[name])) for file, name in ((period_file, period), (quota_file, quota)) if cpu.get(name)]
    return plan[::-1] if len(plan) == 2 and cpu[period] < (number(read(period_file)) or 0) else plan


def weighed(cpu: dict[str, Any], shares: list[tuple[str, str]], read: Read) -> list[tuple[str, str]]:
    """`shares`, and `cpu.idle` (Linux 5.15): an idle group takes no other weight, so that one stops idling first; and one that
    goes on idling is left alone."""
    if cpu.get("idle") is None or (not cpu["idle"] and read("cpu.idle") is None):
        return shares
    idle = [("cpu.idle", str(cpu["idle"]))]
    if cpu["idle"]:
        return idle if read("cpu.idle") == "1" else shares + idle
    return idle + shares


def with_burst(cpu: dict[str, Any], quota: list[tuple[str, str]], file: str, read: Read) -> list[tuple[str, str]]:
    """`quota`, and the burst (Linux 5.14), which may never exceed the quota: raised after it, lowered before."""
    if cpu.get("burst") is None or (not cpu["burst"] and read(file) is None):
        return quota
    burst = [(file, str(cpu["burst"]))]
    return quota + burst if cpu["burst"] > (number(read(file)) or 0) else burst + quota


def stats(read: Read) -> dict[str, Any]:
    stat = table(read("cpu.stat"))
    return {"throttling": throttling(stat, stat.get("throttled_time", 0))}


def throttling(stat: dict[str, int], nanoseconds: int) -> dict[str, int]:
    return {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": nanoseconds,
    }
