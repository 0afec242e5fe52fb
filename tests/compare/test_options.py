"""Options of `run` through both engines: mounts, devices, shared namespaces, limits; and the words in which they are refused."""

from __future__ import annotations

import difflib
import pprint
import re
from pathlib import Path
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.compare.test_run import mounts, plain
from tests.support.conformance import until
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker")

_MOUNTS = ["cat", "/proc/self/mountinfo"]
_DEVICES = ["sh", "-c", "sort /sys/fs/cgroup/devices/devices.list"]
_V1 = "/sys/fs/cgroup"

# name: (options, command)
RUN: dict[str, tuple[list[str], list[str]]] = {
    "mount of all types": (
        [
            "--mount",
            "type=bind,src=/opt,dst=/b",
            "--mount",
            "type=volume,src=vol,dst=/v",
            "--mount",
            "type=tmpfs,dst=/t",
        ],
        _MOUNTS,
    ),
    "mount read-only": (["--mount", "type=bind,src=/opt,dst=/b,readonly", "--mount", "src=vol,dst=/v,ro"], _MOUNTS),
    "mount of a tmpfs with options": (["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1700"], _MOUNTS),
    "mount of a tmpfs read-only": (
        ["--mount", "type=tmpfs,dst=/t,readonly"],
        ["sh", "-c", "touch /t/x || echo denied"],
    ),
    "mount quoted": (["--mount", '"type=tmpfs","dst=/t"'], _MOUNTS),
    "mount nocopy": (["--mount", "type=volume,src=empty,dst=/srv,volume-nocopy"], ["ls", "-A", "/srv"]),
    "tmpfs": (["--tmpfs", "/t"], _MOUNTS),
    "tmpfs with options": (["--tmpfs", "/t:size=5m,exec,mode=700,uid=7"], _MOUNTS),
    "tmpfs over what is there": (["--tmpfs", "/srv"], ["sh", "-c", "ls -A /srv; stat -c '%a %u' /srv"]),
    "device": (["--device", "/dev/null:/dev/mine:rw"], ["sh", "-c", "stat -c '%F %t %T %a' /dev/mine"]),
    "device by mode": (["--device", "/dev/zero:r"], ["sh", "-c", "stat -c '%F %t %T' /dev/zero"]),
    "device rules": (["--device-cgroup-rule", "c 1:2 rwm", "--device-cgroup-rule", "b 42:* r"], _DEVICES),
    "device's rule": (["--device", "/dev/loop0:/dev/x:r"], _DEVICES),
    "pid host": (["--pid", "host"], ["readlink", "/proc/self/ns/pid"]),
    "ipc host": (
        ["--ipc", "host"],
        ["sh", "-c", "readlink /proc/self/ns/ipc; grep -c ' /dev/shm ' /proc/self/mountinfo"],
    ),
    "ipc none": (["--ipc", "none"], ["ls", "/dev/shm"]),
    "ipc shareable": (["--ipc", "shareable"], _MOUNTS),
    "uts host": (["--uts", "host"], ["sh", "-c", "readlink /proc/self/ns/uts; hostname"]),
    "userns host": (["--userns", "host"], ["readlink", "/proc/self/ns/user"]),
    "cgroupns host": (["--cgroupns", "host"], ["readlink", "/proc/self/ns/cgroup"]),
    "groups": (["--group-add", "55", "--group-add", "staff"], ["id", "-G"]),
    "domain name": (
        ["--domainname", "example.org", "-h", "foo"],
        ["sh", "-c", "hostname; cat /proc/sys/kernel/domainname"],
    ),
    "shm size": (["--shm-size", "1m"], ["sh", "-c", "df -k /dev/shm | tail -n 1"]),
    "cpu quota": (
        ["--cpu-period", "50000", "--cpu-quota", "25000"],
        ["cat", f"{_V1}/cpu/cpu.cfs_quota_us", f"{_V1}/cpu/cpu.cfs_period_us"],
    ),
    "real-time period": (["--cpu-rt-period", "500000"], ["cat", f"{_V1}/cpu/cpu.rt_period_us"]),
    "rates of a block device": (
        [
            *("--device-read-bps", "/dev/loop0:1mb", "--device-read-bps", "/dev/loop1:1.5k"),
            *("--device-write-bps", "/dev/loop0:2m", "--device-write-iops", "/dev/loop0:08"),
            *("--device-read-iops", "/dev/loop0:0"),
        ],
        ["sh", "-c", f"cd {_V1}/blkio; grep . blkio.throttle.read_*_device blkio.throttle.write_*_device"],
    ),
    "cpuset mems": (["--cpuset-mems", "0"], ["cat", f"{_V1}/cpuset/cpuset.mems"]),
    "swappiness": (["--memory-swappiness", "50"], ["cat", f"{_V1}/memory/memory.swappiness"]),
    "log options": (["--log-opt", "max-size=1m", "--log-opt", "max-file=2"], ["echo", "x"]),
    "no log": (["--log-driver", "none"], ["echo", "x"]),
}

