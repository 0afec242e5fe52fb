"""A container's scope in systemd's terms: its name, its place, and its limits as properties. Pure data, (name, D-Bus type, value).

systemd.resource-control(5), systemd.slice(5); the choice of properties is runc's (docs/systemd.md).
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups import gvariant
from engine.runtime.cgroups.devices import ALWAYS_ALLOWED, DeviceList
from engine.runtime.cgroups.v1.cpuset import members
from engine.runtime.cgroups.v2.cpu import weight
from engine.runtime.cgroups.v2.io import stretch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Property = tuple[str, str, Any]

AUXILIARY = "org.systemd.property."
_INFINITY = (1 << 64) - 1
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")  # systemd.unit(5)


def parse(name: str) -> tuple[str, str]:
    """(slice, unit) of slice:prefix:name. Raises UsageError for what systemd would not take."""
    slice_, prefix, last = name.split(":")
    unit = f"{prefix}-{last}.scope"
    if last.endswith(".slice"):
        raise Unsupported(f"{name}: a container gets a scope, not a slice")
    if not _ALLOWED.issuperset(unit) or len(unit) > 255:
        raise UsageError(f"not the name of a systemd unit: {unit!r}")
    path_of(slice_)
    return slice_, unit


def path_of(slice_: str) -> str:
    """Where a slice's cgroup is: "a-b.slice" is inside "a.slice"; "-.slice" is the root. Raises UsageError."""
    name = slice_.removesuffix(".slice")
    if slice_ == "-.slice" or slice_ == "-":
        return ""
    parts = name.split("-")
    if name == slice_ or "" in parts or not _ALLOWED.issuperset(name):
        raise UsageError(f"not the name of a systemd slice: {slice_!r}", 'slices are written "a-b.slice"')
    return "".join(f"/{'-'.join(parts[: depth + 1])}.slice" for depth in range(len(parts)))


def scope(slice_: str, unit: str, pid: int, on_v2: bool) -> list[Property]:
    """What a new scope is given: its first process, and all controllers, by way of counting."""
    accounting = (
        "CPUAccounting",
        "MemoryAccounting",
        "TasksAccounting",
        "IOAccounting" if on_v2 else "BlockIOAccounting",
    )
    return [
        ("Description", "s", f"mini container {unit}"),
        ("Slice", "s", "-.slice" if slice_ == "-" else slice_),
        ("Delegate", "b", True),
        ("PIDs", "au", [pid]),
        *((name, "b", True) for name in accounting),
        ("DefaultDependencies", "b", False),
    ]


def limits(resources: dict[str, Any], on_v2: bool) -> list[Property]:
    """`linux.resources` but for devices and `unified`; what systemd has no property for is left out."""
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    found: list[Property] = []
    if limit := memory.get("limit"):
        found.append(("MemoryMax" if on_v2 else "MemoryLimit", "t", _number(limit)))
    if on_v2 and (reservation := memory.get("reservation")):
        found.append(("MemoryLow", "t", _number(reservation)))
    if on_v2 and (swap := memory.get("swap")):
        found.append(("MemorySwapMax", "t", max(swap - (limit or 0), 0) if swap > 0 else _INFINITY))
    if (shares := cpu.get("shares")) and not cpu.get("idle"):
        found.append(("CPUWeight", "t", weight(shares)) if on_v2 else ("CPUShares", "t", shares))
    found += _quota(cpu.get("quota") or 0, cpu.get("period") or 0)
    for name, key in (("AllowedCPUs", "cpus"), ("AllowedMemoryNodes", "mems")):
        if cpu.get(key):
            found.append((name, "ay", _bits(cpu[key])))
    if (pids := (resources.get("pids") or {}).get("limit")) is not None:
        found.append(("TasksMax", "t", _number(pids)))
    if block := (resources.get("blockIO") or {}).get("weight"):
        found.append(("IOWeight", "t", stretch(block)) if on_v2 else ("BlockIOWeight", "t", block))
    return found


def _number(value: int) -> int:
    return value if value > 0 else _INFINITY


