"""net_cls: a class for tc(8) and netfilter on what is sent. Documentation/admin-guide/cgroup-v1/net_cls.rst; v1 only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`network.classID`."""
    return [("net_cls.classid", str(resources["network"]["classID"]))]
