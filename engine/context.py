"""What a command works on: the data root and the few settings, made once by the command line and passed on."""

from __future__ import annotations

import os

from engine.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.cgroups.layout import Layout

DEFAULT_BRIDGE = "mini0"
DEFAULT_SUBNET = "172.29.0.0/16"
DEFAULT_CGROUP_PARENT = "/mini"


class Context:
    """No ambient globals: every use case takes this. Pure data.

    `bridge`, `subnet` and `cgroup_parent` (MINI_BRIDGE, MINI_SUBNET, MINI_CGROUP_PARENT) keep several minis on one host apart.
    `publish_address` (MINI_PUBLISH_ADDRESS) is the host's where `-p` names none; empty: all of them.
    `storage_driver` is "erofs", "directory", or None for the best that the kernel can do (`storage.drivers.choose`).
    `log` is told every change of the network as the command that would do it (`--debug`).
    """

    __slots__ = (
        "_cgroups",
        "bridge",
        "cgroup_parent",
        "debug",
        "environ",
        "log",
        "paths",
        "publish_address",
        "storage_driver",
        "subnet",
    )

    def __init__(
        self, paths: Paths, environ: dict[str, str], storage_driver: str | None = None, debug: bool = False
    ) -> None:
        self.paths = paths
        self.environ = environ
        self.storage_driver = storage_driver or environ.get("MINI_STORAGE_DRIVER") or None
        self.debug = debug
        self._cgroups: Layout | None = None
        self.log: Callable[[str], None] | None = None
        self.bridge = environ.get("MINI_BRIDGE") or DEFAULT_BRIDGE
        self.subnet = environ.get("MINI_SUBNET") or DEFAULT_SUBNET
        self.publish_address = environ.get("MINI_PUBLISH_ADDRESS") or ""
        self.cgroup_parent = environ.get("MINI_CGROUP_PARENT") or DEFAULT_CGROUP_PARENT

    @property
    def cgroups(self) -> Layout:
        """Which cgroups this host has; its mount table, which may be long, is read once."""
        if self._cgroups is None:
            from engine.runtime.cgroups.layout import detect

            self._cgroups = detect()
        return self._cgroups

    @classmethod
    def from_environment(
        cls, root: str | None = None, storage_driver: str | None = None, debug: bool = False
    ) -> Context:
        environ = dict(os.environ)
        return cls(Paths.default(root, environ), environ, storage_driver, debug)
