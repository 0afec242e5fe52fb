"""Which cgroup a spec's `cgroupsPath` names, for either driver (OCI runtime spec, config-linux.md, "Cgroups Path")."""

from __future__ import annotations

import os

from engine.runtime.cgroups import manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.manager import Cgroup


def name(cgroups_path: str, container_id: str, systemd: bool) -> str:
    """What names the cgroup for good: a path from the hierarchies' root, or slice:prefix:name for systemd.

    A relative path is taken from that root, too: below our own cgroup, which holds us, v2 would give no controllers on.
    Whatever it says, it never leads above. Raises UsageError for what is no name of systemd's.
    """
    if systemd:
        from engine.runtime.cgroups.systemd import name_of

        return name_of(cgroups_path, container_id)
    path = os.path.normpath("/" + cgroups_path.lstrip("/"))
    return path if path != "/" else f"/{container_id}"


def cgroup(name: str) -> Cgroup:
    """The cgroup of that name, made or not."""
    if name.startswith("/"):
        return manager.Cgroup(manager.detect(), name)
    from engine.runtime.cgroups.systemd import SystemdCgroup

    return SystemdCgroup(manager.detect(), name)
