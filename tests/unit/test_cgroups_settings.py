"""What each controller writes for OCI `linux.resources`, without a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups import limits
from engine.runtime.cgroups.v2.cpu import weight

MEMSW = "memory.memsw.limit_in_bytes"
NO_LIMIT = "9223372036854771712"


def v1(controller: str, resources: dict[str, Any], **files: str) -> list[tuple[str, str]]:
    return limits.settings(controller, True, resources, {k.replace("__", "."): v for k, v in files.items()}.get)


def v2(controller: str, resources: dict[str, Any], **files: str) -> list[tuple[str, str]]:
    return limits.settings(controller, False, resources, {k.replace("__", "."): v for k, v in files.items()}.get)


def test_what_is_wanted() -> None:
    assert limits.wanted({}) == []
    assert limits.wanted({"memory": {"limit": 0, "disableOOMKiller": False}, "cpu": {"shares": 0}, "pids": None}) == []
    assert limits.wanted({"cpu": {"cpus": "0"}}) == ["cpuset"]
    assert limits.wanted({"cpu": {"quota": -1, "mems": "0"}, "pids": {"limit": 0}}) == ["cpuset", "cpu", "pids"]
    assert limits.wanted({"blockIO": {"weight": 100}, "rdma": {"mlx": {"hcaHandles": 1}}}) == ["blkio", "rdma"]
    assert limits.wanted({"memory": {"kernel": -1, "kernelTCP": 0, "checkBeforeUpdate": True}}) == []
    assert limits.wanted({"memory": {"kernel": 64}}) == limits.wanted({"memory": {"kernelTCP": 64}}) == ["memory"]
    assert limits.wanted({"memory": {"swappiness": 0}, "cpu": {"idle": 0}}) == ["cpu", "memory"]
    assert limits.wanted({"network": {"classID": 1, "priorities": [{"name": "lo"}]}}) == ["net_cls", "net_prio"]


def test_pids() -> None:
    assert v1("pids", {"pids": {"limit": 100}}) == [("pids.max", "100")]
    assert v2("pids", {"pids": {"limit": -1}}) == [("pids.max", "max")]


class TestCpu:
    def test_v1_writes_the_period_before_the_quota(self) -> None:
        cpu = {"shares": 512, "quota": 150000, "period": 100000, "burst": 10000}
        assert v1("cpu", {"cpu": cpu}) == [
            ("cpu.shares", "512"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "150000"),
            ("cpu.cfs_burst_us", "10000"),
        ]

    @pytest.mark.parametrize(("period", "first"), [(200000, "cpu.cfs_period_us"), (50000, "cpu.cfs_quota_us")])
    def test_v1_a_shorter_period_goes_last(self, period: int, first: str) -> None:
        """Else old quota ÷ new period could exceed what the parent has (EINVAL)."""
        plan = v1("cpu", {"cpu": {"quota": 20000, "period": period}}, cpu__cfs_period_us="100000")
        assert plan[0][0] == first

    @pytest.mark.parametrize(("version", "file"), [(v1, "cpu.cfs_burst_us"), (v2, "cpu.max.burst")])
    def test_a_burst_never_exceeds_the_quota(self, version: Any, file: str) -> None:
        resources = {"cpu": {"quota": 20000, "burst": 10000}}
        assert version("cpu", resources, **{file.replace(".", "__"): "0"})[-1] == (file, "10000")
        assert version("cpu", resources, **{file.replace(".", "__"): "15000"})[0] == (file, "10000")

    @pytest.mark.parametrize(("version", "shares"), [(v1, "cpu.shares"), (v2, "cpu.weight")])
    def test_an_idle_group_takes_no_weight(self, version: Any, shares: str) -> None:
        files = [name for name, _ in version("cpu", {"cpu": {"shares": 512, "idle": 1}})]
        assert files == [shares, "cpu.idle"]
        again = version("cpu", {"cpu": {"shares": 512, "idle": 1}}, cpu__idle="1")
        assert [name for name, _ in again] == ["cpu.idle"]
        files = [name for name, _ in version("cpu", {"cpu": {"shares": 512, "idle": 0}}, cpu__idle="1")]
        assert files == ["cpu.idle", shares]

    def test_what_is_off_anyway_needs_no_file(self) -> None:
        assert v1("cpu", {"cpu": {"idle": 0, "burst": 0}}) == v2("cpu", {"cpu": {"idle": 0, "burst": 0}}) == []

    def test_v1_real_time(self) -> None:
        cpu = {"realtimePeriod": 1000000, "realtimeRuntime": 950000}
        assert v1("cpu", {"cpu": cpu}, cpu__rt_period_us="1000000") == [
            ("cpu.rt_period_us", "1000000"),
            ("cpu.rt_runtime_us", "950000"),
        ]

    def test_v2(self) -> None:
        assert v2("cpu", {"cpu": {"quota": 150000, "period": 100000}}) == [("cpu.max", "150000 100000")]
        assert v2("cpu", {"cpu": {"quota": 50000}}) == [("cpu.max", "50000")]
        assert v2("cpu", {"cpu": {"quota": -1, "shares": 1024}}) == [("cpu.weight", "100"), ("cpu.max", "max")]

    def test_v2_a_period_alone_keeps_the_quota(self) -> None:
        assert v2("cpu", {"cpu": {"period": 50000}}, cpu__max="20000 100000") == [("cpu.max", "20000 50000")]

    @pytest.mark.parametrize(("shares", "expected"), [(1, 1), (2, 1), (1024, 100), (262144, 10000), (10**6, 10000)])
    def test_the_least_default_and_greatest_weight(self, shares: int, expected: int) -> None:
        assert weight(shares) == expected

    def test_weight_grows_with_the_shares(self) -> None:
        weights = [weight(shares) for shares in range(2, 262145, 997)]
        assert weights == sorted(weights)
        assert all(1 <= w <= 10000 for w in weights)

    def test_v2_has_no_real_time(self) -> None:
        with pytest.raises(Unsupported, match="real-time"):
            v2("cpu", {"cpu": {"realtimeRuntime": 1000}})


class TestMemoryV1:
    def test_a_new_cgroup_is_limited_before_its_swap_is(self) -> None:
        plan = v1("memory", {"memory": {"limit": 64, "swap": 128}}, memory__memsw__limit_in_bytes=NO_LIMIT)
        assert plan == [("memory.limit_in_bytes", "64"), (MEMSW, "128")]

    def test_raising_both_raises_memory_plus_swap_first(self) -> None:
        plan = v1("memory", {"memory": {"limit": 256, "swap": 512}}, memory__memsw__limit_in_bytes="128")
        assert plan == [(MEMSW, "512"), ("memory.limit_in_bytes", "256")]

    def test_unlimited_memory_is_unlimited_swap(self) -> None:
        plan = v1("memory", {"memory": {"limit": -1}}, memory__memsw__limit_in_bytes="128")
        assert plan == [(MEMSW, "-1"), ("memory.limit_in_bytes", "-1")]

    def test_without_swap_accounting_only_dockers_default_passes(self) -> None:
        assert v1("memory", {"memory": {"limit": 64, "swap": 128}}) == [("memory.limit_in_bytes", "64")]
        with pytest.raises(Unsupported, match="swap"):
            v1("memory", {"memory": {"limit": 64, "swap": 64}})

    def test_the_rest(self) -> None:
        memory = {"reservation": 32, "swappiness": 0, "disableOOMKiller": True}
        assert v1("memory", {"memory": memory}) == [
            ("memory.soft_limit_in_bytes", "32"),
            ("memory.swappiness", "0"),
            ("memory.oom_control", "1"),
        ]

    def test_hierarchy_is_switched_on_where_it_is_not(self) -> None:
        on = {"memory": {"useHierarchy": True}}
        assert v1("memory", on, memory__use_hierarchy="1") == []
        assert v1("memory", on, memory__use_hierarchy="0") == [("memory.use_hierarchy", "1")]

    def test_the_kernels_memory(self) -> None:
        assert v1("memory", {"memory": {"kernelTCP": 32}}) == [("memory.kmem.tcp.limit_in_bytes", "32")]
        with pytest.raises(Unsupported, match="memory.kernel"):
            v1("memory", {"memory": {"kernel": 64}})
        assert v1("memory", {"memory": {"kernel": -1, "kernelTCP": -1}}) == []

    def test_the_oom_killer_is_enabled_where_it_is_not(self) -> None:
        """A new cgroup has it as its parent."""
        on = {"memory": {"disableOOMKiller": False}}
        assert v1("memory", on, memory__oom_control="oom_kill_disable 0\nunder_oom 0") == []
        assert v1("memory", on, memory__oom_control="oom_kill_disable 1\nunder_oom 0") == [("memory.oom_control", "0")]

    @pytest.mark.parametrize("memory", [{"limit": 64, "swap": 32}, {"swappiness": 101}])
    def test_refused(self, memory: dict[str, int]) -> None:
        with pytest.raises(UsageError):
            v1("memory", {"memory": memory}, memory__memsw__limit_in_bytes=NO_LIMIT)


class TestMemoryV2:
    def test_swap_is_what_is_beyond_memory(self) -> None:
        plan = v2("memory", {"memory": {"limit": 64, "swap": 160, "reservation": 32}}, memory__swap__max="max")
        assert plan == [("memory.swap.max", "96"), ("memory.max", "64"), ("memory.low", "32")]

    def test_equal_limits_are_no_swap(self) -> None:
        plan = v2("memory", {"memory": {"limit": 64, "swap": 64}}, memory__swap__max="max")
        assert plan[0] == ("memory.swap.max", "0")

    def test_unlimited(self) -> None:
        plan = v2("memory", {"memory": {"limit": -1}}, memory__swap__max="0")
        assert plan == [("memory.swap.max", "max"), ("memory.max", "max")]

    def test_swap_needs_memory(self) -> None:
        with pytest.raises(UsageError, match="needs a limit of memory"):
            v2("memory", {"memory": {"swap": 64}}, memory__swap__max="max")

    def test_a_limit_below_use_is_refused_on_demand(self) -> None:
        with pytest.raises(UsageError, match="in use"):
            v2("memory", {"memory": {"limit": 64, "checkBeforeUpdate": True}}, memory__current="65")

    @pytest.mark.parametrize(
        "memory",
        [{"disableOOMKiller": True}, {"swappiness": 10}, {"useHierarchy": False}, {"kernel": 64}, {"kernelTCP": 64}],
        ids=str,
    )
    def test_what_v2_does_not_have(self, memory: dict[str, Any]) -> None:
        with pytest.raises(Unsupported, match="cgroup v2"):
            v2("memory", {"memory": memory})


class TestBlockDevices:
    RATE = {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}]}}

    def test_throttles(self) -> None:
        assert v1("blkio", self.RATE) == [("blkio.throttle.read_bps_device", "8:0 1048576")]
        assert v2("io", self.RATE) == [("io.max", "8:0 rbps=1048576")]

    def test_weights(self) -> None:
        weights = {"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}
        assert v1("blkio", weights) == [("blkio.bfq.weight", "500"), ("blkio.bfq.weight_device", "8:0 10")]
        assert v1("blkio", weights, blkio__weight="500")[0] == ("blkio.weight", "500")
        assert v2("io", weights) == [("io.weight", "4950"), ("io.weight", "8:0 1")]
        assert v2("io", weights, io__bfq__weight="100") == [("io.bfq.weight", "500"), ("io.bfq.weight", "8:0 10")]

    def test_no_rate_is_no_limit(self) -> None:
        free = {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}}
        assert v1("blkio", free) == [("blkio.throttle.write_iops_device", "8:0 0")]
        assert v2("io", free) == [("io.max", "8:0 wiops=max")]

    @pytest.mark.parametrize(
        "block", [{"leafWeight": 500}, {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 500}]}]
    )
    def test_leaf_weights(self, block: dict[str, Any]) -> None:
        assert v1("blkio", {"blockIO": block})[0][0].startswith("blkio.leaf_weight")
        with pytest.raises(Unsupported, match="leaf"):
            v2("io", {"blockIO": block})


class TestHugePages:
    LIMIT = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}

    def test_pages_in_use(self) -> None:
        assert v1("hugetlb", self.LIMIT) == [("hugetlb.2MB.limit_in_bytes", "4194304")]
        assert v2("hugetlb", self.LIMIT) == [("hugetlb.2MB.max", "4194304")]

    def test_reservations_where_they_are_counted(self) -> None:
        plan = v1("hugetlb", self.LIMIT, hugetlb__2MB__rsvd__limit_in_bytes=NO_LIMIT)
        assert plan[1] == ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304")
        assert v2("hugetlb", self.LIMIT, hugetlb__2MB__rsvd__max="max")[1] == ("hugetlb.2MB.rsvd.max", "4194304")

    @pytest.mark.parametrize("size", ["2M", "MB", "../../memory/x.MB", "2mb"])
    def test_not_a_size(self, size: str) -> None:
        with pytest.raises(UsageError, match="not a size of huge pages"):
            v1("hugetlb", {"hugepageLimits": [{"pageSize": size, "limit": 1}]})


class TestNetwork:
    def test_class_and_priorities(self) -> None:
        network = {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}, {"name": "lo", "priority": 0}]}
        assert v1("net_cls", {"network": network}) == [("net_cls.classid", "1048577")]
        assert v1("net_prio", {"network": network}) == [
            ("net_prio.ifpriomap", "eth0 5"),
            ("net_prio.ifpriomap", "lo 0"),
        ]

    @pytest.mark.parametrize("name", ["", "eth0 7\nlo", "a b"])
    def test_not_an_interface(self, name: str) -> None:
        with pytest.raises(UsageError, match="network interface"):
            v1("net_prio", {"network": {"priorities": [{"name": name, "priority": 1}]}})


class TestRdma:
    def test_a_line_for_each_device(self) -> None:
        rdma = {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 0}}
        expected = [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"), ("rdma.max", "rxe3 hca_object=0")]
        assert v1("rdma", {"rdma": rdma}) == v2("rdma", {"rdma": rdma}) == expected

    def test_a_device_without_limits_is_refused(self) -> None:
        with pytest.raises(UsageError, match="neither"):
            v2("rdma", {"rdma": {"mlx5_1": {}}})
