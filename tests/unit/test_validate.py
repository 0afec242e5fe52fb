"""A config.json that cannot be run is told by the name of what is wrong, before anything is made."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest

from engine.errors import MiniError, Unsupported, UsageError
from engine.runtime import labels, validate

SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network"}]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """SPEC with `value` at `a.b.c`."""
    spec = copy.deepcopy(SPEC)
    *above, last = path.split(".")
    place = spec
    for name in above:
        place = place.setdefault(name, {})
    place[last] = value
    return spec


MAP = [{"containerID": 0, "hostID": 1000, "size": 1}]
USER = [{"type": "mount"}, {"type": "user"}]
SECCOMP = "linux.seccomp"
RESOURCES = "linux.resources"
ALLOW = "SCMP_ACT_ALLOW"


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("root", {}, "root.path: is required"),
        ("root.readonly", "yes", "root.readonly: must be true or false, not str ('yes')"),
        ("process.cwd", "here", "process.cwd: must be an absolute path, not 'here'"),
        ("process.args", [], "process.args: must not be empty"),
        ("process.args", ["sh", 5], "process.args[1]: must be a string, not int (5)"),
        ("process.user", {"uid": -1}, "process.user.uid: must be from 0 to 4294967294, not -1"),
        ("process.user", {"uid": 4294967295}, "process.user.uid: must be from 0 to 4294967294, not 4294967295"),
        (
            "process.user",
            {"uid": 0, "additionalGids": [True]},
            "process.user.additionalGids[0]: must be an integer, not True",
        ),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj: must be from -1000 to 1000, not 1001"),
        ("process.consoleSize", {"height": 5}, "process.consoleSize.width: is required"),
        (
            "process.rlimits",
            [{"type": "RLIMIT_X", "soft": 1, "hard": 1}],
            "process.rlimits[0].type: unknown resource limit: RLIMIT_X",
        ),
        (
            "process.rlimits",
            [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2,
            "process.rlimits[1].type: there are two limits RLIMIT_CPU",
        ),
        ("process.scheduler", {"policy": "SCHED_X"}, "process.scheduler.policy: unknown scheduling policy: SCHED_X"),
        (
            "process.scheduler",
            {"policy": "SCHED_RR", "flags": ["X"]},
            "process.scheduler.flags[0]: unknown scheduling flag: X",
        ),
        (
            "process.ioPriority",
            {"class": "IOPRIO_CLASS_RT", "priority": 8},
            "process.ioPriority.priority: must be from 0 to 7, not 8",
        ),
        (
            "process.execCPUAffinity",
            {"final": "0-x"},
            "process.execCPUAffinity.final: not a list of processors such as 0-3,7: '0-x'",
        ),
        ("process.commandLine", "cmd", "process.commandLine: is of Windows"),
        ("hooks", {"poststop": [{"path": "x"}]}, "hooks.poststop[0].path: must be an absolute path, not 'x'"),
        ("hooks", {"prestart": [{"path": "/x", "timeout": 0}]}, "hooks.prestart[0].timeout: must be from 1 to"),
        ("mounts", [{"destination": "/x", "options": ["rbind"]}], "mounts[0].source: is required for a bind mount"),
        ("mounts", [{"destination": "/x"}], "mounts[0].type: is required for what is not a bind mount"),
        ("mounts", [{"type": "tmpfs"}], "mounts[0].destination: is required"),
        (
            "mounts",
            [{"destination": "/x", "type": "bind", "source": "/x", "uidMappings": MAP}],
            "mounts[0].uidMappings: goes together with gidMappings",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "tmpfs", "uidMappings": MAP, "gidMappings": MAP}],
            "mounts[0].uidMappings: only of a bind mount are ids mapped",
        ),
        ("linux.namespaces", [{"type": "mount"}, {"type": "x"}], "linux.namespaces[1].type: unknown namespace: x"),
        ("linux.namespaces", [{"type": "mount"}] * 2, "linux.namespaces[1].type: there are two mount namespaces"),
        (
            "linux.namespaces",
            [{"type": "pid"}],
            "linux.namespaces: a container needs a mount namespace, new or another's",
        ),
        (
            "linux.namespaces",
            [{"type": "mount", "path": "/proc/self/ns/mnt"}],
            "linux.namespaces[0].path: the container's root would become the root of the host",
        ),
        (
            "linux.namespaces",
            [{"type": "mount", "path": "x"}],
            "linux.namespaces[0].path: must be an absolute path, not 'x'",
        ),
        ("linux.namespaces", USER, "linux.uidMappings: is required for a new user namespace"),
        ("linux.uidMappings", MAP, "linux.uidMappings: there is no user namespace that it could be for"),
        (
            "linux.uidMappings",
            [{"containerID": 0, "hostID": 1, "size": 0}],
            "linux.uidMappings[0].size: must be from 1 to",
        ),
        ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets: there is no new time namespace"),
        ("linux.timeOffsets", {"realtime": {}}, "linux.timeOffsets: unknown clock: realtime"),
        (
            "linux.sysctl",
            {"kernel.core_pattern": "x"},
            "linux.sysctl.kernel.core_pattern: is not in a separate kernel namespace",
        ),
        (
            "linux.sysctl",
            {"kernel.msgmax": "1"},
            "linux.sysctl.kernel.msgmax: needs a ipc namespace of the container's own",
        ),
        ("linux.devices", [{"type": "x", "path": "/x"}], "linux.devices[0].type: unknown type of device: x"),
        ("linux.devices", [{"type": "c", "path": "/x"}], "linux.devices[0].major: is required, as is minor"),
        ("linux.rootfsPropagation", "x", "linux.rootfsPropagation: unknown propagation: x"),
        ("linux.maskedPaths", ["proc"], "linux.maskedPaths[0]: must be an absolute path, not 'proc'"),
        ("linux.personality", {"domain": "BSD"}, "linux.personality.domain: unknown personality: BSD"),
        ("linux.intelRdt", {"closID": "x"}, "linux.intelRdt: resource control by resctrl is not supported"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy: NUMA memory policies are not supported"),
        ("linux.netDevices", {"eth0": {}}, "linux.netDevices: moving network devices is not supported; a hook can"),
        ("root.path", "", "root.path: must not be empty"),
        ("hostname", "a\0b", "hostname: has a null character: 'a\\x00b'"),
        ("process.args", ["true", "\0"], "process.args[1]: has a null character: '\\x00'"),
        (
            "mounts",
            [{"destination": "/x", "type": "bind", "source": "/x", "options": ["ro", "size=5", "foo"]}],
            "mounts[0].options: a bind mount has none of a file system: size, foo",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "proc", "options": ["tmpcopyup"]}],
            "mounts[0].options: tmpcopyup is of tmpfs alone",
        ),
        (
            "linux.sysctl",
            {"kernel.hostname": "x"},
            "linux.sysctl.kernel.hostname: is what the field hostname is for",
        ),
        ("linux.intelRdt", {}, "linux.intelRdt: resource control by resctrl is not supported"),
        ("annotations", {"": "x"}, "annotations: must not be empty"),
        (
            "process.scheduler",
            {"policy": "SCHED_BATCH", "priority": 5},
            "process.scheduler.priority: is of SCHED_FIFO and SCHED_RR alone, not of SCHED_BATCH",
        ),
        (
            "process.scheduler",
            {"policy": "SCHED_RR", "priority": 5, "runtime": 1000000},
            "process.scheduler.runtime: is of SCHED_DEADLINE alone, not of SCHED_RR",
        ),
        (RESOURCES, [], "linux.resources: must be an object, not list"),
        (RESOURCES, {"memory": {"limit": "64m"}}, "linux.resources.memory.limit: must be an integer, not '64m'"),
        (RESOURCES, {"memory": {"swap": -2}}, "linux.resources.memory.swap: must be from -1 to"),
        (
            RESOURCES,
            {"memory": {"swappiness": 101}},
            "linux.resources.memory.swappiness: must be from 0 to 100, not 101",
        ),
        (
            RESOURCES,
            {"memory": {"disableOOMKiller": "false"}},
            "linux.resources.memory.disableOOMKiller: must be true or false",
        ),
        (RESOURCES, {"cpu": {"shares": -1}}, "linux.resources.cpu.shares: must be from 0 to"),
        (RESOURCES, {"cpu": {"idle": 2}}, "linux.resources.cpu.idle: must be from 0 to 1, not 2"),
        (RESOURCES, {"cpu": {"cpus": 0}}, "linux.resources.cpu.cpus: must be a string, not int (0)"),
        (RESOURCES, {"pids": {"limit": True}}, "linux.resources.pids.limit: must be an integer, not True"),
        (RESOURCES, {"blockIO": {"weight": 5}}, "linux.resources.blockIO.weight: must be from 10 to 1000, not 5"),
        (
            RESOURCES,
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}},
            "linux.resources.blockIO.weightDevice[0].weight: is required, or leafWeight",
        ),
        (
            RESOURCES,
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}},
            "linux.resources.blockIO.throttleReadBpsDevice[0].rate: is required",
        ),
        (
            RESOURCES,
            {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "rate": 1}]}},
            "linux.resources.blockIO.throttleWriteIOPSDevice[0].minor: is required",
        ),
        (
            RESOURCES,
            {"hugepageLimits": [{"pageSize": "2MB"}]},
            "linux.resources.hugepageLimits[0].limit: is required",
        ),
        (RESOURCES, {"network": {"classID": 1 << 32}}, "linux.resources.network.classID: must be from 0 to"),
        (
            RESOURCES,
            {"network": {"priorities": [{"name": "eth0"}]}},
            "linux.resources.network.priorities[0].priority: is required",
        ),
        (RESOURCES, {"rdma": {"mlx": {"hcaHandles": -1}}}, "linux.resources.rdma.mlx.hcaHandles: must be from 0 to"),
        (
            RESOURCES,
            {"unified": {"memory.high": 5}},
            "linux.resources.unified.memory.high: must be a string, not int (5)",
        ),
        (RESOURCES, {"devices": [{"access": "r"}]}, "linux.resources.devices[0].allow: is required"),
        (
            RESOURCES,
            {"devices": [{"allow": "false"}]},
            "linux.resources.devices[0].allow: must be true or false, not str ('false')",
        ),
        (
            RESOURCES,
            {"devices": [{"allow": True, "type": "p"}]},
            "linux.resources.devices[0].type: unknown type of device: p",
        ),
        (
            RESOURCES,
            {"devices": [{"allow": True, "access": "rx"}]},
            "linux.resources.devices[0].access: must be some of r, w and m, not 'rx'",
        ),
        (
            RESOURCES,
            {"devices": [{"allow": True, "access": ""}]},
            "linux.resources.devices[0].access: must be some of r, w and m, not ''",
        ),
        (
            RESOURCES,
            {"devices": [{"allow": True, "major": "5"}]},
            "linux.resources.devices[0].major: must be an integer, not '5'",
        ),
        (SECCOMP, {}, "linux.seccomp.defaultAction: is required"),
        (SECCOMP, {"defaultAction": "X"}, "linux.seccomp.defaultAction: unknown seccomp action: X"),
        (
            SECCOMP,
            {"defaultAction": ALLOW, "defaultErrnoRet": 1},
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW has no number",
        ),
        (SECCOMP, {"defaultAction": ALLOW, "flags": ["X"]}, "linux.seccomp.flags[0]: unknown seccomp flag: X"),
        (
            SECCOMP,
            {"defaultAction": ALLOW, "architectures": ["X"]},
            "linux.seccomp.architectures[0]: unknown seccomp architecture: X",
        ),
        (
            SECCOMP,
            {"defaultAction": ALLOW, "listenerMetadata": "x"},
            "linux.seccomp.listenerMetadata: there is no listenerPath",
        ),
        (
            SECCOMP,
            {"defaultAction": ALLOW, "syscalls": [{"names": [], "action": ALLOW}]},
            "linux.seccomp.syscalls[0].names: must not be empty",
        ),
        (
            SECCOMP,
            {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]},
            "linux.seccomp.listenerPath: is required for SCMP_ACT_NOTIFY",
        ),
        (
            SECCOMP,
            {
                "defaultAction": ALLOW,
                "syscalls": [
                    {"names": ["x"], "action": ALLOW, "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}
                ],
            },
            "linux.seccomp.syscalls[0].args[0].index: must be from 0 to 5, not 6",
        ),
        (
            SECCOMP,
            {"defaultAction": "SCMP_ACT_NOTIFY"},
            "linux.seccomp: SCMP_ACT_NOTIFY for sendmsg would stop the runtime itself",
        ),
    ],
)
def test_what_cannot_be(path: str, value: Any, message: str) -> None:
    with pytest.raises(MiniError) as told:
        validate.checked(changed(path, value))
    assert isinstance(told.value, UsageError | Unsupported)
    assert told.value.message.startswith(message)


def test_not_an_object() -> None:
    with pytest.raises(UsageError, match="config.json: must be an object, not list"):
        validate.checked([])


def test_a_domain_name_has_one_name() -> None:
    spec = changed("linux.sysctl", {"kernel/domainname": "x"})
    validate.checked(spec)
    with pytest.raises(UsageError, match="linux.sysctl.kernel/domainname: is what the field domainname is for"):
        validate.checked(spec | {"domainname": "y"})


def test_flags_of_a_super_block_are_taken_of_a_bind_mount() -> None:
    """As mount(8) takes them: it has none of its own."""
    options = ["bind", "ro", "sync", "lazytime", "iversion", "defaults", "rprivate", "rnoexec", "idmap"]
    validate.checked(changed("mounts", [{"destination": "/x", "source": "/x", "options": options}]))


def test_a_host_name_is_not_the_hosts() -> None:
    with pytest.raises(UsageError, match="hostname: without a uts namespace it would be the host's"):
        validate.checked(changed("linux.namespaces", [{"type": "mount"}]) | {"hostname": "x"})


@pytest.mark.requires("linux")
def test_a_path_is_a_namespace_of_its_type() -> None:
    net = {"type": "network", "path": "/proc/self/ns/net"}
    validate.checked(changed("linux.namespaces", [{"type": "mount"}, net]))
    for path in ("/proc/self/ns/pid", "/etc/passwd", "/dev/null", "/"):
        with pytest.raises(UsageError, match=rf"^linux.namespaces\[1\].path: {path} is not a network namespace$"):
            validate.checked(changed("linux.namespaces", [{"type": "mount"}, {**net, "path": path}]))


def test_every_resource() -> None:
    """config-linux.md, "Control groups": the examples, and what Docker and Podman write."""
    rate = [{"major": 8, "minor": 0, "rate": 600}]
    resources = {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": True, "type": "a", "major": -1, "minor": -1},
        ],
        "memory": {
            "limit": 536870912,
            "reservation": 536870912,
            "swap": -1,
            "kernel": -1,
            "kernelTCP": -1,
            "swappiness": 0,
            "disableOOMKiller": False,
            "useHierarchy": True,
            "checkBeforeUpdate": True,
        },
        "cpu": {
            "shares": 1024,
            "quota": -1,
            "burst": 1000000,
            "period": 500000,
            "realtimeRuntime": 950000,
            "realtimePeriod": 1000000,
            "cpus": "2-3",
            "mems": "0-7",
            "idle": 0,
        },
        "pids": {"limit": 32771},
        "blockIO": {
            "weight": 10,
            "leafWeight": 0,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
            "throttleReadBpsDevice": rate,
            "throttleWriteBpsDevice": rate,
            "throttleReadIOPSDevice": rate,
            "throttleWriteIOPSDevice": rate,
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        "unified": {"hugetlb.1GB.max": "1073741824"},
        "novelty": 5,
    }
    spec = changed(RESOURCES, resources)
    assert validate.checked(spec)[0] == spec


def test_null_is_as_if_it_were_not_there() -> None:
    """Go's encoder writes it for what is empty."""
    spec = changed("process.rlimits", None) | {"mounts": None, "hooks": {"poststop": None}}
    spec["linux"]["seccomp"] = None
    checked, warnings = validate.checked(spec)
    assert checked == {**SPEC, "hooks": {}} and warnings == []


