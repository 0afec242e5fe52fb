"""net_prio: priorities of what is sent, by interface. Documentation/admin-guide/cgroup-v1/net_prio.rst; v1 only."""

from __future__ import annotations

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`network.priorities`: [{name: an interface of the runtime's network namespace, priority: number}]."""
    plan = []
    for entry in resources["network"]["priorities"]:
        if len(entry["name"].split()) != 1:
            raise UsageError(f"not the name of a network interface: {entry['name']!r}")
        plan.append(("net_prio.ifpriomap", f"{entry['name']} {entry['priority']}"))
    return plan
