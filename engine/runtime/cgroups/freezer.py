"""Stopping all processes of a cgroup where they are, and ending all of them, also those that fork meanwhile.

v1: the freezer controller, `freezer.state` (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst); v2: `cgroup.freeze` and
`cgroup.kill`, which every cgroup has.
"""

from __future__ import annotations

import errno
import os
import time

from engine.errors import RuntimeFault, Unsupported
from engine.lean import signal
from engine.runtime.cgroups import unified
from engine.runtime.cgroups.fs import read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.manager import Cgroup


def freeze(cgroup: Cgroup, patience: float = 10.0) -> None:
    """Returns when all have stopped. Raises RuntimeFault if they do not within so many seconds; nothing is frozen then.

    A process stops where it comes out of the kernel, for which it needs a processor. runc is as patient (fs2/freezer.go).
    """
    file, value, _ = _switch(cgroup)
    write(file, value)
    deadline = time.monotonic() + patience
    while not is_frozen(cgroup):
        if time.monotonic() > deadline:
            thaw(cgroup)
            raise RuntimeFault("cgroup", f"the processes of {cgroup.path} do not freeze", errno.ETIMEDOUT, file)
        write(file, value)  # v1: a task that was busy in the kernel needs another push
        time.sleep(0.002)


def thaw(cgroup: Cgroup) -> None:
    file, _, value = _switch(cgroup)
    write(file, value)


def _switch(cgroup: Cgroup) -> tuple[str, str, str]:
    """(file, the value that freezes, the one that thaws)."""
    if directory := cgroup.layout.v1.get("freezer"):
        return f"{directory}{cgroup.path}/freezer.state", "FROZEN", "THAWED"
    if cgroup.layout.version == "v2":
        return f"{cgroup.v2}/cgroup.freeze", "1", "0"
    raise Unsupported("this host has no freezer controller for cgroups")


def is_frozen(cgroup: Cgroup) -> bool:
    if directory := cgroup.layout.v1.get("freezer"):
        return (read(f"{directory}{cgroup.path}/freezer.state") or "").strip() == "FROZEN"
    return cgroup.v2 is not None and "frozen 1" in (read(f"{cgroup.v2}/cgroup.events") or "")


def kill(cgroup: Cgroup) -> None:
    """SIGKILL to every process of the tree. Does not wait until they are gone."""
    if cgroup.layout.version == "v2" and cgroup.v2 and unified.kill(cgroup.v2):
        return
    for _ in range(10):
        if not cgroup.pids():
            return
        _kill_frozen(cgroup)
        time.sleep(0.002)


def _kill_frozen(cgroup: Cgroup) -> None:
    """A frozen process cannot fork; the signals take effect when it thaws."""
    try:
        freeze(cgroup, patience=2.0)
    except (RuntimeFault, Unsupported):
        pass  # the caller's loop catches what is forked meanwhile
    try:
        for pid in cgroup.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    finally:
        try:
            thaw(cgroup)
        except Unsupported:
            pass
