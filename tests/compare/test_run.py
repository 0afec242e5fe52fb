"""The same `run` through both engines: exit code, output, and what the process finds around itself."""

from __future__ import annotations

import difflib
import pprint
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.compare.conftest import Both
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker", "iproute2")

Reduce = Callable[[str], object]


def plain(text: str) -> list[str]:
    """IDs and addresses, which differ from one container to the next, by what they are."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"\b10\.21[34]\.\d+\.(\d+)\b", lambda m: "<gateway>" if m[1] == "1" else "<address>", text)
    return re.sub(r"/mini-test-[a-z0-9-]+", "<parent>", text).split("\n")


def resolver(text: str) -> object:
    """Without who is asked: on the default network Docker's containers ask the host's nameservers, and find no names of each
    other; mini's ask their own resolver, as Docker's do on a network that a user made."""
    return [line for line in text.splitlines() if line.strip() and line.split()[0] not in ("nameserver", "options")]


def unordered(text: str) -> object:
    """Docker puts what `-e` brings in the order of a Go map: none."""
    return sorted(plain(text))


# Where mini's mounts differ from those of Docker 20.10, each with its reason.
STRICTER = {
    # Masked by newer Dockers: the host's thermal interrupts (GHSA-6fw5-f8r9-fgfm) and power counters (CVE-2020-8694).
    "/proc/interrupts",
    "/sys/devices/virtual/powercap",
}


def mounts(text: str) -> object:
    """proc_pid_mountinfo(5), by target: type, options of the mount, options of the file system.

    Left out, with the reason: IDs and device numbers (the kernel's); the source and root of what each engine keeps in a
    place of its own; overlay's directories (the storage drivers differ, that is the point of mini); the options of the
    host's file system under a bind mount (the same disk); masks that newer Dockers have; that the tmpfs above
    version 1's cgroups is read-only, which Docker leaves writable.
    """
    seen = []
    for line in text.splitlines():
        left, right = line.split(" - ")
        target, options = left.split()[4:6]
        kind, _, settings = right.split(" ", 2)
        shown = set(settings.split(",")) if kind not in ("overlay", "ext4", "xfs", "btrfs") else set()
        flags = set(options.split(","))
        if (target, kind) == ("/sys/fs/cgroup", "tmpfs"):
            flags -= {"ro", "rw"}
        if target not in STRICTER:
            seen.append((target, kind, sorted(flags), sorted(shown)))
    return sorted(seen)


def status(text: str) -> object:
    """proc_pid_status(5): what an engine decides. Filters: how many make the same policy is its own business."""
    names = "Umask Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp SigBlk SigIgn SigCgt".split()
    fields = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))
    return {name: fields[name] for name in names}


def interfaces(text: str) -> object:
    """`ip -o addr` without indexes; without loopback's ::1, which Docker has since 26 (and mini)."""
    lines = [re.sub(r"^\d+: |@if\d+", "", line) for line in text.split("\n") if "inet6 ::1" not in line]
    return [plain(line) for line in lines]


def failure(text: str) -> object:
    """For cases that end in a message of the engine's own."""
    return bool(text)


class Case(NamedTuple):
    """`run --rm OPTIONS IMAGE COMMAND` with `input` on stdin (through `-i` in the options)."""

    name: str
    options: list[str]
    command: list[str]
    reduce: Reduce = plain
    input: str | None = None
    images: tuple[str, ...] = ("host", "alpine")


def _sh(script: str) -> list[str]:
    return ["sh", "-c", script]


_CAT_LIMITS = _sh("cat /proc/self/limits; cat /proc/self/oom_score_adj")
_CGROUP_FILES = _sh(
    "cd /sys/fs/cgroup && cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.swappiness"
    " cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares pids/pids.max cpuset/cpuset.cpus 2>/dev/null;"
    " sort devices/devices.list"
)
_MOUNTS = ["cat", "/proc/self/mountinfo"]
_STATUS = ["cat", "/proc/self/status"]
_NO_TIMES = "sed -E 's/ [A-Z][a-z]{2} .{8} / /'"
_SYSCTL = _sh("cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range ip_forward")

CASES = [
    Case("exit code 0", [], ["true"]),
    Case("exit code 3", [], _sh("exit 3")),
    Case("killed child", [], _sh("sh -c 'kill -9 $$'; exit $?")),
    Case("streams", [], _sh("echo out; echo err >&2; exit 1")),
    Case("stdin", ["-i"], ["cat"], input="some\nlines without an end"),
    Case("stdin is closed", [], ["cat"], input="not for it"),
    Case("terminal alone", ["-t"], _sh("tty; stty -a; env | sort"), images=("host",)),
    Case("environment", [], ["env"]),
    Case("environment of a user", ["-u", "1234", "-e", "A=b c", "-e", "EMPTY=", "-e", "NOT_SET"], ["env"], unordered),
    Case(
        "environment overridden", ["-e", "PATH=/usr/bin:/bin", "-e", "HOME=/x", "-e", "HOSTNAME=y"], ["env"], unordered
    ),
    Case("home of nobody", ["-u", "nobody"], _sh("echo $HOME; id")),
    Case("user by name", ["-u", "user"], ["id"], images=("host",)),
    Case("user and group by name", ["-u", "user:staff"], ["id"], images=("host",)),
    Case("user by number", ["-u", "1000"], ["id"], images=("host",)),
    Case("user and group by number", ["-u", "1000:4321"], ["id"]),
    Case("unknown number", ["-u", "4321"], ["id"]),
    Case("workdir", ["-w", "/made/for/it"], _sh(f"pwd; ls -ld /made /made/for/it | {_NO_TIMES}")),
    Case("hostname", ["--hostname", "box"], _sh("hostname; cat /etc/hostname /etc/hosts")),
    Case("hostname with a domain", ["--hostname", "box.example.org"], _sh("hostname; cat /etc/hostname /etc/hosts")),
    Case("hostname by default", [], _sh("hostname; cat /etc/hostname; cat /etc/hosts")),
    Case("resolv.conf", [], ["cat", "/etc/resolv.conf"], resolver),
    Case("hosts without network", ["--network", "none"], ["cat", "/etc/hosts", "/etc/resolv.conf"]),
    # how long they are depends on who is asked for names
    Case("files that are mounted", [], _sh("stat -c '%A %h %u %g %n' /etc/hosts /etc/hostname /etc/resolv.conf")),
    Case("entrypoint", ["--entrypoint", "echo"], ["a", "b"]),
    Case("entrypoint alone", ["--entrypoint", "pwd"], []),
    Case("root directory", [], _sh("stat -c '%a %u %g %n' / /tmp /root /dev /proc /sys; umask")),
    Case("devices", [], _sh(f"ls -ln /dev | {_NO_TIMES}")),
    Case("devices when privileged", ["--privileged"], _sh(f"ls /dev; ls -ln /dev/null /dev/tty | {_NO_TIMES}")),
    Case("descriptors", [], ["ls", "/proc/self/fd"]),
    Case("limits", [], _CAT_LIMITS),
    Case("status", [], _STATUS, status),
    Case("status of a user", ["-u", "1234"], _STATUS, status),
    Case("status when privileged", ["--privileged"], _STATUS, status),
    Case("mounts", [], _MOUNTS, mounts),
    Case(
        "mounts with volumes",
        ["-v", "vol:/v", "-v", "/opt:/mnt/x", "-v", "/opt:/mnt/ro:ro", "-v", "/a"],
        _MOUNTS,
        mounts,
    ),
    Case("mounts when read-only", ["--read-only"], _MOUNTS, mounts),
    Case("mounts when privileged", ["--privileged"], _MOUNTS, mounts),
    Case("mounts without network", ["--network", "none"], _MOUNTS, mounts),
    Case("mounts with a terminal", ["-t"], _MOUNTS, mounts),
    Case("cgroup files", [], _CGROUP_FILES),
    Case("limits of memory, cpus and pids", ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "9"], _CGROUP_FILES),
    Case("cgroup", [], _sh("cut -d: -f 2 /proc/self/cgroup | sort; ls /sys/fs/cgroup")),
    Case("interfaces", [], ["ip", "-o", "addr"], interfaces),
    Case("routes", [], ["ip", "route"]),
    Case("no interfaces", ["--network", "none"], ["ip", "-o", "addr"], interfaces),
    Case("interfaces of the host", ["--network", "host"], _sh("ip -o addr show lo; readlink /proc/self/ns/net")),
    Case("sysctls", [], _SYSCTL),
    Case("kernel settings", [], _sh("cat /proc/sys/kernel/shmmax /proc/sys/kernel/msgmax; df -k /dev/shm | tail -n 1")),
    Case("masked", [], _sh("ls -A /proc/acpi /sys/firmware; cat /proc/keys /proc/timer_list; wc -c < /proc/keys")),
    Case("what may not be written", [], _sh("echo x > /proc/sys/kernel/hostname; echo $?; touch /sys/x; echo $?")),
    Case("signal of PID 1 is ignored", [], _sh("kill -TERM 1; echo alive")),
    Case("missing command", [], ["no-such-program"], failure),
    Case("not executable", [], ["/etc/passwd"], failure),
    Case("a directory", [], ["/etc"], failure),
    Case("an option that is not there", ["--no-such-option"], ["true"], failure),
    Case("no such user", ["-u", "no-such-user"], ["true"], failure),
    Case("no such group", ["-u", "0:no-such-group"], ["true"], failure),
    Case("a user that is too large", ["-u", "4294967296"], ["true"], failure),
    Case("relative workdir", ["-w", "relative"], ["true"], failure),
    Case("too little memory", ["--memory", "1m"], ["true"], failure),
    Case("too many cpus", ["--cpus", "999"], ["true"], failure),
    Case("a bad name", ["--name", "-x"], ["true"], failure),
    Case("no such network", ["--network", "no-such-network"], ["true"], failure),
    Case("terminal without one", ["-it"], ["true"], failure),
    Case("a bad volume", ["-v", "a:b:c:d"], ["true"], failure),
    Case("a volume at a relative path", ["-v", "vol:relative"], ["true"], failure),
]


