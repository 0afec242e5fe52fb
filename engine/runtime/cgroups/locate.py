"""Which cgroup a spec's `cgroupsPath` names, for either driver (OCI runtime spec, config-linux.md, "Cgroups Path")."""

from __future__ import annotations

import os

from engine.runtime.cgroups import manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Spec
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


def cgroup(name: str, annotations: dict[str, str] | None = None) -> Cgroup:
    """The cgroup of that name, made or not; `annotations` of a spec say how systemd is to make it. Raises UsageError."""
    if name.startswith("/"):
        return manager.Cgroup(manager.detect(), name)
    from engine.runtime.cgroups.systemd import SystemdCgroup

    return SystemdCgroup(manager.detect(), name, annotations)


def owner(spec: Spec) -> int | None:
    """The host's id of root in a new user namespace, where that root may have its cgroup: in a cgroup namespace of its own, with
    a tree mounted to be written (config-linux.md, "Cgroup ownership"). None otherwise.
    """
    settings = spec.get("linux") or {}
    new = {n["type"] for n in settings.get("namespaces") or () if not n.get("path")}
    writable = any(
        m.get("type") in ("cgroup", "cgroup2") and "ro" not in (m.get("options") or ())
        for m in spec.get("mounts") or ()
    )
    if not {"user", "cgroup"} <= new or not writable:
        return None
    for mapping in settings.get("uidMappings") or ():
        if mapping["containerID"] == 0:
            return int(mapping["hostID"])
    return None
