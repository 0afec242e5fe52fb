"""pids: how many tasks (processes and threads) may exist at once. Documentation/admin-guide/cgroup-v1/pids.rst"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`pids.limit`: a number, or "max" for anything below 1, as Docker has it (`--pids-limit 0` and `-1`)."""
    limit = resources.get("pids", {}).get("limit")
    if limit is None:
        return []
    return [("pids.max", str(limit) if limit > 0 else "max")]
