"""config-linux.md, "Control groups": where the container is, and its limits, read back from the files of the hierarchies."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import pytest

from tests.support import requirements
from tests.support.conformance import Container, Containers, processes, until

VERSION_1 = requirements.missing("cgroup-v1") is None
MIB = 1 << 20


class Limit(NamedTuple):
    """What is configured, and where it is found: (controller, file, content) in version 1, and in version 2.

    Content `20 or 59` is either: shares become a weight by one of two formulas, of which the newer one is crun's since 1.23 and
    runc's since 1.3.2.
    """

    resources: dict[str, Any]
    v1: tuple[str, str, str]
    v2: tuple[str, str, str]

    def is_set(self, container: Container) -> bool:
        controller, name, content = self.v1 if VERSION_1 else self.v2
        return container.setting(controller, name).split() in [each.split() for each in content.split(" or ")]


def _disk() -> tuple[int, int]:
    """A block device of the host's: what is limited must be there."""
    for name in sorted(os.listdir("/sys/block")):
        with open(f"/sys/block/{name}/dev") as file:
            major, minor = file.read().split(":")
        if int(major) not in (1, 7):
            return int(major), int(minor)
    return 7, 0


MAJOR, MINOR = _disk()


def _throttle(kind: str, name: str, field: str) -> Limit:
    return Limit(
        {"blockIO": {kind: [{"major": MAJOR, "minor": MINOR, "rate": 1000000}]}},
        ("blkio", f"blkio.throttle.{name}_device", f"{MAJOR}:{MINOR} 1000000"),
        ("io", "io.max", f"{MAJOR}:{MINOR} {field}"),
    )


def _memory(field: str, value: Any, name: str, content: str, v2: tuple[str, str]) -> Limit:
    return Limit({"memory": {field: value}}, ("memory", f"memory.{name}", content), ("memory", *v2))


