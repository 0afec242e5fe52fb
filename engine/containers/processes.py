"""`mini top`: the processes of a container as the host sees them, laid out as ps(1) does.

The usual columns are read from /proc, which takes no program and 0.1 ms a process; options of ps are the host's ps's
business, whose output is cut down to the container's processes (moby, daemon/top_unix.go).
"""

from __future__ import annotations

import os
import time

from engine import events
from engine.containers import lifecycle, records
from engine.containers.views import refresh
from engine.errors import Conflict, MiniError, Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.context import Context

TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_USER_WIDTH = 8  # ps cuts a longer name here and marks it with a plus sign


def top(ctx: Context, name: str, arguments: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """(column titles, rows) of `ps -ef`, or of ps with the `arguments`. Conflict where the container does not run."""
    record = records.find(ctx.paths, name)
    state = refresh(ctx, record)
    if state["Restarting"]:
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    if not state["Running"]:
        raise Conflict(f"Container {record.id} is not running")
    pids = lifecycle.cgroup_of(ctx, record).pids()
    shown = _by_ps(list(arguments), pids) if arguments else (TITLES, _rows(pids))
    events.container(record, "top")
    return shown


def _rows(pids: Sequence[int]) -> list[list[str]]:
    users: dict[int, str] = {}
    rows = []
    for pid in pids:
        try:
            rows.append(_row(pid, users))
        except (FileNotFoundError, ProcessLookupError):
            # it has ended meanwhile
            continue
    return rows


def _row(pid: int, users: dict[int, str]) -> list[str]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        head, _, tail = file.read().rpartition(b") ")
    fields = tail.split()  # from field 3, state, of proc_pid_stat(5)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    uid = os.stat(f"/proc/{pid}").st_uid
    ticks = os.sysconf("SC_CLK_TCK")
    used = (int(fields[11]) + int(fields[12])) // ticks
    started = _boot_time() + int(fields[19]) / ticks
    age = int(time.time() - started)
    name = head.partition(b"(")[2].decode(errors="replace")
    return [
        users.setdefault(uid, _user(uid)),
        str(pid),
        fields[1].decode(),
        str(min(99, used * 100 // age) if age > 0 else 0),
        _start_time(started),
        _terminal(int(fields[4])),
        f"{used // 86400}-" * (used >= 86400) + time.strftime("%H:%M:%S", time.gmtime(used % 86400)),
        "".join(c if c.isprintable() else "?" for c in command) or f"[{name}]" + " <defunct>" * (fields[0] == b"Z"),
    ]


def _boot_time() -> int:
    with open("/proc/stat") as file:
        for line in file:
            if line.startswith("btime "):
                return int(line.split()[1])
    return 0


def _user(uid: int) -> str:
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= _USER_WIDTH else name[: _USER_WIDTH - 1] + "+"


def _start_time(seconds: float) -> str:
    """The time of today, the day of this year, or the year."""
    then, now = time.localtime(seconds), time.localtime()
    if then.tm_year != now.tm_year:
        return str(then.tm_year)
    return time.strftime("%H:%M" if then.tm_yday == now.tm_yday else "%b%d", then)


def _terminal(device: int) -> str:
    """Of field 7 (tty_nr): Documentation/admin-guide/devices.txt."""
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return "?"


def _by_ps(arguments: list[str], pids: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    _check(arguments)
    # some options cannot be used with -q (f, for instance): then all processes, and most are left out below
    try:
        output = _ps([*arguments, "-q" + ",".join(map(str, pids))])
    except MiniError:
        output = _ps(arguments)
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise UsageError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows = []
    ours = False
    for line in lines[1:]:
        fields = line.split()
        if len(fields) <= column:
            continue
        # with -m or -L, the lines of threads follow their process and have "-" for a PID
        ours = fields[column] in wanted or (fields[column] == "-" and ours)
        if ours:
            last = len(titles) - 1
            rows.append([*fields[:last], " ".join(fields[last:])])
    return titles, rows


def _check(arguments: Sequence[str]) -> None:
    """moby, validatePSArgs: a column called PID that is another one would show foreign processes."""
    import re

    found = re.search(r"\s+(\w+)=\s*(PID\b)", " " + " ".join(arguments).replace(",", " "))
    if found and found[1] != "pid":
        raise UsageError(f'specifying "{found[1]}={found[2]}" is not allowed')


def _ps(arguments: Sequence[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(
            ["ps", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError:
        raise Unsupported("this host has no ps", "leave the options out: mini reads /proc itself") from None
    if done.returncode != 0:
        reason = done.stderr.partition("\n")[0] or f"exit status {done.returncode}"
        raise UsageError(f"ps: {reason}")
    return done.stdout
