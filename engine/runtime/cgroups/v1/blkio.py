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
    """`blockIO.weight`, `leafWeight`, `weightDevice` and the four throttles.

    The weight's file is BFQ's: the scheduler that had plain `blkio.weight` and leaf weights, CFQ, left in Linux 5.0.
    """
    block = resources.get("blockIO", {})
    prefix = "blkio" if read("blkio.weight") is not None else "blkio.bfq"
    weights = (("weight", f"{prefix}.weight"), ("leafWeight", "blkio.leaf_weight"))
    plan = [(file, str(block[name])) for name, file in weights if block.get(name)]
    for device in block.get("weightDevice") or []:
        where = f"{device['major']}:{device['minor']}"
        plan += [(f"{file}_device", f"{where} {device[name]}") for name, file in weights if device.get(name)]
    for name, file in THROTTLES:
        for device in block.get(name) or []:
            plan.append((file, f"{device['major']}:{device['minor']} {device['rate']}"))
    return plan


def stats(read: Callable[[str], str | None]) -> dict[str, Any]:
    """blkio.throttle.* counts whatever the scheduler is, BFQ's files only what it schedules."""
    files = {
        "ioServiceBytesRecursive": "blkio.throttle.io_service_bytes_recursive",
        "ioServicedRecursive": "blkio.throttle.io_serviced_recursive",
        "ioQueueRecursive": "blkio.bfq.io_queued_recursive",
        "ioServiceTimeRecursive": "blkio.bfq.io_service_time_recursive",
        "ioWaitTimeRecursive": "blkio.bfq.io_wait_time_recursive",
        "ioMergedRecursive": "blkio.bfq.io_merged_recursive",
        "ioTimeRecursive": "blkio.bfq.time_recursive",
        "sectorsRecursive": "blkio.bfq.sectors_recursive",
    }
    return {name: entries for name, file in files.items() if (entries := _entries(read(file)))}


def _entries(text: str | None) -> list[dict[str, Any]]:
    """Lines `major:minor Read number`, or without the operation; the sum in the last line has no device."""
    found = []
    for line in (text or "").splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if colon:
            op = words[0] if len(words) == 2 else ""
            found.append({"major": int(major), "minor": int(minor), "op": op, "value": int(words[-1])})
    return found
