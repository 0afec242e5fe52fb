"""pids: how many tasks (processes and threads) may exist at once. Documentation/admin-guide/cgroup-v1/pids.rst"""

from __future__ import annotations

from engine.runtime.cgroups.fs import NO_LIMIT, number

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


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """A limit of 0 is none."""
    limit = number(read("pids.max")) or 0
    return {"current": number(read("pids.current")) or 0, "limit": 0 if limit == NO_LIMIT else limit}
