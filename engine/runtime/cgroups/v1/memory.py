"""memory: a limit, a soft limit, and memory plus swap. Documentation/admin-guide/cgroup-v1/memory.rst

The OCI spec recommends against limits of the kernel's own memory, and runc ignores them. `kernelTCP` is set where there is such
a file; `kernel` is refused: Linux 5.16 took it away, and newer ones take any value and forget it.
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups.fs import number, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIMIT, SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_TCP = "memory.kmem.tcp.limit_in_bytes"


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`memory.limit`, `reservation`, `swap` (memory plus swap; -1 is unlimited), `kernelTCP`, `swappiness`,
    `disableOOMKiller`, `useHierarchy`. `checkBeforeUpdate` is what the kernel does anyway: a limit below what is in use is refused.

    Raises Unsupported for a swap limit where the kernel does not account swap (swapaccount=0), unless it is twice the
    limit: that is Docker's default, which nobody asked for.
    """
    memory = resources.get("memory", {})
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit < 0 and not swap:
        swap = -1
    plan = _limits(limit, swap, read)
    if memory.get("useHierarchy") not in (None, read("memory.use_hierarchy") == "1"):
        plan.insert(0, ("memory.use_hierarchy", str(int(memory["useHierarchy"]))))
    if (memory.get("kernel") or 0) > 0:
        raise Unsupported("Linux has no limit of the kernel's memory alone (memory.kernel) any more")
    if (memory.get("kernelTCP") or 0) > 0:
        plan.append((_TCP, str(memory["kernelTCP"])))
    if memory.get("reservation"):
        plan.append(("memory.soft_limit_in_bytes", str(memory["reservation"])))
    if memory.get("swappiness") is not None:
        if not 0 <= memory["swappiness"] <= 100:
            raise UsageError(f"memory swappiness {memory['swappiness']} is not between 0 and 100")
        plan.append(("memory.swappiness", str(memory["swappiness"])))
    if memory.get("disableOOMKiller"):
        plan.append(("memory.oom_control", "1"))
    elif "disableOOMKiller" in memory and table(read("memory.oom_control")).get("oom_kill_disable"):
        plan.append(("memory.oom_control", "0"))  # as the parent has it, or as it was
    return plan


def _limits(limit: int, swap: int, read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """The two limits in the order that the kernel accepts: it never lets memory+swap be below memory."""
    plan = [(LIMIT, str(limit))] if limit else []
    if not swap:
        return plan
    if 0 < swap < limit:
        raise UsageError(f"the limit of memory plus swap ({swap}) is below the limit of memory ({limit})")
    current = read(SWAP)
    if current is None:
        if swap in (-1, 2 * limit):
            return plan
        raise Unsupported(
            "this kernel does not limit swap for cgroups",
            "boot it with swapaccount=1, or leave --memory-swap out",
        )
    raising = swap < 0 or swap > int(current)
    return [(SWAP, str(swap)), *plan] if raising else [*plan, (SWAP, str(swap))]


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """`swap` is memory plus swap."""
    raw = table(read("memory.stat"))
    found: dict[str, Any] = {"cache": raw.get("total_cache", raw.get("cache", 0)), "raw": raw}
    for name, prefix in (("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp.")):
        if (usage := number(read(f"memory.{prefix}usage_in_bytes"))) is not None:
            found[name] = {
                "usage": usage,
                "max": number(read(f"memory.{prefix}max_usage_in_bytes")) or 0,
                "limit": number(read(f"memory.{prefix}limit_in_bytes")) or 0,
                "failcnt": number(read(f"memory.{prefix}failcnt")) or 0,
            }
    found["event_count"] = {"oom_kill": table(read("memory.oom_control")).get("oom_kill", 0)}
    return found
