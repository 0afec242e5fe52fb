"""`rename`, `update` and `restart`: what changes a container that is there, and what the kernel then has."""

from __future__ import annotations

import os
import threading

import pytest

from tests.support import requirements
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

_PATIENT = "trap 'exit 7' TERM; while :; do sleep 0.05; done"


def start(mini: Mini, image: Image, *options: str, name: str = "it") -> str:
    return mini.detached("--name", name, "--network", "none", *options, image.name, "sh", "-c", _PATIENT)


MEMORY = ("memory", "memory.limit_in_bytes", "memory.max")
SWAP = ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")  # v1: with the memory, v2: without


# --- rename


def test_rename(mini: Mini, host_image: Image) -> None:
    container = start(mini, host_image)
    assert mini.run("rename", "it", "other").stdout == ""
    assert mini.inspect("other")["Id"] == container
    assert mini.inspect("other")["Name"] == "/other"
    assert mini.run("inspect", "it", check=False).code == 1
    start(mini, host_image)  # the name is free
    for arguments, said in (
        (["it", "it"], "Renaming a container with the same name as its current name"),
        (["it", "other"], f'The container name "/other" is already in use by container "{container}"'),
        (["it", "!"], "Invalid container name (/!), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["it", ""], "Neither old nor new names may be empty"),
        (["nosuch", "x1"], "No such container: nosuch"),
    ):
        result = mini.run("rename", *arguments, check=False)
        assert (result.code, result.stdout) == (1, "")
        assert said in result.stderr
    assert sorted(mini.run("ps", "--format", "{{.Names}}").lines) == ["it", "other"]
    mini.run("stop", "it", "other")
    mini.run("rename", "it", "third")
    assert mini.run("start", "third").out == "third"


def test_a_renamed_container_with_rm_leaves_no_name(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "--rm")
    mini.run("rename", "it", "other")
    mini.run("stop", "other")
    assert os.listdir(f"{mini.root}/names") == []
    mini.run("create", "--name", "other", host_image.name, "true")


def test_of_many_renames_to_one_name_one_succeeds(mini: Mini, host_image: Image) -> None:
    names = [f"c{n}" for n in range(8)]
    for name in names:
        mini.run("create", "--name", name, "--network", "none", host_image.name, "true")
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda n=name: codes.append(mini.run("rename", n, "wanted", check=False).code))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0] + [1] * 7
    found = mini.run("ps", "-a", "--format", "{{.Names}}").lines
    assert len(found) == 8 and found.count("wanted") == 1
    assert sorted(os.listdir(f"{mini.root}/names")) == sorted(found)


# --- update


def test_update_of_a_running_container_reaches_the_kernel(mini: Mini, host_image: Image) -> None:
    container = start(mini, host_image)
    options = "-m 64m --memory-swap 128m --memory-reservation 32m --cpus 0.5 -c 512 --cpuset-cpus 0 --pids-limit 20"
    assert mini.run("update", *options.split(), "it").out == "it"
    is_v1 = requirements.missing("cgroup-v1") is None
    wanted = {
        MEMORY: str(64 << 20),
        SWAP: str((128 if is_v1 else 64) << 20),
        ("memory", "memory.soft_limit_in_bytes", "memory.low"): str(32 << 20),
        ("cpu", "cpu.cfs_quota_us", "cpu.max"): "50000" if is_v1 else "50000 100000",
        ("cpu", "cpu.shares", "cpu.weight"): "512" if is_v1 else "59",
        ("cpuset", "cpuset.cpus", "cpuset.cpus"): "0",
        ("pids", "pids.max", "pids.max"): "20",
    }
    assert {key: mini.cgroup_file(container, *key) for key in wanted} == wanted
    mini.run("update", "-m", "32m", "--memory-swap", "32m", "--pids-limit", "-1", "it")  # lower, in the kernel's order
    assert mini.cgroup_file(container, *MEMORY) == str(32 << 20)
    assert mini.cgroup_file(container, *SWAP) == str((32 if is_v1 else 0) << 20)
    assert mini.cgroup_file(container, "pids", "pids.max", "pids.max") == "max"
    mini.run("update", "-m", "256m", "--memory-swap", "-1", "it")
    host = mini.inspect("it")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"], host["PidsLimit"]) == (256 << 20, -1, 512, -1)


def test_update_of_a_stopped_container_holds_at_its_start(mini: Mini, host_image: Image) -> None:
    mini.run("create", "--name", "it", "--network", "none", host_image.name, "sleep", "60")
    assert mini.run("update", "-m", "64m", "--memory-swap", "64m", "--cpus", "1.5", "it").out == "it"
    mini.run("start", "it")
    container = mini.inspect("it")["Id"]
    assert mini.cgroup_file(container, *MEMORY) == str(64 << 20)
    assert mini.cgroup_file(container, "cpu", "cpu.cfs_quota_us", "cpu.max") in ("150000", "150000 100000")


