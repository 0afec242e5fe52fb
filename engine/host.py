"""What this host is and can do, asked of the kernel once.

Facts only: whoever needs one decides what to do without it. Roots are arguments so that tests can pass fixtures.
"""

from __future__ import annotations

import os
import sys

from engine.errors import Unsupported

# OCI image spec, platform: GOARCH and variant by uname(2)'s machine.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}

WAYS_TO_RUN = (
    "on Linux, run it as root; elsewhere, in a container of this repository's image:\n"
    "  docker build -t mini . && docker run --rm -it --privileged mini run alpine sh"
)


def is_linux() -> bool:
    return sys.platform == "linux"


def is_root() -> bool:
    return os.geteuid() == 0


def kernel_version() -> tuple[int, int]:
    """(major, minor) of the running kernel, (0, 0) where its release cannot be read."""
    digits = os.uname().release.split(".")[:2]
    try:
        return int(digits[0]), int("".join(c for c in digits[1] if c.isdigit()))
    except (IndexError, ValueError):
        return 0, 0


def architecture() -> tuple[str, str]:
    """(architecture, variant) in OCI's words for the machine, for instance ("arm64", "v8")."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, (machine, ""))


def has_filesystem(name: str, proc: str = "/proc") -> bool:
    """Whether the kernel knows the file system now (proc_filesystems(5)). A module not yet loaded is not seen."""
    try:
        with open(f"{proc}/filesystems") as file:
            return any(line.split()[-1] == name for line in file)
    except OSError:
        return False


def filesystem_of(path: str, proc: str = "/proc") -> str:
    """The type of the mounted file system that has `path`, by its device number (proc_pid_mountinfo(5)); empty where none fits."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    try:
        with open(f"{proc}/self/mountinfo", errors="surrogateescape") as file:
            return next((f[f.index("-") + 1] for line in file if (f := line.split(" "))[2] == device), "")
    except OSError:
        return ""


def boot_id(proc: str = "/proc") -> str:
    """The kernel's random id of this boot, empty where there is none: tells a pid of this boot from one of another."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def require_container_host() -> None:
    """Raises Unsupported, with the ways out, where containers cannot run: not Linux, or not root."""
    if not is_linux():
        raise Unsupported(f"containers need a Linux kernel; this is {os.uname().sysname}", WAYS_TO_RUN)
    if not is_root():
        raise Unsupported("running containers needs root", WAYS_TO_RUN)
