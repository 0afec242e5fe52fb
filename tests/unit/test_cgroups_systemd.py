"""D-Bus messages byte by byte, and a container's scope as systemd's properties."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups import dbus, locate, systemd, units

INFINITY = (1 << 64) - 1


def marshalled(signature: str, *values: Any) -> bytes:
    into = bytearray()
    dbus.marshal(signature, list(values), into)
    return bytes(into)


class TestWire:
    """D-Bus specification, "Marshaling (Wire Format)"."""

    def test_strings(self) -> None:
        assert marshalled("ss", "foo", "+") == b"\3\0\0\0foo\0\1\0\0\0+\0"
        assert marshalled("ys", 5, "bar") == b"\5\0\0\0\3\0\0\0bar\0"

    def test_the_length_of_an_array_is_without_the_padding_before_its_first_element(self) -> None:
        """The specification's example: an array of one 64-bit integer, 5."""
        assert marshalled("ax", [5]) == struct.pack("<IIq", 8, 0, 5)
        assert marshalled("ax", []) == bytes(8)

    def test_booleans_structs_variants(self) -> None:
        assert marshalled("b", True) == b"\1\0\0\0"
        assert marshalled("y(yu)", 1, [2, 3]) == b"\1" + bytes(7) + b"\2\0\0\0\3\0\0\0"
        assert marshalled("v", ("u", 7)) == b"\1u\0\0\7\0\0\0"
        assert marshalled("a{sv}", [["a", ("y", 9)]]) == struct.pack("<II", 10, 0) + b"\1\0\0\0a\0\1y\0\x09"

    @pytest.mark.parametrize(
        ("signature", "values"),
        [
            ("ssa(sv)a(sa(sv))", ["u", "replace", [["PIDs", ("au", [1, 2])], ["Delegate", ("b", 1)]], []]),
            ("yqaya{s(xd)}ogv", [1, 2, [3, 4], [["k", [-5, 0.5]]], "/a", "s", ("a(ss)", [["x", "y"]])]),
        ],
    )
    def test_what_is_written_is_read(self, signature: str, values: list[Any]) -> None:
        reader = dbus._Reader(b"l" + bytes(7) + marshalled(signature, *values))
        reader.at = 8
        assert reader.values(signature) == values

    def test_the_other_byte_order(self) -> None:
        reader = dbus._Reader(b"B" + bytes(3) + struct.pack(">I", 3) + b"foo\0")
        reader.at = 4
        assert reader.values("s") == ["foo"]

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match=f"cannot reach D-Bus at unix:path={tmp_path}/bus: no such file"):
            dbus.Connection(f"unix:path={tmp_path}/bus")
        with pytest.raises(Unsupported, match="cannot reach D-Bus at tcp"):
            dbus.Connection("tcp:host=localhost,port=1")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("-.slice", ""),
            ("-", ""),
            ("machine.slice", "/machine.slice"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ],
    )
    def test_slices(self, name: str, path: str) -> None:
        assert units.path_of(name) == path

    @pytest.mark.parametrize("name", ["", ".slice", "a", "a/b.slice", "-a.slice", "a--b.slice", "a.slice/../b.slice"])
    def test_not_a_slice(self, name: str) -> None:
        with pytest.raises(UsageError, match="systemd slice"):
            units.path_of(name)

    def test_of_a_spec(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(systemd, "_is_rootless", lambda: False)
        assert locate.name("machine.slice:libpod:abc", "x", systemd=True) == "machine.slice:libpod:abc"
        assert locate.name(":cri:abc", "x", systemd=True) == "system.slice:cri:abc"
        assert locate.name("", "x", systemd=True) == "system.slice:mini:x"
        assert units.parse("machine.slice:libpod:abc") == ("machine.slice", "libpod-abc.scope")

    @pytest.mark.parametrize("path", ["/a/b", "a:b", "s.slice:../x:y", "s.slice:a:b/c", "a b.slice:c:d"])
    def test_not_for_systemd(self, path: str) -> None:
        with pytest.raises(UsageError):
            locate.name(path, "x", systemd=True)

    def test_a_container_is_no_slice(self) -> None:
        with pytest.raises(Unsupported, match="not a slice"):
            locate.name("a.slice::b.slice", "x", systemd=True)

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/a/b", "/a/b"),
            ("a/b", "/a/b"),
            ("", "/x"),
            ("../../a", "/a"),
            ("/a/../../b", "/b"),
            ("/", "/x"),
            ("//a", "/a"),
        ],
    )
    def test_without_systemd_it_is_a_path(self, path: str, expected: str) -> None:
        assert locate.name(path, "x", systemd=False) == expected


