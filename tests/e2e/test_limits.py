"""Limits, read back from the host's side and felt by the container."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.support import leaks, requirements
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")


def _eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_memory(mini: Mini, image: Image) -> None:
    container = mini.detached("--memory", "64m", image.name, "sleep", "60")
    assert mini.cgroup_file(container, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert mini.inspect(container)["HostConfig"]["Memory"] == 64 << 20


@pytest.mark.parametrize("written", ["{}", "{}/../{}/sub", "..{}"])
def test_a_parent_cgroup(mini: Mini, host_image: Image, written: str) -> None:
    """Every command finds the container there; nobody climbs out of the hierarchy; the parent is left when it is gone."""
    parent = f"{mini.cgroup_parent}-own"
    options = ["--cgroup-parent", written.format(parent, parent[1:]), "--memory", "64m"]
    try:
        container = mini.detached(*options, host_image.name, "sleep", "60")
        own = f"{parent}/sub/{container}" if written.endswith("sub") else f"{parent}/{container}"
        path = next(tree.path + own for tree in leaks.hierarchies() if os.path.isdir(tree.path + own))
        mini.run("exec", "-d", container, "sleep", "50")
        with open(f"{path}/cgroup.procs") as file:
            inside = file.read().split()
        assert str(mini.inspect(container)["State"]["Pid"]) in inside
        assert len(inside) == len(mini.run("top", container).lines) - 1 == 2
        assert not [path for path in leaks.cgroups(mini.cgroup_parent) if container in path]
        mini.run("update", "--pids-limit", "50", container)
        assert mini.run("stats", "--no-stream", "--format", "{{.PIDs}}", container).out == "2"
        mini.run("pause", container)
        mini.run("unpause", container)
        mini.run("fsck")
        mini.run("rm", "-f", container)
        assert not os.path.exists(path)
        assert os.path.isdir(os.path.dirname(path))
    finally:
        mini.remove_containers()
        leaks.remove_cgroups(parent)


def test_beyond_the_memory_limit_it_is_killed(mini: Mini, image: Image) -> None:
    """`tail` keeps the last line, and /dev/zero is one line without end."""
    result = mini.run("run", "--name", "hungry", "--memory", "32m", image.name, "tail", "/dev/zero", check=False)
    assert result.code == 137
    state = mini.inspect("hungry")["State"]
    assert (state["OOMKilled"], state["ExitCode"], state["Status"]) == (True, 137, "exited")


def test_cpus(mini: Mini, image: Image) -> None:
    container = mini.detached("--cpus", "0.2", image.name, "sh", "-c", "while :; do :; done")
    if "max" not in (limit := mini.cgroup_file(container, "cpu", "cpu.cfs_quota_us", "cpu.max")):
        quota, _, period = limit.partition(" ")
        period = period or mini.cgroup_file(container, "cpu", "cpu.cfs_period_us", "cpu.max")
        assert (quota, period) == ("20000", "100000")
    else:
        pytest.fail(f"no limit: {limit}")

    def throttled() -> bool:
        stat = dict(line.split() for line in mini.cgroup_file(container, "cpu", "cpu.stat", "cpu.stat").splitlines())
        return int(stat["nr_throttled"]) > 0

    assert _eventually(throttled)


def test_pids(mini: Mini, image: Image) -> None:
    container = mini.detached("--pids-limit", "7", image.name, "sleep", "60")
    assert mini.cgroup_file(container, "pids", "pids.max", "pids.max") == "7"
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done"
    result = mini.run("run", "--rm", "--pids-limit", "7", image.name, "sh", "-c", script, check=False)
    assert result.code != 0
    assert "fork" in result.stderr


def test_exec_is_inside_the_limits(mini: Mini, image: Image) -> None:
    container = mini.detached("--pids-limit", "20", image.name, "sleep", "60")
    process = mini.start("exec", container, "sh", "-c", "echo ready; exec sleep 60")
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with open(os.path.join(mini.cgroup_path("pids", container), "cgroup.procs")) as file:
            assert len(file.read().split()) == 2
        process.kill()


def test_inside_it_sees_its_own_limits_and_cannot_change_them(mini: Mini, image: Image) -> None:
    is_v1 = requirements.missing("cgroup-v1") is None
    path = "/sys/fs/cgroup/memory/memory.limit_in_bytes" if is_v1 else "/sys/fs/cgroup/memory.max"
    out = mini.run(
        "run", "--rm", "--memory", "64m", image.name, "sh", "-c", f"cat {path}; echo 1 > {path}", check=False
    )
    assert out.out == str(64 << 20)
    assert "read-only file system" in out.stderr.lower()
