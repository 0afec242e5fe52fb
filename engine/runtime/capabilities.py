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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# By number, include/uapi/linux/capability.h.
NAMES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID "
    "CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK "
    "CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN "
    "CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE "
    "CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND "
    "CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
).split()
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_HIGHEST = 63


def mask(names: Iterable[str]) -> int:
    """The bits of these capabilities. Names that this table does not know are left out, as the spec asks of a runtime
    whose kernel does not have them."""
    bits = 0
    for name in names:
        if name in _NUMBERS:
            bits |= 1 << _NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    """The inverse of `mask`."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


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