REFUSED = [
    ["--mount", "type=bind,src=/nosuch,dst=/x"], ["--mount", "type=bind,dst=/x"], ["--mount", "type=volume,src=ab,dst=x"],
    ["--mount", "type=foo,dst=/x"], ["--mount", "type=bind,foo=bar,dst=/x"], ["--mount", "type=bind,src=/tmp"],
    ["--mount", "type=volume,src=vv,dst=/x,volume-nocopy,tmpfs-size=5"], ["--mount", "type=tmpfs,src=vv,dst=/x"],
    ["--mount", "type=tmpfs,dst=/x,tmpfs-size=xx"], ["--mount", "type=tmpfs,dst=/x,tmpfs-mode=9"],
    ["--mount", "type=bind,src=rel,dst=/x"], ["--mount", "type=bind,src=/tmp,dst=/x,readonly=maybe"],
    ["--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=foo"], ["--mount", "type=bind,src=/tmp,dst=/x,volume-nocopy"],
    ["--mount", "foo"], ["--mount", ""], ["--mount", "src=v1,dst=/"], ["--mount", "src=v1,dst=/x", "--mount", "src=v2,dst=/x"],
    ["--mount", "src=v1,dst=/x", "-v", "v2:/x"], ["--tmpfs", "/x:bogus"], ["--tmpfs", "x"],
    ["--volumes-from", "nosuch"], ["--device", "/dev/null:/dev/x:xyz"], ["--device", "a:b:c:d"],
    ["--device", "/dev/shm:/dev/y"], ["--device-cgroup-rule", "bogus"], ["--pid", "foo"], ["--pid", "container:nosuch"],
    ["--pid", "container:"], ["--ipc", "foo"], ["--ipc", "container:nosuch"], ["--uts", "foo"], ["--uts", "host", "-h", "x"],
    ["--userns", "foo"], ["--cgroupns", "foo"], ["--network", "container:nosuch"], ["--network", "container:"],
    ["--network", "container:x", "-h", "foo"], ["--network", "container:x", "--dns", "1.1.1.1"],
    ["--network", "container:x", "--add-host", "a:1.1.1.1"], ["--gpus", "all"], ["--storage-opt", "size=1g"],
    ["--log-driver", "foo"], ["--log-opt", "foo=bar"], ["--log-opt", "max-size=xx"], ["--log-opt", "max-file=0"],
    ["--log-opt", "max-file=xx"], ["--log-driver", "none", "--log-opt", "max-size=1m"], ["--cpu-period", "50"],
    ["--cpu-quota", "50"], ["--cpus", "1", "--cpu-quota", "5000"], ["--cpus", "1", "--cpu-period", "5000"],
    ["--cpuset-cpus", "99"], ["--cpuset-mems", "99"], ["--cpuset-cpus", "x"], ["--memory-swappiness", "200"],
    ["--oom-score-adj", "5000"],
]  # fmt: skip


@pytest.mark.parametrize("name", RUN)
def test_run(both: Both, name: str) -> None:
    options, command = RUN[name]
    found = []
    for engine in (both.docker, both.mini):
        result = engine.run("run", "--rm", *options, both.names["host"], *command, check=False)
        stdout = mounts(result.stdout) if command == _MOUNTS else plain(result.stdout)
        found.append({"code": result.code, "stdout": stdout, "stderr": plain(result.stderr)})
    _same(*found)


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_refused(both: Both, options: list[str]) -> None:
    """The same exit code, and the same words of the error."""
    results = [
        engine.run("run", "--rm", *options, both.names["host"], "true", check=False)
        for engine in (both.docker, both.mini)
    ]
    _same(*map(_words, results))


def _words(result: Result) -> dict[str, Any]:
    first = result.stderr.split("\n")[0]
    text = re.sub(r"^(docker: |mini: |Error response from daemon: )+", "", first)
    return {"code": result.code, "stdout": result.stdout, "words": re.sub(r"[0-9a-f]{64}", "<ID>", text)}


