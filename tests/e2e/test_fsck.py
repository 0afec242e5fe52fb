"""fsck on containers, and on what they have on the host; and the store beside what runs."""

from __future__ import annotations

import glob
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.context import Context
from engine.paths import Paths
from engine.system import fsck
from tests.support import leaks
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

WHOLE = "all is as it must be"


def flip(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\x55\xaa")


def layers(mini: Mini) -> list[str]:
    return glob.glob(f"{mini.root}/layers/sha256/*.tar")


def kill(mini: Mini, name: str) -> None:
    """Monitor and init, as a power cut would, but that the host has still all that they had."""
    pid = mini.inspect(name)["State"]["Pid"]
    os.kill(mini.monitor(name), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not leaks.processes(mini))


@pytest.fixture
def busy(fresh_mini: Mini, host_image: Image) -> Mini:
    """One container that runs, `up`, and one that does not, `it`, with a volume."""
    fresh_mini.run("run", "-d", "--name", "up", host_image.name, "sleep", "100")
    fresh_mini.run("run", "--name", "it", "-v", "data:/data", host_image.name, "sh", "-c", "echo mine > /kept")
    return fresh_mini


def container(mini: Mini, name: str, file: str) -> str:
    return f"{mini.root}/containers/{mini.inspect(name)['Id']}/{file}"


def test_whole_with_a_container_that_runs(busy: Mini) -> None:
    said = busy.run("fsck")
    assert said.lines == [said.out] and said.out.startswith("checked 1 image, ") and said.out.endswith(WHOLE)
    assert ", 2 containers, 1 volume, " in said.out
    assert busy.run("fsck", "-q", "--repair").out == ""


# By name: what is done to the store, what is said of it, and whether that is damage.

CASES: dict[str, tuple[Callable[[Mini], object], str, bool]] = {
    "no name": (lambda m: os.unlink(f"{m.root}/names/it"), "rubbish: container {it}: half-made or half-removed", False),
    "a name of nothing": (lambda m: Path(m.root, "names/xx").write_text("a" * 64),
                          "rubbish: name xx: its container is gone", False),
    "half-renamed": (lambda m: shutil.copy(f"{m.root}/names/it", f"{m.root}/names/other"),
                     "rubbish: name other: its container is called it", False),
    "config": (lambda m: os.truncate(container(m, "it", "config.json"), 9), "damaged: container it: its config is damaged", True),
    "state": (lambda m: os.truncate(container(m, "it", "state.json"), 9), "damaged: container it: its state is damaged", True),
    "upper": (lambda m: shutil.rmtree(container(m, "it", "upper")),
              "damaged: container it: the directory of what it wrote is missing", True),
    "volume": (lambda m: shutil.rmtree(f"{m.root}/volumes/data"), "damaged: container it: its volume data is missing", True),
    "lease": (lambda m: os.symlink("b" * 64, f"{m.root}/networks/bridge/leases/10.213.0.200"),
              "rubbish: address: container bbbbbbbbbbbb does not run", False),
    "users of a volume": (lambda m: os.makedirs(f"{m.root}/run/volumes/data"),
                          "rubbish: volume data: noted for those that have it, who are none", False),
    "mount point": (lambda m: os.mkdir(f"{m.root}/run/images/{'c' * 64}"), "rubbish: mount cccccccccccc: no image has it", False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_damage(busy: Mini, host_image: Image, case: str) -> None:
    damage, said, damaged = CASES[case]
    it = busy.inspect("it")["Id"]
    damage(busy)
    expected = said.replace("{it}", it[:12])
    found = busy.run("fsck", check=False)
    assert expected in found.lines and found.code == int(damaged), found
    repaired = busy.run("fsck", "--repair", check=False)
    assert any(line.startswith(f"{expected} (") for line in repaired.lines), repaired
    assert busy.run("fsck").out.endswith(WHOLE)
    assert busy.run("exec", "up", "echo", "alive").out == "alive"
    if case == "config":
        (kept,) = glob.glob(f"{busy.root}/quarantine/*/containers/{it}/upper/kept")
        assert Path(kept).read_text() == "mine\n"
    else:
        busy.run("start", "it", check=case != "no name")
    busy.run("run", "--rm", "--name", "xx", host_image.name, "true")


def test_a_power_cut(busy: Mini) -> None:
    """Whatever the container had on the host is found and given back, and it can be started again."""
    kill(busy, "up")
    said = busy.run("fsck", "--repair")
    (line,) = [line for line in said.lines if line.startswith("rubbish: container up: ")]
    assert line.endswith("(it is exited now)")
    busy.run("rm", "up", "it")
    busy.assert_nothing_left()
    assert busy.run("fsck").out.endswith(WHOLE)


def test_a_monitor_killed_while_it_starts(busy: Mini, host_image: Image) -> None:
    """The state says `created`, as it was; the cgroup and the address are there."""
    container_id = busy.run("create", "--name", "half", "-m", "64m", host_image.name, "true").out
    for tree in leaks.hierarchies():
        os.makedirs(f"{tree.path}{busy.cgroup_parent}/{container_id}", exist_ok=True)
    os.symlink(container_id, f"{busy.root}/networks/bridge/leases/10.213.0.201")
    os.makedirs(f"{busy.root}/run/containers/{container_id}")
    said = busy.run("fsck", "--repair")
    assert f"rubbish: cgroup and address and socket: container {container_id[:12]} does not run (removed)" in said.lines
    assert busy.run("fsck").out.endswith(WHOLE)
    busy.run("start", "-a", "half")


def test_a_cgroup_that_nobody_knows(busy: Mini) -> None:
    """Another data root may have its containers there: only one that has long been empty goes."""
    for tree in leaks.hierarchies():
        os.makedirs(f"{tree.path}{busy.cgroup_parent}/{'d' * 64}")
    context = Context(Paths(busy.root), {"MINI_CGROUP_PARENT": busy.cgroup_parent, "MINI_BRIDGE": busy.bridge})
    assert fsck.fsck(context).findings == []
    alive = {busy.inspect("up")["Id"]}
    assert fsck.stale_cgroups(context, alive, settled=-1.0) == ["d" * 64]
    assert fsck.stale_cgroups(context, set(), settled=-1.0) == ["d" * 64]
    for tree in leaks.hierarchies():
        os.rmdir(f"{tree.path}{busy.cgroup_parent}/{'d' * 64}")


def test_a_damaged_layer_under_a_container_that_runs(busy: Mini, host_image: Image) -> None:
    """It goes on with what it has; a pull brings the layer back, and the next container reads that."""
    wrong = layers(busy)[0]
    flip(wrong)
    said = busy.run("fsck", "--repair", check=False)
    assert said.code == 1 and said.lines[-1] == f"pull it again: mini pull host@{host_image.digest}"
    assert busy.run("exec", "up", "echo", "alive").out == "alive"
    refused = busy.run("run", "--rm", host_image.name, "true", check=False)
    assert refused.code == 125 and "pull the image again" in refused.stderr, refused
    busy.run("pull", "-q", f"host@{host_image.digest}")
    assert busy.run("fsck").out.endswith(WHOLE)
    assert busy.run("run", "--rm", host_image.name, "echo", "well").out == "well"
    assert busy.run("exec", "up", "echo", "alive").out == "alive"
    (kept,) = glob.glob(f"{busy.root}/quarantine/*/layers/sha256/{os.path.basename(wrong)}")
    assert os.stat(kept).st_size == os.stat(wrong).st_size


def test_an_image_that_is_gone_under_a_container(busy: Mini) -> None:
    for name in ("images", "tags", "blobs/sha256"):
        for file in glob.glob(f"{busy.root}/{name}/*"):
            os.unlink(file)
    said = busy.run("fsck", "--repair", check=False)
    assert said.code == 1 and "damaged: container it: its image host:latest is not there" in said.lines
    assert said.lines[-1] == "pull it again: mini pull host:latest"
    busy.run("pull", "-q", "host:latest")
    assert busy.run("fsck").out.endswith(WHOLE)


def test_beside_containers_that_come_and_go(fresh_mini: Mini, host_image: Image) -> None:
    """Checks and repairs meanwhile find nothing, and nothing is taken from anybody."""
    fresh_mini.run("pull", "-q", host_image.name)
    workers = [
        fresh_mini.start("run", "--rm", "-v", "/data", host_image.name, "sh", "-c", "sleep 0.1; cat /etc/motd")
        for _ in range(6)
    ]
    said = []
    while any(worker.poll() is None for worker in workers):
        said.append(fresh_mini.run("fsck", "--repair", check=False))
        fresh_mini.run("system", "prune", "-f")
    for worker in workers:
        out, err = worker.communicate()
        assert (worker.returncode, err) == (0, ""), err
        assert "an image made from" in out
    assert [s for s in said if s.code] == []
    assert fresh_mini.run("fsck").out.endswith(WHOLE)
    fresh_mini.assert_nothing_left()
