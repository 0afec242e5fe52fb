"""What a container sees of itself, as sections of text, without what differs from one container to the next."""

from __future__ import annotations

import difflib
import os
import pprint
import re

_NAMESPACES = ("cgroup", "ipc", "net", "pid", "uts", "user")
_FIELDS = (
    "Umask Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters SigBlk SigIgn SigCgt"
)
_COMMANDS = {
    "status": "cat /proc/self/status",
    "mounts": "cat /proc/self/mountinfo",
    "cgroups": "cat /proc/self/cgroup",
    "namespaces": "ls -l /proc/self/ns | sed -n 's/.* -> //p'",
    "limits": "cat /proc/self/limits /proc/self/oom_score_adj",
    "environment": "env | sort",
    "devices": "ls -ln /dev | sed -E 's/ [A-Z][a-z]{2} .{8} / /'; stat -c '%a %u %g %n' / /dev /dev/shm /dev/pts /proc /tmp",
    "descriptors": "ls -l /proc/self/fd | sed 's/.* \\([0-9]* -> [^0-9]*\\).*/\\1/'",
    "kernel": "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced; hostname; pwd; id",
    "masked": "ls -A /proc/acpi /sys/firmware; head -c 1 /proc/keys | wc -c; head -c 1 /proc/timer_list | wc -c",
    "forbidden": "touch /x; echo $?; echo 1 >/proc/sys/vm/drop_caches; echo $?; mknod /n c 1 3; echo $?; (: </dev/fuse); echo $?"
    "; unshare -m true; echo $?; mount -t tmpfs x /tmp; echo $?",
}
COMMAND = ["sh", "-c", "".join(f"echo '== {name}'; {{ {command}; }} 2>&1\n" for name, command in _COMMANDS.items())]


def difference(*texts: str) -> str:
    """Between what two containers saw, as diff(1) has it; empty where there is none."""
    first, second = (pprint.pformat(sections(text), width=200).splitlines() for text in texts)
    return "\n".join(difflib.unified_diff(first, second, n=0, lineterm=""))


def sections(text: str) -> dict[str, list[str]]:
    """Of what COMMAND printed."""
    parts = dict(part.split("\n", 1) for part in text.split("== ")[1:])
    assert parts.keys() == _COMMANDS.keys(), text
    found = {name: _plain(content).splitlines() for name, content in parts.items()}
    found["status"] = [line for line in found["status"] if line.split(":")[0] in _FIELDS.split()]
    found["mounts"] = sorted(_mount(line) for line in found["mounts"])
    # mini leaves a hybrid host's unified tree alone: no limit is in it (docs/cgroups.md)
    found["cgroups"] = sorted(line.partition(":")[2] for line in found["cgroups"] if not line.startswith("0::"))
    ours = {os.readlink(f"/proc/self/ns/{kind}") for kind in _NAMESPACES}
    found["namespaces"] = [f"{line.partition(':')[0]} {line in ours}" for line in found["namespaces"]]
    return found


def _plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    return re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)


def _mount(line: str) -> str:
    """proc_pid_mountinfo(5): target, options, propagation; type, source and, where it is not a disk's, options."""
    left, right = line.split(" - ")
    fields = left.split()
    kind, source, options = right.split()
    source = "" if kind == "cgroup" else source  # a word of the runtime's own
    propagation = [re.sub(r":\d+", "", word) for word in fields[6:]]
    if fields[4] == "/":
        propagation = []  # runc's is a slave of the host's where nothing is said of it, mini's is private
    shown = (
        ",".join(sorted(options.split(","))) if kind in ("tmpfs", "devpts", "proc", "sysfs", "mqueue", "cgroup") else ""
    )
    flags = set(fields[5].split(","))
    if (fields[4], kind) == ("/sys/fs/cgroup", "tmpfs"):
        flags -= {"ro", "rw"}  # Docker's spec says ro, and runc leaves it writable
    return " ".join([fields[4], ",".join(sorted(flags)), *propagation, kind, source, shown])
