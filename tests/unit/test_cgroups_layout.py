"""Which hierarchies a host has, read from mount tables of v1, v2 and hybrid hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runtime.cgroups.layout import Layout, detect
from engine.runtime.cgroups.manager import Cgroup

V1 = """\
30 23 0:26 / {root} ro,nosuid,nodev,noexec - tmpfs tmpfs ro,mode=755
31 30 0:27 / {root}/systemd rw,nosuid,nodev,noexec,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / {root}/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / {root}/memory rw,relatime shared:11 - cgroup cgroup rw,memory,release_agent=/x
34 30 0:30 / {root}/net\\040cls rw,relatime - cgroup cgroup rw,net_cls
90 23 0:29 /docker/abc /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
"""
V2 = "40 23 0:41 / {root}/unified rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHER = "23 1 254:0 / / rw,relatime - ext4 /dev/root rw\n24 23 0:4 / /proc rw - proc proc rw\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("cpu io memory\n")
    return tmp_path


def _detect(root: Path, table: str) -> Layout:
    (root / "proc/self/mountinfo").write_text(table.format(root=root))
    return detect(f"{root}/proc")


def test_v1(root: Path) -> None:
    layout = _detect(root, OTHER + V1)
    assert layout.version == "v1"
    assert layout.v1 == {
        "name=systemd": f"{root}/systemd",
        "cpu": f"{root}/cpu,cpuacct",
        "cpuacct": f"{root}/cpu,cpuacct",
        "memory": f"{root}/memory",
        "net_cls": f"{root}/net cls",
    }
    assert layout.v1_roots.count(f"{root}/cpu,cpuacct") == 1
    assert layout.v2 is None


def test_v2(root: Path) -> None:
    layout = _detect(root, OTHER + V2)
    assert (layout.version, layout.v1, layout.v2) == ("v2", {}, f"{root}/unified")
    assert layout.v2_controllers == {"cpu", "io", "memory"}


def test_a_host_with_only_named_v1_hierarchies_is_v2(root: Path) -> None:
    assert _detect(root, V1.splitlines()[1] + "\n" + V2).version == "v2"


def test_hybrid(root: Path) -> None:
    layout = _detect(root, V2 + V1)
    assert layout.version == "hybrid"
    cgroup = Cgroup(layout, "/mini/c")
    assert cgroup.directory("memory") == f"{root}/memory/mini/c"
    assert cgroup.directory("io") == f"{root}/unified/mini/c"
    assert cgroup.directory("pids") is None


def test_no_cgroups(root: Path) -> None:
    layout = _detect(root, OTHER)
    assert layout.version == "none"
    cgroup = Cgroup(layout, "/mini/c")
    cgroup.create()
    assert (cgroup.pids(), cgroup.exists(), cgroup.stats()) == ([], False, {})


@pytest.mark.parametrize("path", ["", "/", "relative/c", "/mini/../../c"])
def test_a_path_that_is_no_cgroup_of_ours_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a cgroup path"):
        Cgroup(Layout({}, None), path)
