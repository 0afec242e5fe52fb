"""Volumes that are file systems, parts of volumes, images, directories with their ids mapped: what is mounted, and what is not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import Image
from tests.support.leaks import mounts_below
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

QUIET = ["--rm", "--network", "none"]
TMPFS = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,uid=1000"]


def mountpoint(mini: Mini, volume: str) -> str:
    found: str = mini.run("volume", "inspect", "-f", "{{.Mountpoint}}", volume).out
    return found


def start(mini: Mini, image: Image, *options: str) -> str:
    return mini.detached("--network", "none", *options, image.name, "sleep", "60")


# --- --opt


def test_a_file_system_is_mounted_for_the_first_and_unmounted_after_the_last(mini: Mini, host_image: Image) -> None:
    mini.run("volume", "create", *TMPFS, "memory")
    (found,) = mini.run("volume", "inspect", "memory").json()
    assert found["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"}
    place = found["Mountpoint"]
    assert mounts_below(place) == []
    one, two = (start(mini, host_image, "-v", "memory:/data") for _ in range(2))
    assert mounts_below(place) == [place]
    mini.run("exec", one, "sh", "-c", "echo shared > /data/file")
    assert mini.run("exec", two, "sh", "-c", "cat /data/file; stat -c %u /data").lines == ["shared", "1000"]
    mini.run("rm", "-f", one)
    assert mounts_below(place) == [place]
    assert mini.run("exec", two, "cat", "/data/file").out == "shared"
    mini.run("rm", "-f", two)
    assert mounts_below(place) == []
    assert mini.run("run", *QUIET, "-v", "memory:/data", host_image.name, "ls", "/data").out == ""
    mini.run(
        "run", *QUIET, "-v", "memory:/data", host_image.name, "sh", "-c", "! dd if=/dev/zero of=/data/x bs=1M count=2"
    )


def test_a_disk(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """Any file system that the kernel has, on a device; content outlives the mount."""
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    device = subprocess.run(
        ["losetup", "-f", "--show", disk], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        mini.run("volume", "create", "--opt", "type=ext4", "--opt", f"device={device}", "--opt", "o=noatime", "disk")
        mini.run("run", *QUIET, "-v", "disk:/data", host_image.name, "sh", "-c", "echo on disk > /data/file")
        show = "cat /data/file; grep ' /data ' /proc/self/mountinfo"
        content, mount = mini.run("run", *QUIET, "-v", "disk:/data", host_image.name, "sh", "-c", show).lines
        assert content == "on disk"
        assert " - ext4 " in mount and "noatime" in mount
        assert "on disk" in mini.run("cp", "volume:disk/file", "-").stdout
        stopped = mini.run("create", "--network", "none", "-v", "disk:/data", host_image.name, "true").out
        assert "on disk" in mini.run("cp", f"{stopped}:/data/file", "-").stdout
        assert mounts_below(mountpoint(mini, "disk")) == []
        mini.run("rm", stopped)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_removal_deletes_nothing_of_what_was_mounted(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """A volume that is a directory of the host's: its monitor is killed while it is mounted, then everything is removed."""
    (tmp_path / "kept").write_text("of the host")
    mini.run("volume", "create", "--opt", "type=none", "--opt", f"device={tmp_path}", "--opt", "o=bind", "host")
    container = start(mini, host_image, "-v", "host:/data")
    assert mini.run("exec", container, "cat", "/data/kept").out == "of the host"
    assert "is in use" in mini.run("volume", "rm", "-f", "host", check=False).stderr
    with open(f"{mini.root}/containers/{container}/state.json") as file:
        os.kill(json.load(file)["MonitorPid"], signal.SIGKILL)
    place = mountpoint(mini, "host")
    assert mounts_below(place) == [place]
    mini.run("rm", "-f", container)
    mini.run("volume", "rm", "host")
    assert (tmp_path / "kept").read_text() == "of the host"
    assert mounts_below(place) == []


