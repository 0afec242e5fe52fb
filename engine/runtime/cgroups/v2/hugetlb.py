"""hugetlb: huge pages by size. Documentation/admin-guide/cgroup-v2.rst, "HugeTLB"."""

from __future__ import annotations

from engine.runtime.cgroups.fs import number, table
from engine.runtime.cgroups.v1.hugetlb import limits, page_sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`hugepageLimits`: [{pageSize: "2MB", limit: bytes}]."""
    return limits(resources, "max", read)


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """Of reservations where they are counted."""
    found = {}
    for size in page_sizes():
        prefix = f"hugetlb.{size}" + (".rsvd" if read(f"hugetlb.{size}.rsvd.current") is not None else "")
        found[size] = {
            "usage": number(read(f"{prefix}.current")) or 0,
            "failcnt": table(read(f"hugetlb.{size}.events")).get("max", 0),
        }
    return found
