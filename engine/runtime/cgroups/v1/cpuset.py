"""cpuset: which processors and memory nodes may be used. cpuset(7)

On v1 a new cpuset is empty, and joining an empty one is refused with ENOSPC: `inherit` fills it before anything else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILES = ("cpuset.cpus", "cpuset.mems")


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`cpu.cpus` and `cpu.mems`, in the kernel's list format ("0-2,7")."""
    cpu = resources.get("cpu", {})
    return [(file, cpu[name]) for name, file in zip(("cpus", "mems"), FILES, strict=True) if cpu.get(name)]


def inherit(parent: Callable[[str], str | None], child: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """What an empty cpuset must be given so that tasks can join: its parent's processors and nodes.

    `parent` and `child` read a file of the two. Nothing where the kernel already did it (cgroup.clone_children).
    """
    return [(file, parent(file) or "") for file in FILES if not child(file)]
