"""cpuset: which processors and memory nodes may be used. cpuset(7)

On v1 a new cpuset is empty, and joining an empty one is refused with ENOSPC: `inherit` fills it before anything else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILES = ("cpuset.cpus", "cpuset.mems")
_MOST = 1 << 16  # processors or memory nodes
_FLAGS = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`cpu.cpus` and `cpu.mems`, in the kernel's list format ("0-2,7")."""
    cpu = resources.get("cpu", {})
    return [(file, cpu[name]) for name, file in zip(("cpus", "mems"), FILES, strict=True) if cpu.get(name)]


def inherit(parent: Callable[[str], str | None], child: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """What an empty cpuset must be given so that tasks can join: its parent's processors and nodes.

    `parent` and `child` read a file of the two. Nothing where the kernel already did it (cgroup.clone_children).
    """
    return [(file, parent(file) or "") for file in FILES if not child(file)]


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    flags = {name: read(f"cpuset.{name}") for name in _FLAGS}
    return sets(read("cpuset.cpus"), read("cpuset.mems")) | {name: int(value) for name, value in flags.items() if value}


def sets(cpus: str | None, mems: str | None) -> dict[str, Any]:
    return {"cpus": members(cpus or ""), "mems": members(mems or "")}


def members(text: str) -> list[int]:
    """The numbers of a list such as "0-2,7". ValueError where it is none."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if int(last if dash else first) > _MOST:
            raise ValueError(f"no kernel has so many: {part}")
        found.extend(range(int(first), int(last if dash else first) + 1))
    return found
