"""cpuacct: the processor time that was used. Documentation/admin-guide/cgroup-v1/cpuacct.rst"""

from __future__ import annotations

from engine.runtime.cgroups.fs import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """Nanoseconds; a list has one number for each processor."""
    # usage_all: a line of heads, then "processor user system" (Linux 4.13)
    rows = [line.split() for line in (read("cpuacct.usage_all") or "").splitlines()[1:]]
    return {
        "usage": {
            "total": number(read("cpuacct.usage")) or 0,
            "user": number(read("cpuacct.usage_user")) or 0,
            "kernel": number(read("cpuacct.usage_sys")) or 0,
            "percpu": [int(word) for word in (read("cpuacct.usage_percpu") or "").split()],
            "percpu_user": [int(row[1]) for row in rows],
            "percpu_kernel": [int(row[2]) for row in rows],
        }
    }
