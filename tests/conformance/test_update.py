"""runc(8), `update`: limits that are changed while a container is there, in every order and notation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import requirements
from tests.support.conformance import Container

VERSION_1 = requirements.missing("cgroup-v1") is None
MIB = 1 << 20


def update(container: Container, *options: str, resources: dict[str, Any] | None = None) -> None:
    if resources is not None:
        options = ("--resources", "-")
    done = container.runtime.call("update", *options, container.id, stdin=json.dumps(resources))
    assert done.code == 0, done


def memory(container: Container) -> tuple[str, str]:
    """(memory, memory and swap) in bytes, `max` without a limit; of version 2 the second is a sum."""
    if VERSION_1:
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        found = [container.setting("memory", name) for name in names]
        first, second = ("max" if len(value) > 15 else value for value in found)
        return first, second
    limit, swap = container.setting("memory", "memory.max"), container.setting("memory", "memory.swap.max")
    return limit, "max" if "max" in (limit, swap) else str(int(limit) + int(swap))


def quota(container: Container) -> list[str]:
    """[quota or -1, period]"""
    if VERSION_1:
        return [container.setting("cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    return container.setting("cpu", "cpu.max").replace("max", "-1").split()


@pytest.fixture
def limited(container: Container) -> Container:
    container.linux["resources"] = {
        "memory": {"limit": 32 * MIB, "swap": 64 * MIB},
        "cpu": {"shares": 100, "quota": 500000, "period": 1000000},
        "pids": {"limit": 20},
    }
    return container.started()


@pytest.fixture
def free(container: Container) -> Container:
    return container.started()


# Memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("52428800", 50 * MIB), *(pytest.param(*pair, marks=pytest.mark.differs(crun="takes the number alone")) for pair in [
        ("50M", 50 * MIB), ("50m", 50 * MIB), ("51200k", 50 * MIB), ("50mb", 50 * MIB),
        ("50MiB", 50 * MIB), ("0.046875g", 48 * MIB)])],
)  # fmt: skip
def test_memory_with_a_unit(limited: Container, text: str, size: int) -> None:
    """runc-update(8): "--memory num"; a unit of 1024, as Docker's options take it."""
    update(limited, "--memory", text)
    assert memory(limited)[0] == str(size)


@pytest.mark.parametrize("steps", [[(30, 50), (60, 80), (20, 30)], [(100, 100), (10, 200), (64, 64)]], ids=str)
def test_memory_and_swap_go_up_and_down(limited: Container, steps: list[tuple[int, int]]) -> None:
    """The kernel refuses memory above memory and swap at any moment: the order of the two is the runtime's business."""
    for limit, both in steps:
        update(limited, "--memory", str(limit * MIB), "--memory-swap", str(both * MIB))
        assert memory(limited) == (str(limit * MIB), str(both * MIB))


def test_swap_without_a_limit(limited: Container) -> None:
    update(limited, "--memory", str(32 * MIB), "--memory-swap", "-1")
    assert memory(limited) == (str(32 * MIB), "max")


@pytest.mark.differs(crun="leaves that of swap")
def test_memory_without_a_limit(limited: Container) -> None:
    """What holds for memory without a limit holds for swap as well."""
    update(limited, "--memory", "-1")
    assert memory(limited) == ("max", "max")


# Processor time


def test_the_period_alone(limited: Container) -> None:
    update(limited, "--cpu-period", "900000")
    assert quota(limited) == ["500000", "900000"]


def test_the_quota_alone(limited: Container) -> None:
    update(limited, "--cpu-quota", "600000")
    assert quota(limited) == ["600000", "1000000"]


@pytest.mark.differs(crun="writes 2^64 - 1")
def test_a_quota_is_taken_away(limited: Container) -> None:
    update(limited, "--cpu-quota", "-1")
    assert quota(limited) == ["-1", "1000000"]


@pytest.mark.differs(crun="writes 2^64 - 1")
def test_a_quota_is_taken_away_by_file(limited: Container) -> None:
    update(limited, resources={"cpu": {"quota": -1, "period": 100000}})
    assert quota(limited) == ["-1", "100000"]


def test_a_period_where_there_was_none(free: Container) -> None:
    update(free, "--cpu-period", "50000")
    assert quota(free) == ["-1", "50000"]


def test_a_quota_where_there_was_none(free: Container) -> None:
    update(free, "--cpu-quota", "30000")
    assert quota(free) == ["30000", "100000"]


@pytest.mark.differs(crun="writes the period first, always")
@pytest.mark.requires("cgroup-v1")
def test_period_and_quota_below_the_parents(container: Container) -> None:
    """A pod's limit, which version 1 has no child exceed at any moment: 30 % of a smaller period is within 50 %."""
    container.linux["cgroupsPath"] += "/inner"
    container.started()
    Path(f"{os.path.dirname(container.cgroup('cpu'))}/cpu.cfs_quota_us").write_text("50000")
    update(container, "--cpu-period", "100000", "--cpu-quota", "50000")
    update(container, "--cpu-period", "10000", "--cpu-quota", "3000")
    assert quota(container) == ["3000", "10000"]
    assert container.runtime.call("update", "--cpu-quota", "6000", container.id).code != 0