@pytest.mark.requires("cgroup-v1")
def test_what_the_kernel_refuses_changes_nothing(mini: Mini, host_image: Image) -> None:
    """64 MB are in use, and cannot be reclaimed: the new limits must not stay half-set. (v2 refuses no such limit: it kills.)"""
    script = "import time; x = b'a' * (64 << 20); print('ready', flush=True); time.sleep(60)"
    options = ["-d", "--name", "it", "--network", "none", "-m", "128m", "--memory-swap", "128m"]
    container = mini.run("run", *options, host_image.name, "python3", "-c", script).out
    while "ready" not in mini.run("logs", "it").out:
        pass
    before = mini.inspect("it")["HostConfig"]
    result = mini.run("update", "--cpus", "0.7", "-m", "8m", "--memory-swap", "8m", "it", check=False)
    assert (result.code, result.stdout) == (1, "")
    assert f"Cannot update container {container}" in result.stderr
    assert mini.inspect("it")["HostConfig"] == before
    assert mini.cgroup_file(container, *MEMORY) == str(128 << 20)
    assert mini.cgroup_file(container, "cpu", "cpu.cfs_quota_us", "cpu.max") == "-1"
    assert mini.inspect("it")["State"]["Running"] is True


def test_update_refusals(mini: Mini, host_image: Image) -> None:
    container = start(mini, host_image, "-m", "64m", "--memory-swap", "64m")
    for options, said in (
        ([], "you must provide one or more flags when using this command"),
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (
            ["-m", "100m"],
            f"Cannot update container {container}: Memory limit should be smaller than already set memoryswap",
        ),
        (
            ["-m", "60m", "--memory-swap", "10m"],
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (["--memory-swap", "10m"], "Minimum memoryswap limit should be larger than memory limit, see usage"),
        (["--cpus", "1000"], "Range of CPUs is from 0.01 to"),
        (["--cpuset-cpus", "999"], "Requested CPUs are not available - requested 999"),
        (["--cpuset-cpus", "x"], "Invalid value x for cpuset cpus"),
        (["--restart", "sometimes"], "invalid restart policy 'sometimes'"),
    ):
        result = mini.run("update", *options, "it", check=False)
        assert (result.code, result.stdout) == (1, ""), options
        assert said in result.stderr
    assert mini.run("update", "-m", "x", "it", check=False).code == 125
    both = mini.run("update", "--cpu-shares", "100", "nosuch", "it", check=False)
    assert (both.code, both.out) == (1, "it")


def test_a_new_restart_policy_holds_for_the_life_that_is(mini: Mini, host_image: Image) -> None:
    script = "until rm /end 2>/dev/null; do sleep 0.05; done"
    mini.run("run", "-d", "--name", "it", "--network", "none", host_image.name, "sh", "-c", script)
    mini.run("update", "--restart", "on-failure:3", "it")
    assert mini.inspect("it")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    mini.run("update", "--restart", "always", "it")
    mini.run("exec", "it", "touch", "/end")
    while not mini.inspect("it")["State"]["Running"] or not mini.inspect("it")["RestartCount"]:
        pass
    mini.run("stop", "-t", "0", "it")
    assert mini.inspect("it")["State"]["Running"] is False


# --- restart


def test_restart(mini: Mini, host_image: Image) -> None:
    start(mini, host_image)
    mini.run("exec", "it", "sh", "-c", "echo kept >/file")
    before = mini.inspect("it")["State"]
    assert mini.run("restart", "-t", "20", "it").out == "it"
    after = mini.inspect("it")["State"]
    assert after["Running"] is True and after["Pid"] != before["Pid"] and after["StartedAt"] > before["StartedAt"]
    assert mini.run("exec", "it", "cat", "/file").out == "kept"
    mini.run("stop", "it")
    assert mini.run("restart", "it", "nosuch", check=False).out == "it"
    assert mini.inspect("it")["State"]["Running"] is True


def test_restart_sends_the_signal_asked_for_and_kills_in_time(mini: Mini, host_image: Image) -> None:
    script = "trap 'echo int' INT; echo ready; while :; do sleep 0.05; done"
    mini.detached("--name", "it", "--network", "none", host_image.name, "sh", "-c", script)
    while "ready" not in mini.run("logs", "it").out:
        pass
    mini.run("restart", "-s", "INT", "-t", "3", "it")
    assert mini.run("logs", "it").lines[:2] == ["ready", "int"]


def test_restart_keeps_a_container_with_rm(mini: Mini, host_image: Image) -> None:
    container = start(mini, host_image, "--rm", "-v", "/data")
    mini.run("exec", "it", "sh", "-c", "echo kept >/data/file")
    mini.run("restart", "it")
    assert mini.inspect("it")["Id"] == container
    assert mini.run("exec", "it", "cat", "/data/file").out == "kept"
    mini.run("stop", "it")
    assert mini.run("ps", "-aq").out == ""
    assert mini.run("volume", "ls", "-q").out == ""


def test_a_restart_that_was_killed_keeps_nothing(mini: Mini, host_image: Image) -> None:
    container = start(mini, host_image, "--rm")
    with open(f"{mini.root}/containers/{container}/kept", "w") as file:
        file.write('{"Pid": 1, "PidStart": 1, "BootId": "x"}')
    mini.run("stop", "it")
    assert mini.run("ps", "-aq").out == ""
