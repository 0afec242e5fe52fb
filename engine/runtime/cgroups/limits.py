"""From OCI `linux.resources` to writes: which controllers are needed, what each writes, and what must be ready before.

Controllers are imported when a resource asks for them: a container without limits loads `devices` alone.
"""

from __future__ import annotations

import errno

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.cgroups.devices import ALWAYS_ALLOWED, EVERYTHING, DeviceList, answers
from engine.runtime.cgroups.fs import read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def wanted(resources: dict[str, Any]) -> list[str]:
    """The controllers that `resources` asks something of, in v1's names."""
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    wants = {
        "cpuset": _any(cpu, "cpus", "mems"),
        "cpu": _any(cpu, "shares", "quota", "period", "realtimeRuntime", "realtimePeriod")
        or _given(cpu, "burst", "idle"),
        "memory": _any(memory, "limit", "reservation", "swap", "disableOOMKiller")
        or _given(memory, "swappiness", "useHierarchy")
        or any((memory.get(name) or 0) > 0 for name in ("kernel", "kernelTCP")),
        "pids": _given(resources.get("pids") or {}, "limit"),
        "blkio": any((resources.get("blockIO") or {}).values()),
        "hugetlb": bool(resources.get("hugepageLimits")),
        "net_cls": _any(resources.get("network") or {}, "classID"),
        "net_prio": _any(resources.get("network") or {}, "priorities"),
        "rdma": bool(resources.get("rdma")),
    }
    return [name for name, want in wants.items() if want]


def _any(values: dict[str, Any], *names: str) -> bool:
    """Whether one of them is there and asks for something: 0 is no limit."""
    return any(values.get(name) for name in names)


def _given(values: dict[str, Any], *names: str) -> bool:
    """Whether one of them is there, whatever it says: 0 is a value."""
    return any(values.get(name) is not None for name in names)


def settings(
    controller: str, on_v1: bool, resources: dict[str, Any], read: Callable[[str], str | None]
) -> list[tuple[str, str]]:
    """What to write for `controller`: (file, value) in order. `read` returns a file of the cgroup, None where it is
    missing.
    """
    # not importlib.import_module: importing importlib itself would cost a millisecond
    module = __import__(f"engine.runtime.cgroups.{'v1' if on_v1 else 'v2'}.{controller}", fromlist=["settings"])
    # A spec may say null where it means nothing.
    present = {name: value for name, value in resources.items() if value is not None}
    plan: list[tuple[str, str]] = module.settings(present, read)
    return plan


def apply_devices(rules: list[dict[str, Any]], v1: str | None, v2: str | None) -> None:
    """Restricts devices to `rules` and those that every container has: by the files at `v1`, or by a program at `v2`.

    Raises Unsupported where neither is possible, unless everything is allowed anyway.
    """
    if v1 is not None:
        from engine.runtime.cgroups.v1.devices import settings as device_settings

        for file, value in device_settings(DeviceList.from_rules(rules + ALWAYS_ALLOWED)):
            write(f"{v1}/{file}", value)
        return
    allowed = answers(rules + ALWAYS_ALLOWED)
    if allowed == EVERYTHING:
        return
    if v2 is None:
        raise Unsupported("this host has no devices controller for cgroups: device nodes could not be restricted")
    from engine.runtime.cgroups.v2.devices import attach

    try:
        attach(v2, allowed)
    except OSError as e:
        if e.errno == errno.EPERM and in_user_namespace():
            return  # no device node can be made or opened there that the namespace's owner could not open
        raise RuntimeFault("cgroup", f"cannot restrict devices of {v2}: {e.strerror}", e.errno or 0, v2) from e


def in_user_namespace() -> bool:
    return (read("/proc/self/uid_map") or "").split() != ["0", "0", "4294967295"]


def inherit_cpuset(root: str, path: str) -> None:
    """Fills the empty cpusets from `root` down to `path` with their parents' processors and nodes (v1)."""
    from engine.runtime.cgroups.v1.cpuset import inherit

    parent = root
    for name in path.strip("/").split("/"):
        child = f"{parent}/{name}"
        for file, value in inherit(_reader(parent), _reader(child)):
            write(f"{child}/{file}", value)
        parent = child


def _reader(directory: str) -> Callable[[str], str | None]:
    return lambda file: read(f"{directory}/{file}")