# Processes


@pytest.mark.differs(crun="writes -1 where `max` is meant")
def test_processes_without_a_limit(limited: Container) -> None:
    update(limited, "--pids-limit", "-1")
    assert limited.setting("pids", "pids.max") == "max"


def test_all_at_once(limited: Container) -> None:
    update(
        limited, "--cpu-period", "900000", "--cpu-quota", "600000", "--cpu-share", "200", "--memory", str(64 * MIB),
        "--memory-swap", str(64 * MIB), "--memory-reservation", str(16 * MIB), "--pids-limit", "10",
    )  # fmt: skip
    assert quota(limited) == ["600000", "900000"]
    assert memory(limited) == (str(64 * MIB), str(64 * MIB))
    assert limited.setting("pids", "pids.max") == "10"


def test_a_file_on_disk(limited: Container) -> None:
    path = f"{limited.bundle}/resources.json"
    with open(path, "w") as file:
        json.dump({"pids": {"limit": 11}}, file)
    update(limited, "--resources", path)
    assert limited.setting("pids", "pids.max") == "11"


LAX = pytest.mark.differs(crun="takes it for nothing")


@pytest.mark.parametrize("content", ["", "{", pytest.param("[]", marks=LAX), pytest.param('"text"', marks=LAX)])
def test_a_file_that_is_none(limited: Container, content: str) -> None:
    done = limited.runtime.call("update", "--resources", "-", limited.id, stdin=content)
    assert done.code != 0


@pytest.mark.parametrize("name", ["", "none"])
def test_a_file_that_is_not_there(limited: Container, name: str) -> None:
    done = limited.runtime.call("update", "--resources", f"{limited.bundle}/{name}", limited.id)
    assert done.code != 0 and "Errno" not in done.err
    assert any(words in done.err.lower() for words in ("no such file or directory", "is a directory"))


@pytest.mark.differs(crun="sets a file that is not there any more")
def test_kernel_memory(limited: Container) -> None:
    """Linux has no limit of it any more (6.1): that is said."""
    done = limited.runtime.call("update", "--kernel-memory", "64000000", limited.id)
    assert done.code == 0 and "kernel memory" in done.err.lower()


# What it leaves alone


def test_devices_stay_forbidden(container: Container) -> None:
    """The rules of devices are not those of an empty list afterwards."""
    container.linux["devices"] = [{"path": "/dev/own", "type": "c", "major": 1, "minor": 200, "fileMode": 0o666}]
    container.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    container.started()
    for expected in range(2):
        if expected:
            update(container, "--pids-limit", "42")
        done = container.exec("sh", "-c", "echo > /dev/own")
        assert done.code != 0 and "not permitted" in done.err


def test_a_paused_container_stays_paused(limited: Container) -> None:
    limited.must("pause")
    update(limited, "--pids-limit", "30")
    assert limited.state()["status"] == "paused"
    assert limited.setting("pids", "pids.max") == "30"
    limited.must("resume")


def test_of_a_created_container(container: Container) -> None:
    container.create()
    update(container, "--pids-limit", "30")
    assert container.setting("pids", "pids.max") == "30"
    assert container.state()["status"] == "created"


@pytest.mark.differs(crun="does not look")
def test_of_a_stopped_container(limited: Container) -> None:
    limited.stopped()
    assert limited.runtime.call("update", "--pids-limit", "30", limited.id).code != 0


# create, of what update sees later


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        ({"period": 1000000}, ["-1", "1000000"]),
        ({"quota": 5000}, ["5000", "100000"]),
        pytest.param({"quota": -1}, ["-1", "100000"], marks=pytest.mark.differs(crun="writes 2^64 - 1")),
    ],
    ids=str,
)
def test_half_of_a_quota(container: Container, cpu: dict[str, int], expected: list[str]) -> None:
    """CPU: `period` or `quota` alone."""
    container.linux["resources"] = {"cpu": cpu}
    container.create()
    assert quota(container) == expected


def test_no_processes_at_all(container: Container) -> None:
    """pids: a `limit` of 0 is no limit that would keep the container from being made."""
    container.linux["resources"] = {"pids": {"limit": 0}}
    assert container.run("true").code == 0


def test_in_a_user_namespace(container: Container) -> None:
    """Limits are the host's business, whoever is root inside."""
    container.user_namespace()
    container.linux["resources"] = {"pids": {"limit": 1024}}
    container.create()
    assert container.setting("pids", "pids.max") == "1024"
