"""Limits on this kernel: read back from the host's side, and felt by the processes under them."""

from __future__ import annotations

import errno
import functools
import os
import pickle
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.errors import RuntimeFault, Unsupported, UsageError
from engine.runtime.cgroups.manager import Cgroup, Layout, detect
from tests.support.conformance import until

pytestmark = pytest.mark.requires("linux", "root")

_children: set[int] = set()
LOOP_CONTROL = (10, 237)  # a device that no container gets, and whose opening does no harm


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    yield from _life(Cgroup(detect(), f"/mini-test-{os.getpid()}/box"))


def _life(made: Cgroup) -> Iterator[Cgroup]:
    made.create()
    try:
        yield made
    finally:
        made.kill()
        for pid in list(_children):
            wait(pid)
        made.delete()
        assert not made.exists()


def child(function: Callable[[], Any]) -> int:
    """Forks a process that calls `function` and ends; `_life` waits for those that a test leaves."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    _children.add(pid)
    return pid


def wait(pid: int) -> int:
    """Waits for a child: its exit code, or the number of the signal that ended it, negative."""
    _children.discard(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def inside(cgroup: Cgroup, function: Callable[[], Any]) -> Any:
    """What `function` returns in a child that has entered the cgroup; the signal's number, negative, if that ends it."""
    reader, writer = os.pipe()

    def answer() -> None:
        cgroup.enter()
        os.write(writer, pickle.dumps(function()))

    pid = child(answer)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        result = file.read()
    code = wait(pid)
    return pickle.loads(result) if result else code


def sleeper(cgroup: Cgroup) -> int:
    """A process in the cgroup that does nothing."""
    reader, writer = os.pipe()

    def sleep() -> None:
        os.close(reader)
        cgroup.enter()
        os.close(writer)
        signal.pause()

    pid = child(sleep)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid


def throttled_periods(cgroup: Cgroup) -> int:
    """Of a process in it that never rests: at the first that there is, or after a minute."""

    def spin() -> None:
        cgroup.enter()
        while True:
            pass

    def told() -> int:
        periods: int = cgroup.stats()["cpu"]["throttling"]["throttledPeriods"]
        return periods

    pid = child(spin)
    deadline = time.monotonic() + 60
    while not told() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    return told()


def read(cgroup: Cgroup, controller: str, file: str) -> str:
    with open(f"{cgroup.directory(controller)}/{file}") as opened:
        return opened.read().strip()


def open_error(kind: int, major: int, minor: int) -> str:
    """Makes a device node and opens it: the error's name, or "ok"."""
    path = f"/tmp/mini-test-device-{os.getpid()}"
    try:
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
    except OSError as e:
        return f"mknod {errno.errorcode[e.errno or 0]}"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno or 0]
    finally:
        os.unlink(path)


def device_rule(text: str) -> dict[str, Any]:
    """`c 5:* rw`, as the kernel of v1 writes it; with a minus it denies."""
    kind, numbers, access = text.removeprefix("-").split()
    major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
    return {"allow": text[0] != "-", "type": kind, "major": major, "minor": minor, "access": access}


def forks(wanted: int) -> int:
    """How many children can be made, up to `wanted`."""
    children = []
    try:
        for _ in range(wanted):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    except BlockingIOError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children)