LIMITS = {
    "memory limit": _memory("limit", 64 * MIB, "limit_in_bytes", "67108864", ("memory.max", "67108864")),
    "memory unlimited": _memory("limit", -1, "limit_in_bytes", "9223372036854771712", ("memory.max", "max")),
    "memory reservation": _memory(
        "reservation", 32 * MIB, "soft_limit_in_bytes", "33554432", ("memory.low", "33554432")
    ),
    "memory and swap": Limit(
        {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory", "memory.swap.max", "33554432"),
    ),
    "cpu shares": Limit({"cpu": {"shares": 512}}, ("cpu", "cpu.shares", "512"), ("cpu", "cpu.weight", "20 or 59")),
    "cpu quota": Limit(
        {"cpu": {"quota": 50000, "period": 100000}},
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.max", "50000 100000"),
    ),
    "cpu period": Limit(
        {"cpu": {"quota": 20000, "period": 40000}},
        ("cpu", "cpu.cfs_period_us", "40000"),
        ("cpu", "cpu.max", "20000 40000"),
    ),
    "cpus": Limit({"cpu": {"cpus": "0"}}, ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.cpus", "0")),
    "mems": Limit({"cpu": {"mems": "0"}}, ("cpuset", "cpuset.mems", "0"), ("cpuset", "cpuset.mems", "0")),
    "pids": Limit({"pids": {"limit": 77}}, ("pids", "pids.max", "77"), ("pids", "pids.max", "77")),
    "pids unlimited": Limit({"pids": {"limit": -1}}, ("pids", "pids.max", "max"), ("pids", "pids.max", "max")),
    "read bytes": _throttle("throttleReadBpsDevice", "read_bps", "rbps=1000000 wbps=max riops=max wiops=max"),
    "write bytes": _throttle("throttleWriteBpsDevice", "write_bps", "rbps=max wbps=1000000 riops=max wiops=max"),
    "reads": _throttle("throttleReadIOPSDevice", "read_iops", "rbps=max wbps=max riops=1000000 wiops=max"),
    "writes": _throttle("throttleWriteIOPSDevice", "write_iops", "rbps=max wbps=max riops=max wiops=1000000"),
}


# Cgroups Path


def test_an_absolute_path(container: Container) -> None:
    """Cgroups Path: "absolute path …, the runtime MUST take the path to be relative to the cgroups mount point"."""
    container.create()
    pid = container.state()["pid"]
    assert pid in processes(container.cgroup("memory"))
    assert pid in processes(container.cgroup("pids"))


@pytest.mark.parametrize("controller", ["cpu", "cpuset", "memory", "pids"])
def test_every_controller(container: Container, controller: str) -> None:
    """Cgroups Path: the same place in each hierarchy."""
    container.create()
    assert container.state()["pid"] in processes(container.cgroup(controller))


def test_a_relative_path_is_always_the_same_place(container: Container) -> None:
    """Cgroups Path: "the runtime MUST consistently attach to the same place … given the same value of `cgroupsPath`"."""
    container.linux["cgroupsPath"] = f"{container.runtime.cgroup_parent[1:]}/relative"
    places = []
    for _ in range(2):
        container.create()
        with open(f"/proc/{container.state()['pid']}/cgroup") as file:
            places.append(file.read())
        container.must("delete", "--force")
    assert places[0] == places[1] and "relative" in places[0]


def test_without_a_path(container: Container) -> None:
    """Cgroups Path: "If the value is not specified, the runtime MAY define the default cgroups path": one, and its own."""
    del container.linux["cgroupsPath"]
    container.create()
    with open(f"/proc/{container.state()['pid']}/cgroup") as file:
        assert container.id in file.read()


def test_a_path_cannot_leave_the_hierarchy(container: Container) -> None:
    """Cgroups Path: `..` stays below the mount point, or is an error."""
    container.linux["cgroupsPath"] = f"/../../..{container.runtime.cgroup_parent}/{container.id}"
    if container.attempt("create").code == 0:
        container.linux["cgroupsPath"] = f"{container.runtime.cgroup_parent}/{container.id}"
        assert container.state()["pid"] in processes(container.cgroup("memory"))


def test_delete_removes_the_cgroup(container: Container) -> None:
    """Delete: "MUST delete the resources that were created during the `create` step"."""
    container.started().stopped()
    assert container.cgroups()
    container.must("delete")
    assert container.cgroups() == []


def test_delete_removes_what_the_container_made(container: Container) -> None:
    """Cgroups below its own, as systemd in a container makes them."""
    container.started()
    os.mkdir(f"{container.cgroup('pids')}/inner")
    container.stopped()
    container.must("delete")
    assert container.cgroups() == []


def test_children_are_in_it(container: Container) -> None:
    container.started("sh", "-c", "sleep 61 & sleep 62 & wait")
    until(lambda: len(processes(container.cgroup("pids"))) == 3)


# Limits


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.differs(crun="writes -1 where `max` is meant"))
        if name == "pids unlimited"
        else name
        for name in LIMITS
    ],
)
def test_a_limit(container: Container, name: str) -> None:
    """Control groups: "You can configure a container's cgroups via the `resources` field of the Linux configuration"."""
    container.linux["resources"] = LIMITS[name].resources
    container.create()
    assert LIMITS[name].is_set(container)


@pytest.mark.requires("cgroup-v1")
@pytest.mark.parametrize(
    ("memory", "file", "content"),
    [({"swappiness": 10}, "memory.swappiness", "10"), ({"disableOOMKiller": True}, "memory.oom_control", "1")],
)
def test_memory_of_version_1(container: Container, memory: dict[str, Any], file: str, content: str) -> None:
    """Memory: `swappiness`, `disableOOMKiller`, of version 1 alone."""
    container.linux["resources"] = {"memory": memory}
    container.create()
    assert content in container.setting("memory", file).split("\n")[0].split()


