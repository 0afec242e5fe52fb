"""The sources of mounts that only the parent can open: a user namespace's root may not reach them, and ids are mapped by
whoever has rights on their file system.

Each becomes the descriptor of a detached mount (`Mount.fd`), which init attaches.
"""

from __future__ import annotations

import os

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import devices, mounts, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from engine.oci.runtime import Mount, Spec
    from engine.runtime.process.init import Task


class Opened:
    """`spec` and `task` with their sources opened. A context manager, which closes them; the child has its own by then.

    What a caller without rights (rootless) cannot open so is left to be opened from within, with the same rights there.
    Raises RuntimeFault, Unsupported.
    """

    __slots__ = ("_fds", "spec", "_task")

    def __init__(self, spec: Spec, task: Task) -> None:
        self.spec = spec
        self._task = task
        self._fds: list[int] = []

    def __enter__(self) -> Spec:
        try:
            if self._task.namespaces.user:
                self._open_root()
            self.spec = {**self.spec, "mounts": [self._opened(m) for m in self.spec.get("mounts", ())]}
            if "user" in self._task.namespaces.new:
                settings = self.spec.get("linux", {})
                made = [self._made(node, settings) for node in settings.get("devices", ())]
                self.spec["linux"] = {**settings, "devices": made}
        except BaseException:
            self.__exit__()
            raise
        return self.spec

    def __exit__(self, *exc: object) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _open_root(self) -> None:
        if isinstance(self._task.rootfs, int) or len(self._task.rootfs) > 1:
            return
        word = self.spec.get("linux", {}).get("rootfsPropagation", "")
        m = self._task.rootfs[0] if self._task.rootfs else rootfs.bind_of(self.spec["root"]["path"], word)
        fd = self._detached(m)
        if fd is not None:
            for propagation, recursive in mounts.parse(m).propagation:
                linux.mount_setattr(fd, "", propagation=propagation, recursive=recursive)
            self._task.rootfs = fd

    def _opened(self, m: Mount) -> Mount:
        plan = mounts.parse(m)
        if "fd" in m or not (plan.idmap or (plan.bind and self._task.namespaces.user)):
            return m
        if plan.idmap and not m.get("uidMappings"):
            m = self._as_container(m)
        fd = self._detached(m)
        if fd is not None:
            return {**m, "fd": fd}
        if plan.idmap:
            text = f"cannot map the ids of {mounts.describe(m)}: it takes the host's CAP_SYS_ADMIN"
            raise RuntimeFault("idmap", text, 1, m["destination"])
        return m

    def _made(self, node: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """A device, which root of the namespace may not make; as it is where the caller may not either, or its owner has no id."""
        uid = _on_host(node.get("uid") or 0, settings.get("uidMappings", ()))
        gid = _on_host(node.get("gid") or 0, settings.get("gidMappings", ()))
        if uid is None or gid is None:
            return node
        try:
            fd = devices.make_detached(node, (uid, gid))
        except PermissionError:
            return node
        except OSError as e:
            text = f"cannot make the device {node['path']}: {mounts.reason(e)}"
            raise RuntimeFault("device", text, e.errno or 0, node["path"]) from e
        self._fds.append(fd)
        return {**node, "fd": fd}

    def _as_container(self, m: Mount) -> Mount:
        """Without mappings of its own, `idmap` means those of the container (config.md, "Linux mount options")."""
        settings = self.spec.get("linux", {})
        if "user" not in self._task.namespaces.new:
            text = f"cannot map the ids of {mounts.describe(m)}: neither it nor a new user namespace has mappings"
            raise RuntimeFault("idmap", text, 22, m["destination"])
        return {**m, "uidMappings": settings["uidMappings"], "gidMappings": settings["gidMappings"]}

    def _detached(self, m: Mount) -> int | None:
        try:
            fd = mounts.detached(m, mounts.parse(m))
        except PermissionError:
            return None
        except OSError as e:
            raise mounts.fault(m, e) from e
        self._fds.append(fd)
        return fd


def _on_host(number: int, mappings: Iterable[dict[str, int]]) -> int | None:
    """A container's id as the host has it; None where it is not mapped."""
    for entry in mappings:
        offset = number - entry["containerID"]
        if 0 <= offset < entry["size"]:
            return entry["hostID"] + offset
    return None
