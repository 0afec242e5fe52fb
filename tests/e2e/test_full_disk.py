"""No space, no permission, a read-only file system: a clear error, nothing half-made, nothing lost, and a way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import linux
from engine.cli import execute
from tests.e2e.test_supervision import until
from tests.support.images import Image, Images
from tests.support.layers import directory, file
from tests.support.push import push_image
from tests.support.runner import Mini, Result

pytestmark = [pytest.mark.requires("linux", "root", "netns"), pytest.mark.timeout(240)]

KIB = 1 << 10
LAYERS = 3
LAYER = 400 * KIB


@pytest.fixture(scope="module")
def small(images: Images) -> str:
    """An image of three layers of 400 KiB in 20 files each, which do not compress."""
    layers = []
    for number in range(LAYERS):
        files = (file(f"d{number}/{n}", os.urandom(LAYER // 20)) for n in range(20))
        layers.append(directory(f"d{number}") + b"".join(files) + bytes(1024))
    push_image(images.registry.url, "library/small", "1", layers, {"Cmd": ["/x"]})
    return "small:1"


class Disk:
    """A tmpfs as data root, in this process's mount namespace."""

    def __init__(self, where: Path, environ: dict[str, str]) -> None:
        self.path = str(where)
        where.mkdir()
        linux.mount("tmpfs", self.path, "tmpfs", 0, "size=64m,mode=711")
        self.mini = Mini(environ, root=self.path)

    def resize(self, size: int) -> None:
        linux.mount(None, self.path, None, linux.MS_REMOUNT, f"size={size}")

    def read_only(self, on: bool) -> None:
        linux.mount(None, self.path, None, linux.MS_REMOUNT | (linux.MS_RDONLY if on else 0))

    def fill(self) -> None:
        """Takes all that is left."""
        with open(f"{self.path}/ballast", "ab", buffering=0) as file:
            try:
                while file.write(bytes(KIB)):
                    pass
            except OSError:
                pass

    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def files(self) -> set[str]:
        return {str(p.relative_to(self.path)) for p in Path(self.path).rglob("*") if "locks" not in p.parts}

    def close(self) -> None:
        linux.umount2(self.path, linux.MNT_DETACH)