def test_a_volume_that_somebody_else_mounted_over_is_not_deleted(mini: Mini, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("of the host")
    mini.run("volume", "create", "--opt", "type=none", "--opt", f"device={tmp_path}", "--opt", "o=bind", "host")
    place = mountpoint(mini, "host")
    subprocess.run(["mount", "--bind", tmp_path, place], check=True)
    try:
        assert "something is mounted at" in mini.run("volume", "rm", "host", check=False).stderr
    finally:
        subprocess.run(["umount", place], check=True)
    mini.run("volume", "rm", "host")
    assert (tmp_path / "kept").exists()


def test_fsck_unmounts_what_a_killed_monitor_left(mini: Mini, host_image: Image) -> None:
    mini.run("volume", "create", *TMPFS, "memory")
    container = start(mini, host_image, "-v", "memory:/data")
    with open(f"{mini.root}/containers/{container}/state.json") as file:
        pid = json.load(file)["MonitorPid"]
    os.kill(pid, signal.SIGKILL)
    while mini.run("ps", "-q").out:
        time.sleep(0.02)
    assert mounts_below(mountpoint(mini, "memory")) == []
    assert mini.run("fsck").code == 0
    mini.run("rm", container)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["type=none", "device=/nosuch", "o=bind"], "mount /nosuch:{place}, flags: 0x1000: no such file or directory"),
        (["type=nosuchfs", "device=x", "o=ro,a=b"], "mount x:{place}, flags: 0x1, data: a=b: no such device"),
        (["type=ext4", "device=/dev/null"], "mount /dev/null:{place}: block device required"),
    ],
)
def test_what_cannot_be_mounted(mini: Mini, host_image: Image, options: list[str], reason: str) -> None:
    mini.run("volume", "create", *[word for option in options for word in ("--opt", option)], "bad")
    place = mountpoint(mini, "bad")
    result = mini.run("run", *QUIET, "-v", "bad:/data", host_image.name, "true", check=False)
    assert result.code == 125
    text = f"error while mounting volume '{place}': failed to mount local volume: {reason.format(place=place)}"
    assert text in result.stderr
    assert mini.run("ps", "-aq").out == ""


def test_a_quota_where_there_is_none(mini: Mini) -> None:
    """This host's file system is not mounted with prjquota (or the kernel has no quotas): refused, and no volume is left."""
    result = mini.run("volume", "create", "--opt", "size=10m", "limited", check=False)
    if result.code == 0:
        pytest.skip("the data root has project quotas")
    assert "create limited: quota size requested but no quota support" in result.stderr
    assert mini.run("volume", "ls", "-q").out == ""
    assert os.listdir(f"{mini.root}/volumes") == []


# --- volume-subpath


@pytest.fixture
def filled(mini: Mini, host_image: Image) -> str:
    """A volume with a directory, a file, and links that lead within it and out of it."""
    script = (
        "cd /v; mkdir -p a/b; echo deep > a/b/file; echo top > file; ln -s a inside; ln -s /etc absolute;"
        "ln -s ../../../../../../../etc above; ln -s a/../../.. climbing"
    )
    mini.run("run", *QUIET, "-v", "whole:/v", host_image.name, "sh", "-c", script)
    return "whole"


@pytest.mark.parametrize(
    ("subpath", "command", "output"),
    [
        ("a", ["cat", "/x/b/file"], "deep"),
        ("a/b", ["ls", "/x"], "file"),
        ("file", ["cat", "/x"], "top"),
        ("inside/b", ["cat", "/x/file"], "deep"),
        ("a/../a/./b", ["cat", "/x/file"], "deep"),
    ],
)
def test_a_part_of_a_volume(
    mini: Mini, host_image: Image, filled: str, subpath: str, command: list[str], output: str
) -> None:
    mount = f"type=volume,src={filled},dst=/x,volume-subpath={subpath}"
    assert mini.run("run", *QUIET, "--mount", mount, host_image.name, *command).out == output


@pytest.mark.parametrize(
    ("subpath", "reason"),
    [
        ("nosuch", "cannot access path {place}/nosuch: no such file or directory"),
        ("file/x", "cannot access path {place}/file/x: not a directory"),
        ("absolute", "path concatenation escapes the base directory, base: {place}, subpath: absolute"),
        ("absolute/passwd", "path concatenation escapes the base directory, base: {place}, subpath: absolute/passwd"),
        ("above", "path concatenation escapes the base directory, base: {place}, subpath: above"),
        ("climbing", "path concatenation escapes the base directory, base: {place}, subpath: climbing"),
    ],
)
def test_a_part_that_is_not_in_the_volume(
    mini: Mini, host_image: Image, filled: str, subpath: str, reason: str
) -> None:
    mount = f"type=volume,src={filled},dst=/x,volume-subpath={subpath}"
    result = mini.run("run", *QUIET, "--mount", mount, host_image.name, "ls", "/x", check=False)
    assert result.code == 125
    assert reason.format(place=mountpoint(mini, filled)) in result.stderr


