"""state, list, ps, events: what is asked about containers, in runc's forms."""

from __future__ import annotations

import os
import time

from engine import lean
from engine.errors import Conflict, MiniError, NotFound, Unsupported, UsageError
from engine.runtime import state
from engine.runtime.oci_cli import context
from engine.runtime.oci_cli.log import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from engine.runtime.oci_cli.context import Context
    from engine.runtime.state import Container

# runc's document has these always, whatever the host counts (runc, types/events.go).
_PARTS: dict[str, Any] = {
    **{name: {} for name in ("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt")},
    "network_interfaces": None,
}


def indented(value: Any, indent: str = "") -> str:
    """JSON as Go's MarshalIndent with two blanks; `json` costs 8 ms of imports."""
    deeper = f"{indent}  "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{lean.quote(key)}: {indented(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"{deeper}{indented(item, deeper)}" for item in value) + f"\n{indent}]"
    return lean.dumps(value).decode()


def state_(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    say(indented({**state.find(ctx.root, arguments[0]).state(), "owner": ""}) + "\n")
    return 0


def list_(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    if ctx.root != context.default_root() and not os.path.isdir(ctx.root):
        raise NotFound(f"--root {ctx.root}: no such directory")
    containers = state.find_all(ctx.root, ctx.log.warning)
    if options.get("quiet"):
        say("".join(f"{container.id}\n" for container in containers))
        return 0
    rows = [{**container.state(), "owner": _user_name(container.data["owner"])} for container in containers]
    if _format(options) == "json":
        say((lean.dumps(rows).decode() if rows else "null") + "\n")
        return 0
    names = ("id", "pid", "status", "bundle", "created", "owner")
    say(_table([[name.upper() for name in names], *([str(row[name]) for name in names] for row in rows)]))
    return 0


def _format(options: dict[str, Any]) -> str:
    word: str = options.get("format", "table")
    if word not in ("table", "json"):
        raise UsageError("invalid format option")
    return word


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _table(rows: list[list[str]]) -> str:
    """Go's tabwriter as runc sets it: columns of at least 12, three blanks between."""
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join(cells) + row[-1] + "\n")
    return "".join(lines)


# --- ps --------------------------------------------------------------------------------------------------------------


def ps(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = state.find(ctx.root, arguments[0])
    cgroup = container.cgroup
    pids = cgroup.pids() if cgroup else _same_pid_namespace(container.pid)
    if _format(options) == "json":
        say(lean.dumps(pids).decode() + "\n")
        return 0
    say("".join(f"{line}\n" for line in _ps_lines(arguments[1:] or ["-ef"], set(pids))))
    return 0


def _same_pid_namespace(first: int) -> list[int]:
    """Without a cgroup: the processes in the PID namespace of the container's first one."""
    if not first:
        return []
    wanted = os.readlink(f"/proc/{first}/ns/pid")
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == wanted:
                found.append(int(name))
        except OSError:
            continue
    return sorted(found)


def _ps_lines(arguments: list[str], pids: set[int]) -> Iterator[str]:
    """The head of ps(1)'s table, and its lines of these processes."""
    import subprocess

    try:
        done = subprocess.run(["ps", *arguments], capture_output=True, text=True, errors="surrogateescape")
    except OSError as e:
        raise Unsupported(f"cannot execute ps: {os.strerror(e.errno or 0).lower()}", "use --format json") from e
    if done.returncode:
        raise MiniError(f"ps: {done.stderr.strip()}")
    head, *lines = done.stdout.splitlines()
    columns = head.split()
    if "PID" not in columns:
        raise UsageError("couldn't find PID field in ps output")
    column = columns.index("PID")
    yield head
    for line in lines:
        fields = line.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            yield line


# --- events ----------------------------------------------------------------------------------------------------------


def events(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    """One JSON object a line: `stats` every interval, or once; `oom` when the kernel killed something of the container."""
    container = state.find(ctx.root, arguments[0])
    pause = _seconds(options.get("interval", "5s"))
    if container.status() == "stopped":
        raise Conflict(f"container with id {container.id} is not running")
    cgroup = container.cgroup
    if not cgroup:
        raise Unsupported("the container has no cgroup, so nothing is counted")
    kills = cgroup.oom_kill_count()
    while True:
        _event("stats", container, _PARTS | cgroup.stats())
        if options.get("stats"):
            return 0
        time.sleep(pause)
        if container.status() == "stopped":
            return 0
        if (now := cgroup.oom_kill_count()) > kills:
            kills = now
            _event("oom", container, None)


def _event(kind: str, container: Container, data: dict[str, Any] | None) -> None:
    event = {"type": kind, "id": container.id} | ({} if data is None else {"data": data})
    say(lean.dumps(event).decode() + "\n")


def _seconds(text: str) -> float:
    from engine import units

    try:
        value = units.duration(text)
    except ValueError:
        raise UsageError(f'invalid value "{text}" for -interval: parse error') from None
    if value <= 0:
        raise UsageError("duration interval must be greater than 0")
    return value