@pytest.fixture(params=["erofs", "directory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, images: Images) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", {**images.environ, "MINI_STORAGE_DRIVER": request.param})
    yield made
    made.close()


def is_clear(said: Result, reason: str) -> bool:
    """One line with the reason, a hint, and no word of anything unexpected."""
    return (
        said.code in (1, 125) and reason in said.stderr and "did not expect" not in said.stderr
        and "Traceback" not in said.stderr and len(said.stderr.splitlines()) <= 4
    )  # fmt: skip


def test_a_pull_on_a_disk_of_any_size(disk: Disk, small: str) -> None:
    disk.mini.run("pull", "-q", small)
    whole = 64 * 1024 * KIB - disk.free()
    kept = disk.files()
    disk.mini.run("rmi", small)
    disk.mini.run("system", "prune", "-af")
    empty = 64 * 1024 * KIB - disk.free()
    assert whole - empty > LAYERS * LAYER
    failed = 0
    for size in range(empty + 16 * KIB, whole + LAYER * 2, (whole - empty) // 7):
        disk.resize(size)
        said = disk.mini.run("pull", "-q", small, check=False)
        if said.code:
            failed += 1
            assert is_clear(said, "No space left on device"), f"{size}: {said}"
            assert not disk.mini.run("images", "-q").out
            found = disk.mini.run("fsck")
            assert "damaged" not in found.stdout, f"{size}: {found}"
            half_made = [f for f in disk.files() if f.endswith((".tmp", ".new")) or f.startswith("downloads/")]
            assert all(f.endswith(".part") for f in half_made), (
                f"{size}: {half_made}"
            )  # what the next pull goes on with
            # on the full disk, too
            disk.mini.run("system", "prune", "-af")
        else:
            assert disk.mini.run("fsck").lines[-1].endswith("all is as it must be")
            disk.mini.run("rmi", small)
        disk.resize(64 << 20)
        assert disk.free() >= (64 << 20) - empty - 16 * KIB, f"{size}: not all was given back"
    assert failed > 3
    disk.mini.run("pull", "-q", small)
    assert disk.files() >= kept


def test_everything_else_on_a_full_disk(disk: Disk, small: str) -> None:
    disk.mini.run("pull", "-q", small)
    disk.mini.run("create", "--name", "it", "-v", "data:/data", small)
    disk.mini.run("volume", "create", "other")
    kept = disk.files()
    disk.fill()
    for words in (
        "create small:1",
        "run --rm small:1",
        "volume create more",
        "create -v more:/x small:1",
        "tag small:1 b:1",
    ):
        assert is_clear(disk.mini.run(*words.split(), check=False), "No space left on device"), words
        assert disk.files() - kept <= {"ballast"}, words
    assert disk.mini.run("ps", "-aq").out and disk.mini.run("images", "-q").out
    assert "damaged" not in disk.mini.run("fsck").stdout
    for words in ("system df", "rm it", "volume rm data", "system prune -af --volumes", "rmi small:1"):
        said = disk.mini.run(*words.split(), check=words != "rmi small:1")
    assert "No such image" in said.stderr
    os.unlink(f"{disk.path}/ballast")
    assert disk.mini.run("volume", "ls", "-q").out == "other"
    disk.mini.run("pull", "-q", small)
    assert disk.mini.run("fsck").lines[-1].endswith("all is as it must be")


def test_a_read_only_file_system(disk: Disk, small: str) -> None:
    disk.mini.run("pull", "-q", small)
    disk.mini.run("create", "--name", "it", small)
    os.unlink(f"{disk.path}/locks/adding")  # a lock that was never taken here
    disk.read_only(True)
    for words in ("ps -a", "images", f"image inspect {small}", "inspect it", "volume ls", "system df -v", "fsck"):
        disk.mini.run(*words.split())
    for words in (
        f"create {small}", f"run {small}", "start it", "rm it", f"rmi {small}", "pull host:latest", "volume create xx",
        "tag small:1 b:1", "system prune -f", "container prune -f",
    ):  # fmt: skip
        said = disk.mini.run(*words.split(), check=False)
        assert is_clear(said, "Read-only file system"), f"{words}: {said}"
    disk.read_only(False)
    assert disk.mini.run("fsck").lines[-1].endswith("all is as it must be")
    disk.mini.run("rm", "it")


def as_nobody(environ: dict[str, str], *words: str) -> tuple[int, str]:
    """(exit code, what it said) of a command run by another user: in a fork, with the modules that he may not be able to read."""
    import engine.cli.commands.df
    import engine.cli.commands.fsck
    import engine.cli.commands.prune
    import engine.images.pull
    import engine.system.fsck  # noqa: F401

    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        os.environ.update(environ)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        code = execute.main(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def test_a_root_that_is_somebody_elses(tmp_path: Path, small: str, images: Images) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    mini = Mini({**images.environ, "HOME": "/"}, root=str(root))
    for words in (f"pull {small}", "images", "ps -a", "volume create xx", "fsck", "system df", "image prune -f"):
        code, said = as_nobody(mini.environ, *words.split())
        assert code == 1 and "Permission denied" in said and "--root DIR" in said, f"{words}: {said}"
        assert "did not expect" not in said, f"{words}: {said}"
    assert not list(root.iterdir())


@pytest.mark.parametrize("disk", ["directory"], indirect=True)
def test_probes_on_a_full_disk(disk: Disk, host_image: Image) -> None:
    """Their results need more room than the state's block has: without them it is written, and is whole at any time."""
    disk.mini.run("pull", "-q", host_image.name)
    check = "test -e /quiet || head -c 4000 /dev/zero | tr '\\0' x"
    options = ["--network", "none", "--health-cmd", check, "--health-interval", "100ms"]
    script = "echo > /quiet; until test -e /dev/shm/go; do sleep 0.05; done; exit 7"
    disk.mini.run("run", "-d", "--name", "it", *options, host_image.name, "sh", "-c", script)

    def health() -> Any:
        return disk.mini.inspect("it")["State"]["Health"]

    until(lambda: health()["Status"] == "healthy")
    disk.fill()
    disk.mini.run("exec", "it", "rm", "/quiet")
    disk.fill()
    until(lambda: health()["Log"] == [])
    assert health()["Status"] == "healthy"
    os.unlink(f"{disk.path}/ballast")
    until(lambda: len(health()["Log"]) == 5 and all(len(probe["Output"]) == 4000 for probe in health()["Log"]))
    disk.fill()
    disk.mini.run("exec", "it", "touch", "/dev/shm/go")
    assert disk.mini.run("wait", "it").out == "7"
    state = disk.mini.inspect("it")["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 7, "")
