"""One container's cgroup, on whatever hierarchies the host has.

The order of a container's life: `create`, `apply`, `add` (or `enter`), …, `kill`, `delete`. On v1 and hybrid hosts the
directory is made on every v1 hierarchy, named ones too, so that a cgroup namespace shows nothing above it; the
unified tree of a hybrid host joins in only when a limit needs a controller that lives there.

`create`, `apply` and `delete` may be repeated. Many minis may work under one parent at once: whoever finds the parent
gone makes it again. Errors: RuntimeFault of step "cgroup" that names file, value and errno; Unsupported, naming the
controller, for a limit that was asked for and that this host cannot set.
"""

from __future__ import annotations

import errno
import os

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.cgroups import limits, unified
from engine.runtime.cgroups.fs import read, rmdir, table, tree, tree_pids, write
from engine.runtime.cgroups.layout import Layout, detect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MINIMUM_MEMORY", "Cgroup", "Layout", "detect"]

MINIMUM_MEMORY = 6 << 20  # bytes: Docker refuses less ("Minimum memory limit allowed is 6MB")


class Cgroup:
    """The cgroup at `path` ("/mini/<id>", from each hierarchy's mount point). Holds no descriptor and no state but
    names.
    """

    __slots__ = ("layout", "path")

    def __init__(self, layout: Layout, path: str) -> None:
        if not path.startswith("/") or ".." in path.split("/") or path.strip("/") == "":
            raise ValueError(f"not a cgroup path: {path!r}")
        self.layout = layout
        self.path = "/" + path.strip("/")

    def directory(self, controller: str) -> str | None:
        """Where `controller` ("memory", "io") keeps this cgroup's files; None where the host does not have it."""
        root = self.layout.v1.get(controller)
        if root is None and controller in self.layout.v2_controllers:
            root = self.layout.v2
        return None if root is None else root + self.path

    @property
    def v2(self) -> str | None:
        """Its directory in the v2 tree, made or not; None where none is mounted."""
        return None if self.layout.v2 is None else self.layout.v2 + self.path

    def directories(self) -> list[str]:
        """The directories of this cgroup that exist, those of v1 first."""
        return [root + self.path for root in self._roots() if os.path.isdir(root + self.path)]

    def _roots(self) -> list[str]:
        return self.layout.v1_roots + ([self.layout.v2] if self.layout.v2 else [])

    def exists(self) -> bool:
        return bool(self.directories())

    def create(self) -> None:
        """Makes the directories; on v1 also gives a new cpuset its parent's processors, without which nobody can
        join.
        """
        for root in self.layout.v1_roots:
            _make(root, self.path)
        if self.layout.version == "v2":
            self._create_v2()
        if cpuset := self.layout.v1.get("cpuset"):
            limits.inherit_cpuset(cpuset, self.path)

    def _create_v2(self) -> None:
        """Delegates after making: from then on nobody takes the parent away. Cheap where all is switched on already."""
        assert self.layout.v2 is not None
        _make(self.layout.v2, self.path)
        unified.make_usable(self.layout.v2, self.path)
        unified.delegate(self.layout.v2, self.path, self.layout.v2_controllers)

    def apply(self, resources: dict[str, Any]) -> None:
        """Sets the OCI `linux.resources`, on the cgroup that `create` made. What is left out stays as it is, but for
        devices: without rules, everything but the default devices is denied.

        Before the container's first process joins, so that no limit is ever missing for a moment.
        """
        self.set_limits(resources)
        limits.apply_devices(resources.get("devices") or [], self.directory("devices"), self._v2_for_devices())

    def set_limits(self, resources: dict[str, Any]) -> None:
        """Sets the limits of `resources`, also while the container runs; `unified` last, so that it has the last word. Devices stay
        as they are."""
        for controller in limits.wanted(resources):
            place = self._place(controller)
            for file, value in limits.settings(place, place in self.layout.v1, resources, self._reader(place)):
                write(f"{self._directory(place)}/{file}", value)
        self._apply_unified(resources.get("unified") or {})

    def _place(self, controller: str) -> str:
        """The controller's name on the hierarchy that has it. The only names that differ: blkio became io."""
        for name in (controller, "io") if controller == "blkio" else (controller,):
            if name in self.layout.v1:
                return name
            if name in self.layout.v2_controllers and self.layout.v2:
                self._create_v2()
                unified.require(self.layout.v2, self.path, name)
                return name
        raise Unsupported(
            f"this host has no {controller} controller for cgroups, which the limit asked for needs",
            f"leave the limit out, or enable the controller (see {self.layout.v2 or '/proc/cgroups'})",
        )

    def _directory(self, controller: str) -> str:
        found = self.directory(controller)
        assert found is not None
        return found

    def _reader(self, controller: str) -> Any:
        directory = self._directory(controller)
        return lambda file: read(f"{directory}/{file}")

    def _v2_for_devices(self) -> str | None:
        """Where an eBPF program can be attached, if v1 has no devices controller."""
        if self.layout.v2 is None or "devices" in self.layout.v1:
            return None
        self._create_v2()
        return self.v2

    def _apply_unified(self, files: dict[str, str]) -> None:
        """OCI `unified`: v2's files as they are, a write for each line. Names only, or a spec could write anywhere."""
        for file, value in files.items():
            if "/" in file or self.layout.v2 is None:
                raise Unsupported(
                    f"linux.resources.unified needs a cgroup v2 file's name; this host cannot set {file!r}"
                )
            self._create_v2()
            try:
                for line in value.splitlines() or [""]:
                    write(f"{self.v2}/{file}", line)
            except Unsupported:
                controller = file.partition(".")[0]
                if controller != "cgroup":
                    unified.require(self.layout.v2, self.path, controller)
                raise

    def give_to(self, uid: int | None) -> None:
        """Lets `uid` of the host, if any, make cgroups below this one, on v2; on v1 that is not safe."""
        if uid is not None and self.layout.version == "v2" and self.v2:
            unified.give_to(self.v2, uid)

    def add(self, pid: int) -> None:
        """Moves the process with all its threads into the cgroup.

        The first move after a quiet while waits for an RCU grace period (11 ms measured here): prefer `enter`.
        """
        self._join(str(pid), "cgroup.procs")

    def enter(self) -> None:
        """Moves the calling process, which must have one thread only, into the cgroup.

        A thread that moves itself by v1's `tasks` file needs no lock over all processes, hence no RCU grace period:
        0.4 ms for nine hierarchies; `add` takes 10 (Linux 5.15, kernel/cgroup/cgroup.c: cgroup_procs_write_start).
        """
        self._join("0", "tasks")

    def _join(self, who: str, file_v1: str) -> None:
        """Joins the directories that exist; none at all is an error: a process that joined nothing would have no limits."""
        found = self.directories()
        if not found and self.layout.version != "none":
            raise RuntimeFault("cgroup", f"the cgroup {self.path} does not exist", errno.ENOENT, self.path)
        for directory in found:
            if directory == self.v2:
                unified.join(directory, who)
            else:
                write(f"{directory}/{file_v1}", who)

    def pids(self) -> list[int]:
        """The processes in the cgroup and in those below it, as this process's PID namespace numbers them."""
        found: set[int] = set()
        for directory in self.directories()[:1]:
            found.update(tree_pids(directory))
        return sorted(found)

    def kill(self) -> None:
        """SIGKILL to every process of the tree, also to one that forks meanwhile. Does not wait until they are gone."""
        from engine.runtime.cgroups import freezer

        freezer.kill(self)

    def freeze(self) -> None:
        """Stops every process of the tree, and returns when all have stopped. Raises RuntimeFault if they do not
        within 2 s.
        """
        from engine.runtime.cgroups import freezer

        freezer.freeze(self)

    def thaw(self) -> None:
        from engine.runtime.cgroups import freezer

        freezer.thaw(self)

    def is_frozen(self) -> bool:
        from engine.runtime.cgroups import freezer

        return freezer.is_frozen(self)

    def stats(self) -> dict[str, Any]:
        """What the cgroup uses now: see `stats.collect`."""
        from engine.runtime.cgroups.stats import collect

        return collect(self)

    def oom_kill_count(self) -> int:
        """How many processes of the cgroup the kernel killed for want of memory; 0 where nobody counts (Linux <
        4.13).
        """
        directory = self.directory("memory")
        if directory is None:
            return 0
        file = "memory.oom_control" if "memory" in self.layout.v1 else "memory.events"
        return table(read(f"{directory}/{file}")).get("oom_kill", 0)

    def delete_empty(self) -> bool:
        """Removes it where nobody is in it and nothing below, as after most containers; False where there is still something."""
        for root in self._roots():
            try:
                os.rmdir(root + self.path)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def delete(self, parent: bool = True) -> None:
        """Removes the cgroup with all below it, and its `parent` when nothing else is left in that. No error where it
        is gone.

        A process that is just dying keeps its cgroup busy, on an idle host for some milliseconds: retried for up to 10 s,
        then RuntimeFault.
        """
        for directory in self.directories():
            for below in tree(directory):
                rmdir(below)
        above = os.path.dirname(self.path)
        if above == "/" or not parent:
            return
        for root in self._roots():
            try:
                os.rmdir(root + above)
            except OSError:
                pass  # in use by others, or gone


def _make(root: str, path: str) -> None:
    """mkdir -p. Another mini may remove the empty parent between two steps: then once more."""
    for attempt in range(10):
        try:
            os.makedirs(root + path, 0o755, exist_ok=True)
            return
        except FileNotFoundError:
            if attempt == 9:
                raise RuntimeFault("cgroup", f"cannot create {root}{path}: its parent vanishes", errno.ENOENT) from None
        except OSError as e:
            number = e.errno or 0
            hint = (
                "a container that runs containers must be privileged" if number in (errno.EROFS, errno.EACCES) else None
            )
            message = f"cannot create the cgroup {root}{path}: {os.strerror(number)}"
            raise RuntimeFault("cgroup", message, number, root + path, hint) from e
