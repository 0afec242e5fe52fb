"""Every property of config.json (OCI runtime spec 1.2, its schema's for Linux) is known, by its type: none is ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import Unsupported, UsageError
from engine.runtime import labels, validate

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
DEVICE = {"major": 8, "minor": 0}
HOOK = [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]
WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [
        {
            "destination": "/data",
            "type": "none",
            "source": "/srv",
            "options": ["rbind", "ridmap"],
            "uidMappings": MAP,
            "gidMappings": MAP,
        }
    ],
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "cwd": "/",
        "env": ["A=b"],
        "args": ["true"],
        "user": {"uid": 0, "gid": 0, "umask": 63, "additionalGids": [5]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), ["CAP_KILL"]),
        "noNewPrivileges": True,
        "oomScoreAdj": 100,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "nice": 0,
            "priority": 0,
            "runtime": 42000,
            "deadline": 100000,
            "period": 1000000,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0", "final": "0-1"},
        "apparmorProfile": "profile",
        "selinuxLabel": "system_u:system_r:container_t:s0",
    },
    "hostname": "host",
    "domainname": "example.org",
    "hooks": dict.fromkeys(
        ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), HOOK
    ),
    "annotations": {"key": "value"},
    "linux": {
        "namespaces": [{"type": kind, "path": ""} for kind in "mount pid network ipc uts user cgroup time".split()],
        "uidMappings": MAP,
        "gidMappings": MAP,
        "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {"secs": 5, "nanosecs": 7}},
        "devices": [{"type": "b", "path": "/dev/sda", **DEVICE, "fileMode": 432, "uid": 0, "gid": 0}],
        "cgroupsPath": "/a/b",
        "resources": {
            "devices": [{"allow": True, "type": "c", **DEVICE, "access": "rwm"}],
            "memory": {
                "limit": 536870912,
                "reservation": 536870912,
                "swap": 536870912,
                "kernel": -1,
                "kernelTCP": -1,
                "swappiness": 0,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": 1000000,
                "burst": 1000000,
                "period": 500000,
                "realtimeRuntime": 950000,
                "realtimePeriod": 1000000,
                "cpus": "2-3",
                "mems": "0-7",
                "idle": 0,
            },
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{**DEVICE, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": [{**DEVICE, "rate": 600}],
                "throttleWriteBpsDevice": [{**DEVICE, "rate": 600}],
                "throttleReadIOPSDevice": [{**DEVICE, "rate": 300}],
                "throttleWriteIOPSDevice": [{**DEVICE, "rate": 300}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "pids": {"limit": 32771},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
            "unified": {"io.max": "259:0 rbps=2097152 wiops=120"},
        },
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "opaque",
            "syscalls": [
                {
                    "names": ["getcwd"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 1,
                    "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0",
        "personality": {"domain": "LINUX", "flags": []},
    },
}


def places(value: Any, path: str = "") -> Iterator[tuple[list[Any], str]]:
    """(steps, name) of everything in a document."""
    if isinstance(value, dict):
        inner = [(key, item, f"{path}.{key}".lstrip(".")) for key, item in value.items()]
    else:
        inner = [(n, item, f"{path}[{n}]") for n, item in enumerate(value)] if isinstance(value, list) else []
    for key, item, name in inner:
        yield [key], name
        yield from (([key, *steps], below) for steps, below in places(item, name))


PLACES = list(places(WHOLE))


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with AppArmor and SELinux."""
    monkeypatch.setattr(labels, "require_apparmor", lambda where: None)
    monkeypatch.setattr(labels, "require_selinux", lambda where: None)


def test_the_whole() -> None:
    assert validate.checked(json.loads(json.dumps(WHOLE))) == (WHOLE, [])


@pytest.mark.parametrize("steps, name", PLACES, ids=[name for _, name in PLACES])
def test_a_property_is_known(steps: list[Any], name: str) -> None:
    """No property may be 1.5, and the error names the one that is."""
    spec = json.loads(json.dumps(WHOLE))
    place: Any = spec
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = 1.5
    with pytest.raises((UsageError, Unsupported)) as told:
        validate.checked(spec)
    assert told.value.message.startswith(f"{name}: "), told.value.message