def _quota(quota: int, period: int) -> list[Property]:
    """systemd counts time a second, in whole percents: rounded up, the exact value is in the cgroup's file."""
    found: list[Property] = [("CPUQuotaPeriodUSec", "t", period)] if period else []
    if quota:
        percents = -(-quota * 100 // (period or 100000))
        found.append(("CPUQuotaPerSecUSec", "t", percents * 10000 if quota > 0 else _INFINITY))
    return found


def _bits(text: str) -> list[int]:
    """A list such as "0-2,7" as bytes of bits, the lowest first."""
    try:
        mask = sum(1 << n for n in set(members(text)))
    except ValueError:
        raise UsageError(f"not a list of processors or memory nodes: {text!r}") from None
    return list(mask.to_bytes(-(-mask.bit_length() // 8), "little"))


_SIZES = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def unified(resources: dict[str, Any]) -> list[Property]:
    """Of `unified`, the files that are properties. Raises UsageError for what is no value of theirs."""
    found: list[Property] = []
    for file, value in (resources.get("unified") or {}).items():
        value = value.strip()
        try:
            if file in _SIZES:
                found.append((_SIZES[file], "t", _size(value)))
            elif file == "cpu.max":
                quota, _, period = value.partition(" ")
                found += _quota(-1 if quota == "max" else int(quota), int(period or 0))
            elif file in _SETS and value:
                found.append((_SETS[file], "ay", _bits(value)))
        except ValueError:
            raise UsageError(f"linux.resources.unified.{file}: not a value of that file: {value!r}") from None
    return found


def _size(value: str) -> int:
    """A number, with K, M, G … as the kernel takes them of bytes (memparse() in lib/cmdline.c), or max. Raises ValueError."""
    if value == "max":
        return _INFINITY
    exponent = "KMGTPE".find(value[-1:].upper()) + 1 if value else 0
    return int(value[:-1] if exponent else value) << 10 * exponent


def auxiliary(annotations: dict[str, str]) -> list[Property]:
    """The properties that a spec's annotations ask for, as with runc: `org.systemd.property.NAME`, the value as GVariant text.

    What systemd's pages have in seconds (TimeoutStopSec) it has in microseconds on D-Bus (TimeoutStopUSec). Raises UsageError.
    """
    found: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(AUXILIARY):
            continue
        name = key.removeprefix(AUXILIARY)
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            raise UsageError(f"annotations.{key}: not the name of a systemd property")
        if name in ("Slice", "PIDs"):
            raise UsageError(f"annotations.{key}: where the container is, linux.cgroupsPath says")
        try:
            kind, value = gvariant.parse(text)
            if name.endswith("Sec") and name[-4:-3].islower():
                name, kind, value = f"{name[:-3]}USec", "t", _microseconds(kind, value)
        except ValueError as e:
            raise UsageError(f"annotations.{key}: not a value as GVariant text: {text!r}: {e}") from None
        found.append((name, kind, value))
    return found


def _microseconds(kind: str, value: Any) -> int:
    """Raises ValueError for what is no number of seconds."""
    if kind not in tuple("ynqiuxtd") or not 0 <= value * 1000000 <= _INFINITY:
        raise ValueError("not a number of seconds")
    return int(value * 1000000)


def devices(resources: dict[str, Any], table: str = "/proc/devices") -> list[Property]:
    """The device rules for a v1 host, where systemd writes its own into the same files; on v2 its program is one more beside ours.

    systemd names a whole major by its driver: one that `table` does not know, it cannot allow.
    """
    rules = DeviceList.from_rules((resources.get("devices") or []) + ALWAYS_ALLOWED)
    if rules.default_allow:
        return [("DevicePolicy", "s", "auto"), ("DeviceAllow", "a(ss)", [])]
    drivers = _drivers(table)
    allowed = []
    for (kind, major, minor), access in rules.exceptions.items():
        word = "char" if kind == "c" else "block"
        if major is None and minor is None:
            allowed.append([f"{word}-*", access])
        elif minor is None and (name := drivers.get((kind, major))):
            allowed.append([f"{word}-{name}", access])
        elif major is not None and minor is not None:
            allowed.append([f"/dev/{word}/{major}:{minor}", access])
    return [("DevicePolicy", "s", "strict"), ("DeviceAllow", "a(ss)", allowed)]


def _drivers(table: str) -> dict[tuple[str, int | None], str]:
    """/proc/devices: "Character devices:", lines `major name`, "Block devices:", lines."""
    found: dict[tuple[str, int | None], str] = {}
    kind = "c"
    with open(table) as file:
        for line in file:
            if line.startswith("Block"):
                kind = "b"
            number, _, name = line.strip().partition(" ")
            if number.isdecimal():
                found.setdefault((kind, int(number)), name.strip())
    return found