def test_unknown_properties_are_ignored() -> None:
    """spec.md: "Runtimes that are reading or processing this configuration file MUST NOT generate an error"."""
    spec = changed("linux.novelty", {"a": 1}) | {"novelty": 5, "windows": {"layerFolders": []}}
    assert validate.checked(spec)[0] == spec


def test_unknown_capabilities_are_warned_of() -> None:
    spec = changed("process.capabilities", {"bounding": ["CAP_KILL", "CAP_X"], "ambient": ["CAP_Y"]})
    assert validate.checked(spec)[1] == ["unknown capabilities are left out: CAP_X, CAP_Y"]


def test_a_process_alone() -> None:
    process, warnings = validate.checked_process({"cwd": "/", "args": ["x"], "env": None})
    assert (process, warnings) == ({"cwd": "/", "args": ["x"]}, [])
    with pytest.raises(UsageError, match=r"^process\.cwd: is required$"):
        validate.checked_process({"args": ["x"]})


@pytest.mark.parametrize("key, module", [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")])
def test_a_label_without_its_module(key: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_APPARMOR", "/nosuch")
    monkeypatch.setattr(labels, "_SELINUX", "/nosuch")
    with pytest.raises(Unsupported, match=f"^process.{key}: {module} is not enabled on this host$"):
        validate.checked(changed(f"process.{key}", "x"))
    validate.checked(changed(f"process.{key}", ""))


def test_a_mount_label() -> None:
    mounts: list[Any] = [
        {"destination": "/a", "type": "tmpfs", "options": ["ro"]},
        {"destination": "/b", "type": "bind", "source": "/b"},
    ]
    spec: Any = {"mounts": mounts, "linux": {"mountLabel": "a:b:c:s0"}}
    assert labels.label_mounts(spec) == [{**mounts[0], "options": ["ro", "context=a:b:c:s0"]}, mounts[1]]
    assert labels.label_mounts(spec | {"linux": {}}) == mounts


def test_labels_are_written_as_the_kernel_takes_them(tmp_path: Any) -> None:
    (tmp_path / "exec").touch()
    labels.at_exec({"cwd": "/", "args": [], "apparmorProfile": "docker-default"}, str(tmp_path))
    assert (tmp_path / "exec").read_text() == "exec docker-default"
    os.mkdir(tmp_path / "apparmor")
    (tmp_path / "apparmor" / "exec").touch()
    (tmp_path / "exec").write_text("")
    both = {"cwd": "/", "args": [], "apparmorProfile": "a", "selinuxLabel": "system_u:system_r:container_t:s0"}
    labels.at_exec(both, str(tmp_path))  # type: ignore[arg-type]
    assert (tmp_path / "apparmor" / "exec").read_text() == "exec a"
    assert (tmp_path / "exec").read_text() == "system_u:system_r:container_t:s0"
