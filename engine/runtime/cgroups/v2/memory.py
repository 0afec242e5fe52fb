"""memory: a limit, protection from reclaim, and swap by itself. Documentation/admin-guide/cgroup-v2.rst, "Memory"."""

from __future__ import annotations

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups.fs import NO_LIMIT, number, pressure, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`memory.limit`, `reservation`, `swap`, `checkBeforeUpdate`. OCI's `swap` is memory plus swap; v2 limits swap
    alone.

    Raises Unsupported for `kernel`, `kernelTCP`, `swappiness`, `disableOOMKiller` and accounting without hierarchy, which v2
    does not have, and for a swap limit where the kernel does not account swap (except Docker's default, twice the limit, and
    "no limit").
    """
    memory = resources.get("memory", {})
    if memory.get("useHierarchy") is False:
        raise Unsupported("cgroup v2 always counts the memory of cgroups below with that of the one above")
    if memory.get("disableOOMKiller"):
        raise Unsupported("cgroup v2 cannot disable the OOM killer")
    if memory.get("swappiness") is not None:
        raise Unsupported("cgroup v2 has no swappiness of its own for a container")
    for name in ("kernel", "kernelTCP"):
        if memory.get(name, 0) > 0:
            raise Unsupported(f"cgroup v2 has no limit of the kernel's memory alone (memory.{name})")
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if memory.get("checkBeforeUpdate") and limit > 0 and int(read("memory.current") or 0) > limit:
        raise UsageError(f"the memory limit {limit} is below what is in use ({read('memory.current')})")
    plan = []
    if swap or limit < 0:
        plan += _swap(limit, swap or -1, read)
    if limit:
        plan.append(("memory.max", _text(limit)))
    if memory.get("reservation"):
        plan.append(("memory.low", _text(memory["reservation"])))
    return plan


def _swap(limit: int, swap: int, read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    if swap > 0:
        if limit <= 0:
            raise UsageError("a limit of memory plus swap needs a limit of memory")
        if swap < limit:
            raise UsageError(f"the limit of memory plus swap ({swap}) is below the limit of memory ({limit})")
    if read("memory.swap.max") is None:
        if swap in (-1, limit, 2 * limit):
            return []
        raise Unsupported(
            "this kernel does not limit swap for cgroups", "boot it with swapaccount=1, or leave --memory-swap out"
        )
    return [("memory.swap.max", str(swap - limit) if swap > 0 else "max")]


def _text(value: int) -> str:
    return str(value) if value > 0 else "max"


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """In v1's terms: `swap` is memory plus swap."""
    raw = table(read("memory.stat"))
    events = table(read("memory.events"))
    usage, limit = number(read("memory.current")) or 0, number(read("memory.max")) or 0
    swap, swap_limit = number(read("memory.swap.current")), number(read("memory.swap.max")) or 0
    found: dict[str, Any] = {
        "cache": raw.get("file", 0),
        # memory.peak: Linux 5.19
        "usage": {
            "usage": usage,
            "limit": limit,
            "max": number(read("memory.peak")) or 0,
            "failcnt": events.get("max", 0),
        },
        "raw": raw,
        "event_count": {name: events.get(name, 0) for name in ("low", "high", "max", "oom", "oom_kill")},
    }
    if swap is not None:
        found["swap"] = {"usage": usage + swap, "limit": min(limit + swap_limit, NO_LIMIT), "failcnt": 0}
    return found | pressure(read("memory.pressure"))