@pytest.mark.requires("cgroup-v1")
class TestV1:
    def test_limits_read_back(self, cgroup: Cgroup) -> None:
        cgroup.apply(
            {
                "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
                "cpu": {"shares": 512, "quota": 150000, "period": 100000, "cpus": "0", "mems": "0"},
                "pids": {"limit": 50},
            }
        )
        assert read(cgroup, "memory", "memory.limit_in_bytes") == str(64 << 20)
        assert read(cgroup, "memory", "memory.memsw.limit_in_bytes") == str(96 << 20)
        assert read(cgroup, "memory", "memory.soft_limit_in_bytes") == str(32 << 20)
        assert read(cgroup, "cpu", "cpu.cfs_quota_us") == "150000"
        assert read(cgroup, "cpu", "cpu.shares") == "512"
        assert read(cgroup, "cpuset", "cpuset.cpus") == "0"
        assert read(cgroup, "pids", "pids.max") == "50"

    def test_limits_can_be_raised_and_lowered(self, cgroup: Cgroup) -> None:
        for size in (64 << 20, 256 << 20, 32 << 20):
            cgroup.apply({"memory": {"limit": size, "swap": size}})
            assert read(cgroup, "memory", "memory.memsw.limit_in_bytes") == str(size)

    def test_an_idle_group_may_go_on_idling(self, cgroup: Cgroup) -> None:
        for _ in range(2):
            cgroup.apply({"cpu": {"shares": 512, "idle": 1}})
            assert read(cgroup, "cpu", "cpu.idle") == "1"
        cgroup.apply({"cpu": {"shares": 512, "idle": 0}})
        assert (read(cgroup, "cpu", "cpu.idle"), read(cgroup, "cpu", "cpu.shares")) == ("0", "512")

    def test_every_hierarchy_is_joined(self, cgroup: Cgroup) -> None:
        lines = inside(cgroup, lambda: open("/proc/self/cgroup").read().splitlines())
        joined = {line.split(":")[1] for line in lines if line.endswith(cgroup.path)}
        assert {name for names in joined for name in names.split(",")} == set(cgroup.layout.v1)

    def test_add_moves_another_process(self, cgroup: Cgroup) -> None:
        pid = child(signal.pause)
        cgroup.add(pid)
        assert cgroup.pids() == [pid]

    def test_the_number_of_processes_is_limited(self, cgroup: Cgroup) -> None:
        cgroup.apply({"pids": {"limit": 5}})
        assert inside(cgroup, lambda: forks(20)) == 4

    def test_beyond_the_memory_limit_it_is_killed_and_counted(self, cgroup: Cgroup) -> None:
        cgroup.apply({"memory": {"limit": 32 << 20, "swap": 32 << 20}})
        assert cgroup.oom_kill_count() == 0
        assert inside(cgroup, lambda: len(bytearray(b"x") * (128 << 20))) == -signal.SIGKILL
        assert cgroup.oom_kill_count() == 1

    def test_a_processor_is_shared_out(self, cgroup: Cgroup) -> None:
        cgroup.apply({"cpu": {"quota": 10000, "period": 100000}})
        assert throttled_periods(cgroup) > 0

    def test_devices_are_denied_but_for_the_default_ones(self, cgroup: Cgroup) -> None:
        cgroup.apply({"devices": [{"allow": False, "access": "rwm"}]})
        assert inside(cgroup, lambda: open_error(stat.S_IFCHR, 1, 3)) == "ok"
        assert inside(cgroup, lambda: open_error(stat.S_IFCHR, *LOOP_CONTROL)) == "EPERM"
        cgroup.apply({"devices": [{"allow": True, "access": "rwm"}]})
        assert inside(cgroup, lambda: open_error(stat.S_IFCHR, *LOOP_CONTROL)) != "EPERM"

    def test_a_spec_without_device_rules_is_restricted(self, cgroup: Cgroup) -> None:
        cgroup.apply({})
        assert inside(cgroup, lambda: open_error(stat.S_IFCHR, *LOOP_CONTROL)) == "EPERM"

    def test_freeze_and_thaw(self, cgroup: Cgroup) -> None:
        pid = sleeper(cgroup)
        cgroup.freeze()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # frozen: not even this kills it
        cgroup.thaw()
        assert wait(pid) == -signal.SIGKILL

    def test_kill_catches_what_forks_all_the_time(self, cgroup: Cgroup) -> None:
        cgroup.apply({"pids": {"limit": 200}})

        def multiply() -> None:
            cgroup.enter()
            while True:
                try:
                    if os.fork():
                        os.waitpid(-1, os.WNOHANG)
                except OSError:
                    time.sleep(0.001)

        pid = child(multiply)
        while len(cgroup.pids()) < 10:
            time.sleep(0.002)
        cgroup.kill()
        wait(pid)
        until(lambda: cgroup.pids() == [])

    def test_delete_takes_what_the_container_made_below(self, cgroup: Cgroup) -> None:
        directory = cgroup.directory("memory")
        os.makedirs(f"{directory}/a/b")
        os.mkdir(f"{directory}/c")
        cgroup.delete()
        assert not cgroup.exists()
        assert not os.path.exists(os.path.dirname(directory or ""))

    def test_delete_leaves_the_parent_to_others(self, cgroup: Cgroup) -> None:
        other = Cgroup(cgroup.layout, os.path.dirname(cgroup.path) + "/other")
        other.create()
        cgroup.delete()
        assert other.exists()
        other.delete()
        assert not os.path.exists(f"{cgroup.layout.v1['memory']}{os.path.dirname(cgroup.path)}")

    def test_many_can_share_a_parent_that_comes_and_goes(self, cgroup: Cgroup) -> None:
        def come_and_go(name: int) -> None:
            box = Cgroup(cgroup.layout, f"/mini-test-{os.getppid()}-shared/{name}")
            for _ in range(20):
                box.create()
                box.enter()
                for root in cgroup.layout.v1_roots:
                    with open(f"{root}/tasks", "w") as file:
                        file.write("0")
                box.delete()

        def reported(name: int) -> None:
            try:
                come_and_go(name)
            except BaseException as e:
                print(repr(e), file=sys.stderr)
                os._exit(1)

        children = [child(functools.partial(reported, name)) for name in range(4)]
        assert [wait(pid) for pid in children] == [0, 0, 0, 0]

    def test_stats(self, cgroup: Cgroup) -> None:
        cgroup.apply({"memory": {"limit": 64 << 20}, "pids": {"limit": 9}})
        sleeper(cgroup)
        stats = cgroup.stats()
        assert stats["pids"] == {"current": 1, "limit": 9}
        assert stats["memory"]["usage"]["limit"] == 64 << 20
        assert 0 < stats["memory"]["usage"]["usage"] < 64 << 20
        assert stats["memory"]["raw"]["total_rss"] >= 0
        assert stats["cpu"]["usage"]["total"] > 0
        assert sum(stats["cpu"]["usage"]["percpu"]) == pytest.approx(stats["cpu"]["usage"]["total"], rel=0.5)
        assert stats["cpuset"]["cpus"] == sorted(os.sched_getaffinity(0))

    def test_a_refused_value_names_file_value_and_cause(self, cgroup: Cgroup) -> None:
        with pytest.raises(RuntimeFault) as caught:
            cgroup.apply({"cpu": {"cpus": "4095"}})
        assert f"cannot write '4095' to {cgroup.directory('cpuset')}/cpuset.cpus" in caught.value.message
        assert caught.value.errno in (errno.EINVAL, errno.EACCES, errno.ENODEV, errno.ERANGE)

    def test_a_limit_without_its_controller_is_an_error(self, cgroup: Cgroup) -> None:
        bare = Cgroup(Layout({"pids": cgroup.layout.v1["pids"]}, None), cgroup.path)
        with pytest.raises(Unsupported, match="no memory controller"):
            bare.apply({"memory": {"limit": 64 << 20}})

    def test_what_is_gone_is_no_error(self, cgroup: Cgroup) -> None:
        cgroup.delete()
        cgroup.delete()
        assert cgroup.pids() == []
        assert cgroup.oom_kill_count() == 0

    def test_nobody_joins_what_is_gone(self, cgroup: Cgroup) -> None:
        cgroup.delete()
        with pytest.raises(RuntimeFault, match="does not exist"):
            cgroup.enter()
        with pytest.raises(RuntimeFault, match="does not exist"):
            cgroup.add(os.getpid())