@pytest.mark.requires("cgroup-v1")
@pytest.mark.differs(crun="writes blkio.weight, which left with Linux 5.0")
def test_weight_of_block_devices(container: Container) -> None:
    """Block IO: "`weight` … specifies per-cgroup weight": that of BFQ."""
    container.linux["resources"] = {"blockIO": {"weight": 500}}
    container.create()
    assert container.setting("blkio", "blkio.bfq.weight") == "500"


@pytest.mark.requires("cgroup-v1")
@pytest.mark.differs(runc="ignores it, with a warning")
def test_memory_of_tcp(container: Container) -> None:
    """Memory: "`kernelTCP` … sets hard limit for kernel TCP buffer memory"."""
    container.linux["resources"] = {"memory": {"kernelTCP": 16 * MIB}}
    container.create()
    assert container.setting("memory", "memory.kmem.tcp.limit_in_bytes") == str(16 * MIB)


@pytest.mark.differs(runc="ignores it, with a warning", crun="ignores it")
def test_memory_of_the_kernel(container: Container) -> None:
    """Memory: "`kernel` … sets hard limit for kernel memory": Linux takes any value since 5.16, and sets none."""
    container.linux["resources"] = {"memory": {"kernel": 16 * MIB}}
    container.refused()


def test_memory_of_the_kernel_without_a_limit(container: Container) -> None:
    """Memory: "or `-1` for unlimited memory", which it is anyway."""
    container.linux["resources"] = {"memory": {"kernel": -1, "kernelTCP": -1}}
    container.create()


@pytest.mark.differs(runc="ignores burst, of specification 1.1", crun="ignores burst on version 1")
def test_cpu_burst(container: Container) -> None:
    """CPU: "`burst` … maximum amount of accumulated time in microseconds for which all tasks in a cgroup can run additionally"."""
    container.linux["resources"] = {"cpu": {"quota": 50000, "period": 100000, "burst": 20000}}
    container.create()
    assert container.setting("cpu", "cpu.cfs_burst_us" if VERSION_1 else "cpu.max.burst") == "20000"


@pytest.mark.differs(runc="ignores idle, of specification 1.1")
def test_cpu_idle(container: Container) -> None:
    """CPU: "`idle` … 1: SCHED_IDLE"."""
    container.linux["resources"] = {"cpu": {"idle": 1}}
    container.create()
    assert container.setting("cpu", "cpu.idle") == "1"


def test_a_limit_is_in_force(container: Container) -> None:
    """pids: fork(2) is refused beyond it."""
    container.linux["resources"] = {"pids": {"limit": 3}}
    fork = "pid = os.fork()\n        if not pid: time.sleep(60)\n        made += 1"
    script = f"made = 0\nfor _ in range(6):\n    try:\n        {fork}\n    except OSError: break\n"
    assert container.python(f"{script}tell(made)") == 2


def test_a_memory_limit_kills(container: Container) -> None:
    """Memory: "tasks that attempt to consume more memory than they are allowed are immediately killed by the OOM killer"."""
    container.linux["resources"] = {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}
    done = container.run("/usr/bin/python3", "-c", f"held = b'x' * {200 * MIB}; print(len(held))")
    assert (done.code, done.out) == (137, "")


