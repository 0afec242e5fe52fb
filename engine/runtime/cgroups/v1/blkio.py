"""blkio: weights and throttles of block devices. Documentation/admin-guide/cgroup-v1/blkio-controller.rst"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


def settings(resources: dict[str, Any], read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """`blockIO.weight`, `weightDevice` and the four throttles.

    The weight's file is BFQ's: the scheduler that had plain `blkio.weight`, CFQ, left in Linux 5.0.
    """
    block = resources.get("blockIO", {})
    prefix = "blkio" if read("blkio.weight") is not None else "blkio.bfq"
    plan = []
    if block.get("weight"):
        plan.append((f"{prefix}.weight", str(block["weight"])))
    for device in block.get("weightDevice") or []:
        if device.get("weight"):
            plan.append((f"{prefix}.weight_device", f"{device['major']}:{device['minor']} {device['weight']}"))
    for name, file in THROTTLES:
        for device in block.get(name) or []:
            plan.append((file, f"{device['major']}:{device['minor']} {device['rate']}"))
    return plan
