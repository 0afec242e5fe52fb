"""`cp` both ways, and what a hostile container could make of it: every attack is judged by what the host has afterwards."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
from pathlib import Path

import pytest

from tests.support import layers
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")


def members(data: str) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data.encode("utf-8", "surrogateescape"))) as tar:
        return sorted(member.name.removeprefix("./") for member in tar.getmembers())


@pytest.fixture(params=["running", "stopped"])
def box(request: pytest.FixtureRequest, mini: Mini, image: Image) -> str:
    """A container with /src: a file, a directory in it, links; with a volume at /vol."""
    script = "mkdir -p /src/sub /dst; echo x > /src/x; echo y > /src/sub/y; ln -s x /src/link; ln /src/x /src/hard; "
    script += "ln -s /src/sub /srclink; chmod 640 /src/x; chown 5:6 /src/x; echo v > /vol/v; echo ready; "
    tail = "sleep 600" if request.param == "running" else "true"
    container = mini.detached("-v", "vol:/vol", image.name, "sh", "-c", script + tail)
    if request.param == "running":
        while "ready" not in mini.run("logs", container).out:
            time.sleep(0.02)
    else:
        mini.run("wait", container)
    return container


def test_there_and_back(mini: Mini, box: str, tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/f").write_text("content")
    os.chown(tmp_path / "in/sub/f", 1000, 1001)
    os.utime(tmp_path / "in/sub/f", ns=(1, 1_234_567_890_123_456_789))
    mini.run("cp", f"{tmp_path}/in", f"{box}:/dst/")
    mini.run("cp", "-a", f"{box}:/dst/in", f"{tmp_path}/out")
    found = os.stat(tmp_path / "out/sub/f")
    assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (1000, 1001, 1_234_567_890_123_456_789)
    assert (tmp_path / "out/sub/f").read_text() == "content"


def test_a_directory_comes_whole(mini: Mini, box: str, tmp_path: Path) -> None:
    mini.run("cp", f"{box}:/src", f"{tmp_path}/new")
    mini.run("cp", f"{box}:/src/.", str(tmp_path))
    for top in (tmp_path / "new", tmp_path):
        assert (top / "sub/y").read_text() == "y\n"
        assert os.readlink(top / "link") == "x"
        assert os.stat(top / "hard").st_ino == os.stat(top / "x").st_ino
        assert stat.S_IMODE(os.stat(top / "x").st_mode) == 0o640
        assert (os.stat(top / "x").st_uid, os.stat(top / "x").st_gid) == (0, 0)


def test_through_pipes(mini: Mini, box: str) -> None:
    data = mini.run("cp", f"{box}:/src", "-").stdout
    assert members(data) == ["src", "src/hard", "src/link", "src/sub", "src/sub/y", "src/x"]
    mini.run("cp", "-", f"{box}:/dst", input=data)
    assert members(mini.run("cp", f"{box}:/dst/src/.", "-").stdout)[1:] == ["hard", "link", "sub", "sub/y", "x"]


def test_volumes_are_seen(mini: Mini, box: str, tmp_path: Path) -> None:
    """Through the container, whether it runs or not, and by their own name."""
    (tmp_path / "f").write_text("f")
    mini.run("cp", f"{tmp_path}/f", f"{box}:/vol/from-container")
    mini.run("cp", f"{tmp_path}/f", "volume:vol/by-name")
    assert members(mini.run("cp", "volume:vol/.", "-").stdout) == [".", "by-name", "from-container", "v"]
    assert members(mini.run("cp", f"{box}:/vol/.", "-").stdout) == [".", "by-name", "from-container", "v"]


def test_a_missing_volume_is_told(mini: Mini, tmp_path: Path) -> None:
    result = mini.run("cp", "volume:nosuch/x", str(tmp_path), check=False)
    assert (result.code, result.stderr) == (1, "mini: get nosuch: no such volume\n")


def test_a_tmpfs_of_a_running_container(mini: Mini, image: Image, tmp_path: Path) -> None:
    container = mini.detached("--tmpfs", "/t", image.name, "sleep", "600")
    (tmp_path / "f").write_text("f")
    mini.run("cp", f"{tmp_path}/f", f"{container}:/t/f")
    assert mini.run("exec", container, "cat", "/t/f").out == "f"
    assert members(mini.run("cp", f"{container}:/t", "-").stdout) == ["t", "t/f"]


def test_the_kernels_files_are_not_walked(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--network", "none", host_image.name, "sleep", "600")
    names = members(mini.run("cp", f"{container}:/", "-").stdout)
    assert "proc" in [name.strip("/") for name in names]
    assert not [name for name in names if name.strip("/").startswith(("proc/", "sys/", "dev/pts/"))]
    assert "made up by the kernel" in mini.run("cp", f"{container}:/proc/version", "/tmp", check=False).stderr


def test_what_is_read_only_stays_so(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    options = ["--read-only", "-v", "kept:/kept:ro", "-v", "vol:/vol"]
    running = mini.detached(*options, host_image.name, "sleep", "600")
    stopped = mini.run("create", *options, host_image.name, "true").out
    for container in (running, stopped):
        refused = [mini.run("cp", f"{tmp_path}/f", f"{container}:{p}", check=False) for p in ("/srv/f", "/kept/f")]
        assert [r.stderr for r in refused] == [
            "mini: container rootfs is marked read-only\n",
            "mini: mounted volume is marked read-only\n",
        ]
        mini.run("cp", f"{tmp_path}/f", f"{container}:/vol/f")


def test_a_mount_point_is_not_taken_away(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """unlink(2) from another mount namespace would detach what is mounted in the container."""
    (tmp_path / "f").write_text("f")
    container = mini.detached(host_image.name, "sleep", "600")
    before = mini.run("exec", container, "grep", "-c", "/etc/hosts", "/proc/mounts").out
    result = mini.run("cp", f"{tmp_path}/f", f"{container}:/etc/hosts", check=False)
    assert (result.code, result.stderr) == (1, "mini: unlinkat /etc/hosts: device or resource busy\n")
    assert mini.run("exec", container, "grep", "-c", "/etc/hosts", "/proc/mounts").out == before == "1"


def test_on_a_terminal_it_says_how_much(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    container = mini.run("create", host_image.name, "true").out
    (tmp_path / "f").write_text("f")
    for options, told in (([], f"Successfully copied 2.05kB to {container}:/srv/"), (["-q"], "")):
        terminal = mini.terminal("cp", *options, f"{tmp_path}/f", f"{container}:/srv/", columns=200)
        try:
            if told:
                terminal.expect(told)
            assert terminal.wait() == 0
        finally:
            terminal.close()


def test_a_device_is_not_replaced(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    container = mini.detached(host_image.name, "sleep", "600")
    result = mini.run("cp", f"{tmp_path}/f", f"{container}:/dev/null", check=False)
    words = f'destination "{container}:/dev/null" must be a directory or a regular file: got a device'
    assert (result.code, result.stderr) == (1, f"mini: {words}\n")
    assert mini.run("exec", container, "stat", "-c", "%F", "/dev/null").out == "character special file"


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_links_in_a_container_stay_in_it(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("secret")
    (tmp_path / "f").write_text("f")
    script = f"ln -s {victim} /evil; ln -s ../../../../../../../..{victim} /up; ln -s /proc/1/root /magic; "
    container = mini.detached(host_image.name, "sh", "-c", script + "echo ready; sleep 600")
    until(lambda: mini.run("logs", container).out == "ready")
    for path in ("/evil/f", "/up/f", "/magic/f"):
        mini.run("cp", f"{tmp_path}/f", f"{container}:{path}", check=False)
    for path in ("/evil/secret", "/up/secret", "/magic/etc/shadow", "/evil/"):
        assert mini.run("cp", f"{container}:{path}", f"{tmp_path}/got", check=False).code == 1
    mini.run("cp", "-L", f"{container}:/evil", f"{tmp_path}/got", check=False)
    assert os.listdir(victim) == ["secret"]
    assert not (tmp_path / "got").exists()


def test_a_directory_swapped_for_a_link_meanwhile(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """CVE-2018-15664, in both directions, for a bounded number of copies."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("secret")
    (tmp_path / "f").write_text("f")
    swap = (
        "import os\nos.mkdir('/d')\nopen('/d/f','w').write('theirs')\n"
        f"os.symlink({str(victim)!r}, '/l')\nprint('ready', flush=True)\n"
        "while True:\n os.rename('/d','/t'); os.rename('/l','/d'); os.rename('/d','/l'); os.rename('/t','/d')\n"
    )
    container = mini.detached("--cpus", "0.5", host_image.name, "python3", "-c", swap)
    while "ready" not in mini.run("logs", container).out:
        time.sleep(0.02)
    for _ in range(25):
        mini.run("cp", f"{tmp_path}/f", f"{container}:/d/stolen", check=False)
        mini.run("cp", f"{container}:/d/secret", f"{tmp_path}/got", check=False)
        mini.run("cp", f"{container}:/d/.", f"{tmp_path}/tree", check=False)
    assert os.listdir(victim) == ["secret"]
    assert not (tmp_path / "got").exists()
    assert not (tmp_path / "tree/secret").exists()


