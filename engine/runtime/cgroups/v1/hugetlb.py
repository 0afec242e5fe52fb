"""hugetlb: huge pages by size. Documentation/admin-guide/cgroup-v1/hugetlb.rst"""

from __future__ import annotations

import os

from engine.errors import UsageError
from engine.runtime.cgroups.fs import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SIZES = "/sys/kernel/mm/hugepages"


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`hugepageLimits`: [{pageSize: "2MB", limit: bytes}]."""
    return limits(resources, "limit_in_bytes", read)


def limits(resources: dict[str, Any], file: str, read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """The limit of pages in use, and that of reservations (Linux 5.7), at which mmap(2) fails instead of a later touch of
    the page by SIGBUS.
    """
    plan = []
    for entry in resources.get("hugepageLimits") or []:
        size = entry["pageSize"]
        if not (size[:-2].isdecimal() and size[-2:] in ("KB", "MB", "GB")):
            raise UsageError(f"not a size of huge pages: {size!r}", 'sizes are written "2MB" or "1GB"')
        plan.append((f"hugetlb.{size}.{file}", str(entry["limit"])))
        if read(f"hugetlb.{size}.rsvd.{file}") is not None:
            plan.append((f"hugetlb.{size}.rsvd.{file}", str(entry["limit"])))
    return plan


def page_sizes(directory: str = _SIZES) -> list[str]:
    """The sizes that this kernel has, as the files are named: "hugepages-2048kB" is "2MB"."""
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        size, unit = int(name.removeprefix("hugepages-").removesuffix("kB")), 0
        while size >= 1024:
            size, unit = size // 1024, unit + 1
        found.append(f"{size}{('KB', 'MB', 'GB')[unit]}")
    return found


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """Of reservations where they are counted."""
    found = {}
    for size in page_sizes():
        prefix = f"hugetlb.{size}" + (".rsvd" if read(f"hugetlb.{size}.rsvd.usage_in_bytes") is not None else "")
        found[size] = {
            "usage": number(read(f"{prefix}.usage_in_bytes")) or 0,
            "max": number(read(f"{prefix}.max_usage_in_bytes")) or 0,
            "failcnt": number(read(f"{prefix}.failcnt")) or 0,
        }
    return found
