"""hugetlb: huge pages by size. Documentation/admin-guide/cgroup-v1/hugetlb.rst"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`hugepageLimits`: [{pageSize: "2MB", limit: bytes}]."""
    return [
        (f"hugetlb.{entry['pageSize']}.limit_in_bytes", str(entry["limit"]))
        for entry in resources.get("hugepageLimits") or []
    ]
