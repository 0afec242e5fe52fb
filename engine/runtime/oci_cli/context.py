"""What every command of mini-runtime is given: where the state is, the log, how cgroups are made."""

from __future__ import annotations

import os

from engine.errors import UsageError
from engine.runtime.oci_cli.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Spec
    from engine.runtime.cgroups.manager import Cgroup

OCI_VERSION = "1.2.0"  # the newest that is implemented
NUMBER = "0.1.0"
VERSION = f"mini-runtime version {NUMBER}\nspec: {OCI_VERSION}\n"


class Context:
    """Raises UsageError for settings that contradict each other."""

    __slots__ = ("log", "root", "rootless", "systemd")

    def __init__(self, settings: dict[str, Any]) -> None:
        self.log = Log(settings.get("log"), settings.get("log-format", "text"), settings.get("debug", False))
        self.root = os.path.abspath(settings.get("root") or default_root())
        manager = settings.get("cgroup-manager", "cgroupfs")
        if manager not in ("cgroupfs", "systemd"):
            raise UsageError(f"invalid value for --cgroup-manager: {manager}", "cgroupfs and systemd are")
        self.systemd = settings.get("systemd-cgroup", False) or manager == "systemd"
        rootless = settings.get("rootless", "auto")
        if rootless not in ("true", "false", "auto"):
            raise UsageError(f"invalid value for --rootless: {rootless}")
        self.rootless = os.geteuid() != 0 if rootless == "auto" else rootless == "true"

    @property
    def seccomp_cache(self) -> str:
        """No container's: an ID may be so called, but then has no state there."""
        return f"{self.root}/.seccomp"

    def cgroup_path(self, spec: Spec, container_id: str) -> str:
        """What names the container's cgroup for good. Raises UsageError."""
        from engine.runtime.cgroups import locate

        return locate.name((spec.get("linux") or {}).get("cgroupsPath") or "", container_id, self.systemd)


def default_root() -> str:
    if os.geteuid() == 0:
        return "/run/mini-runtime"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/mini-runtime"


def cgroup_at(path: str, annotations: dict[str, str] | None = None) -> Cgroup:
    """Raises UsageError for annotations that systemd's driver cannot take."""
    from engine.runtime.cgroups import locate

    return locate.cgroup(path, annotations)
