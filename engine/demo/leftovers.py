"""What one data root's containers have on the host, asked of the kernel: the proof that nothing of it is left."""

from __future__ import annotations

import os
import socket

from engine.context import Context
from engine.runtime.cgroups.layout import Layout, detect
from engine.runtime.network.bridge import remove as remove_bridge
from engine.runtime.network.model import Networks


def remove_shared(context: Context) -> None:
    """The bridge, its rules and the parent cgroups, which outlive every single container. Idempotent."""
    networks = Networks(context.paths, context.bridge, context.subnet)
    remove_bridge(networks.get("bridge"))
    for directory in reversed(_cgroups(context)):
        os.rmdir(directory)


def find(context: Context) -> dict[str, list[str]]:
    """By kind (mounts, links, cgroups, processes), what is there."""
    root = context.paths.root
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        targets = [line.split()[4] for line in file]
    return {
        "mounts": [target for target in targets if target.startswith(f"{root}/")],
        "links": [name for _, name in socket.if_nameindex() if name == context.bridge],
        "cgroups": _cgroups(context),
        "processes": _processes(context),
    }


def _cgroups(context: Context) -> list[str]:
    """The parent in every hierarchy and all below it, from the top down."""
    tops = [f"{root}{context.cgroup_parent}" for root in _roots(detect())]
    return [path for top in tops for path, _, _ in os.walk(top)]


def _roots(layout: Layout) -> list[str]:
    return [*layout.v1_roots, *([layout.v2] if layout.v2 else [])]


def _processes(context: Context) -> list[str]:
    """Those in one of the cgroups, or with the data root on their command line: containers and their monitors."""
    marks = (os.fsencode(context.cgroup_parent) + b"/", os.fsencode(context.paths.root))
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):
        try:
            with open(f"/proc/{pid}/cgroup", "rb") as cgroup, open(f"/proc/{pid}/environ", "rb") as environ:
                if marks[0] in cgroup.read() or b"MINI_ROOT=" + marks[1] in environ.read().split(b"\0"):
                    found.append(pid)
        except OSError:  # it has ended meanwhile
            continue
    return found
