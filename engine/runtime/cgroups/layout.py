"""Which cgroup hierarchies this host has, as its mount table tells.

    v1       one hierarchy a controller (or a few that share one), each a tree of its own
    v2       one tree, in which controllers are switched on level by level
    hybrid   both: a controller belongs to one of the two, v2 often has none
    none     no cgroup file system is mounted: containers run without limits, asking for one is an error

cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

V1_CONTROLLERS = frozenset(
    (
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "perf_event",
        "rdma",
        "misc",
    )
    + ("net_cls", "net_prio")
)


class Layout:
    """Where each controller is. Pure data: `v1` maps a controller (or "name=systemd") to its mount point, `v2` is the
    mount point of the unified tree or None, `v2_controllers` what that tree offers at its root."""

    __slots__ = ("v1", "v2", "v2_controllers")

    def __init__(self, v1: dict[str, str], v2: str | None, v2_controllers: frozenset[str] = frozenset()) -> None:
        self.v1 = v1
        self.v2 = v2
        self.v2_controllers = v2_controllers

    @property
    def version(self) -> str:
        """ "v1", "v2", "hybrid" or "none"."""
        has_v1 = any(not name.startswith("name=") for name in self.v1)
        if self.v2 is None:
            return "v1" if has_v1 else "none"
        return "hybrid" if has_v1 else "v2"

    @property
    def v1_roots(self) -> list[str]:
        """Mount points of the v1 hierarchies, each once: `cpu` and `cpuacct` are often one hierarchy."""
        return list(dict.fromkeys(self.v1.values()))


def detect(proc: str = "/proc") -> Layout:
    """Reads the mount table of this process (proc_pid_mountinfo(5)) and the controllers of the v2 root.

    A hierarchy that is mounted at several places is taken where it was mounted first. Raises OSError where `proc` is
    not a proc file system.
    """
    v1: dict[str, str] = {}
    v2 = None
    with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for mount_point, fstype, options in _cgroup_mounts(file.read()):
            if fstype == "cgroup2":
                v2 = v2 or mount_point
                continue
            for option in options.split(","):
                if option in V1_CONTROLLERS or option.startswith("name="):
                    v1.setdefault(option, mount_point)
    return Layout(v1, v2, _v2_controllers(v2))


def _cgroup_mounts(table: str) -> Iterator[tuple[str, str, str]]:
    """(mount point, file system, super block options) of each cgroup mount."""
    for line in table.splitlines():
        left, separator, right = line.partition(" - ")
        if separator and right.startswith("cgroup"):
            fstype, _, options = right.split(" ", 2)
            yield _unescape(left.split(" ")[4]), fstype, options


def _unescape(path: str) -> str:
    """The kernel writes blank, tab, line feed and backslash as three octal digits."""
    if "\\" not in path:
        return path
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _v2_controllers(root: str | None) -> frozenset[str]:
    if root is None:
        return frozenset()
    try:
        with open(f"{root}/cgroup.controllers") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()
