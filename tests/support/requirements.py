"""What a test may need of the host: `@pytest.mark.requires("root", "docker-registry")`.

A missing part skips the test, with the reason; under MINI_TEST_STRICT=1 (CI) it fails instead, so that coverage cannot
vanish unseen, except for what no installation brings (OPTIONAL).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable

from engine import host
from tests.support import isolation

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CNI_PLUGINS = "/usr/lib/cni"
SHARED_IMAGES = os.path.join(os.path.dirname(CHECKOUT), "shared", "images")

# Never a failure: data beside the repository, and the host's choice of cgroup layout, of PID 1 and of security modules.
OPTIONAL = {"shared-images", "cgroup-v1", "cgroup-v2", "macos", "systemd", "apparmor"}

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> str | None:
    """The program's path; /sbin is searched too, which a user's PATH may lack."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


@functools.cache
def missing(what: str) -> str | None:
    """Why the host does not have `what`, or None where it does. `program:NAME` and `module:NAME` ask for any such."""
    kind, _, name = what.partition(":")
    if kind == "program" and name:
        return None if program(name) else f"no program {name}"
    if kind == "module" and name:
        return None if importlib.util.find_spec(name) else f"no Python module {name}"
    return None if _CHECKS[what]() else _REASONS.get(what, f"no {what}")


def is_strict() -> bool:
    return os.environ.get("MINI_TEST_STRICT") == "1"


def _has(*names: str) -> Callable[[], bool]:
    return lambda: all(program(name) for name in names)


def _private_network() -> bool:
    """Asked after isolation, before a test adds links: nothing but loopback is up, so that nothing leaves."""
    return host.is_linux() and host.is_root() and isolation.links_up() == {"lo"}


def _cgroup(kind: str) -> bool:
    """Whether a hierarchy of that type is mounted with a controller that limits memory."""
    try:
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split(" - ") for line in file]
    except OSError:
        return False
    for left, right in mounts:
        target, filesystem = left.split()[4], right.split()[0]
        if filesystem != kind:
            continue
        if kind == "cgroup" and "memory" in right.split()[2].split(","):
            return True
        if kind == "cgroup2":
            with open(f"{target}/cgroup.controllers") as file:
                if "memory" in file.read().split():
                    return True
    return False


def _apparmor() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read(1) == "Y" and program("apparmor_parser") is not None
    except OSError:
        return False


_CHECKS: dict[str, Callable[[], bool]] = {
    "linux": host.is_linux,
    "macos": lambda: sys.platform == "darwin",
    "root": host.is_root,
    "netns": _private_network,
    "overlay": lambda: host.has_filesystem("overlay"),
    "erofs": lambda: host.is_linux() and host.kernel_version() >= (6, 12) and host.has_filesystem("erofs"),
    "lowerdir+": lambda: host.is_linux() and host.kernel_version() >= (6, 5),
    "erofs-utils": _has("mkfs.erofs", "fsck.erofs", "dump.erofs"),
    "docker": lambda: host.is_linux() and host.is_root() and _has("dockerd", "docker", "containerd", "iptables")(),
    "docker-registry": _has("docker-registry"),
    "shared-images": lambda: os.path.isdir(SHARED_IMAGES),
    "cgroup-v1": lambda: _cgroup("cgroup"),
    "cgroup-v2": lambda: _cgroup("cgroup2"),
    "nft": _has("nft"),
    "dig": _has("dig"),
    "dnsmasq": _has("dnsmasq"),
    "iproute2": _has("ip"),
    "crun": _has("crun"),
    "runc": _has("runc"),
    "cni": lambda: all(os.path.exists(f"{CNI_PLUGINS}/{name}") for name in ("bridge", "host-local", "loopback")),
    "ctr": _has("containerd", "ctr", "containerd-shim-runc-v2"),
    "skopeo": _has("skopeo"),
    "podman": _has("podman"),
    "hyperfine": _has("hyperfine"),
    "journal": lambda: os.path.exists("/lib/systemd/systemd-journald") and _has("journalctl", "nsenter")(),
    "systemd": lambda: os.path.isdir("/run/systemd/system") and os.path.exists("/run/dbus/system_bus_socket"),
    "apparmor": _apparmor,
    "ssl": lambda: importlib.util.find_spec("ssl") is not None,
    "libseccomp": lambda: host.is_linux() and _libseccomp(),
}

_REASONS = {
    "root": "not root",
    "linux": "not Linux",
    "netns": "not in a network namespace of its own (as root on Linux, pytest makes one)",
    "erofs": "no file-backed EROFS (Linux 6.12)",
    "lowerdir+": "an overlay of some seventy directories at most (lowerdir+: Linux 6.5)",
    "erofs-utils": "no erofs-utils",
    "docker": "no Docker engine (Debian: docker.io), or not root",
    "docker-registry": "no docker-registry (Debian has it)",
    "cni": f"no network plugins in {CNI_PLUGINS} (Debian: containernetworking-plugins)",
    "ctr": "no containerd with its client ctr (Debian: containerd)",
    "shared-images": f"no {SHARED_IMAGES}",
    "nft": "no nft (Debian: nftables)",
    "dig": "no dig (Debian: bind9-dnsutils)",
    "dnsmasq": "no dnsmasq (Debian: dnsmasq-base)",
    "iproute2": "no ip (Debian: iproute2)",
    "systemd": "not booted by systemd, or without D-Bus",
    "apparmor": "AppArmor is not enabled, or without apparmor_parser",
    "journal": "no systemd-journald (Debian: systemd)",
}


def _libseccomp() -> bool:
    import ctypes.util

    return ctypes.util.find_library("seccomp") is not None
