"""Copy-up: an empty volume gets what the image has, all of it and nothing else, and never half of it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import StoreError
from engine.files import remove_tree
from engine.storage.copyup import copy_up, needs_copy_up

pytestmark = pytest.mark.requires("linux", "root")


class Place:
    """A root of a container and a volume: `data` is what a container would see of the volume."""

    def __init__(self, directory: Path) -> None:
        self.root, self.data = directory / "root", directory / "volume/_data"
        self.root.mkdir()
        self.data.mkdir(parents=True)

    def fill(self, path: str) -> bool:
        root = os.open(self.root, os.O_PATH)
        data = os.open(self.data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return copy_up(root, path, data)
        finally:
            os.close(root)
            os.close(data)

    @property
    def beside(self) -> list[str]:
        """What lies in the volume beside `_data`: nothing, unless a copy-up was killed."""
        return sorted(os.listdir(self.data.parent))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    # pytest's own way of removing them recurses, and gives up on a deep tree
    remove_tree(str(made.root))
    remove_tree(str(made.data))


def make_tree(top: Path) -> None:
    """One of everything that an image may hold."""
    (top / "deep/er").mkdir(parents=True)
    (top / "deep/er/file").write_text("content\n")
    os.link(top / "deep/er/file", top / "deep/link")
    os.link(top / "deep/er/file", top / "top-link")
    os.symlink("/etc/shadow", top / "absolute")
    os.symlink("deep/er", top / "relative")
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (top / "set-uid").write_text("x")
    os.chown(top / "set-uid", 3, 4)
    os.chmod(top / "set-uid", 0o6751)
    os.setxattr(top / "set-uid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(top / "deep", "user.note", b"kept")
    os.setxattr(top / "deep", "trusted.overlay.opaque", b"y")
    with open(top / "sparse", "wb") as file:
        file.seek(4 << 20)
        file.write(b"end")
    (top / b"\xff\xfe".decode("utf-8", "surrogateescape")).write_text("no UTF-8")
    os.lchown(top / "absolute", 8, 9)
    for path in ("deep/er", "deep", "set-uid", "absolute"):
        os.utime(top / path, ns=(10**18, 10**18 + 123456789), follow_symlinks=False)
    os.chown(top, 5, 6)
    os.chmod(top, 0o1750)


def listing(top: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about every entry; hard links by the name that comes first."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        info, name = path.lstat(), str(path.relative_to(top))
        body = os.readlink(path) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(info.st_mode) else None
        attributes = {a: os.getxattr(path, a, follow_symlinks=False) for a in os.listxattr(path, follow_symlinks=False)}
        attributes.pop("trusted.overlay.opaque", None)
        owner = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_mtime_ns)
        links = None if path.is_dir() and not path.is_symlink() else first.setdefault(info.st_ino, name)
        found[name] = (*owner, links, body, attributes)
    return found


def test_everything_is_copied_and_overlayfs_attributes_are_not(place: Place) -> None:
    (place.root / "srv").mkdir()
    make_tree(place.root / "srv")
    assert needs_copy_up(str(place.data))
    assert place.fill("/srv")
    assert listing(place.data) == listing(place.root / "srv")
    assert "trusted.overlay.opaque" not in os.listxattr(place.data / "deep")
    assert (place.data / "sparse").stat().st_blocks < 100
    assert not needs_copy_up(str(place.data)) and place.beside == ["_data"]


def test_an_empty_directory_gives_its_owner_and_mode(place: Place) -> None:
    (place.root / "home").mkdir()
    os.chown(place.root / "home", 1000, 1001)
    os.chmod(place.root / "home", 0o2770)
    assert place.fill("/home")
    info = place.data.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o2770, 1000, 1001)


def test_a_volume_with_content_is_left_alone(place: Place) -> None:
    (place.root / "srv").mkdir()
    (place.root / "srv/new").write_text("new")
    (place.data / ".mine").write_text("mine")
    assert not needs_copy_up(str(place.data))
    assert not place.fill("/srv")
    assert os.listdir(place.data) == [".mine"]


@pytest.mark.parametrize("path", ["/none", "/file", "/file/below", "/loop"])
def test_nothing_to_copy(place: Place, path: str) -> None:
    (place.root / "file").write_text("x")
    (place.root / "loop").symlink_to("loop")
    assert not place.fill(path)
    assert os.listdir(place.data) == [] and place.beside == ["_data"]


@pytest.mark.parametrize("target", ["{outside}", "../../outside", "/../../../../../..{outside}"])
def test_a_symlink_does_not_lead_out_of_the_root(place: Place, tmp_path: Path, target: str) -> None:
    """CVE-2022-23648: the image's mount point is a symlink to a directory of the host."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("of the host")
    (place.root / "data").symlink_to(target.format(outside=tmp_path / "outside"))
    place.fill("/data")
    place.fill("/data/../data")
    assert os.listdir(place.data) == []


