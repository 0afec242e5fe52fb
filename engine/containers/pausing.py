"""Pausing: all processes of a container stopped by the cgroup freezer, where they are, and set going again.

A frozen process uses no processor, sees no signal and cannot tell that it was frozen (docs/containers.md). The mark that says
"paused" is made before the freezing and removed after the thawing: a pause that is killed half-way leaves what `unpause` mends.
"""

from __future__ import annotations

import os

from engine import events, files
from engine.containers import records
from engine.containers.views import refresh
from engine.errors import Conflict, MiniError
from engine.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.runtime.cgroups.manager import Cgroup


def pause(ctx: Context, name: str) -> None:
    """Freezes a running container; Conflict where it does not run, or is paused."""
    record = records.find(ctx.paths, name)
    with record.lock():
        state = refresh(ctx, record)
        if state["Status"] == "paused":
            raise Conflict(f"Container {record.id} is already paused")
        if state["Status"] == "restarting":
            raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
        if state["Status"] != "running":
            raise Conflict(f"Container {record.id} is not running")
        try:
            os.close(os.open(record.paused_mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:
            # it has ended meanwhile, and its monitor has cleaned up
            raise Conflict(f"Container {record.id} is not running") from None
        try:
            cgroup = _cgroup(ctx, record)
            cgroup.freeze()
            if refresh(ctx, record)["Pid"] != state["Pid"]:
                # its policy has started it again meanwhile
                cgroup.thaw()
                raise Conflict(f"Container {record.id} is not running")
        except MiniError:
            files.remove_file(record.paused_mark)
            if not records.is_alive(state, "Pid"):
                raise Conflict(f"Container {record.id} is not running") from None
            raise
    events.container(record, "pause")


def unpause(ctx: Context, name: str) -> None:
    """Thaws a paused container; Conflict where it is none."""
    record = records.find(ctx.paths, name)
    with record.lock():
        if refresh(ctx, record)["Status"] != "paused":
            raise Conflict(f"Container {record.id} is not paused")
        thaw(ctx, record)


def thaw(ctx: Context, record: Record) -> None:
    # told first: what it was frozen with, a SIGKILL say, may end it at once, and its monitor writes "die"
    events.container(record, "unpause")
    _cgroup(ctx, record).thaw()
    files.remove_file(record.paused_mark)


def thaw_for_signal(ctx: Context, record: Record, state: dict[str, Any], number: int) -> None:
    """A frozen process takes a signal when it thaws: done for every signal, or, where the container names a stop signal, for
    that and SIGKILL only (moby, daemon/kill.go).
    """
    if state["Status"] != "paused":
        return
    from engine.containers import bundle

    stop_signal = record.config["Config"].get("StopSignal")
    if not stop_signal or number in (signal.SIGKILL, bundle.signal_number(stop_signal)):
        thaw(ctx, record)


def _cgroup(ctx: Context, record: Record) -> Cgroup:
    from engine.containers import lifecycle

    return lifecycle.cgroup_of(ctx, record)
