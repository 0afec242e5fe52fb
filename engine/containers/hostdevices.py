"""Device nodes of the host in a container: `--device` and `--device-cgroup-rule` (cli, container/opts.go; runc, devices)."""

from __future__ import annotations

import os
import stat

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ACCESS = "rwm"
# Not devices to be given away with a directory: what every container has of its own (runc, devices.go, GetDevices).
_OWN = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))


def parse(value: str) -> dict[str, str]:
    """`HOST[:CONTAINER][:rwm]` as HostConfig.Devices has it. UsageError in Docker's words."""
    parts = value.split(":")
    if len(parts) > 3 or not parts[0]:
        raise UsageError(f"bad format for path: {value}")
    access, inside = _ACCESS, parts[0]
    if len(parts) == 3:
        inside, access = parts[1], parts[2]
        if not _is_access(access):
            raise UsageError(f"bad mode specified: {access}")
    elif len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            inside = parts[1]
    if not inside.startswith("/"):
        raise UsageError(f"{inside} is not an absolute path")
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return bool(text) and not text.strip(_ACCESS) and len(set(text)) == len(text)


def parse_rule(value: str) -> dict[str, Any]:
    """`--device-cgroup-rule "c 42:* rwm"` as the spec's device rule. UsageError in Docker's words."""
    words = value.split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    plain = all(number == "*" or (number.isdecimal() and len(number) < 8) for number in numbers)
    if words[0] not in ("a", "b", "c") or len(numbers) != 2 or not plain or not _is_access(words[2]):
        raise UsageError(
            f'invalid argument "{value}" for "--device-cgroup-rule" flag: invalid device cgroup format \'{value}\''
        )
    major, minor = (-1 if number == "*" else int(number) for number in numbers)
    return {"allow": True, "type": words[0], "major": major, "minor": minor, "access": words[2]}


def nodes(device: dict[str, str]) -> list[dict[str, Any]]:
    """The spec's `linux.devices` for one of HostConfig.Devices: of a directory of the host, all that are in it, each with
    the access asked for under `access`. UsageError in Docker's words where there is none."""
    source, target = os.path.realpath(device["PathOnHost"]), device["PathInContainer"]
    try:
        status = os.stat(source)
    except OSError as e:
        raise _refused(device, os.strerror(e.errno or 0).lower()) from e
    found = []
    if stat.S_ISDIR(status.st_mode):
        for directory, names, files in os.walk(source):
            names[:] = sorted(set(names) - _OWN)
            for path in (os.path.join(directory, name) for name in sorted(files)):
                if node := _node(path, target + path[len(source) :]):
                    found.append(node)
    elif node := _node(source, target):
        found.append(node)
    if not found:
        raise _refused(device, "not a device node")
    return [node | {"access": device["CgroupPermissions"]} for node in found]


def limit(limited: dict[str, Any]) -> dict[str, Any]:
    """The spec's weight or rate for one of HostConfig.Blkio…. UsageError where there is no such block device."""
    path = limited["Path"]
    try:
        status = os.stat(path)
    except OSError as e:
        raise UsageError(f"stat {path}: {os.strerror(e.errno or 0).lower()}") from e
    if not stat.S_ISBLK(status.st_mode):
        raise UsageError(f"{path} is not a block device")
    values = {key.lower(): value for key, value in limited.items() if key != "Path"}
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev), **values}


def _refused(device: dict[str, str], reason: str) -> UsageError:
    what = f'error gathering device information while adding custom device "{device["PathOnHost"]}"'
    return UsageError(f"{what}: {reason}")


def _node(path: str, shown: str) -> dict[str, Any] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else None
    if kind is None:
        return None
    return {
        "path": shown,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def rules(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The device rules that let a container use its nodes."""
    return [{"allow": True, **{key: node[key] for key in ("type", "major", "minor", "access")}} for node in found]
