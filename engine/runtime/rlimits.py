"""Resource limits of a process: getrlimit(2), the spec's `process.rlimits`."""

from __future__ import annotations

import resource

from engine.errors import RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# asm-generic/resource.h; Python's `resource` lacks some names on some systems.
NUMBERS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
_INFINITY = (1 << 64) - 1  # as JSON has RLIM_INFINITY; -1 is taken for it as well


def apply(limits: list[dict[str, Any]], pid: int = 0) -> None:
    """Sets the limits of this process, or of `pid`. One that is as wanted already is left alone. Raises RuntimeFault."""
    for limit in limits:
        name = str(limit.get("type"))
        number = NUMBERS.get(name)
        if number is None:
            raise RuntimeFault("rlimit", f"no such resource limit: {name}")
        wanted = (_value(limit["soft"]), _value(limit["hard"]))
        if wanted == resource.prlimit(pid, number):
            continue
        try:
            resource.prlimit(pid, number, wanted)
        except (ValueError, PermissionError) as e:  # the first is also what Python makes of EINVAL
            raise _fault(name, wanted, number) from e
        except OSError as e:
            raise RuntimeFault("rlimit", f"cannot set {name}: {e}", e.errno or 0) from e


_given: tuple[int, int] | None = None  # RLIMIT_NOFILE as this process had it, while it has more


def raise_descriptors() -> None:
    """Lets this process have as many descriptors as the hard limit allows. What it starts in a container has what it was given."""
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        _given = (soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def restore_descriptors() -> None:
    """In a container's process, before its own limits."""
    if _given:
        resource.setrlimit(resource.RLIMIT_NOFILE, _given)


def _fault(name: str, wanted: tuple[int, int], number: int) -> RuntimeFault:
    soft, hard = (_text(value) for value in wanted)
    highest = _text(resource.getrlimit(number)[1])
    if wanted[1] != resource.RLIM_INFINITY and (wanted[0] == resource.RLIM_INFINITY or wanted[0] > wanted[1]):
        return RuntimeFault("rlimit", f"cannot set {name}: the soft limit {soft} is above the hard limit {hard}")
    return RuntimeFault(
        "rlimit",
        f"cannot set {name} to {soft}:{hard}: operation not permitted",
        1,
        hint=f"the hard limit here is {highest}, and raising it needs CAP_SYS_RESOURCE",
    )


def _value(value: int) -> int:
    return resource.RLIM_INFINITY if value in (-1, _INFINITY) else value


def _text(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)
