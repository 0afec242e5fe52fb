"""From OCI `linux.resources` to writes: which controllers are needed, what each writes, and what must be ready before.

Controllers are imported when a resource asks for them: a container without limits loads `devices` alone.
"""

from __future__ import annotations

import errno
import os

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.cgroups.devices import ALWAYS_ALLOWED, DeviceList
from engine.runtime.cgroups.fs import read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def wanted(resources: dict[str, Any]) -> list[str]:
    """The controllers that `resources` asks something of, in v1's names."""
    cpu = {name for name, value in (resources.get("cpu") or {}).items() if value}
    wants = {
        "cpuset": bool(cpu & {"cpus", "mems"}),
        "cpu": bool(cpu - {"cpus", "mems"}),
        "memory": any(value not in (None, 0, False) for value in (resources.get("memory") or {}).values()),
        "pids": (resources.get("pids") or {}).get("limit") is not None,
        "blkio": any((resources.get("blockIO") or {}).values()),
        "hugetlb": bool(resources.get("hugepageLimits")),
        "net_cls": bool((resources.get("network") or {}).get("classID")),
        "net_prio": bool((resources.get("network") or {}).get("priorities")),
        "rdma": bool(resources.get("rdma")),
    }
    return [name for name, want in wants.items() if want]


def settings(
    controller: str, on_v1: bool, resources: dict[str, Any], read: Callable[[str], str | None]
) -> list[tuple[str, str]]:
    """What to write for `controller`: (file, value) in order. `read` returns a file of the cgroup, None where it is
    missing.
    """
    if controller not in ("cpu", "cpuset", "memory", "pids", "blkio", "io", "hugetlb"):
        raise Unsupported(f"mini does not set limits of the {controller} controller")
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
    devices = DeviceList.from_rules(rules + ALWAYS_ALLOWED)
    if v1 is not None:
        from engine.runtime.cgroups.v1.devices import settings as device_settings

        for file, value in device_settings(devices):
            write(f"{v1}/{file}", value)
        return
    if devices.default_allow and not devices.exceptions:
        return
    if v2 is None:
        raise Unsupported("this host has no devices controller for cgroups: device nodes could not be restricted")
    from engine.runtime.cgroups.v2.devices import attach

    try:
        attach(v2, devices)
    except OSError as e:
        if e.errno == errno.EPERM and _in_user_namespace():
            return  # no device node can be made or opened there that the namespace's owner could not open
        raise RuntimeFault("cgroup", f"cannot restrict devices of {v2}: {e.strerror}", e.errno or 0, v2) from e


def _in_user_namespace() -> bool:
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


def delegate(root: str, path: str, controllers: frozenset[str]) -> None:
    """Switches `controllers` on from `root` down to the parent of `path` (v2), so that the cgroup there has their
    files.

    One by one: a controller that cannot be switched on (cpuset with real-time processes about) must not cost the
    others; whoever asks for its limit learns that the file is missing. A cgroup that holds processes cannot switch
    any on ("no internal processes"), except the true root. In a container the root that is seen is none: as dind
    does, its processes move into a leaf named `init`.
    """
    directory = root
    for name in path.strip("/").split("/"):
        missing = controllers - set((read(f"{directory}/cgroup.subtree_control") or "").split())
        for controller in sorted(missing):
            try:
                write(f"{directory}/cgroup.subtree_control", f"+{controller}")
            except RuntimeFault as e:
                if e.errno != errno.EBUSY or directory != root:
                    continue
                _evacuate(root)
                try:
                    write(f"{directory}/cgroup.subtree_control", f"+{controller}")
                except RuntimeFault:
                    continue
        directory = f"{directory}/{name}"


def _evacuate(root: str) -> None:
    """Moves the processes of the v2 root that is seen here into its leaf `init`."""
    leaf = f"{root}/init"
    os.makedirs(leaf, exist_ok=True)
    for _ in range(10):
        pids = (read(f"{root}/cgroup.procs") or "").split()
        if not pids:
            return
        for pid in pids:
            try:
                write(f"{leaf}/cgroup.procs", pid)
            except RuntimeFault as e:
                if e.errno not in (errno.ESRCH, errno.EINVAL):  # gone meanwhile; a kernel thread
                    raise
