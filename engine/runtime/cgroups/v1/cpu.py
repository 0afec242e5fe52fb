"""cpu: shares of a contended processor, and a quota of each period. Documentation/scheduler/sched-bwc.rst"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`cpu.shares`, `period` and `quota` (µs; a quota below 0 is none), `burst`, `idle`, `realtimePeriod`,
    `realtimeRuntime`.

    The kernel checks each write against the values that stand: quota ≤ limit of the parent at the *current* period,
    burst ≤ quota. Hence period before quota before burst.
    """
    cpu = resources.get("cpu", {})
    files = (
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
        ("shares", "cpu.shares"),
        ("period", "cpu.cfs_period_us"),
        ("quota", "cpu.cfs_quota_us"),
        ("burst", "cpu.cfs_burst_us"),
        ("idle", "cpu.idle"),
    )
    return [(file, str(cpu[name])) for name, file in files if cpu.get(name)]
