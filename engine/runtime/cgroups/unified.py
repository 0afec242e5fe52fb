"""The tree of cgroup v2: controllers handed down level by level, and where in it processes may be.

Documentation/admin-guide/cgroup-v2.rst, "Organizing Processes and Threads", "Controlling Controllers".
"""

from __future__ import annotations

import errno
import os

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.cgroups.fs import read, tree, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def delegate(root: str, path: str, controllers: frozenset[str]) -> None:
    """Switches `controllers` on from `root` down to the parent of `path`, so that the cgroup there has their files.

    One by one: a controller that cannot be switched on (cpuset with real-time processes about) must not cost the
    others; whoever asks for its limit learns why (`require`). A cgroup that holds processes is left as it is: it cannot
    give on memory or io ("no internal processes"), and cpu or pids would make it the root of threaded ones. In a
    container the root that is seen is such a one: as dind does, its processes move into a leaf named `init`.
    """
    for directory in _above(root, path):
        missing = controllers - _words(f"{directory}/cgroup.subtree_control")
        if missing and _holds_processes(directory):
            if directory != root:
                continue
            _evacuate(root)
        for controller in sorted(missing):
            try:
                _switch_on(directory, controller)
            except RuntimeFault:
                continue


def _holds_processes(directory: str) -> bool:
    """The true root, which alone has no type, may."""
    return read(f"{directory}/cgroup.type") is not None and bool(read(f"{directory}/cgroup.procs"))


def _above(root: str, path: str) -> Iterator[str]:
    """`root` and what lies between it and the last part of `path`."""
    directory = root
    for name in path.strip("/").split("/"):
        yield directory
        directory = f"{directory}/{name}"


def _words(file: str) -> set[str]:
    return set((read(file) or "").split())


def _switch_on(directory: str, controller: str) -> None:
    write(f"{directory}/cgroup.subtree_control", f"+{controller}")


def _evacuate(root: str) -> None:
    """Moves the processes of the root that is seen here into its leaf `init`."""
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


def make_usable(root: str, path: str) -> None:
    """A cgroup below a threaded one is born "domain invalid", and nobody can join it: made threaded, it can be joined, and has
    the controllers that divide threads (cpu, cpuset, pids, perf_event)."""
    for directory in (*_above(root, path), root + path):
        if directory != root and read(f"{directory}/cgroup.type") == "domain invalid":
            write(f"{directory}/cgroup.type", "threaded")


def require(root: str, path: str, controller: str) -> None:
    """Raises Unsupported, with the reason, where the cgroup does not have `controller`."""
    if controller in _words(f"{root}{path}/cgroup.controllers"):
        return
    kind = read(f"{root}{path}/cgroup.type") or ""
    if "threaded" in kind:
        raise Unsupported(f"the cgroup {root}{path} is threaded (cgroup.type), and has no {controller} controller then")
    for directory in _above(root, path):
        if controller in _words(f"{directory}/cgroup.subtree_control"):
            continue
        what = f"the {controller} controller cannot be given on below {directory}"
        if _holds_processes(directory):
            pids = " ".join((read(f"{directory}/cgroup.procs") or "").split()[:5])
            raise Unsupported(f"{what}, which holds processes: {pids}", "choose a parent without processes of its own")
        try:
            _switch_on(directory, controller)
        except RuntimeFault as e:
            hint = None
            if e.errno == errno.ENOENT:
                hint = f"what is above does not give it on: see {os.path.dirname(directory)}/cgroup.subtree_control"
            raise Unsupported(f"{what}: {os.strerror(e.errno).lower()}", hint) from e
    if controller not in _words(f"{root}{path}/cgroup.controllers"):
        raise Unsupported(f"the cgroup {root}{path} has no {controller} controller")


def join(directory: str, who: str) -> None:
    """Moves a process in.

    Where the container has made cgroups of its own and given controllers on (mini in mini), no process may be in its top
    one: then into the first below it that has processes, as runc does for exec.
    """
    try:
        write(f"{directory}/cgroup.procs", who)
    except RuntimeFault as e:
        if e.errno != errno.EBUSY:
            raise
        populated = (below for below in tree(directory) if below != directory and read(f"{below}/cgroup.procs"))
        write(f"{next(populated, directory)}/cgroup.procs", who)


def kill(directory: str) -> bool:
    """SIGKILL to all below by one write; False where that cannot be done (before Linux 5.14; a threaded cgroup)."""
    try:
        write(f"{directory}/cgroup.kill", "1")
    except Unsupported:
        return not os.path.isdir(directory)
    except RuntimeFault as e:
        if e.errno == errno.EOPNOTSUPP:
            return False
        if e.errno not in (errno.ENOENT, errno.ENODEV):
            raise
    return True


def give_to(directory: str, uid: int) -> None:
    """Lets `uid`, root in the container's user namespace, make cgroups below it (OCI config-linux.md, "Cgroup ownership").

    Only of the files that the kernel names as safe: the limits stay the host's.
    """
    names = read("/sys/kernel/cgroup/delegate") or "cgroup.procs cgroup.subtree_control cgroup.threads"
    os.chown(directory, uid, -1)
    for name in names.split():
        try:
            os.chown(f"{directory}/{name}", uid, -1)
        except FileNotFoundError:
            pass
