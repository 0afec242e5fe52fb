"""cpu: a weight under contention and a quota of each period. Documentation/admin-guide/cgroup-v2.rst, "CPU"."""

from __future__ import annotations

from engine.errors import Unsupported
from engine.runtime.cgroups.fs import pressure, table
from engine.runtime.cgroups.v1.cpu import throttling, weighed, with_burst

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`cpu.shares` as a weight, `quota` and `period` (µs) as one line, `burst`, `idle`. Real-time budgets do not
    exist on v2.
    """
    cpu = resources.get("cpu", {})
    if cpu.get("realtimeRuntime") or cpu.get("realtimePeriod"):
        raise Unsupported("cgroup v2 has no real-time budgets (cpu.realtimeRuntime)")
    shares = [("cpu.weight", str(weight(cpu["shares"])))] if cpu.get("shares") else []
    maximum = []
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if quota or period:
        # A period alone keeps the quota that stands.
        first = str(quota) if quota > 0 else "max" if quota < 0 else (read("cpu.max") or "max").split()[0]
        maximum.append(("cpu.max", f"{first} {period}".removesuffix(" 0")))
    return weighed(cpu, shares, read) + with_burst(cpu, maximum, "cpu.max.burst", read)


def weight(shares: int) -> int:
    """v1's shares (2–262144, default 1024) as v2's weight (1–10000, default 100).

    A quadratic in log2, through the least, the default and the greatest value of both: opencontainers/cgroups since
    2025, crun 1.23. The linear formula used before turned the default of 1024 into 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math

    exponent = math.log2(shares)
    return math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """cpu.stat counts microseconds, and the time used even where the controller is off."""
    stat = table(read("cpu.stat"))
    return {
        "usage": {
            "total": stat.get("usage_usec", 0) * 1000,
            "user": stat.get("user_usec", 0) * 1000,
            "kernel": stat.get("system_usec", 0) * 1000,
        },
        "throttling": throttling(stat, stat.get("throttled_usec", 0) * 1000),
    } | pressure(read("cpu.pressure"))