NOT_BY_CRUN = pytest.mark.differs(crun="ignores it")
IGNORED = pytest.mark.differs(runc="ignores it", crun="ignores it")
IGNORED_ON_V1 = [NOT_BY_CRUN] if VERSION_1 else []
LEFT = pytest.mark.differs(crun="leaves the cgroup")


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param({"cpu": {"cpus": "99999"}}, marks=LEFT),
        pytest.param({"cpu": {"cpus": "nonsense"}}, marks=LEFT),
        pytest.param({"cpu": {"mems": "99999"}}, marks=LEFT),
        pytest.param({"cpu": {"period": 1}}, marks=LEFT),
        pytest.param({"cpu": {"quota": 1, "period": 100000}}, marks=LEFT),
        pytest.param({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}, marks=LEFT),
        pytest.param({"memory": {"swappiness": 200}}, marks=NOT_BY_CRUN),
        pytest.param({"cpu": {"realtimeRuntime": 1 << 40, "realtimePeriod": 1000000}}, marks=LEFT),
        pytest.param({"memory": {"useHierarchy": False}}, marks=IGNORED),
        pytest.param({"blockIO": {"weight": 5}}, marks=IGNORED),
        pytest.param({"blockIO": {"leafWeight": 500}}, marks=IGNORED_ON_V1),
        pytest.param({"blockIO": {"weightDevice": [{"major": MAJOR, "minor": MINOR}]}}, marks=IGNORED),
        pytest.param({"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 7, "rate": 5}]}}, marks=LEFT),
        pytest.param({"unified": {"cgroup.max.depth": "nonsense"}}, marks=IGNORED_ON_V1),
        pytest.param({"unified": {"nosuch.file": "1"}}, marks=IGNORED_ON_V1),
        pytest.param({"unified": {"../cgroup.procs": "0"}}, marks=IGNORED_ON_V1),
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_set(container: Container, resources: dict[str, Any]) -> None:
    """Create: "If the runtime cannot apply a property …, it MUST generate an error and a new container MUST NOT be created"."""
    container.linux["resources"] = resources
    container.refused()
    assert container.cgroups() == []


@pytest.mark.parametrize(
    "resources",
    [
        {"network": {"classID": 1048577}},
        pytest.param({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, marks=pytest.mark.differs(crun="ignores it")),
        {"hugepageLimits": [{"pageSize": "3MB", "limit": 3 * MIB}]},
    ],
    ids=str,
)
def test_a_controller_that_is_not_there(container: Container, resources: dict[str, Any]) -> None:
    """The same: what no hierarchy has cannot be applied."""
    if any(controller in tree.controllers for tree in container.runtime.trees for controller in ("net_cls", "rdma")):
        pytest.skip("this host has the controllers net_cls or rdma")
    container.linux["resources"] = resources
    container.refused()


@pytest.mark.requires("cgroup-v1")
def test_unified_wants_version_2(container: Container) -> None:
    """Unified: "The runtime MUST generate an error when the configuration refers to a cgroup controller that is not present"."""
    container.linux["resources"] = {"unified": {"memory.high": "10000000"}}
    container.refused()


# Allowed Device list

DEVICE = {"path": "/dev/own", "type": "c", "major": 1, "minor": 200, "fileMode": 0o666}
OPEN = "attempt(os.open, '/dev/own', os.O_RDWR)"
NO_DRIVER = "ENXIO"  # what open(2) says of a number that no driver has, once the cgroup has let it through


def rules(*entries: tuple[bool, int | None, int | None, str]) -> dict[str, Any]:
    """Deny everything, then (allowed, major, minor, access) of character devices."""
    found: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for allow, major, minor, access in entries:
        found.append({"allow": allow, "type": "c", "access": access})
        found[-1] |= {} if major is None else {"major": major}
        found[-1] |= {} if minor is None else {"minor": minor}
    return {"devices": found}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (rules(), "EPERM"),
        (rules((True, 1, 200, "rw")), NO_DRIVER),
        (rules((True, 1, 200, "r")), "EPERM"),
        (rules((True, 1, None, "rw")), NO_DRIVER),
        (rules((True, None, None, "rwm")), NO_DRIVER),
        (rules((True, 1, 201, "rw")), "EPERM"),
        (rules((True, 1, 200, "rw"), (False, 1, 200, "w")), "EPERM"),
        ({"devices": [{"allow": True, "access": "rwm"}]}, NO_DRIVER),
    ],
    ids=["none", "it", "reading", "major", "any", "another", "and not writing", "all"],
)
def test_device_rules(container: Container, resources: dict[str, Any], expected: str) -> None:
    """Allowed Device list: "The runtime MUST apply entries in the listed order"."""
    container.linux["devices"] = [DEVICE]
    container.linux["resources"] = resources
    assert container.python(OPEN) == expected


def test_default_devices_are_always_allowed(container: Container) -> None:
    """Default Devices: "the runtime MUST also supply": they can be used, whatever the rules."""
    container.linux["resources"] = rules()
    script = "tell([outcome(open, f'/dev/{name}', 'r+b', 0) for name in ('null', 'zero', 'full', 'random', 'urandom')])"
    assert container.python(script) == ["ok"] * 5


# A container's own view


def test_a_cgroup_mount(container: Container) -> None:
    """A mount of type cgroup shows the container's own cgroup, as the root of each hierarchy."""
    container.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    container.linux["resources"] = {"pids": {"limit": 77}}
    path = "/sys/fs/cgroup/pids/pids.max" if VERSION_1 else "/sys/fs/cgroup/pids.max"
    assert container.sh(f"cat {path}") == "77\n"


def test_a_cgroup_mount_is_readonly(container: Container) -> None:
    container.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    path = "/sys/fs/cgroup/pids" if VERSION_1 else "/sys/fs/cgroup"
    assert container.python(f"attempt(os.mkdir, '{path}/new')") == "EROFS"


# update


UPDATES = {
    "memory limit": ("--memory", "67108864"),
    "cpu shares": ("--cpu-share", "512"),
    "cpu quota": ("--cpu-quota", "50000"),
    "cpus": ("--cpuset-cpus", "0"),
    "pids": ("--pids-limit", "77"),
}


@pytest.mark.parametrize("name", UPDATES)
def test_update_by_option(container: Container, name: str) -> None:
    """runc(8): update changes the limits of a container that is there."""
    container.linux["resources"] = {"memory": {"limit": 128 * MIB, "swap": 256 * MIB}} if "memory" in name else {}
    container.started()
    done = container.runtime.call("update", *UPDATES[name], container.id)
    assert done.code == 0, done
    assert LIMITS[name].is_set(container)


@pytest.mark.parametrize("name", ["memory reservation", "cpu shares", "cpu period", "cpus", "pids"])
def test_update_by_file(container: Container, name: str) -> None:
    """runc(8): --resources, a file or `-` for standard input."""
    container.started()
    done = container.runtime.call("update", "--resources", "-", container.id, stdin=json.dumps(LIMITS[name].resources))
    assert done.code == 0, done
    assert LIMITS[name].is_set(container)


def test_update_leaves_the_rest(container: Container) -> None:
    container.linux["resources"] = LIMITS["pids"].resources | LIMITS["cpu shares"].resources
    container.started()
    assert container.runtime.call("update", "--cpu-share", "256", container.id).code == 0
    assert LIMITS["pids"].is_set(container)
    assert not LIMITS["cpu shares"].is_set(container)


def test_update_that_cannot_be(container: Container) -> None:
    container.started()
    assert container.runtime.call("update", "--cpuset-cpus", "99999", container.id).code != 0


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param({"memory": {"limit": "64m"}}, marks=NOT_BY_CRUN),
        pytest.param({"cpu": {"idle": 7}}, marks=pytest.mark.differs(runc="ignores idle, of specification 1.1")),
        {"unified": {"cgroup.max.depth": "nonsense"}},
        pytest.param([], marks=NOT_BY_CRUN),
    ],
    ids=str,
)
def test_update_by_a_wrong_file(container: Container, resources: Any) -> None:
    container.started()
    done = container.runtime.call("update", "--resources", "-", container.id, stdin=json.dumps(resources))
    assert done.code != 0


