"""rdma: handles and objects of InfiniBand adapters. Documentation/admin-guide/cgroup-v1/rdma.rst"""

from __future__ import annotations

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_KEYS = (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`rdma`: {device: {hcaHandles: number, hcaObjects: number}}, a line for each device."""
    plan = []
    for device, limits in resources["rdma"].items():
        words = [f"{key}={limits[name]}" for name, key in _KEYS if limits.get(name) is not None]
        if not words or len(device.split()) != 1:
            raise UsageError(f"the rdma limit of {device!r} names no device, or neither hcaHandles nor hcaObjects")
        plan.append(("rdma.max", " ".join([device, *words])))
    return plan


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """`current` and `limit`, each {device: {hcaHandles, hcaObjects}}; what is unlimited is left out."""
    return {"current": _devices(read("rdma.current")), "limit": _devices(read("rdma.max"))}


def _devices(text: str | None) -> dict[str, dict[str, int]]:
    """Lines `mlx4_0 hca_handle=2 hca_object=max`."""
    names = {key: name for name, key in _KEYS}
    found = {}
    for device, *words in (line.split() for line in (text or "").splitlines() if line):
        pairs = (word.split("=") for word in words)
        found[device] = {names[key]: int(value) for key, value in pairs if key in names and value.isdecimal()}
    return found
