"""cpuset: which processors and memory nodes may be used. An empty cpuset means its parent's on v2: nothing to
inherit.
"""

from __future__ import annotations

from engine.runtime.cgroups.v1.cpuset import sets, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["settings", "stats"]


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    return sets(read("cpuset.cpus.effective"), read("cpuset.mems.effective"))
