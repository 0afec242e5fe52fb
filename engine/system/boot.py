"""Containers that come up by themselves: readiness of one, and at the host's start those whose policy says so."""

from __future__ import annotations

import os
import time

from engine import files
from engine.containers import records, restart, usecases
from engine.containers.views import refresh
from engine.errors import Conflict, MiniError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.context import Context

UNIT_DIRECTORY = "/etc/systemd/system"
_PAUSE = 0.05


def wait_ready(ctx: Context, name: str) -> None:
    """Blocks until the container is healthy, or runs where it has no health check. Conflict where it will not be."""
    record = records.find(ctx.paths, name)
    while True:
        state = refresh(ctx, record)
        health = (state.get("Health") or {}).get("Status")
        if state["Status"] != "running":
            raise Conflict(
                f"container {record.name} is {state['Status']} with exit code {state['ExitCode']} before it was ready",
                f"mini logs {record.name} shows what it said",
            )
        if health in (None, "healthy"):
            return
        if health == "unhealthy":
            output = state["Health"]["Log"][-1]["Output"].strip()
            raise Conflict(f"container {record.name} is unhealthy: {output or 'its check said nothing'}")
        time.sleep(_PAUSE)


def start_all(ctx: Context) -> tuple[list[str], list[tuple[str, MiniError]]]:
    """`mini system start`: starts what does not run and should (restart.at_boot). Names started, and failures by name."""
    started: list[str] = []
    failed: list[tuple[str, MiniError]] = []
    for record in reversed(records.list_all(ctx.paths)):
        state = refresh(ctx, record)
        stopped = os.path.exists(f"{record.directory}/stopped")
        never = state["StartedAt"].startswith("0001")
        policy = record.config["HostConfig"]["RestartPolicy"]
        if state["Running"] or never or not restart.at_boot(policy, state["ExitCode"], stopped):
            continue
        try:
            usecases.start(ctx, record.id)
            started.append(record.name)
        except MiniError as e:
            failed.append((record.name, e))
    return started, failed


def unit(ctx: Context, command: list[str]) -> str:
    """A systemd unit that starts them after the network is up; `command` is how this mini is run. systemd.service(5)."""
    words = " ".join(f'"{word}"' if " " in word else word for word in [*command, "--root", ctx.paths.root])
    return f"""[Unit]
Description=Containers of mini with a restart policy
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={words} system start
# the monitors outlive the command that started them
KillMode=process

[Install]
WantedBy=multi-user.target
"""


def install(ctx: Context, command: list[str], directory: str = UNIT_DIRECTORY) -> str:
    """Writes the unit as mini.service; its path. UsageError where there is no such directory (no systemd)."""
    if not os.path.isdir(directory):
        raise UsageError(
            f"no directory {directory}: is this host run by systemd?",
            "elsewhere, have `mini system start` run when the host has started",
        )
    path = f"{directory}/mini.service"
    files.write_atomic(path, unit(ctx, command).encode())
    return path
