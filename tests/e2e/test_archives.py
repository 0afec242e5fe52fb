"""save, load, export and import as commands; skopeo and Podman as readers and writers of the same archives."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from engine import linux
from tests.support.images import Image
from tests.support.midway import stopped_while
from tests.support.runner import PROGRAM, Mini, Result, run_command

pytestmark = pytest.mark.requires("linux", "root", "overlay", "netns")


def identity(mini: Mini, name: str) -> tuple[str, list[str]]:
    (image,) = mini.run("image", "inspect", name).json()
    return image["Id"], image["RootFS"]["Layers"]


# --- save and load ---------------------------------------------------------------------------------------------------


def test_from_one_mini_to_another(mini: Mini, fresh_mini: Mini, image: Image) -> None:
    environ = {**mini.environ, "THERE": fresh_mini.root, "IMAGE": image.name}
    piped = run_command(["sh", "-c", f'{PROGRAM} save "$IMAGE" | MINI_ROOT=$THERE {PROGRAM} load'], environ)
    assert piped.out == f"Loaded image: {image.name}"
    assert identity(fresh_mini, image.name) == identity(mini, image.name)
    assert fresh_mini.run("run", "--rm", "--network", "none", image.name, "sh", "-c", "echo ran").out == "ran"
    assert os.listdir(f"{fresh_mini.root}/downloads") == []


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1)


@pytest.mark.parametrize("pack", [_gzip, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_load_a_compressed_archive(
    mini: Mini, fresh_mini: Mini, host_image: Image, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    mini.run("save", "-o", f"{tmp_path}/x.tar", host_image.name)
    assert oct(os.stat(tmp_path / "x.tar").st_mode) == "0o100600"
    (tmp_path / "x.packed").write_bytes(pack((tmp_path / "x.tar").read_bytes()))
    assert fresh_mini.run("load", "-q", "-i", f"{tmp_path}/x.packed").out == f"Loaded image: {host_image.name}"
    assert identity(fresh_mini, host_image.name) == identity(mini, host_image.name)


def test_a_tag_that_moves(mini: Mini, fresh_mini: Mini, host_image: Image, tmp_path: Path) -> None:
    mini.run("save", "-o", f"{tmp_path}/x.tar", host_image.name)
    old = fresh_mini.run("import", "-", host_image.name, input=_empty_tar()).out
    moved, loaded = fresh_mini.run("load", "-i", f"{tmp_path}/x.tar").lines
    assert moved == f"The image {host_image.name} already exists, renaming the old one with ID {old} to empty string"
    assert loaded == f"Loaded image: {host_image.name}"


def _empty_tar() -> bytes:
    return bytes(1024)


def test_ctrl_c_leaves_nothing_and_what_was_there(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """Stopped in the middle of writing: the old file is untouched, and no other is there."""
    (tmp_path / "x.tar").write_bytes(b"old")
    saving = mini.start("save", "-o", f"{tmp_path}/x.tar", host_image.name)
    while not stopped_while(saving, lambda: len(os.listdir(tmp_path)) == 2):
        saving.communicate()
        (tmp_path / "x.tar").write_bytes(b"old")
        saving = mini.start("save", "-o", f"{tmp_path}/x.tar", host_image.name)
    saving.send_signal(signal.SIGINT)
    saving.send_signal(signal.SIGCONT)
    saving.communicate()
    assert (saving.returncode, (tmp_path / "x.tar").read_bytes()) == (130, b"old")
    assert os.listdir(tmp_path) == ["x.tar"]


def test_ctrl_c_ends_a_load(mini: Mini, fresh_mini: Mini, host_image: Image, tmp_path: Path) -> None:
    mini.run("save", "-o", f"{tmp_path}/x.tar", host_image.name)
    downloads = f"{fresh_mini.root}/downloads"
    loading = fresh_mini.start("load", "-i", f"{tmp_path}/x.tar")
    while not stopped_while(loading, lambda: os.path.isdir(downloads) and os.listdir(downloads)):
        loading.communicate()
        fresh_mini.remove_images()
        loading = fresh_mini.start("load", "-i", f"{tmp_path}/x.tar")
    loading.send_signal(signal.SIGINT)
    loading.send_signal(signal.SIGCONT)
    out, err = loading.communicate()
    assert (loading.returncode, out, err) == (130, "", "")
    assert os.listdir(downloads) == []
    assert fresh_mini.run("images", "-q").out == ""
    # what is whole stays, as after a pull that was cut off, and the next load finds it there
    fresh_mini.run("load", "-i", f"{tmp_path}/x.tar")
    assert identity(fresh_mini, host_image.name) == identity(mini, host_image.name)


def test_a_full_disk(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    linux.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
    try:
        failed = mini.run("save", "-o", f"{tmp_path}/x.tar", host_image.name, check=False)
        assert failed.code == 1
        assert "No space left on device" in failed.stderr
        assert os.listdir(tmp_path) == []
        full = mini.run("load", check=False, env={"MINI_ROOT": f"{tmp_path}/root"}, input=_saved(mini, host_image))
        assert full.code == 1
        assert "No space left on device" in full.stderr
        assert mini.run("images", "-q", env={"MINI_ROOT": f"{tmp_path}/root"}).out == ""
        assert os.listdir(tmp_path / "root" / "downloads") == []
    finally:
        linux.umount2(str(tmp_path), linux.MNT_DETACH)


def _saved(mini: Mini, image: Image) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        mini.run("save", "-o", file.name, image.name)
        return Path(file.name).read_bytes()


def test_output_that_is_no_file(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    before = os.stat("/dev/null")
    mini.run("save", "-o", "/dev/null", host_image.name)
    assert (os.stat("/dev/null").st_ino, os.stat("/dev/null").st_rdev) == (before.st_ino, before.st_rdev)
    os.symlink("real.tar", tmp_path / "link.tar")
    mini.run("save", "-o", f"{tmp_path}/link.tar", host_image.name)
    assert os.path.islink(tmp_path / "link.tar") and (tmp_path / "real.tar").stat().st_size > 1000
    for path in (str(tmp_path), f"{tmp_path}/nosuch/x.tar"):
        refused = mini.run("save", "-o", path, host_image.name, check=False)
        assert (refused.code, "invalid output path" in refused.stderr) == (1, True)


# --- skopeo and Podman -----------------------------------------------------------------------------------------------


def skopeo(*arguments: str) -> Result:
    return run_command(["skopeo", "--insecure-policy", *arguments], dict(os.environ))


@pytest.mark.requires("skopeo")
def test_skopeo_reads_both_layouts_and_mini_reads_skopeo(
    mini: Mini, fresh_mini: Mini, host_image: Image, tmp_path: Path
) -> None:
    expected = identity(mini, host_image.name)
    mini.run("save", "-o", f"{tmp_path}/x.tar", host_image.name)
    tag = host_image.name.partition(":")[2]
    skopeo("copy", f"docker-archive:{tmp_path}/x.tar:{host_image.name}", f"docker-archive:{tmp_path}/d.tar:one:1")
    skopeo("copy", f"docker-archive:{tmp_path}/x.tar", f"dir:{tmp_path}/dir")
    manifest = json.loads((tmp_path / "dir" / "manifest.json").read_bytes())
    assert manifest["config"]["digest"] == expected[0]
    skopeo("copy", f"oci-archive:{tmp_path}/x.tar:{tag}", f"oci:{tmp_path}/oci:two:2")
    skopeo("copy", f"oci-archive:{tmp_path}/x.tar", f"oci-archive:{tmp_path}/o.tar:three:3")
    for source, tag in (("d.tar", "one:1"), ("oci", "two:2"), ("o.tar", "three:3")):
        assert fresh_mini.run("load", "-i", f"{tmp_path}/{source}").out == f"Loaded image: {tag}"
        assert identity(fresh_mini, tag) == expected
        # each time all of it is read: nothing is there any more
        fresh_mini.run("rmi", tag)


class Podman:
    def __init__(self, root: str) -> None:
        self.options = ["--root", f"{root}/root", "--runroot", f"{root}/run", "--storage-driver", "vfs"]
        self.environ = {**os.environ, "CONTAINERS_REGISTRIES_CONF": os.devnull, "TMPDIR": root}

    def run(self, *arguments: str) -> Result:
        return run_command(["podman", *self.options, *arguments], self.environ, timeout=110)


@pytest.fixture
def podman() -> Iterator[Podman]:
    root = tempfile.mkdtemp(prefix="mp", dir="/tmp")
    try:
        yield Podman(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.requires("podman")
def test_podman_reads_mini_and_mini_reads_podman(
    mini: Mini, fresh_mini: Mini, podman: Podman, host_image: Image, tmp_path: Path
) -> None:
    expected = identity(mini, host_image.name)
    mini.run("tag", host_image.name, "localhost/crossing:1")
    try:
        mini.run("save", "-o", f"{tmp_path}/x.tar", "localhost/crossing:1")
    finally:
        mini.run("rmi", "localhost/crossing:1")
    assert podman.run("load", "-q", "-i", f"{tmp_path}/x.tar").out.endswith("localhost/crossing:1")
    (loaded,) = podman.run("image", "inspect", "localhost/crossing:1").json()
    assert (f"sha256:{loaded['Id']}", loaded["RootFS"]["Layers"]) == expected
    for kind, suffix in (("docker-archive", "d.tar"), ("oci-archive", "o.tar"), ("oci-dir", "oci")):
        podman.run("save", "-q", "--format", kind, "-o", f"{tmp_path}/{suffix}", "localhost/crossing:1")
        assert "Loaded image" in fresh_mini.run("load", "-i", f"{tmp_path}/{suffix}").out
        assert identity(fresh_mini, expected[0]) == expected
        fresh_mini.run("rmi", "-f", expected[0])


# --- export and import -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["erofs", "directory"])
def test_a_root_goes_out_and_in_again(mini: Mini, fresh_mini: Mini, image: Image, driver: str, tmp_path: Path) -> None:
    """The root of a container of the imported image is byte for byte the same tar, also where another driver shows it."""
    fresh_mini.environ["MINI_STORAGE_DRIVER"] = driver
    script = "mkdir -p /srv/a/b && echo x >/srv/a/b/c && ln /srv/a/b/c /srv/d && mkfifo /srv/e; chown 5:6 /srv/d; chmod 4755 /srv/d"
    container = mini.detached("--network", "none", image.name, "sh", "-c", script)
    mini.run("wait", container)
    mini.run("export", "-o", f"{tmp_path}/out.tar", container)
    imported = fresh_mini.run("import", "-m", "again", "-c", "CMD true", f"{tmp_path}/out.tar", "again:1").out
    assert fresh_mini.run("image", "inspect", "-f", "{{.Id}} {{.Comment}}", "again:1").out == f"{imported} again"
    created = fresh_mini.run("create", "--network", "none", "again:1").out
    fresh_mini.run("export", "-o", f"{tmp_path}/again.tar", created)
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()
    fresh_mini.run("start", created)
    assert fresh_mini.run("wait", created).out == "0"


def _wait_until_ready(mini: Mini, container: str) -> None:
    while "ready" not in mini.run("logs", container).out:
        time.sleep(0.05)


def test_export_of_a_running_container(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """As it is at that moment, with what it wrote and without what is mounted; and it goes on."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("the host's")
    script = "echo new >/srv/new; echo x >/vol/x; echo x >/tmp/fs/x; echo ready; sleep 60"
    container = mini.detached(
        "--network", "none", "-v", "/vol", "-v", f"{tmp_path}/host:/bound", "--tmpfs", "/tmp/fs",
        host_image.name, "sh", "-c", script,
    )  # fmt: skip
    _wait_until_ready(mini, container)
    mini.run("export", "-o", f"{tmp_path}/x.tar", container)
    names = subprocess.run(
        ["tar", "-tf", tmp_path / "x.tar"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "srv/new" in names
    assert {"vol/", "bound/", "tmp/fs/", "proc/", "sys/", "dev/"} <= set(names)
    inside = [n for n in names if n.startswith(("vol/", "bound/", "tmp/fs/", "proc/", "sys/")) and not n.endswith("/")]
    assert inside == []
    assert mini.run("exec", container, "cat", "/srv/new").out == "new"
    mini.run("stop", "-t", "0", container)
    mini.run("start", container)


def test_mounts_that_a_container_made_itself_are_left_out(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    script = "mount -t tmpfs none /mnt; echo inner >/mnt/inner; echo ready; exec sleep 60"
    container = mini.detached("--privileged", "--network", "none", host_image.name, "sh", "-c", script)
    _wait_until_ready(mini, container)
    mini.run("export", "-o", f"{tmp_path}/x.tar", container)
    names = subprocess.run(
        ["tar", "-tf", tmp_path / "x.tar"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "srv/index.html" in names
    assert "mnt/inner" not in names
    assert not [n for n in names if n.startswith("work/")]


def test_history(mini: Mini, host_image: Image) -> None:
    lines = mini.run("history", host_image.name).lines
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    rows = [json.loads(line) for line in mini.run("history", "--format", "json", "--no-trunc", host_image.name).lines]
    assert [r["CreatedBy"] for r in rows] == ["layer 2", "layer 1", "layer 0"]
    assert [r["ID"] for r in rows] == [identity(mini, host_image.name)[0], "<missing>", "<missing>"]
    raw = mini.run("history", "--human=false", "--format", "{{.Size}}", host_image.name).lines
    assert all(size.isdigit() and int(size) > 1000 for size in raw)