def test_shared_with_another_container(both: Both) -> None:
    found = []
    for engine in (both.docker, both.mini):
        name = both.names["host"]
        script = "echo there > /dev/shm/x; exec sleep 600"
        engine.run("run", "-d", "--name", "first", "--ipc", "shareable", "-h", "known", name, "sh", "-c", script)
        pid = engine.run("inspect", "-f", "{{.State.Pid}}", "first").out
        until(lambda pid=pid: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")  # type: ignore[misc]
        shared = ["--pid", "container:first", "--ipc", "container:first", "--network", "container:first"]
        script = (
            "tr '\\0' ' ' < /proc/1/cmdline; cat /dev/shm/x /etc/hostname /etc/hosts; hostname; ip -o -4 addr | wc -l"
        )
        told = engine.run("run", "--rm", *shared, name, "sh", "-c", script).stdout
        engine.run("create", "--name", "second", *shared, name, "true")
        keys = "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}} {{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}}"
        inspected = engine.run("inspect", "-f", keys, "second").out
        engine.run("rm", "-f", "first")
        failed = engine.run("start", "second", check=False)
        found.append([plain(told), plain(inspected), failed.code])
    _same(*found)


def test_volumes_from(both: Both) -> None:
    found = []
    for engine in (both.docker, both.mini):
        name = both.names["host"]
        # without a `--mount type=tmpfs`, at which Docker 20.10 fails
        options = ["-v", "/opt:/bind:ro", "-v", "named:/named", "-v", "/anonymous"]
        engine.run("create", "--name", "first", *options, name, "true")
        told = []
        for mode in ("", ":ro", ":rw", ":z"):
            script = "touch /named/x && echo wrote; touch /bind/x || echo denied; ls -d /anonymous"
            result = engine.run("run", "--rm", "--volumes-from", f"first{mode}", name, "sh", "-c", script, check=False)
            told.append((result.code, plain(result.stdout)))
        engine.run("create", "--name", "second", "--volumes-from", "first:ro", "-v", "own:/named", name, "true")
        (inspected,) = engine.run("inspect", "second").json()
        fields = ("Type", "Destination", "RW", "Propagation", "Mode")
        points = sorted(tuple(str(point[key]) for key in fields) for point in inspected["Mounts"])
        found.append([told, inspected["HostConfig"]["VolumesFrom"], points])
    _same(*found)


def test_inspect(both: Both) -> None:
    found = []
    for engine in (both.docker, both.mini):
        options = ["--mount", "type=bind,src=/tmp,dst=/x,readonly,bind-propagation=rslave", "--tmpfs", "/q:size=1m"]
        options += ["--mount", "type=tmpfs,dst=/z,tmpfs-size=1m,tmpfs-mode=1700", "--device", "/dev/null:/dev/x:r"]
        options += [
            "--mount",
            "type=volume,src=vv,dst=/y,volume-nocopy",
            "--device-cgroup-rule",
            "c 1:2 r",
            "-v",
            "/anon",
        ]
        options += [
            "--log-opt",
            "max-size=1m",
            "--cpu-period",
            "5000",
            "--memory-swappiness",
            "5",
            "--ipc",
            "shareable",
        ]
        engine.run("create", "--name", "first", *options, both.names["host"], "true")
        (inspected,) = engine.run("inspect", "first").json()
        host = inspected["HostConfig"]
        keys = "Tmpfs Devices DeviceCgroupRules LogConfig CpuPeriod CpuQuota MemorySwappiness IpcMode PidMode UTSMode UsernsMode"
        seen: dict[str, Any] = {key: host[key] for key in keys.split()}
        fields = ("Type", "Destination", "RW", "Propagation", "Mode")
        seen["Mounts"] = sorted(tuple(str(point[key]) for key in fields) for point in inspected["Mounts"])
        seen["HostConfig.Mounts"] = [
            {
                key: {k: v for k, v in value.items() if v != {}} if isinstance(value, dict) else value
                for key, value in m.items()
            }
            for m in host["Mounts"]
        ]
        seen["Volumes"] = inspected["Config"]["Volumes"]
        found.append(seen)
    _same(*found)


def test_labels_come_from_the_image_then_files_then_the_command_line(both: Both, tmp_path: Path) -> None:
    (tmp_path / "first").write_text('a=1\n  b=2\n# c=1\nbare\n\nquoted="x y" # z\n made.by=file\r\n')
    (tmp_path / "second").write_text("a=2\nd=\n")
    options = ["--label-file", f"{tmp_path}/first", "-l", "b=9", "--label-file", f"{tmp_path}/second", "--label", "e"]
    found = []
    for engine in (both.docker, both.mini):
        engine.run("create", "--name", "first", *options, both.names["host"], "true")
        found.append(engine.run("inspect", "-f", "{{json .Config.Labels}}", "first").json())
    assert found[0]["a"] == "2" and "bare" not in found[0]
    _same(*found)


def _same(docker: object, mini: object) -> None:
    theirs, ours = (pprint.pformat(value, width=110).splitlines() for value in (docker, mini))
    difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=0, lineterm=""))
    assert not difference, "\n".join(difference)
