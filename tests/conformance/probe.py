#!/usr/bin/python3 -IS
"""Runs inside a container and prints, as JSON, what a process can see there. The suite copies it into the root."""

import ctypes
import fcntl
import json
import os
import resource
import stat
import struct
import sys

TIOCGWINSZ = 0x5413  # the termios module is not in the image


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return f"!{error.strerror}"


def status() -> dict[str, str]:
    """proc_pid_status(5)"""
    lines = [line.split(":", 1) for line in read("/proc/self/status").splitlines() if ":" in line]
    return {name: value.strip() for name, value in lines}


def mounts() -> list[dict[str, object]]:
    """proc_pid_mountinfo(5)"""
    found: list[dict[str, object]] = []
    for line in read("/proc/self/mountinfo").splitlines():
        if " - " not in line:
            continue
        left, right = line.split(" - ", 1)
        fields, (kind, source, data) = left.split(), right.split(" ", 2)
        found.append(
            {
                "root": fields[3],
                "target": fields[4],
                "options": fields[5].split(","),
                "propagation": fields[6:],
                "type": kind,
                "source": source,
                "data": data.split(","),
            }
        )
    return found


def files(top: str) -> dict[str, dict[str, object]]:
    """What lies in a directory, by path: type (as of mknod(1)), mode, owner, device number, target of a link."""
    found = {}
    for name in os.listdir(top) if os.path.isdir(top) else []:
        path = os.path.join(top, name)
        it = os.lstat(path)
        found[path] = {
            "type": {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFLNK: "l", stat.S_IFDIR: "d"}.get(
                stat.S_IFMT(it.st_mode), "-"
            ),
            "mode": stat.S_IMODE(it.st_mode),
            "owner": [it.st_uid, it.st_gid],
            "device": [os.major(it.st_rdev), os.minor(it.st_rdev)],
            "target": os.readlink(path) if stat.S_ISLNK(it.st_mode) else None,
        }
    return found


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one that listed the directory
    return found


def terminal() -> dict[str, object]:
    found: dict[str, object] = {"tty": [os.isatty(number) for number in range(3)]}
    if os.isatty(0):
        size = fcntl.ioctl(0, TIOCGWINSZ, bytes(8))
        found["size"] = list(struct.unpack("HHHH", size))[:2]
        found["name"] = os.ttyname(0)
        found["foreground"] = os.tcgetpgrp(0) == os.getpgrp()
    return found


def main() -> None:
    umask = os.umask(0)
    os.umask(umask)
    libc = ctypes.CDLL(None)
    pairs = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    limits = {name: [value if value >= 0 else "infinity" for value in pair] for name, pair in pairs.items()}
    namespaces = {name: read_link(f"/proc/self/ns/{name}") for name in "cgroup ipc mnt net pid time user uts".split()}
    report = {
        "args": sys.argv,
        "env": sorted(read("/proc/self/environ").split("\0")[:-1]),
        "cwd": os.getcwd(),
        "user": [os.getuid(), os.getgid()],
        "groups": sorted(os.getgroups()),
        "umask": umask,
        "status": status(),
        "rlimits": limits,
        "oom_score_adj": read("/proc/self/oom_score_adj").strip(),
        "scheduler": [
            os.sched_getscheduler(0),
            os.sched_getparam(0).sched_priority,
            os.getpriority(os.PRIO_PROCESS, 0),
        ],
        "ioprio": libc.syscall({"x86_64": 252}.get(os.uname().machine, 31), 1, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "personality": libc.personality(ctypes.c_ulong(0xFFFFFFFF)),
        "machine": os.uname().machine,
        "namespaces": namespaces,
        "ids": {"pid": os.getpid(), "session": os.getsid(0), "group": os.getpgrp()},
        "hostname": os.uname().nodename,
        "domainname": read("/proc/sys/kernel/domainname").strip(),
        "mounts": mounts(),
        "dev": files("/dev"),
        "root": files("/"),
        "descriptors": descriptors(),
        "terminal": terminal(),
        "uid_map": [line.split() for line in read("/proc/self/uid_map").splitlines()],
        "gid_map": [line.split() for line in read("/proc/self/gid_map").splitlines()],
        "time_offsets": read("/proc/self/timens_offsets").split(),
        "cgroup": read("/proc/self/cgroup").splitlines(),
        "links": sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else [],
        "stdin": "" if os.isatty(0) else sys.stdin.read(),
    }
    print(json.dumps(report))


def read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError as error:
        return f"!{error.strerror}"


main()
