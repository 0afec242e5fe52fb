"""What a container uses, in one form for v1 and v2.

    {"cpu":    {"usage": ns, "user": ns, "system": ns, "periods": n, "throttled_periods": n, "throttled": ns},
     "memory": {"usage": bytes, "limit": bytes or None, "peak": bytes or None, "inactive_file": bytes, "oom_kills": n},
     "pids":   {"current": n, "limit": n or None},
     "io":     {"read_bytes": n, "write_bytes": n, "read_ops": n, "write_ops": n}}

A part is left out where the host has no controller for it. Docker's "MEM USAGE" is usage − inactive_file.
"""

from __future__ import annotations

from engine.runtime.cgroups.fs import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.cgroups.manager import Cgroup

_UNLIMITED = 1 << 62  # v1 writes "no limit" as the greatest number of whole pages


def collect(cgroup: Cgroup) -> dict[str, Any]:
    """Reads the counters of `cgroup`; parts that cannot be read are left out."""
    v1 = cgroup.layout.v1
    parts: dict[str, Any] = {
        "cpu": _cpu_v1(cgroup) if "cpuacct" in v1 else _cpu_v2(cgroup),
        "memory": _memory_v1(cgroup) if "memory" in v1 else _memory_v2(cgroup),
        "pids": _pids(cgroup),
        "io": _io_v1(cgroup) if "blkio" in v1 else _io_v2(cgroup),
    }
    return {name: part for name, part in parts.items() if part is not None}


def _text(cgroup: Cgroup, controller: str, file: str) -> str | None:
    directory = cgroup.directory(controller)
    return None if directory is None else read(f"{directory}/{file}")


def _number(text: str | None) -> int | None:
    """The number; None for "max", for v1's "no limit", and where there is no file."""
    if text is None or not text.strip().lstrip("-").isdigit():
        return None
    value = int(text)
    return None if value < 0 or value >= _UNLIMITED else value


def _table(text: str | None) -> dict[str, int]:
    """A "flat keyed" file: one `key value` a line."""
    pairs = (line.split() for line in (text or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _cpu_v1(cgroup: Cgroup) -> dict[str, int] | None:
    usage = _number(_text(cgroup, "cpuacct", "cpuacct.usage"))
    if usage is None:
        return None
    throttle = _table(_text(cgroup, "cpu", "cpu.stat"))
    return {
        "usage": usage,
        "user": _number(_text(cgroup, "cpuacct", "cpuacct.usage_user")) or 0,
        "system": _number(_text(cgroup, "cpuacct", "cpuacct.usage_sys")) or 0,
        "periods": throttle.get("nr_periods", 0),
        "throttled_periods": throttle.get("nr_throttled", 0),
        "throttled": throttle.get("throttled_time", 0),
    }


def _cpu_v2(cgroup: Cgroup) -> dict[str, int] | None:
    # cpu.stat has the usage even where the cpu controller is off.
    text = read(f"{cgroup.layout.v2}{cgroup.path}/cpu.stat") if cgroup.layout.v2 else None
    if text is None:
        return None
    stat = _table(text)
    return {
        "usage": stat.get("usage_usec", 0) * 1000,
        "user": stat.get("user_usec", 0) * 1000,
        "system": stat.get("system_usec", 0) * 1000,
        "periods": stat.get("nr_periods", 0),
        "throttled_periods": stat.get("nr_throttled", 0),
        "throttled": stat.get("throttled_usec", 0) * 1000,
    }


def _memory_v1(cgroup: Cgroup) -> dict[str, int | None] | None:
    usage = _number(_text(cgroup, "memory", "memory.usage_in_bytes"))
    if usage is None:
        return None
    return {
        "usage": usage,
        "limit": _number(_text(cgroup, "memory", "memory.limit_in_bytes")),
        "peak": _number(_text(cgroup, "memory", "memory.max_usage_in_bytes")),
        "inactive_file": _table(_text(cgroup, "memory", "memory.stat")).get("total_inactive_file", 0),
        "oom_kills": cgroup.oom_kill_count(),
    }


def _memory_v2(cgroup: Cgroup) -> dict[str, int | None] | None:
    usage = _number(_text(cgroup, "memory", "memory.current"))
    if usage is None:
        return None
    return {
        "usage": usage,
        "limit": _number(_text(cgroup, "memory", "memory.max")),
        "peak": _number(_text(cgroup, "memory", "memory.peak")),  # Linux 5.19
        "inactive_file": _table(_text(cgroup, "memory", "memory.stat")).get("inactive_file", 0),
        "oom_kills": cgroup.oom_kill_count(),
    }


def _pids(cgroup: Cgroup) -> dict[str, int | None] | None:
    current = _number(_text(cgroup, "pids", "pids.current"))
    if current is None:
        return None
    return {"current": current, "limit": _number(_text(cgroup, "pids", "pids.max"))}


def _io_v1(cgroup: Cgroup) -> dict[str, int] | None:
    """Lines `major:minor Read number`; blkio.throttle.* counts whatever the scheduler is."""
    size = _text(cgroup, "blkio", "blkio.throttle.io_service_bytes_recursive")
    count = _text(cgroup, "blkio", "blkio.throttle.io_serviced_recursive")
    if size is None or count is None:
        return None
    sums = {"read_bytes": 0, "write_bytes": 0, "read_ops": 0, "write_ops": 0}
    for text, unit in ((size, "bytes"), (count, "ops")):
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in ("Read", "Write"):
                sums[f"{words[1].lower()}_{unit}"] += int(words[2])
    return sums


def _io_v2(cgroup: Cgroup) -> dict[str, int] | None:
    """Lines `major:minor rbytes=… wbytes=… rios=… wios=…`."""
    text = _text(cgroup, "io", "io.stat")
    if text is None:
        return None
    names = {"rbytes": "read_bytes", "wbytes": "write_bytes", "rios": "read_ops", "wios": "write_ops"}
    sums = dict.fromkeys(names.values(), 0)
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key in names:
                sums[names[key]] += int(value)
    return sums