@pytest.mark.timeout(120)
def test_a_part_that_becomes_a_link_meanwhile(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """CVE-2017-1002101, CVE-2021-25741: a container swaps a directory of its volume for a link to the host's, as fast as it can,
    while others mount a path below it. None of them sees, or writes to, the host's directory."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("of the host")
    swap = f"""
import ctypes, os
os.makedirs("/v/dir/secret"); open("/v/dir/secret/file", "w").write("of the volume"); os.symlink({str(tmp_path)!r}, "/v/link")
libc = ctypes.CDLL(None)
print("ready", flush=True)
while True:
    libc.renameat2(-100, b"/v/dir", -100, b"/v/link", 2)
"""
    attacker = mini.detached("--network", "none", "-v", "raced:/v", host_image.name, "python3", "-c", swap)
    while "ready" not in mini.run("logs", attacker).out:
        time.sleep(0.02)
    mount = "type=volume,src=raced,dst=/x,volume-subpath=dir/secret"
    seen = set()
    for _ in range(30):
        command = ["sh", "-c", "cat /x/file; echo x > /x/planted"]
        result = mini.run("run", *QUIET, "--mount", mount, host_image.name, *command, check=False)
        seen.add(result.out)
        assert result.code == 0 or "escapes the base directory" in result.stderr or "cannot access" in result.stderr
    assert seen <= {"of the volume", ""}
    assert os.listdir(tmp_path / "secret") == ["file"]


# --- images


def test_an_image(mini: Mini, image: Image, host_image: Image) -> None:
    mount = f"type=image,src={host_image.name},dst=/image"
    result = mini.run(
        "run", *QUIET, "--mount", mount, image.name, "sh", "-c", "cat /image/srv/index.html; ! touch /image/x"
    )
    assert result.out == "hello from a container"
    part = f"{mount},image-subpath=srv"
    assert (
        mini.run("run", *QUIET, "--mount", part, image.name, "cat", "/image/index.html").out == "hello from a container"
    )
    escape = mini.run("run", *QUIET, "--mount", f"{mount},image-subpath=nosuch", image.name, "true", check=False)
    assert "cannot access path" in escape.stderr


def test_an_image_that_is_mounted_is_in_use(fresh_mini: Mini, host_image: Image) -> None:
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)
    made = mini.run("commit", mini.run("create", host_image.name).out, "other:1").out
    mini.run("rm", *mini.run("ps", "-aq").lines)
    container = start(mini, host_image, "--mount", "type=image,src=other:1,dst=/image")
    (point,) = mini.inspect(container)["Mounts"]
    assert (point["Type"], point["Source"], point["Destination"], point["RW"]) == ("image", "other:1", "/image", False)
    assert set(point) == {"Type", "Source", "Destination", "Mode", "RW", "Propagation"}
    assert mini.run("rmi", made, check=False).code == 1
    mini.run("image", "prune", "-a", "-f")
    assert made in mini.run("images", "-q", "--no-trunc").lines
    assert mini.run("fsck").code == 0
    mini.run("stop", "-t", "0", container)
    assert "hello" in mini.run("cp", f"{container}:/image/srv/index.html", "-").stdout
    mini.run("start", container)
    mini.run("rm", "-f", container)
    mini.run("rmi", made)


def test_an_image_that_is_not_there(mini: Mini, host_image: Image) -> None:
    mounts = ["--mount", "dst=/anonymous", "--mount", "type=image,src=nosuch:1,dst=/image"]
    result = mini.run("create", *mounts, host_image.name, check=False)
    assert "No such image: nosuch:1" in result.stderr
    assert mini.run("volume", "ls", "-q").out == "" and mini.run("ps", "-aq").out == ""


# --- id-mapped binds


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """A directory of somebody who is neither root nor a user of the container's."""
    directory = tmp_path / "owned"
    directory.mkdir()
    (directory / "file").write_text("theirs\n")
    (directory / "roots").write_text("root's\n")
    for path in (directory, directory / "file"):
        os.chown(path, 4321, 4322)
    os.chmod(directory, 0o700)
    os.chmod(directory / "file", 0o600)
    return directory


@pytest.mark.parametrize("user", ["1000:1000", "0:0", "99999:5"])
def test_match_user(mini: Mini, host_image: Image, owned: Path, user: str) -> None:
    """What the host's user owns is the container user's, without chown; what that one writes is the host user's."""
    mount = f"type=bind,src={owned},dst=/x,idmap=match-user"
    script = "cat /x/file; stat -c %u:%g /x /x/file /x/roots; echo new > /x/new; mkdir /x/dir; echo more >> /x/file"
    lines = mini.run("run", *QUIET, "-u", user, "--mount", mount, host_image.name, "sh", "-c", script).lines
    assert lines == ["theirs", user, user, "65534:65534"]
    for name in ("new", "dir", "file"):
        info = (owned / name).stat()
        assert (info.st_uid, info.st_gid) == (4321, 4322)
    assert (owned / "file").read_text() == "theirs\nmore\n"


def test_without_the_map_the_directory_is_the_hosts(mini: Mini, host_image: Image, owned: Path) -> None:
    """What `match-user` changes: the same user is refused."""
    command = ["-u", "1000:1000", "--mount", f"type=bind,src={owned},dst=/x", host_image.name, "cat", "/x/file"]
    assert "Permission denied" in mini.run("run", *QUIET, *command, check=False).stderr


def test_ranges(mini: Mini, host_image: Image, owned: Path) -> None:
    mapping = "uids=4321-7-1#0-0-1;gids=4322-8-1#0-0-1"
    mount = f"type=bind,src={owned},dst=/x,ro,idmap={mapping}"
    command = ["stat", "-c", "%u:%g", "/x/file", "/x/roots"]
    assert mini.run("run", *QUIET, "--mount", mount, host_image.name, *command).lines == ["7:8", "0:0"]


def test_what_root_in_the_container_makes_is_not_roots_on_the_host(mini: Mini, host_image: Image, owned: Path) -> None:
    """A set-uid program that it leaves there is the host user's own."""
    mount = f"type=bind,src={owned},dst=/x,idmap=match-user"
    script = "set -e; cp /bin/true /x/tool; chmod 4755 /x/tool; ! chown 1:1 /x/tool 2>/dev/null; stat -c %u /x/tool"
    assert mini.run("run", *QUIET, "--mount", mount, host_image.name, "sh", "-c", script).out == "0"
    assert (owned / "tool").stat().st_uid == 4321


def test_a_file_system_without_id_maps(mini: Mini, host_image: Image) -> None:
    mount = "type=bind,src=/sys/kernel,dst=/x,idmap=match-user,bind-recursive=disabled"
    result = mini.run("run", *QUIET, "-u", "1000:1000", "--mount", mount, host_image.name, "true", check=False)
    assert result.code == 125
    assert "cannot map the ids of /sys/kernel" in result.stderr and "has no id-mapped mounts" in result.stderr


def test_cp_sees_the_map_too(mini: Mini, host_image: Image, owned: Path) -> None:
    """Of a stopped container. mini is root, whom `match-user` of another user does not map: it reads, and is refused to write."""
    mount = f"type=bind,src={owned},dst=/x,idmap=match-user"
    container = mini.run(
        "create", "--network", "none", "-u", "1000:1000", "--mount", mount, host_image.name, "true"
    ).out
    tar = mini.run("cp", f"{container}:/x/file", "-").stdout.encode("utf-8", "surrogateescape")
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        (member,) = archive.getmembers()
        assert (member.uid, member.gid) == (1000, 1000)
    result = mini.run("cp", f"{owned}/file", f"{container}:/x/new", check=False)
    assert result.code == 1 and "its ids are mapped" in result.stderr
    assert sorted(os.listdir(owned)) == ["file", "roots"]


# --- propagation, and what lies below


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A shared mount, with another one in it."""
    directory = tmp_path / "shared"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    subprocess.run(["mount", "--make-shared", directory], check=True)
    (directory / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory / "below"], check=True)
    (directory / "later").mkdir()
    yield directory
    subprocess.run(["umount", "-R", directory], check=True)


@pytest.mark.parametrize(("mode", "sees"), [("rslave", True), ("rshared", True), ("slave", True), ("rprivate", False)])
def test_what_the_host_mounts_later(mini: Mini, host_image: Image, shared: Path, mode: str, sees: bool) -> None:
    container = start(mini, host_image, "-v", f"{shared}:/x:{mode}")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "later"], check=True)
    (shared / "later/file").write_text("x")
    assert mini.run("exec", container, "ls", "/x/later").lines == (["file"] if sees else [])


@pytest.mark.parametrize(("mode", "seen"), [("rshared", True), ("rslave", False), ("rprivate", False)])
def test_what_the_container_mounts(mini: Mini, host_image: Image, shared: Path, mode: str, seen: bool) -> None:
    script = "mount -t tmpfs tmpfs /x/later && touch /x/later/file && sleep 60"
    options = ["--network", "none", "--privileged", "-v", f"{shared}:/x:{mode}"]
    container = mini.detached(*options, host_image.name, "sh", "-c", script)
    while not mini.run("exec", container, "ls", "/x/later").lines:
        time.sleep(0.02)
    assert os.listdir(shared / "later") == (["file"] if seen else [])
    for mount in mounts_below(mini.root):
        assert "/x/" not in mount


@pytest.mark.parametrize("mode", ["slave", "rslave", "shared", "rshared"])
def test_a_private_source_passes_nothing_on(mini: Mini, host_image: Image, tmp_path: Path, mode: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    subprocess.run(["mount", "--make-private", tmp_path], check=True)
    try:
        mount = f"type=bind,src={tmp_path},dst=/x,bind-propagation={mode}"
        result = mini.run("run", *QUIET, "--mount", mount, host_image.name, "true", check=False)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    wanted = "a shared mount" if "shared" in mode else "a shared or slave mount"
    assert f"path {tmp_path} is mounted on {tmp_path} but it is not {wanted}" in result.stderr


@pytest.mark.parametrize(
    ("option", "below"),
    [
        (["-v", "{}:/x:ro"], "ro"),
        (["--mount", "type=bind,src={},dst=/x,ro"], "ro"),
        (["--mount", "type=bind,src={},dst=/x,ro,bind-recursive=writable"], "rw"),
        (["--mount", "type=bind,src={},dst=/x,ro,bind-recursive=readonly,bind-propagation=rprivate"], "ro"),
        (["--mount", "type=bind,src={},dst=/x,ro,bind-recursive=disabled"], None),
        (["--mount", "type=bind,src={},dst=/x"], "rw"),
    ],
)
def test_read_only_with_what_is_below(
    mini: Mini, host_image: Image, shared: Path, option: list[str], below: str | None
) -> None:
    words = [word.format(shared) for word in option]
    lines = mini.run("run", *QUIET, *words, host_image.name, "cat", "/proc/self/mountinfo").lines
    found = {line.split(" ")[4]: line.split(" ")[5].split(",")[0] for line in lines}
    assert found["/x"] == ("rw" if below == "rw" and "ro" not in words[-1].split(",") else "ro")
    assert found.get("/x/below") == below


# --- events


def test_events(mini: Mini, host_image: Image) -> None:
    since = str(time.time())
    container = mini.run(
        "run", "-d", "--network", "none", "-v", "named:/v:ro", "-v", "/anonymous", host_image.name, "true"
    ).out
    mini.run("wait", container)
    mini.run("rm", "-v", container)
    mini.run("volume", "rm", "named")
    lines = mini.run(
        "events", "--since", since, "--until", "0s", "--filter", "type=volume", "--format", "{{json .}}"
    ).lines
    events = [json.loads(line) for line in lines]
    mount = {"container": container, "destination": "/v", "driver": "local", "propagation": "", "read/write": "false"}
    named = [(e["Action"], e["Actor"]["Attributes"]) for e in events if e["Actor"]["ID"] == "named"]
    assert named == [
        ("create", {"driver": "local"}),
        ("mount", mount),
        ("unmount", {"container": container, "driver": "local"}),
        ("destroy", {"driver": "local"}),
    ]
    others = [e["Action"] for e in events if e["Actor"]["ID"] != "named"]
    assert others == ["create", "mount", "unmount", "destroy"]