def test_nothing_of_the_container_is_needed(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """CVE-2019-14271: the daemon loaded libnss from the container. Here, every file in it that could be is a FIFO."""
    script = "for d in /lib /usr/lib /lib64 /usr/lib64 /etc; do mv $d $d.old 2>/dev/null; done; "
    script += "echo ready; read x"  # no program can be executed any more
    container = mini.detached("-i", host_image.name, "/bin/sh", "-c", "echo kept > /srv/kept; " + script)
    (tmp_path / "f").write_text("f")
    until(lambda: mini.run("logs", container).out == "ready")
    mini.run("cp", f"{tmp_path}/f", f"{container}:/srv/f")
    mini.run("cp", f"{container}:/srv/kept", f"{tmp_path}/kept")
    assert mini.inspect(container)["State"]["Running"] is True
    assert (tmp_path / "kept").read_text() == "kept\n"


def test_the_hosts_links_are_not_followed_below_the_destination(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / "target"
    victim.mkdir()
    target.mkdir()
    (victim / "file").write_text("mine")
    os.symlink(victim, target / "sub")
    os.symlink(victim / "file", target / "x")
    script = "mkdir -p /d/sub; echo evil > /d/sub/file; echo evil > /d/x"
    container = mini.detached(host_image.name, "sh", "-c", script)
    mini.run("wait", container)
    mini.run("cp", f"{container}:/d/x", str(target))
    assert (target / "x").read_text() == "evil\n" and not (target / "x").is_symlink()
    result = mini.run("cp", f"{container}:/d/.", str(target), check=False)
    assert result.code == 1 and "cannot overwrite non-directory" in result.stderr
    assert (victim / "file").read_text() == "mine"


def test_no_privilege_comes_out(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """Set-id bits of any user's would become root's; a device node would be open to all (and CVE-2021-41089: what the
    host has already keeps its mode)."""
    script = "mkdir /d; cp /bin/true /d/suid; chown 1000:1000 /d/suid; chmod 6755 /d/suid; "
    script += "mknod -m 666 /d/null c 1 3; chmod 777 /d"
    container = mini.detached(host_image.name, "sh", "-c", script)
    mini.run("wait", container)
    (tmp_path / "d").mkdir(mode=0o700)
    mini.run("cp", f"{container}:/d", str(tmp_path))
    modes = {name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("d", "d/suid", "d/null")}
    assert modes == {"d": 0o700, "d/suid": 0o755, "d/null": 0o600}
    mini.run("cp", "-a", f"{container}:/d/suid", f"{tmp_path}/kept")
    kept = os.stat(tmp_path / "kept")
    assert (kept.st_uid, stat.S_IMODE(kept.st_mode)) == (1000, 0o6755)


@pytest.mark.parametrize(
    "entries",
    [
        [layers.file("../../../../tmp/mini-cp-out", b"x")],
        [layers.symlink("out", "/"), layers.file("out/tmp/mini-cp-out", b"x")],
        [layers.symlink("out", "../../../../.."), layers.file("out/tmp/mini-cp-out", b"x")],
        [layers.file("/tmp/mini-cp-out", b"x")],
    ],
    ids=["dots", "absolute link", "relative link", "absolute name"],
)
@pytest.mark.parametrize("running", [True, False])
def test_hostile_tars(mini: Mini, host_image: Image, entries: list[bytes], running: bool) -> None:
    if running:
        container = mini.detached(host_image.name, "sleep", "600")
    else:
        container = mini.run("create", host_image.name, "true").out
    data = layers.archive(*entries)
    mini.run("cp", "-", f"{container}:/srv", input=data, check=False)
    assert not os.path.exists("/tmp/mini-cp-out")


def test_killed_it_leaves_nothing(mini: Mini, host_image: Image) -> None:
    """What comes in on stdin is spooled to a file without a name."""
    container = mini.run("create", host_image.name, "true").out
    process = mini.start("cp", "-", f"{container}:/srv")
    assert process.stdin is not None
    process.stdin.write("x" * 100_000)
    process.stdin.flush()
    time.sleep(0.3)
    process.kill()
    process.communicate()
    downloads = f"{mini.root}/downloads"
    assert not os.path.isdir(downloads) or os.listdir(downloads) == []
    mini.run("rm", container)
