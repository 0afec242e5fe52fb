"""What a container uses, in the form of `runc events --stats` (opencontainers/runc, types/events.go), the same for v1 and v2.

    {"cpu":     {"usage": {"total": ns, "user": ns, "kernel": ns, "percpu": [ns, …]},
                 "throttling": {"periods": n, "throttledPeriods": n, "throttledTime": ns}, "psi": {…}},
     "cpuset":  {"cpus": [n, …], "mems": [n, …], …},
     "memory":  {"usage": {"usage": bytes, "limit": bytes, "max": bytes, "failcnt": n}, "swap": {…}, "kernel": {…},
                 "cache": bytes, "raw": memory.stat, "event_count": {"oom_kill": n, …}, "psi": {…}},
     "pids":    {"current": n, "limit": n or 0},
     "blkio":   {"ioServiceBytesRecursive": [{"major": n, "minor": n, "op": "Read", "value": bytes}, …], …, "psi": {…}},
     "hugetlb": {"2MB": {"usage": bytes, "max": bytes, "failcnt": n}},
     "rdma":    {"current": {device: {"hcaHandles": n, "hcaObjects": n}}, "limit": {…}}}

A part is left out where the host has no controller for it. What is unlimited has the greatest number that the kernel writes
(v1), or NO_LIMIT.
"""

from __future__ import annotations

from engine.runtime.cgroups.fs import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.cgroups.manager import Cgroup

# part → the controllers that tell it, by v1's names; cpuacct's files are in cpu on v2, and there always
_PARTS = (
    ("cpu", ("cpuacct", "cpu")), ("cpuset", ("cpuset",)), ("memory", ("memory",)), ("pids", ("pids",)),
    ("blkio", ("blkio", "io")), ("hugetlb", ("hugetlb",)), ("rdma", ("rdma",)),
)  # fmt: skip


def collect(cgroup: Cgroup) -> dict[str, Any]:
    """Reads the counters of `cgroup`; {} where it is gone."""
    found: dict[str, Any] = {}
    for part, controllers in _PARTS:
        for controller in controllers:
            directory = cgroup.directory(controller)
            if directory is None and controller == "cpu" and part not in found:
                directory = cgroup.v2
            if directory is not None and read(f"{directory}/cgroup.procs") is not None:
                version = "v1" if controller in cgroup.layout.v1 else "v2"
                module = __import__(f"engine.runtime.cgroups.{version}.{controller}", fromlist=["stats"])
                found.setdefault(part, {}).update(module.stats(_reader(directory)))
    return found


def _reader(directory: str) -> Any:
    return lambda file: read(f"{directory}/{file}")