@pytest.fixture
def unified() -> Iterator[Cgroup]:
    """A v2 cgroup below one that plays the root, in the unified tree of whatever host."""
    layout = detect()
    if layout.v2 is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    root = f"{layout.v2}/mini-test-root-{os.getpid()}"
    os.mkdir(root)
    try:
        yield from _life(Cgroup(Layout({}, root), f"/mini-test-{os.getpid()}/box"))
    finally:
        os.rmdir(root)


class TestV2:
    def test_devices_are_denied_by_a_program(self, unified: Cgroup) -> None:
        unified.apply({"devices": [{"allow": False, "access": "rwm"}]})
        assert inside(unified, lambda: open_error(stat.S_IFCHR, 1, 3)) == "ok"
        assert inside(unified, lambda: open_error(stat.S_IFCHR, *LOOP_CONTROL)) == "EPERM"

    def test_a_second_program_replaces_the_first(self, unified: Cgroup) -> None:
        allowed = {"allow": True, "type": "c", "major": LOOP_CONTROL[0], "minor": LOOP_CONTROL[1], "access": "rwm"}
        unified.apply({"devices": [{"allow": False, "access": "rwm"}]})
        unified.apply({"devices": [{"allow": False, "access": "rwm"}, allowed]})
        assert inside(unified, lambda: open_error(stat.S_IFCHR, *LOOP_CONTROL)) != "EPERM"
        unified.apply({"devices": [{"allow": False, "access": "rwm"}]})
        assert inside(unified, lambda: open_error(stat.S_IFCHR, *LOOP_CONTROL)) == "EPERM"

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            ([], "DDDD"),
            (["c 5:77 rw"], "ADDD"),
            (["c 5:* rwm"], "AADD"),
            (["c *:77 rwm"], "ADAD"),
            (["c *:* rw"], "AAAA"),
            (["a *:* rwm"], "AAAA"),
            (["b *:* rw"], "DDDD"),
            (["c 5:77 r"], "DDDD"),
            (["c 5:77 r", "c 5:* w"], "ADDD"),
            (["c 5:* rwm", "-c 5:77 w"], "DADD"),
            (["c 5:* rwm", "-c 5:77 w", "c 5:77 w"], "AADD"),
            (["c 5:77 rw", "-c *:* w"], "DDDD"),
            (["c *:* rwm", "-c 5:* w", "-c *:77 w"], "DDDA"),
            ([f"c 9:{minor} rw" for minor in range(1500)] + ["c 5:77 rw"], "ADDD"),
        ],
        ids=lambda value: value if isinstance(value, str) else " ".join(value[-3:]) or "none",
    )
    def test_device_rules(self, unified: Cgroup, rules: list[str], expected: str) -> None:
        """Of 5:77, 5:78, 6:77 and 6:78, which have no driver: allowed, or denied by the program."""
        unified.apply({"devices": [{"allow": False, "access": "rwm"}, *map(device_rule, rules)]})
        found = inside(unified, lambda: [open_error(stat.S_IFCHR, a, b) for a in (5, 6) for b in (77, 78)])
        assert "".join("D" if error == "EPERM" else "A" for error in found) == expected

    def test_kill(self, unified: Cgroup) -> None:
        pids = sorted(sleeper(unified) for _ in range(3))
        assert unified.pids() == pids
        unified.kill()
        assert {wait(pid) for pid in pids} == {-signal.SIGKILL}

    def test_freeze_and_thaw(self, unified: Cgroup) -> None:
        pid = sleeper(unified)
        unified.freeze()
        os.kill(pid, signal.SIGCONT)
        assert "frozen 1" in open(f"{unified.directories()[0]}/cgroup.events").read()
        unified.thaw()
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL

    def test_a_missing_controller_is_named(self, unified: Cgroup) -> None:
        with pytest.raises(Unsupported, match="no memory controller"):
            unified.apply({"memory": {"limit": 64 << 20}})

    def test_unified_files_are_names_only(self, unified: Cgroup) -> None:
        unified.apply({"unified": {"cgroup.max.depth": "3"}})
        assert open(f"{unified.directories()[0]}/cgroup.max.depth").read() == "3\n"
        with pytest.raises(Unsupported, match="name"):
            unified.apply({"unified": {"../../cgroup.max.depth": "3"}})


