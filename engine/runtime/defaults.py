"""What Docker gives a container that asks for nothing: capabilities, mounts, devices, masked and read-only paths.

Pure data in the OCI spec's form, for `engine/containers/bundle.py`. Measured on Docker 20.10 and compared with moby's
`oci/defaults.go` and `oci/caps` (v28): where they differ, the newer and stricter one is followed. The lists are shared:
copy before changing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Mount

# capabilities(7) and linux/capability.h: the index is the kernel's number.
_CAPABILITY_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
ALL_CAPABILITIES: dict[str, int] = {f"CAP_{name}": number for number, name in enumerate(_CAPABILITY_NAMES.split())}

# CapEff 00000000a80425fb
DEFAULT_CAPABILITIES: list[str] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]

# Paths that do not exist on a host are skipped at run time, as runc does.
MASKED_PATHS: list[str] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",  # a side channel: GHSA-6fw5-f8r9-fgfm
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",  # power use as a side channel, PLATYPUS: GHSA-jq35-85cj-fj4p
    "/sys/firmware",
]


def masked_paths(possible_cpus: int) -> list[str]:
    """MASKED_PATHS, and each processor's thermal throttle counters (GHSA-6fw5-f8r9-fgfm).

    `possible_cpus` is how many processors the kernel could have (/sys/devices/system/cpu/possible).
    """
    throttle = [f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(possible_cpus)]
    return MASKED_PATHS + throttle


READONLY_PATHS: list[str] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# In a network namespace of its own every port may be listened on, and ping(8) needs no raw socket (moby/moby#41030).
SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}

# In the order in which they are mounted.
DEFAULT_MOUNTS: list[Mount] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": ["ro", "nosuid", "noexec", "nodev"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
]

# `--privileged`: the same mounts, /sys and the cgroups writable, nothing masked or read-only, every device.
PRIVILEGED_MOUNTS: list[Mount] = [
    {**mount, "options": [option for option in mount["options"] if option != "ro"]} for mount in DEFAULT_MOUNTS
]

# The nodes that the OCI spec wants in every /dev (config-linux.md, "Default Devices"); a runtime makes them unasked.
DEFAULT_DEVICES: list[dict[str, Any]] = [
    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
]

# linux.resources.devices. What every container may use (the nodes above, its terminals, mknod) is added by the cgroup
# manager, as runc does it.
DEVICE_RULES: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
PRIVILEGED_DEVICE_RULES: list[dict[str, Any]] = [{"allow": True, "access": "rwm"}]


def host_devices(dev: str = "/dev") -> list[dict[str, Any]]:
    """The host's device nodes, for `linux.devices` of a privileged container, as runc's HostDevices lists them.

    Left out: terminals, shared memory, message queues and what is on a mount of its own, since the container has its
    own of these.
    """
    import os
    import stat

    devices: list[dict[str, Any]] = []
    skipped = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
    for directory, names, files in os.walk(dev):
        names[:] = sorted(set(names) - skipped)
        for name in sorted(files):
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else None
            if kind is None or path in (f"{dev}/console", f"{dev}/ptmx"):
                continue
            devices.append(
                {
                    "path": "/dev" + path[len(dev) :],
                    "type": kind,
                    "major": os.major(status.st_rdev),
                    "minor": os.minor(status.st_rdev),
                    "fileMode": stat.S_IMODE(status.st_mode),
                    "uid": status.st_uid,
                    "gid": status.st_gid,
                }
            )
    return devices
