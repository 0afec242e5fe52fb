"""io: weights and throttles of block devices. Documentation/admin-guide/cgroup-v2.rst, "IO"."""

from __future__ import annotations

from engine.errors import Unsupported
from engine.runtime.cgroups.fs import pressure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`blockIO.weight` (v1's 10–1000), `weightDevice` and the four throttles.

    BFQ's own file takes v1's range; `io.weight` (1–10000, of io.cost) takes it stretched, as runc does. Raises Unsupported
    for `leafWeight`: processes have no siblings that are cgroups on v2.
    """
    block = resources.get("blockIO", {})
    if any(entry.get("leafWeight") for entry in (block, *(block.get("weightDevice") or []))):
        raise Unsupported("cgroup v2 has no leaf weights (blockIO.leafWeight)")
    bfq = read("io.bfq.weight") is not None
    file = "io.bfq.weight" if bfq else "io.weight"
    plan = []
    if block.get("weight"):
        plan.append((file, str(block["weight"] if bfq else stretch(block["weight"]))))
    for device in block.get("weightDevice") or []:
        if device.get("weight"):
            value = device["weight"] if bfq else stretch(device["weight"])
            plan.append((file, f"{device['major']}:{device['minor']} {value}"))
    for name, key in THROTTLES:
        for device in block.get(name) or []:
            plan.append(("io.max", f"{device['major']}:{device['minor']} {key}={device['rate'] or 'max'}"))
    return plan


def stretch(weight: int) -> int:
    """v1's 10–1000 to v2's 1–10000, linearly."""
    return 1 + (weight - 10) * 9999 // 990


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """Lines `major:minor rbytes=… wbytes=… rios=… wios=…`, in v1's terms."""
    parts = (("ioServiceBytesRecursive", "bytes"), ("ioServicedRecursive", "ios"))
    found: dict[str, Any] = {name: [] for name, _ in parts}
    for device, *words in (line.split() for line in (read("io.stat") or "").splitlines()):
        major, _, minor = device.partition(":")
        values = dict(word.split("=") for word in words)
        for name, unit in parts:
            for op in ("Read", "Write", "Discard"):
                if value := values.get(f"{op[0].lower()}{unit}"):
                    found[name].append({"major": int(major), "minor": int(minor), "op": op, "value": int(value)})
    return found | pressure(read("io.pressure"))