def test_update_of_nothing(container: Container) -> None:
    assert container.runtime.call("update", "--pids-limit", "5", "no-such-container").code != 0


# Pause, resume


def test_pause_and_resume(container: Container) -> None:
    """runc(8): pause suspends all processes; the state is one "defined by the runtime": paused."""
    container.started("sh", "-c", "while :; do echo . >> /beats; sleep 0.01; done")
    container.must("pause")
    assert container.state()["status"] == "paused"
    size = os.path.getsize(f"{container.upper}/beats") if os.path.exists(f"{container.upper}/beats") else 0
    container.must("resume")
    assert container.state()["status"] == "running"
    until(lambda: os.path.exists(f"{container.upper}/beats") and os.path.getsize(f"{container.upper}/beats") > size)


def test_a_paused_container_is_frozen(container: Container) -> None:
    container.started()
    container.must("pause")
    assert frozen(container) in ("FROZEN", "1")
    container.must("resume")
    assert frozen(container) in ("THAWED", "0")


def frozen(container: Container) -> str:
    """As the kernel has it: the freezer controller of version 1, or what every cgroup of version 2 has."""
    if VERSION_1:
        return container.setting("freezer", "freezer.state")
    return dict(line.split() for line in container.setting("pids", "cgroup.events").splitlines())["frozen"]