def test_a_symlink_inside_the_root_is_followed_there(place: Place) -> None:
    (place.root / "run/app").mkdir(parents=True)
    (place.root / "run/app/file").write_text("x")
    (place.root / "var").mkdir()
    (place.root / "var/run").symlink_to("/run")
    assert place.fill("/var/run/app")
    assert os.listdir(place.data) == ["file"]


def test_a_deep_tree(place: Place) -> None:
    """1500 levels: more than descriptors may be open (RLIMIT_NOFILE) and functions may call each other."""
    directory = place.root / "srv"
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT, dir_fd=fd))
    os.close(fd)
    assert place.fill("/srv")
    found = subprocess.run(["find", place.data, "-name", "bottom", "-printf", "%d"], capture_output=True, check=True)
    assert found.stdout == b"1501"


def test_two_at_once_fill_it_once(place: Place) -> None:
    (place.root / "srv").mkdir()
    make_tree(place.root / "srv")
    children = [in_child(lambda: place.fill("/srv")) for _ in range(4)]
    assert [os.waitpid(c, 0)[1] for c in children] == [0, 0, 0, 0]
    assert listing(place.data) == listing(place.root / "srv")
    assert place.beside == ["_data"]


def test_what_a_container_wrote_meanwhile_is_not_replaced(place: Place) -> None:
    """A container that has the empty volume writes while another one's copy-up has staged, and is killed."""
    (place.root / "srv").mkdir()
    for name in ("file", "other"):
        (place.root / "srv" / name).write_text("of the image")
    staged = place.data.parent / "staged"
    staged.mkdir()
    for name in ("file", "other"):
        (staged / name).write_text("of the image")
    (place.data / "file").write_text("of the container")
    assert needs_copy_up(str(place.data))
    assert place.fill("/srv")
    assert (place.data / "file").read_text() == "of the container"
    assert (place.data / "other").read_text() == "of the image"
    assert place.beside == ["_data"]


def test_killed_at_every_step_it_is_empty_or_will_be_whole(tmp_path: Path) -> None:
    (tmp_path / "root/srv").mkdir(parents=True)
    make_tree(tmp_path / "root/srv")
    wanted = listing(tmp_path / "root/srv")
    wanted.pop(".")
    step, killed = 0, True
    while killed:
        step += 1
        (tmp_path / str(step)).mkdir()
        place = Place(tmp_path / str(step))
        place.root = tmp_path / "root"
        child = in_child(lambda place=place: place.fill("/srv"), kill_at=step)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if killed:
            assert os.listdir(place.data) == [] or needs_copy_up(str(place.data))
            place.fill("/srv")
        after = listing(place.data)
        assert after.pop(".")[:3] == (stat.S_IFDIR | 0o1750, 5, 6)
        assert after == wanted
        assert place.beside == ["_data"]
    assert step > 40


def test_a_full_disk_leaves_the_volume_empty(place: Place, small_disk: Path) -> None:
    place.data = small_disk / "volume/_data"
    place.data.mkdir(parents=True)
    (place.root / "srv").mkdir()
    (place.root / "srv/large").write_bytes(b"x" * (2 << 20))
    with pytest.raises(StoreError, match="No space left on device"):
        place.fill("/srv")
    assert os.listdir(place.data) == [] and place.beside == ["_data"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


CALLS = ("mkdir", "open", "link", "rename", "unlink", "symlink", "mknod", "chown", "sendfile", "utime", "rmdir")


def in_child(operation: Any, kill_at: int = 0) -> int:
    """Forks, and does it there; the child is killed before its `kill_at`-th call that changes files."""
    child = os.fork()
    if child:
        return child
    code, count = 1, 0

    def counted(call: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in CALLS if kill_at else ():
        setattr(os, name, counted(getattr(os, name)))
    try:
        operation()
        code = 0
    finally:
        os._exit(code)
