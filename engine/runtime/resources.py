"""The shape of `linux.resources`, for config.json and for `update --resources`: a table, one entry a field.

What a value means, and whether this host can set it, the controllers know (`cgroups/`). A property that the specification does
not know is ignored, as it demands. OCI runtime spec 1.2, config-linux.md, "Control groups".
"""

from __future__ import annotations

from engine.runtime.validate import bad, boolean, integer, listing, mapping, record, string, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BOTH = 1 << 63
_u32, _u64, _i64 = integer(0, (1 << 32) - 1), integer(0, (1 << 64) - 1), integer(-_BOTH, _BOTH - 1)
_bytes = integer(-1, _BOTH - 1)  # -1 is no limit
_MAJOR, _MINOR = (1 << 12) - 1, (1 << 20) - 1  # MAJOR(), MINOR(): linux/kdev_t.h
_BLOCK = {"major": integer(0, _MAJOR), "minor": integer(0, _MINOR)}


def check(value: Any, path: str) -> None:
    """Raises UsageError, naming the field. Nulls are no values: they have been taken out before."""
    _RESOURCES(value, path)


def _access(value: Any, path: str) -> None:
    string(value, path)
    if not value or set(value) - set("rwm"):
        raise bad(path, f"must be some of r, w and m, not {value!r}")


def _weight(value: Any, path: str) -> None:
    """0 is none. The range of BFQ, and of CFQ before."""
    integer(0, 1000)(value, path)
    if 0 < value < 10:
        raise bad(path, f"must be from 10 to 1000, not {value}")


def _device_weight(value: Any, path: str) -> None:
    record({**_BLOCK, "weight": _weight, "leafWeight": _weight}, "major minor")(value, path)
    if "weight" not in value and "leafWeight" not in value:
        raise bad(f"{path}.weight", "is required, or leafWeight")


_throttles = listing(record({**_BLOCK, "rate": _u64}, "major minor rate"))

_RESOURCES = record(
    {
        "devices": listing(
            record(
                {
                    "allow": boolean,
                    "type": word(("a", "b", "c"), "type of device"),
                    "major": integer(-1, _MAJOR),  # -1, as Docker and Podman write it, is any
                    "minor": integer(-1, _MINOR),
                    "access": _access,
                },
                "allow",
            )
        ),
        "memory": record(
            {
                "limit": _bytes,
                "reservation": _bytes,
                "swap": _bytes,
                "kernel": _bytes,
                "kernelTCP": _bytes,
                "swappiness": integer(0, 100),
                "disableOOMKiller": boolean,
                "useHierarchy": boolean,
                "checkBeforeUpdate": boolean,
            }
        ),
        "cpu": record(
            {
                "shares": _u64,
                "quota": _i64,
                "burst": _u64,
                "period": _u64,
                "realtimeRuntime": _i64,
                "realtimePeriod": _u64,
                "cpus": string,
                "mems": string,
                "idle": integer(0, 1),
            }
        ),
        "pids": record({"limit": _i64}),  # required, but not of what Go's bindings write since specification 1.3
        "blockIO": record(
            {
                "weight": _weight,
                "leafWeight": _weight,
                "weightDevice": listing(_device_weight),
                "throttleReadBpsDevice": _throttles,
                "throttleWriteBpsDevice": _throttles,
                "throttleReadIOPSDevice": _throttles,
                "throttleWriteIOPSDevice": _throttles,
            }
        ),
        "hugepageLimits": listing(record({"pageSize": string, "limit": _u64}, "pageSize limit")),
        "network": record(
            {"classID": _u32, "priorities": listing(record({"name": string, "priority": _u32}, "name priority"))}
        ),
        "rdma": mapping(record({"hcaHandles": _u32, "hcaObjects": _u32})),
        "unified": mapping(string),
    }
)
