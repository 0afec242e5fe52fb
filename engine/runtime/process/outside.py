"""What a process's parent sets on it, when it is ready to execute its program: all that takes rights on the host itself.

A process in a user namespace has none, whatever capabilities it holds there; one that joins a container has given them up when
it is born. And a task under SCHED_DEADLINE cannot fork, which both ways need to. OCI runtime spec, config.md "Linux Process";
sched_setattr(2), ioprio_set(2), prlimit(2).
"""

from __future__ import annotations

import errno
import os

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Process

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,  # reserved: no kernel has it, and says so
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_CLASS_SHIFT = 13  # linux/ioprio.h
_MOST = 1 << 16  # no kernel has so many processors (NR_CPUS)


def settle(pid: int, process: Process, mapped: bool) -> None:
    """Sets what the spec's `process` asks for on process `pid`. `mapped`: it is in a user namespace, and has set no limits.

    Raises RuntimeFault.
    """
    if mapped:
        rlimits.apply(process.get("rlimits", []), pid)
    if scheduler := process.get("scheduler"):
        _schedule(pid, scheduler)
    if priority := process.get("ioPriority"):
        _prioritize(pid, priority)


def _schedule(pid: int, wanted: dict[str, Any]) -> None:
    policy = wanted["policy"]
    try:
        linux.sched_setattr(
            pid,
            policy=POLICIES[policy],
            flags=sum(SCHEDULER_FLAGS[name] for name in wanted.get("flags") or []),
            nice=wanted.get("nice", 0),
            priority=wanted.get("priority", 0),
            runtime=wanted.get("runtime", 0),
            deadline=wanted.get("deadline", 0),
            period=wanted.get("period", 0),
        )
    except OSError as e:
        hints = {
            errno.EPERM: "real time policies and a higher priority need CAP_SYS_NICE on the host, and a cgroup that may use them",
            errno.EINVAL: "SCHED_FIFO and SCHED_RR need a priority from 1 to 99, all others 0; SCHED_DEADLINE needs runtime <= "
            "deadline <= period",
            errno.EBUSY: "no processor has that much time left for SCHED_DEADLINE",
        }
        text = f"cannot set the scheduling policy {policy}: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("scheduler", text, e.errno or 0, hint=hints.get(e.errno or 0)) from e


def _prioritize(pid: int, wanted: dict[str, Any]) -> None:
    name, level = wanted["class"], wanted.get("priority", 0)
    try:
        linux.ioprio_set(linux.IOPRIO_WHO_PROCESS, pid, IO_CLASSES[name] << _CLASS_SHIFT | level)
    except OSError as e:
        text = f"cannot set the I/O priority {name} {level}: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("ioPriority", text, e.errno or 0) from e


def cpus(text: str) -> set[int]:
    """The processors of `0-3,7`. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if int(last or first) > _MOST:
            raise ValueError
        found.update(range(int(first), int(last or first) + 1))
    return found