def test_a_paused_container_can_be_deleted(container: Container) -> None:
    container.started()
    container.must("pause")
    container.must("delete", "--force")
    assert not container.exists() and container.cgroups() == []


def test_exec_in_a_paused_container(container: Container) -> None:
    """Control groups: "check if the container cgroup is fit for purpose …, for example, a frozen cgroup": an error, no hang."""
    if container.runtime.name == "crun":
        pytest.skip("crun 1.8.1 hangs there now and then")
    container.started()
    container.must("pause")
    assert container.exec("true").code != 0


@pytest.mark.parametrize("command", ["pause", pytest.param("resume", marks=pytest.mark.differs(crun="does not look"))])
def test_of_a_container_in_the_wrong_status(container: Container, command: str) -> None:
    container.started()
    if command == "pause":
        container.stopped()
    assert container.attempt(command).code != 0


# ps, events


def test_ps_as_json(container: Container) -> None:
    """runc(8): ps --format json: the PIDs as the host sees them."""
    container.started("sh", "-c", "sleep 61 & wait")
    until(lambda: len(processes(container.cgroup("pids"))) == 2)
    done = container.runtime.call("ps", "--format", "json", container.id)
    assert sorted(json.loads(done.out)) == sorted(processes(container.cgroup("pids")))


def test_ps_as_a_table(container: Container) -> None:
    container.started()
    assert str(container.state()["pid"]) in container.runtime.call("ps", container.id).out


NO_EVENTS = pytest.mark.differs(crun="has no events")


@NO_EVENTS
def test_statistics(container: Container) -> None:
    """runc(8): `events --stats` prints one JSON object."""
    container.linux["resources"] = {"pids": {"limit": 77}, "memory": {"limit": 64 * MIB}}
    container.started()
    found = json.loads(container.runtime.call("events", "--stats", container.id).out)
    assert (found["type"], found["id"]) == ("stats", container.id)
    assert found["data"]["pids"] == {"current": found["data"]["pids"]["current"], "limit": 77}
    assert found["data"]["memory"]["usage"]["limit"] == 64 * MIB
    assert found["data"]["memory"]["usage"]["usage"] > 0


@NO_EVENTS
def test_statistics_of_the_processor(container: Container) -> None:
    container.started("sh", "-c", "while :; do :; done")

    def used() -> int:
        found = json.loads(container.runtime.call("events", "--stats", container.id).out)
        total: int = found["data"]["cpu"]["usage"]["total"]
        return total

    first = used()
    until(lambda: used() > first)


# Containers that share


def test_containers_are_apart(containers: Containers) -> None:
    """Each in the cgroup that it names."""
    first, second = containers().started(), containers().started()
    assert set(processes(first.cgroup("pids"))) & set(processes(second.cgroup("pids"))) == set()