class TestProperties:
    RESOURCES = {
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 1024, "quota": 12345, "period": 100000, "cpus": "0-1,9", "mems": "0"},
        "pids": {"limit": -1},
        "blockIO": {"weight": 300},
    }

    def test_v2(self) -> None:
        assert units.limits(self.RESOURCES, True) == [
            ("MemoryMax", "t", 64 << 20),
            ("MemoryLow", "t", 32 << 20),
            ("MemorySwapMax", "t", 32 << 20),
            ("CPUWeight", "t", 100),
            ("CPUQuotaPeriodUSec", "t", 100000),
            ("CPUQuotaPerSecUSec", "t", 130000),
            ("AllowedCPUs", "ay", [0b11, 0b10]),
            ("AllowedMemoryNodes", "ay", [1]),
            ("TasksMax", "t", INFINITY),
            ("IOWeight", "t", 2930),
        ]

    def test_v1(self) -> None:
        names = [name for name, _, _ in units.limits(self.RESOURCES, False)]
        assert names[:2] == ["MemoryLimit", "CPUShares"]
        assert names[-1] == "BlockIOWeight"

    def test_nothing_is_asked_for(self) -> None:
        assert units.limits({}, True) == units.unified({}) == []

    def test_unified(self) -> None:
        files = {"memory.high": "1000", "memory.max": "max", "cpu.max": "max 50000", "io.max": "8:0 rbps=1"}
        assert units.unified({"unified": files}) == [
            ("MemoryHigh", "t", 1000),
            ("MemoryMax", "t", INFINITY),
            ("CPUQuotaPeriodUSec", "t", 50000),
            ("CPUQuotaPerSecUSec", "t", INFINITY),
        ]

    @pytest.mark.parametrize(
        ("file", "value", "expected"),
        [
            ("memory.max", "64M", ("MemoryMax", "t", 64 << 20)),
            ("memory.swap.max", " 2g\n", ("MemorySwapMax", "t", 2 << 30)),
            ("pids.max", "77", ("TasksMax", "t", 77)),
            ("cpuset.mems", "0", ("AllowedMemoryNodes", "ay", [1])),
        ],
    )
    def test_a_file_of_unified(self, file: str, value: str, expected: Any) -> None:
        assert units.unified({"unified": {file: value}}) == [expected]

    @pytest.mark.parametrize(
        ("file", "value"),
        [("memory.max", "much"), ("memory.high", ""), ("cpu.max", "50000 x"), ("pids.max", "M"), ("cpu.max", "")],
    )
    def test_nonsense_of_unified(self, file: str, value: str) -> None:
        with pytest.raises(UsageError, match=f"linux.resources.unified.{file}: not a value of that file"):
            units.unified({"unified": {file: value}})

    def test_a_period_alone_leaves_the_quota(self) -> None:
        assert units.limits({"cpu": {"period": 50000}}, True) == [("CPUQuotaPeriodUSec", "t", 50000)]

    def test_devices(self, tmp_path: Path) -> None:
        table = tmp_path / "devices"
        table.write_text("Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n")
        rules = [{"allow": True, "type": "b", "major": 8, "access": "r"}]
        (policy, allow) = units.devices({"devices": rules}, str(table))
        assert policy == ("DevicePolicy", "s", "strict")
        assert ["block-sd", "r"] in allow[2]
        assert ["char-pts", "rwm"] in allow[2]
        assert ["/dev/char/1:3", "rwm"] in allow[2]
        assert ["char-*", "m"] in allow[2]

    def test_every_device(self) -> None:
        assert units.devices({"devices": [{"allow": True, "access": "rwm"}]})[0] == ("DevicePolicy", "s", "auto")


class TestAnnotations:
    """opencontainers/runc, docs/systemd.md, "Auxiliary properties"."""

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("TimeoutStopUSec", "uint64 123456789", ("TimeoutStopUSec", "t", 123456789)),
            ("CollectMode", "'inactive-or-failed'", ("CollectMode", "s", "inactive-or-failed")),
            ("TimeoutStopSec", "123", ("TimeoutStopUSec", "t", 123000000)),
            ("RuntimeMaxSec", "double 1.5", ("RuntimeMaxUSec", "t", 1500000)),
            ("DefaultDependencies", "true", ("DefaultDependencies", "b", True)),
            ("After", "['a.service', 'b.service']", ("After", "as", ["a.service", "b.service"])),
            ("IOWeight", "@t 300", ("IOWeight", "t", 300)),
        ],
    )
    def test_a_property(self, name: str, text: str, expected: Any) -> None:
        assert units.auxiliary({f"org.systemd.property.{name}": text, "other": "x"}) == [expected]

    @pytest.mark.parametrize(
        ("name", "text", "why"),
        [
            ("A1b", "1", "not the name of a systemd property"),
            ("Ab", "1", "not the name of a systemd property"),
            ("", "1", "not the name of a systemd property"),
            ("Größe", "1", "not the name of a systemd property"),
            ("Slice", "'a.slice'", "where the container is, linux.cgroupsPath says"),
            ("PIDs", "[uint32 1]", "where the container is, linux.cgroupsPath says"),
            ("CollectMode", "inactive", "not a value as GVariant text: 'inactive': a value is expected"),
            ("TimeoutStopSec", "'1min'", "not a number of seconds"),
            ("TimeoutStopSec", "-1", "not a number of seconds"),
            ("TimeoutStopSec", "true", "not a number of seconds"),
            ("TimeoutStopSec", "uint64 18446744073709551615", "not a number of seconds"),
            ("TimeoutStopSec", "1e308", "not a number of seconds"),
        ],
    )
    def test_what_is_none(self, name: str, text: str, why: str) -> None:
        with pytest.raises(UsageError) as told:
            units.auxiliary({f"org.systemd.property.{name}": text})
        assert told.value.message.startswith(f"annotations.org.systemd.property.{name}: ") and why in told.value.message

    def test_before_systemd_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without systemd they are annotations like others."""
        monkeypatch.setattr(systemd, "_is_rootless", lambda: False)
        annotations = {"org.systemd.property.CollectMode": "nonsense"}
        assert locate.cgroup("/a/b", annotations).path == "/a/b"
        with pytest.raises(UsageError, match="CollectMode"):
            locate.cgroup("a.slice:b:c", annotations)


@pytest.mark.parametrize(
    ("namespaces", "options", "expected"),
    [
        (("user", "cgroup"), ["nosuid"], 100000),
        (("user", "cgroup"), ["ro"], None),
        (("user",), [], None),
        (("cgroup",), [], None),
    ],
)
def test_who_may_have_the_cgroup(namespaces: tuple[str, ...], options: list[str], expected: int | None) -> None:
    spec: Any = {
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        },
        "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}],
    }
    assert locate.owner(spec) == expected
