"""What containers look like from outside: a State that is true to the kernel, Docker's inspect object, the log.

Reads records only, and imports nothing that makes containers: `ps` and `inspect` are asked often.
"""

from __future__ import annotations

import os
import time

from engine import events
from engine.containers import networkview, records
from engine.errors import MiniError, StoreError
from engine.runtime.logs import drivers, writer
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context


# Docker's fields of a mount point. What else one has is for whoever mounts it.
_POINT = ("Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation")
# Of the state, what Docker's inspect object has; the rest is the monitor's own.
_SHOWN = {*records.new_state(), "Health"}


def refresh(ctx: Context, record: Record) -> dict[str, Any]:
    """The container's State, true to the kernel: one whose monitor and init are both gone is put right first.

    A container does not outlive its monitor (PR_SET_PDEATHSIG): what is left of both is given back here.
    """
    state = record.load_state()
    if state["Status"] not in records.RUNNING:
        return state
    if records.is_alive(state, "Pid"):
        if state["Status"] == "running" and os.path.exists(record.paused_mark):
            state |= {"Status": "paused", "Paused": True}
        return state
    if records.is_alive(state, "MonitorPid"):
        return record.load_state()
    from engine.containers import lifecycle

    lifecycle.release(ctx, record)
    # between two lives, the last one's end is told already
    died = state["Status"] != "restarting"
    if died:
        state |= {"Pid": 0, "ExitCode": 137, "FinishedAt": timestamp()}
    state |= {"Status": "exited", "Error": _why_without_monitor(record)}
    for what in ("Endpoints", "Ports"):
        state.pop(what, None)
    record.save_state(state)
    if died:
        events.container(record, "die", exitCode="137")
    return state


def _why_without_monitor(record: Record) -> str:
    """A monitor that failed by itself has written a traceback (runtime/monitor.py); also one that went on, until it was killed."""
    try:
        with open(record.monitor_log, errors="replace") as file:
            said = file.read().splitlines()
    except FileNotFoundError:
        return "the container's monitor was killed, and the container with it"
    how = "the container's monitor has failed or was killed, and the container with it"
    return f"{how}; its last error: {said[-1] if said else ''} ({record.monitor_log})"


def inspect(ctx: Context, name: str) -> dict[str, Any]:
    """Docker's inspect object."""
    return _inspect_record(ctx, records.find(ctx.paths, name))


def list_(ctx: Context, running: bool = False) -> list[dict[str, Any]]:
    """Inspect objects of all containers, newest first; with `running`, without those whose state says that they do not run."""
    found = []
    for record in records.list_all(ctx.paths, _runs if running else None):
        try:
            found.append(_inspect_record(ctx, record))
        except MiniError:
            # removed while we looked
            continue
    return found


def _runs(record: Record) -> bool:
    try:
        return record.load_state()["Status"] in records.RUNNING
    except StoreError:
        # damaged: whoever looks closer will find that out
        return True


def _inspect_record(ctx: Context, record: Record) -> dict[str, Any]:
    state = dict(refresh(ctx, record))
    shown = {k: v for k, v in state.items() if k in _SHOWN}
    directory = record.directory
    return record.config | {
        "State": shown,
        "HostConfig": networkview.with_links(record),
        "Mounts": [{key: point[key] for key in _POINT if key in point} for point in record.config["Mounts"]],
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": record.log_path if record.config["HostConfig"]["LogConfig"]["Type"] == drivers.JSON_FILE else "",
        "RestartCount": state.get("RestartCount", 0),
        "NetworkSettings": networkview.settings(ctx, record, state),
    }


def read_logs(
    ctx: Context,
    name: str,
    follow: bool = False,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Iterator[writer.Entry]:
    """The container's output so far, and with `follow` what comes until it ends, or until a time (nanoseconds).

    What is earlier than `since` may be left out where that spares the reading.
    """
    record = records.find(ctx.paths, name)

    def alive() -> bool:
        if until is not None and time.time_ns() > until:
            return False
        return os.path.isdir(record.directory) and records.is_alive(record.load_state(), "MonitorPid")

    driver = record.config["HostConfig"]["LogConfig"]["Type"]
    return drivers.read(driver, record.id, record.log_path, tail, alive if follow else None, since)