def _lacks_capabilities() -> bool:
    """A virtual machine or container without all of them: there runc refuses `--privileged`."""
    with open("/proc/sys/kernel/cap_last_cap") as last, open("/proc/self/status") as own:
        (bounding,) = re.findall(r"CapBnd:\s*(\w+)", own.read())
        return int(bounding, 16) != (2 << int(last.read())) - 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_run(both: Both, case: Case) -> None:
    if "--privileged" in case.options and _lacks_capabilities():
        pytest.skip("this host lacks capabilities, and so runc refuses --privileged")
    for image in case.images:
        if image not in both.names:
            continue
        arguments = ["run", "--rm", *case.options, both.names[image], *case.command]
        docker = both.docker.run(*arguments, input=case.input, check=False)
        mini = both.mini.run(*arguments, input=case.input, check=False)
        theirs, ours = (pprint.pformat(_reduced(result, case), width=110).splitlines() for result in (docker, mini))
        difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=0, lineterm=""))
        assert not difference, "\n".join([image, *difference])


def _reduced(result: Result, case: Case) -> dict[str, object]:
    """What is compared. Engines say in words of their own why they fail: of that, the exit code and the stream."""
    if case.reduce is failure:
        return {"code": result.code, "stdout": bool(result.stdout), "stderr": bool(result.stderr)}
    return {"code": result.code, "stdout": case.reduce(result.stdout.rstrip("\n")), "stderr": plain(result.stderr)}