@pytest.mark.requires("cgroup-v2")
class TestV2Limits:
    """On a host whose controllers are in the unified tree (scripts/test-vm)."""

    def test_limits_read_back(self, cgroup: Cgroup) -> None:
        cgroup.apply(
            {
                "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
                "cpu": {"shares": 512, "quota": 150000, "period": 100000, "cpus": "0", "mems": "0", "burst": 10000},
                "pids": {"limit": 50},
                "unified": {"memory.high": str(48 << 20), "memory.oom.group": "1"},
            }
        )
        expected = {
            "memory.max": str(64 << 20),
            "memory.swap.max": str(32 << 20),
            "memory.low": str(32 << 20),
            "memory.high": str(48 << 20),
            "memory.oom.group": "1",
            "cpu.max": "150000 100000",
            "cpu.max.burst": "10000",
            "cpu.weight": "59",
            "cpuset.cpus": "0",
            "pids.max": "50",
        }
        assert {file: read(cgroup, "memory", file) for file in expected} == expected

    def test_the_number_of_processes_is_limited(self, cgroup: Cgroup) -> None:
        cgroup.apply({"pids": {"limit": 5}})
        assert inside(cgroup, lambda: forks(20)) == 4

    def test_beyond_the_memory_limit_it_is_killed_and_counted(self, cgroup: Cgroup) -> None:
        cgroup.apply({"memory": {"limit": 32 << 20, "swap": 32 << 20}})
        assert cgroup.oom_kill_count() == 0
        assert inside(cgroup, lambda: len(bytearray(b"x") * (128 << 20))) == -signal.SIGKILL
        assert cgroup.oom_kill_count() == 1

    def test_a_limit_below_use_is_refused_on_demand(self, cgroup: Cgroup) -> None:
        sleeper(cgroup)
        with pytest.raises(UsageError, match="in use"):
            cgroup.set_limits({"memory": {"limit": 4096, "checkBeforeUpdate": True}})

    def test_a_processor_is_shared_out(self, cgroup: Cgroup) -> None:
        cgroup.apply({"cpu": {"quota": 10000, "period": 100000}})
        assert throttled_periods(cgroup) > 0

    def test_unified_has_the_last_word(self, cgroup: Cgroup) -> None:
        cgroup.apply({"memory": {"limit": 64 << 20}, "unified": {"memory.max": "33554432", "memory.high": "16M"}})
        assert read(cgroup, "memory", "memory.max") == "33554432"
        assert read(cgroup, "memory", "memory.high") == "16777216"
        cgroup.set_limits({"unified": {"memory.high": "max"}})
        assert read(cgroup, "memory", "memory.high") == "max"

    def test_idle(self, cgroup: Cgroup) -> None:
        cgroup.apply({"cpu": {"shares": 512, "idle": 1}})
        assert read(cgroup, "cpu", "cpu.idle") == "1"
        cgroup.set_limits({"cpu": {"shares": 1024, "idle": 0}})
        assert (read(cgroup, "cpu", "cpu.idle"), read(cgroup, "cpu", "cpu.weight")) == ("0", "100")

    def test_stats(self, cgroup: Cgroup) -> None:
        cgroup.apply({"memory": {"limit": 64 << 20}, "pids": {"limit": 9}})
        sleeper(cgroup)
        stats = cgroup.stats()
        assert stats["pids"] == {"current": 1, "limit": 9}
        assert stats["memory"]["usage"]["limit"] == 64 << 20
        assert 0 < stats["memory"]["usage"]["usage"] < 64 << 20
        assert "inactive_file" in stats["memory"]["raw"]
        assert stats["cpu"]["usage"]["total"] > 0
        assert 0 in stats["cpuset"]["cpus"]

    def test_throttles_of_a_block_device(self, cgroup: Cgroup) -> None:
        device = next((d for d in os.listdir("/sys/block") if d.startswith("vd")), None)
        if device is None:
            pytest.skip("no virtio disk")
        with open(f"/sys/block/{device}/dev") as file:
            major, minor = (int(number) for number in file.read().split(":"))
        cgroup.apply({"blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1048576}]}})
        assert read(cgroup, "io", "io.max") == f"{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max"

    def test_processes_in_the_parent_are_named(self, cgroup: Cgroup) -> None:
        """No controller can be given on below them."""
        shell = child(signal.pause)
        parent = f"{os.path.dirname(cgroup.directories()[0])}/busy"
        os.mkdir(parent)
        try:
            _write(f"{parent}/cgroup.procs", str(shell))
            box = Cgroup(cgroup.layout, f"{os.path.dirname(cgroup.path)}/busy/box")
            box.create()
            assert inside(box, os.getpid) > 0
            with pytest.raises(Unsupported, match=f"cannot be given on below {parent}, which holds processes: {shell}"):
                box.apply({"memory": {"limit": 64 << 20}})
            with pytest.raises(Unsupported, match=f"the memory controller cannot .* holds processes: {shell}"):
                box.apply({"unified": {"memory.max": "max"}})
        finally:
            os.kill(shell, signal.SIGKILL)
            wait(shell)
            box.delete()

    def test_a_threaded_parent(self, cgroup: Cgroup) -> None:
        """It gives on what divides threads; memory belongs to a process as a whole."""
        name = f"/mini-test-threads-{os.getpid()}"
        parent = f"{cgroup.layout.v2}{name}"
        os.mkdir(parent)
        _write(f"{parent}/cgroup.type", "threaded")
        box = Cgroup(cgroup.layout, f"{name}/box")
        try:
            box.create()
            assert open(f"{box.directories()[0]}/cgroup.type").read() == "threaded\n"
            box.apply({"pids": {"limit": 20}})
            with pytest.raises(Unsupported, match="is threaded .*no memory controller"):
                box.apply({"memory": {"limit": 64 << 20}})
        finally:
            box.delete()

    def test_a_user_gets_the_files_that_are_safe(self, cgroup: Cgroup) -> None:
        cgroup.give_to(1000)
        directory = cgroup.directories()[0]
        owners = {name: os.stat(f"{directory}/{name}").st_uid for name in (".", "cgroup.procs", "memory.max")}
        assert owners == {".": 1000, "cgroup.procs": 1000, "memory.max": 0}


def test_huge_pages(cgroup: Cgroup) -> None:
    """Also on a hybrid host, where the controller may be the only one of the unified tree."""
    if "hugetlb" not in cgroup.layout.v2_controllers:
        pytest.skip("no hugetlb controller in the unified tree")
    cgroup.apply({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})
    assert read(cgroup, "hugetlb", "hugetlb.2MB.max") == str(4 << 20)
    assert read(cgroup, "hugetlb", "hugetlb.2MB.rsvd.max") == str(4 << 20)
    assert cgroup.stats()["hugetlb"]["2MB"]["usage"] == 0


def test_what_no_controller_here_does_is_an_error(cgroup: Cgroup) -> None:
    """Of those that only v1 or special hardware has, which is where this host may lack them."""
    for name, resources in (
        ("net_cls", {"network": {"classID": 1}}),
        ("net_prio", {"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
        ("rdma", {"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
    ):
        if name not in cgroup.layout.v1 and name not in cgroup.layout.v2_controllers:
            with pytest.raises(Unsupported, match=f"no {name} controller"):
                cgroup.apply(resources)


@pytest.fixture
def domain() -> Iterator[str]:
    """A v2 cgroup with a controller to give on: what the root of a container's cgroup namespace looks like."""
    layout = detect()
    if layout.v2 is None or not layout.v2_controllers:
        pytest.skip("cgroup v2 has no controller here")
    controller = sorted(layout.v2_controllers)[0]
    control = f"{layout.v2}/cgroup.subtree_control"
    before = open(control).read().split()
    root = f"{layout.v2}/mini-test-domain-{os.getpid()}"
    os.mkdir(root)
    try:
        if controller not in before:
            _write(control, f"+{controller}")
        yield root
    finally:
        for directory in (f"{root}/init", root):
            if os.path.isdir(directory):
                os.rmdir(directory)
        if controller not in before:
            _write(control, f"-{controller}")


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def test_processes_of_a_namespaces_root_move_aside(domain: str) -> None:
    """Else the controllers cannot be switched on below it: "no internal processes"."""
    controllers = frozenset(open(f"{domain}/cgroup.controllers").read().split())
    shell = child(signal.pause)
    try:
        _write(f"{domain}/cgroup.procs", str(shell))
        box = Cgroup(Layout({}, domain, controllers), "/mini/box")
        box.create()
        assert open(f"{domain}/init/cgroup.procs").read().split() == [str(shell)]
        assert set(open(f"{box.directories()[0]}/cgroup.controllers").read().split()) == controllers
        if "hugetlb" in controllers:
            box.apply({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})
            assert open(f"{box.directories()[0]}/hugetlb.2MB.max").read() == f"{4 << 20}\n"
        # mini in mini: the box gives its controllers on, so that an exec must go where its processes are
        os.mkdir(f"{box.directories()[0]}/inner")
        sleeping = sleeper(Cgroup(Layout({}, f"{box.directories()[0]}"), "/inner"))
        _write(f"{box.directories()[0]}/cgroup.subtree_control", f"+{min(controllers)}")
        assert inside(box, lambda: open("/proc/self/cgroup").read()).endswith("/mini/box/inner\n")
        box.kill()
        wait(sleeping)
        box.delete()
        assert os.listdir(f"{domain}/init")
    finally:
        os.kill(shell, signal.SIGKILL)
        wait(shell)
