"""Statistics in runc's form, from directories as v1, v2 and hybrid kernels fill them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.runtime.cgroups.fs import NO_LIMIT
from engine.runtime.cgroups.layout import Layout
from engine.runtime.cgroups.manager import Cgroup
from engine.runtime.cgroups.v1 import hugetlb

V1 = {
    "cpu/cpu.stat": "nr_periods 7\nnr_throttled 2\nthrottled_time 5000\nnr_bursts 0\nburst_time 0\n",
    "cpuacct/cpuacct.usage": "30\n",
    "cpuacct/cpuacct.usage_user": "20\n",
    "cpuacct/cpuacct.usage_sys": "10\n",
    "cpuacct/cpuacct.usage_percpu": "25 5 \n",
    "cpuacct/cpuacct.usage_all": "cpu user system\n0 15 10\n1 5 0\n",
    "cpuset/cpuset.cpus": "0-1,4\n",
    "cpuset/cpuset.mems": "0\n",
    "cpuset/cpuset.cpu_exclusive": "1\n",
    "cpuset/cpuset.sched_relax_domain_level": "-1\n",
    "memory/memory.usage_in_bytes": "4096\n",
    "memory/memory.max_usage_in_bytes": "8192\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.failcnt": "3\n",
    "memory/memory.memsw.usage_in_bytes": "5000\n",
    "memory/memory.memsw.limit_in_bytes": "6000\n",
    "memory/memory.stat": "cache 1\ntotal_cache 7\ntotal_inactive_file 6\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids/pids.current": "3\n",
    "pids/pids.max": "max\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n",
    "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 1\nTotal 2\n",
    "blkio/blkio.bfq.sectors_recursive": "8:0 8\n",
    "hugetlb/hugetlb.2MB.usage_in_bytes": "0\n",
    "hugetlb/hugetlb.2MB.rsvd.usage_in_bytes": "2097152\n",
    "hugetlb/hugetlb.2MB.rsvd.max_usage_in_bytes": "4194304\n",
    "hugetlb/hugetlb.2MB.rsvd.failcnt": "1\n",
    "rdma/rdma.current": "mlx4_0 hca_handle=1 hca_object=20\n",
    "rdma/rdma.max": "mlx4_0 hca_handle=2 hca_object=max\n",
}
V2 = {
    "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 7\nnr_throttled 2\nthrottled_usec 5\n",
    "cpu.pressure": "some avg10=0.50 avg60=0.00 avg300=0.00 total=12\n",
    "cpuset.cpus.effective": "0-1\n",
    "cpuset.mems.effective": "0\n",
    "memory.current": "4096\n",
    "memory.max": "max\n",
    "memory.peak": "8192\n",
    "memory.swap.current": "904\n",
    "memory.swap.max": "max\n",
    "memory.stat": "anon 1\nfile 7\ninactive_file 6\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n",
    "pids.current": "3\n",
    "pids.max": "9\n",
    "io.stat": "8:0 rbytes=4096 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n9:0 \n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.events": "max 1\n",
    "rdma.current": "mlx4_0 hca_handle=1 hca_object=20\n",
}


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for size in (2048, 1048576):
        (tmp_path / f"pages/hugepages-{size}kB").mkdir(parents=True)
    monkeypatch.setattr(hugetlb.page_sizes, "__defaults__", (str(tmp_path / "pages"),))


def fill(root: Path, files: dict[str, str]) -> None:
    """The files of the cgroup /box, each in the hierarchy that its path names."""
    for path, text in files.items():
        hierarchy, _, name = path.rpartition("/")
        directory = root / hierarchy / "box"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").touch()
        (directory / name).write_text(text)


def v1(root: Path) -> dict[str, Any]:
    fill(root, V1)
    names = {path.partition("/")[0] for path in V1}
    return Cgroup(Layout({name: str(root / name) for name in names}, None), "/box").stats()


def v2(root: Path) -> dict[str, Any]:
    fill(root, V2)
    controllers = frozenset(("cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma"))
    return Cgroup(Layout({}, str(root), controllers), "/box").stats()


def test_cpu(tmp_path: Path) -> None:
    throttling = {"periods": 7, "throttledPeriods": 2, "throttledTime": 5000}
    assert v1(tmp_path / "1")["cpu"] == {
        "usage": {
            "total": 30,
            "user": 20,
            "kernel": 10,
            "percpu": [25, 5],
            "percpu_user": [15, 5],
            "percpu_kernel": [10, 0],
        },
        "throttling": throttling,
    }
    assert v2(tmp_path / "2")["cpu"] == {
        "usage": {"total": 30000, "user": 20000, "kernel": 10000},
        "throttling": throttling,
        "psi": {"some": {"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 12}},
    }


def test_cpuset(tmp_path: Path) -> None:
    expected = {"cpus": [0, 1, 4], "mems": [0], "cpu_exclusive": 1, "sched_relax_domain_level": -1}
    assert v1(tmp_path / "1")["cpuset"] == expected
    assert v2(tmp_path / "2")["cpuset"] == {"cpus": [0, 1], "mems": [0]}


def test_memory(tmp_path: Path) -> None:
    old, new = v1(tmp_path / "1")["memory"], v2(tmp_path / "2")["memory"]
    assert old["usage"] == {"usage": 4096, "max": 8192, "limit": 9223372036854771712, "failcnt": 3}
    assert new["usage"] == {"usage": 4096, "max": 8192, "limit": NO_LIMIT, "failcnt": 3}
    assert old["swap"] == {"usage": 5000, "max": 0, "limit": 6000, "failcnt": 0}
    assert new["swap"] == {"usage": 5000, "limit": NO_LIMIT, "failcnt": 0}
    assert (old["cache"], new["cache"]) == (7, 7)
    assert old["raw"]["total_inactive_file"] == new["raw"]["inactive_file"] == 6
    assert old["event_count"]["oom_kill"] == new["event_count"]["oom_kill"] == 2
    assert "kernel" not in old


def test_pids(tmp_path: Path) -> None:
    assert v1(tmp_path / "1")["pids"] == {"current": 3, "limit": 0}
    assert v2(tmp_path / "2")["pids"] == {"current": 3, "limit": 9}


def test_block_devices(tmp_path: Path) -> None:
    transferred = [
        {"major": 8, "minor": 0, "op": "Read", "value": 4096},
        {"major": 8, "minor": 0, "op": "Write", "value": 1},
    ]
    old, new = v1(tmp_path / "1")["blkio"], v2(tmp_path / "2")["blkio"]
    assert old["ioServiceBytesRecursive"][:2] == transferred
    assert [e for e in new["ioServiceBytesRecursive"] if e["value"]] == transferred
    assert old["sectorsRecursive"] == [{"major": 8, "minor": 0, "op": "", "value": 8}]
    assert [e["value"] for e in old["ioServicedRecursive"]] == [1, 1]


def test_huge_pages(tmp_path: Path) -> None:
    """Of reservations where they are counted, and with the sizes that the kernel has."""
    old, new = v1(tmp_path / "1")["hugetlb"], v2(tmp_path / "2")["hugetlb"]
    assert set(old) == set(new) == {"2MB", "1GB"}
    assert old["2MB"] == {"usage": 2097152, "max": 4194304, "failcnt": 1}
    assert new["2MB"] == {"usage": 2097152, "failcnt": 1}


def test_rdma(tmp_path: Path) -> None:
    expected = {"mlx4_0": {"hcaHandles": 1, "hcaObjects": 20}}
    assert v1(tmp_path / "1")["rdma"] == {"current": expected, "limit": {"mlx4_0": {"hcaHandles": 2}}}
    assert v2(tmp_path / "2")["rdma"]["current"] == expected


def test_hybrid(tmp_path: Path) -> None:
    """Each part from the hierarchy that has its controller."""
    fill(tmp_path, {name: text for name, text in V1.items() if name.startswith("memory/")})
    fill(tmp_path, {f"unified/{name}": text for name, text in V2.items() if name.startswith(("pids.", "cpu."))})
    layout = Layout({"memory": str(tmp_path / "memory")}, str(tmp_path / "unified"), frozenset(("pids",)))
    stats = Cgroup(layout, "/box").stats()
    assert stats["memory"]["usage"]["usage"] == 4096
    assert stats["pids"] == {"current": 3, "limit": 9}
    assert stats["cpu"]["usage"]["total"] == 30000
    assert "blkio" not in stats
