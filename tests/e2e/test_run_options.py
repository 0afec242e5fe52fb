"""Options of `run`: mounts by `--mount`, devices, namespaces shared with the host or another container, where the log goes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")


def mounted(text: str, target: str) -> tuple[set[str], set[str]]:
    """(options of the mount, options of the file system) in a mountinfo."""
    (line,) = [line for line in text.splitlines() if f" {target} " in line]
    left, right = line.split(" - ")
    return set(left.split(" ")[5].split(",")), set(right.split(" ")[2].split(","))


def test_mount(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("from the host")
    options = ["--mount", f"type=bind,src={tmp_path},dst=/bind,readonly,bind-propagation=rprivate"]
    options += ["--mount", "type=volume,source=vol,target=/vol,volume-label=a=b", "--mount", "dst=/anonymous"]
    options += ["--mount", "type=volume,src=bare,dst=/srv,volume-nocopy"]
    options += [
        "--mount",
        "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1700",
        "--mount",
        "type=tmpfs,dst=/tr,ro",
    ]
    script = "cat /proc/self/mountinfo; echo; cat /bind/f; ls /srv; touch /bind/x /tr/x 2>/dev/null; echo kept > /vol/x"
    text = mini.run("run", "--rm", *options, host_image.name, "sh", "-c", script).stdout
    assert text.endswith("\nfrom the host")
    assert "ro" in mounted(text, "/bind")[0] and os.listdir(tmp_path) == ["f"]
    assert mounted(text, "/t") == ({"rw", "nosuid", "nodev", "noexec", "relatime"}, {"rw", "size=1024k", "mode=1700"})
    assert "ro" in mounted(text, "/tr")[0]
    (volume,) = mini.run("volume", "inspect", "vol").json()
    assert volume["Labels"] == {"a": "b"}
    assert mini.run("volume", "ls", "-q").lines == ["bare", "vol"]


def monitor_of(mini: Mini, container: str) -> int:
    with open(f"{mini.root}/containers/{container}/state.json") as file:
        return int(json.load(file)["MonitorPid"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "type=bind,src=/nosuch,dst=/x",
            'invalid mount config for type "bind": bind source path does not exist: /nosuch',
        ),
        ("type=bind,dst=/x", 'invalid mount config for type "bind": field Source must not be empty'),
        ("type=bind,src=rel,dst=/x", "invalid mount path: 'rel' mount path must be absolute"),
        ("type=bind,src=/tmp", 'invalid argument "type=bind,src=/tmp" for "--mount" flag: target is required'),
        ("type=foo,dst=/x", 'invalid mount config for type "foo": mount type unknown'),
        ("type=tmpfs,src=a,dst=/x", "field Source must not be specified"),
        ("type=volume,src=ab,dst=/", "invalid specification: destination can't be '/'"),
        ("type=volume,dst=/x,tmpfs-size=5", "cannot mix 'tmpfs-*' options with mount type 'volume'"),
        ("type=tmpfs,dst=/x,tmpfs-size=xx", "invalid value for tmpfs-size: xx"),
        ("type=bind,src=/tmp,dst=/x,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
        ("type=volume,src=ab,dst=/x,volume-opt=type=nfs", 'create ab: missing required option: "device"'),
    ],
)
def test_mounts_that_are_refused(mini: Mini, host_image: Image, value: str, message: str) -> None:
    result = mini.run("run", "--rm", "--mount", value, host_image.name, "true", check=False)
    assert result.code == 125 and message in result.stderr
    assert mini.run("ps", "-aq").out == ""


def test_volumes_from(mini: Mini, host_image: Image) -> None:
    first = mini.run("create", "-v", "shared:/data", "-v", "/anonymous", "-v", "ro:/ro:ro", host_image.name, "true").out
    mini.run(
        "run", "--rm", "--volumes-from", first, host_image.name, "sh", "-c", "echo x > /data/x; echo y > /anonymous/y"
    )
    script = "cat /data/x /anonymous/y; touch /data/z 2>/dev/null || echo denied"
    assert mini.run("run", "--rm", "--volumes-from", f"{first}:ro", host_image.name, "sh", "-c", script).lines == [
        "x", "y", "denied",
    ]  # fmt: skip
    denied = ["run", "--rm", "--volumes-from", f"{first}:rw", host_image.name, "touch", "/ro/x"]
    assert mini.run(*denied, check=False).code != 0
    assert mini.run("run", "--rm", "--volumes-from", "nosuch", host_image.name, "true", check=False).code == 125


def test_devices(mini: Mini, image: Image) -> None:
    options = ["--device", "/dev/null:/dev/mine:r", "--device-cgroup-rule", "c 1:11 rwm"]
    script = "cat /dev/mine; echo x 2>/dev/null > /dev/mine && echo wrote"
    assert (
        mini.run("run", "--rm", *options, image.name, "sh", "-c", "ls -l /dev/mine | cut -c 1-10").out == "crw-rw-rw-"
    )
    assert "wrote" in mini.run("run", "--rm", *options, image.name, "sh", "-c", script).out  # 1:3 is everybody's
    for value, message in (
        ("/dev/nosuch", 'custom device "/dev/nosuch": no such file or directory'),
        ("/dev/shm", 'custom device "/dev/shm": not a device node'),
        ("/dev/null:/dev/x:xyz", "bad mode specified: xyz"),
    ):
        result = mini.run("run", "--rm", "--device", value, image.name, "true", check=False)
        assert result.code == 125 and message in result.stderr


def test_a_device_can_be_used_only_as_it_is_given(mini: Mini, host_image: Image) -> None:
    read = ["dd", "if=/dev/d", "of=/dev/null", "count=1"]
    mini.run("run", "--rm", "--device", "/dev/loop0:/dev/d:rm", host_image.name, *read)
    script = "mknod /dev/d b 7 0; dd if=/dev/d of=/dev/null count=1"
    refused = mini.run("run", "--rm", host_image.name, "sh", "-c", script, check=False)
    assert refused.code != 0 and "not permitted" in refused.stderr


def test_namespaces_of_the_host(mini: Mini, image: Image) -> None:
    names = ("pid", "ipc", "uts", "cgroup")
    links = ["sh", "-c", "; ".join(f"readlink /proc/self/ns/{name}" for name in names)]
    hosts = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    options = ["--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host", "--userns", "host"]
    assert mini.run("run", "--rm", *options, image.name, *links).lines == hosts
    assert not set(mini.run("run", "--rm", image.name, *links).lines) & set(hosts)


def test_namespaces_of_another_container(mini: Mini, host_image: Image) -> None:
    mini.detached(
        "--name", "first", "--ipc", "shareable", host_image.name, "sh", "-c", "echo x > /dev/shm/x; sleep 600"
    )
    until(lambda: mini.run("exec", "first", "cat", "/dev/shm/x", check=False).out == "x")
    shared = ["--pid", "container:first", "--ipc", "container:first", "--network", "container:first"]
    script = "tr '\\0' ' ' < /proc/1/cmdline; cat /dev/shm/x; hostname; cat /etc/hostname; ip -o -4 addr show eth0; "
    lines = mini.run("run", "--rm", *shared, host_image.name, "sh", "-c", script + "cat /etc/hosts").lines
    own = mini.inspect("first")["Config"]["Hostname"]
    assert lines[0].startswith("sh -c") and lines[0].endswith("x")
    assert lines[1:3] == [own, own]
    assert mini.address("first") in lines[3] and lines[-1].endswith(own)

    mini.run("create", "--name", "second", *shared, host_image.name, "true")
    inspected = mini.inspect("second")["HostConfig"]
    first = mini.inspect("first")["Id"]
    assert {inspected[key] for key in ("PidMode", "IpcMode", "NetworkMode")} == {f"container:{first}"}
    mini.run("rm", "-f", "first")
    result = mini.run("start", "second", check=False)
    assert result.code == 1 and "No such container" in result.stderr


def test_shared_memory_of_a_private_container_is_its_own(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "private", host_image.name, "sleep", "600")
    result = mini.run("run", "--rm", "--ipc", "container:private", host_image.name, "true", check=False)
    assert result.code == 125 and "non-shareable IPC" in result.stderr


def test_ipc_none(mini: Mini, image: Image) -> None:
    assert mini.run("run", "--rm", "--ipc", "none", image.name, "ls", "/dev").out.split().count("shm") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pid", "foo"], "--pid: invalid PID mode"),
        (["--ipc", "foo"], "Invalid IPC mode: foo"),
        (["--uts", "foo"], "--uts: invalid UTS mode"),
        (["--userns", "foo"], "--userns: invalid USER mode"),
        (["--network", "container:nosuch"], "No such container: nosuch"),
        (["--uts", "host", "-h", "x"], "conflicting options: hostname and the UTS mode"),
        (["--gpus", "all"], 'could not select device driver "" with capabilities: [[gpu]]'),
        (["--storage-opt", "size=1g"], "--storage-opt is supported only for overlay over xfs"),
        (["--kernel-memory", "8m"], "kernel memory is not supported"),
        (["--log-driver", "foo"], 'plugin "foo" not found'),
        (["--log-opt", "foo=bar"], "unknown log opt 'foo' for json-file log driver"),
        (["--log-opt", "max-file=0"], "max-file cannot be less than 1"),
        (["--cpuset-mems", "99"], "Requested memory nodes are not available - requested 99"),
        (["--tmpfs", "/x:bogus"], 'invalid tmpfs option ["bogus"]'),
    ],
)
def test_refused(mini: Mini, host_image: Image, options: list[str], message: str) -> None:
    result = mini.run("run", "--rm", *options, host_image.name, "true", check=False)
    assert result.code == 125 and message in result.stderr, result


def test_log_driver_none(mini: Mini, host_image: Image) -> None:
    assert mini.run("run", "--name", "quiet", "--log-driver", "none", host_image.name, "echo", "seen").out == "seen"
    result = mini.run("logs", "quiet", check=False)
    assert (result.code, result.stderr) == (1, "mini: configured logging driver does not support reading\n")


def test_log_rotation(mini: Mini, host_image: Image) -> None:
    options = ["--log-opt", "max-size=1k", "--log-opt", "max-file=2"]
    script = "for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5; do echo line $i$j; done; done"
    container = mini.detached(*options, host_image.name, "sh", "-c", script)
    mini.run("wait", container)
    log = mini.inspect(container)["LogPath"]
    directory = os.path.dirname(log)
    names = sorted(name for name in os.listdir(directory) if re.fullmatch(r"container\.log(\.\d+)?", name))
    assert names == ["container.log", "container.log.1"]
    assert mini.run("logs", container).lines[-1] == "line 95"


def test_a_killed_monitor_leaves_no_shared_memory_behind(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--ipc", "shareable", host_image.name, "sleep", "600")
    with open("/proc/self/mountinfo") as file:
        assert any(f"{container}/shm " in line for line in file)
    os.kill(monitor_of(mini, container), signal.SIGKILL)
    mini.run("rm", "-f", container)
    with open("/proc/self/mountinfo") as file:
        assert container not in file.read()
