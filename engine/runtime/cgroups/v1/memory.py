"""memory: a limit, a soft limit, and memory plus swap. Documentation/admin-guide/cgroup-v1/memory.rst

Kernel memory (`memory.kmem.*`) is counted in the limit since Linux 5.16 and deprecated in the OCI spec: not written.
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIMIT, SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`memory.limit`, `reservation`, `swap` (memory plus swap; -1 is unlimited), `swappiness`, `disableOOMKiller`.

    Raises Unsupported for a swap limit where the kernel does not account swap (swapaccount=0), unless it is twice the
    limit: that is Docker's default, which nobody asked for.
    """
    memory = resources.get("memory", {})
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit < 0 and not swap:
        swap = -1
    plan = _limits(limit, swap, read)
    if memory.get("reservation"):
        plan.append(("memory.soft_limit_in_bytes", str(memory["reservation"])))
    if memory.get("swappiness") is not None:
        if not 0 <= memory["swappiness"] <= 100:
            raise UsageError(f"memory swappiness {memory['swappiness']} is not between 0 and 100")
        plan.append(("memory.swappiness", str(memory["swappiness"])))
    if memory.get("disableOOMKiller"):
        plan.append(("memory.oom_control", "1"))
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
