"""`exec --cgroup`: cgroups below the container's, which exist already; one for every hierarchy, or one for a controller's.

    --cgroup /worker                            everywhere
    --cgroup memory:/worker --cgroup cpu:/x     v1 only; where nothing is said it is the container's own

opencontainers/runc, exec.go and man/runc-exec.8.md.
"""

from __future__ import annotations

import os

from engine.errors import UsageError
from engine.runtime.cgroups.layout import Layout
from engine.runtime.cgroups.manager import Cgroup


class Below:
    """To be entered like the container's `cgroup`, by a process that joins it. Raises UsageError."""

    def __init__(self, cgroup: Cgroup, arguments: list[str]) -> None:
        layout = cgroup.layout
        chosen = _paths(layout, arguments)
        self._parts: list[Cgroup] = []
        for name, root in {**layout.v1, "": layout.v2}.items():
            if root is None or not os.path.isdir(root + cgroup.path):
                continue
            path = os.path.normpath(f"{cgroup.path}/{chosen.get(root, chosen.get('', ''))}")
            if not os.path.isdir(root + path):
                raise UsageError(f"--cgroup: there is no cgroup {root}{path}")
            self._parts.append(Cgroup(Layout({name: root}, None) if name else Layout({}, root), path))

    def enter(self) -> None:
        for part in self._parts:
            part.enter()


def _paths(layout: Layout, arguments: list[str]) -> dict[str, str]:
    """The path below the container's cgroup by mount point of the hierarchy; by "" the one for all."""
    chosen: dict[str, str] = {}
    for argument in arguments:
        controllers, colon, path = argument.rpartition(":")
        if not colon and len(arguments) > 1:
            raise UsageError(f"--cgroup {argument}: with another --cgroup it needs a controller (CONTROLLER:PATH)")
        if ".." in path.split("/"):
            raise UsageError(f"--cgroup {argument} is not below the container's cgroup")
        for controller in controllers.split(",") if colon else ():
            root = layout.v1.get(controller)
            if root is None:
                raise UsageError(f"--cgroup {argument}: this host has no cgroup v1 controller {controller!r}")
            if chosen.setdefault(root, path) != path:
                raise UsageError(f"--cgroup {argument}: the hierarchy of {controller} is named twice")
        if not colon:
            chosen[""] = path
    return chosen
