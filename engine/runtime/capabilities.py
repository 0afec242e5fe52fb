"""Capabilities: names, bit masks, and the five sets of a process, in the order that the kernel allows.

    bounding      what no program executed from here can gain, ever
    permitted     what may be used; effective: what is in use
    inheritable   empty in Docker since CVE-2022-24769: otherwise a program with inheritable file capabilities gains them
    ambient       what an ordinary program executed by a user other than root keeps

capabilities(7). Root of a container keeps over execve(2) what is permitted and bounding; another user keeps only the ambient.
"""

from __future__ import annotations

import errno

from engine import linux
from engine.runtime.defaults import ALL_CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HIGHEST = 63


def mask(names: Iterable[str]) -> int:
    """The bits of these capabilities. Names that this table does not know are left out, as the spec asks of a runtime
    whose kernel does not have them."""
    bits = 0
    for name in names:
        if name in ALL_CAPABILITIES:
            bits |= 1 << ALL_CAPABILITIES[name]
    return bits


def drop_bounding(keep: int) -> None:
    """Removes all but `keep` from the bounding set; for good. Needs CAP_SETPCAP. Raises OSError."""
    for number in range(_HIGHEST + 1):
        if keep >> number & 1:
            continue
        try:
            linux.prctl(linux.PR_CAPBSET_DROP, number)
        except OSError as e:
            if e.errno == errno.EINVAL:  # past the last one that this kernel has
                return
            raise


def raise_effective() -> None:
    """Puts into use all that is permitted: a change from uid 0 to another clears the effective set, even with keepcaps."""
    _, permitted, inheritable = linux.capget()
    linux.capset(permitted, permitted, inheritable)


def apply(sets: dict[str, list[str]]) -> None:
    """Makes this thread's effective, permitted, inheritable and ambient sets those of the spec's `process.capabilities`.

    What is asked for but not held cannot be given, and is left out: an engine that lacks CAP_SYS_RESOURCE still runs
    `--privileged`. Raises OSError.
    """
    _, held, _ = linux.capget()
    permitted = mask(sets.get("permitted", ())) & held
    inheritable = mask(sets.get("inheritable", ())) & held
    linux.capset(mask(sets.get("effective", ())) & permitted, permitted, inheritable)
    ambient = mask(sets.get("ambient", ())) & permitted & inheritable
    linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_HIGHEST + 1):
        if ambient >> number & 1:
            linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number)
