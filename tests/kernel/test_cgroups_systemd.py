"""Scopes: asked of a stub behind a real dbus-daemon, and of systemd itself where it runs the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.cgroups import systemd
from engine.runtime.cgroups.fs import rmdir, tree
from engine.runtime.cgroups.layout import Layout, detect
from engine.runtime.cgroups.systemd import SystemdCgroup
from tests.support.conformance import until
from tests.support.requirements import CHECKOUT, missing

pytestmark = pytest.mark.requires("linux", "root")

_CONFIG = """<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context="default">
<allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow user="*"/></policy></busconfig>"""


class Bus:
    """A dbus-daemon, and what plays systemd on it."""

    def __init__(self, directory: Path, root: str) -> None:
        (directory / "config").write_text(_CONFIG.format(path=directory / "socket"))
        self.address, self.log = f"unix:path={directory}/socket", directory / "log"
        self.log.touch()
        daemon = ["dbus-daemon", f"--config-file={directory}/config", "--nofork", "--nopidfile", "--print-address"]
        self.processes: list[subprocess.Popen[bytes]] = [subprocess.Popen(daemon, stdout=subprocess.PIPE)]
        with self.processes[0].stdout as told:  # type: ignore[union-attr]
            assert told.readline()  # it listens
        stub = [sys.executable, "-m", "tests.support.systemd_stub", self.address, root, str(self.log)]
        self.processes.append(subprocess.Popen(stub, cwd=CHECKOUT, stderr=subprocess.DEVNULL))
        until(self.calls)

    def calls(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def asked(self, member: str) -> list[Any]:
        return [call[1] for call in self.calls() if call[0] == member]

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bus, Layout]]:
    layout = detect()
    if layout.v2 is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    if missing("program:dbus-daemon"):
        pytest.skip("no dbus-daemon (Debian: dbus-daemon)")
    root = f"{layout.v2}/mini-test-systemd-{os.getpid()}"
    os.mkdir(root)
    made = Bus(tmp_path, root)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path))
    try:
        yield made, Layout({}, root)
    finally:
        made.close()
        for directory in tree(root):
            rmdir(directory)


def member(cgroup: SystemdCgroup) -> int:
    """A process that has entered, and sleeps."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            cgroup.enter()
            os.close(writer)
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def life(cgroup: SystemdCgroup) -> None:
    """A scope from the request for it to its end."""
    cgroup.create()
    assert cgroup.exists()
    (placeholder,) = cgroup.pids()
    pid = member(cgroup)
    try:
        assert os.waitpid(placeholder, 0) == (placeholder, 0)
        assert cgroup.pids() == [pid]
    finally:
        end(pid)
    cgroup.delete()
    assert not cgroup.exists()
    cgroup.delete()


def test_a_scope(bus: tuple[Bus, Layout]) -> None:
    made, layout = bus
    cgroup = SystemdCgroup(layout, "mini-test.slice:mini:box")
    assert cgroup.path == "/mini.slice/mini-test.slice/mini-box.scope"
    life(cgroup)
    ((unit, mode, properties, auxiliary),) = made.asked("StartTransientUnit")
    assert (unit, mode, auxiliary) == ("mini-box.scope", "replace", [])
    values = dict(properties)
    assert values["Slice"] == ["s", "mini-test.slice"]
    assert values["Delegate"] == ["b", 1]
    assert values["PIDs"][0] == "au"
    assert values["DefaultDependencies"] == ["b", 0]


def test_annotations_are_properties(bus: tuple[Bus, Layout]) -> None:
    """After our own, which they overrule; as what the wire carries them."""
    made, layout = bus
    annotations = {
        "org.systemd.property.Description": "'a box'",
        "org.systemd.property.TimeoutStopSec": "5",
        "org.systemd.property.After": "['a.service']",
        "org.systemd.property.IOReadBandwidthMax": "[('/dev/sda', uint64 1000)]",
        "org.systemd.property.CPUAccounting": "false",
        "org.example.property": "'not this'",
    }
    life(SystemdCgroup(layout, "mini.slice:mini:box", annotations))
    ((_, _, properties, _),) = made.asked("StartTransientUnit")
    names = [name for name, _ in properties]
    assert names[-5:] == ["Description", "TimeoutStopUSec", "After", "IOReadBandwidthMax", "CPUAccounting"]
    assert [value for _, value in properties[-5:]] == [
        ["s", "a box"],
        ["t", 5000000],
        ["as", ["a.service"]],
        ["a(st)", [["/dev/sda", 1000]]],
        ["b", 0],
    ]


def test_limits_are_properties_too(bus: tuple[Bus, Layout]) -> None:
    made, layout = bus
    cgroup = SystemdCgroup(layout, "mini.slice:mini:box")
    cgroup.create()
    with pytest.raises(Unsupported, match="no memory controller"):
        cgroup.set_limits({"memory": {"limit": 64 << 20}})
    cgroup.kill()
    assert made.asked("SetUnitProperties") == [["mini-box.scope", 1, [["MemoryMax", ["t", 64 << 20]]]]]


def test_a_name_that_is_taken(bus: tuple[Bus, Layout]) -> None:
    made, layout = bus
    first, second = (SystemdCgroup(layout, "mini.slice:mini:box") for _ in range(2))
    first.create()
    with pytest.raises(RuntimeFault, match="StartTransientUnit: mini-box.scope exists"):
        second.create()
    first.kill()
    assert made.asked("ResetFailedUnit") == [["mini-box.scope"]]


def test_a_job_that_fails(bus: tuple[Bus, Layout]) -> None:
    _, layout = bus
    with pytest.raises(RuntimeFault, match="systemd cannot make mini-refused.scope: failed"):
        SystemdCgroup(layout, "mini.slice:mini:refused").create()


def test_a_host_without_systemd(bus: tuple[Bus, Layout], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, layout = bus
    monkeypatch.setattr(systemd, "BOOTED", f"{tmp_path}/nothing")
    with pytest.raises(Unsupported, match="systemd does not run this host"):
        SystemdCgroup(layout, "mini.slice:mini:box").create()
    assert made.calls() == [["ready"]]


@pytest.mark.requires("systemd")
class TestReal:
    @pytest.fixture
    def cgroup(self) -> Iterator[SystemdCgroup]:
        made = SystemdCgroup(detect(), f"system-minitest.slice:mini:{os.getpid()}")
        yield made
        made.kill()
        made.delete()

    def show(self, cgroup: SystemdCgroup, name: str) -> str:
        done = subprocess.run(
            ["systemctl", "show", "-P", name, cgroup.unit], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def test_a_scope(self, cgroup: SystemdCgroup) -> None:
        life(cgroup)

    def test_limits_hold_after_systemd_looked_again(self, cgroup: SystemdCgroup) -> None:
        cgroup.create()
        cgroup.apply(
            {
                "memory": {"limit": 64 << 20},
                "pids": {"limit": 7},
                "cpu": {"quota": 12345, "period": 100000, "shares": 512, "cpus": "0"},
            }
        )
        pid = member(cgroup)
        try:
            assert self.show(cgroup, "ControlGroup") == cgroup.path
            assert self.show(cgroup, "MemoryMax") == str(64 << 20)
            subprocess.run(["systemctl", "daemon-reload"], check=True)
            for file, expected in (("memory.max", str(64 << 20)), ("pids.max", "7"), ("cpuset.cpus", "0")):
                with open(f"{cgroup.v2}/{file}") as opened:
                    assert opened.read().strip() == expected
        finally:
            end(pid)

    def test_annotations_are_properties(self) -> None:
        annotations = {
            "org.systemd.property.TimeoutStopSec": "123",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
        }
        cgroup = SystemdCgroup(detect(), f"system-minitest.slice:mini:{os.getpid()}", annotations)
        cgroup.create()
        try:
            assert self.show(cgroup, "TimeoutStopUSec") == "2min 3s"
            assert self.show(cgroup, "CollectMode") == "inactive-or-failed"
        finally:
            cgroup.kill()
            cgroup.delete()

    def test_systemd_takes_an_empty_scope_away(self, cgroup: SystemdCgroup) -> None:
        cgroup.create()
        end(member(cgroup))
        until(lambda: not cgroup.exists())

    def test_a_name_that_is_taken(self, cgroup: SystemdCgroup) -> None:
        cgroup.create()
        with pytest.raises(RuntimeFault, match="already"):
            SystemdCgroup(cgroup.layout, f"system-minitest.slice:mini:{os.getpid()}").create()
