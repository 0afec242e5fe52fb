"""The interpreter that the launcher starts from a read-only mount: out of reach (CVE-2019-5736), and never an old one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.process import protect
from tests.support import checkout
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini, run_command

MS_REMOUNT, MS_BIND = 32, 4096
REMOUNT = f"""
import ctypes, errno, os
fd = os.open("/proc/self/exe", os.O_PATH)
print(f"inode={{os.fstat(fd).st_ino}}")
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.mount(None, b"/proc/self/exe", None, {MS_REMOUNT | MS_BIND}, None)
print(errno.errorcode[ctypes.get_errno()] if failed else "remounted")
print("read-only" if os.fstatvfs(fd).f_flag & os.ST_RDONLY else "writable")
"""

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay")


@pytest.fixture
def root(mini: Mini, host_image: Image, tmp_path: Path) -> Iterator[Path]:
    # compiles the filter, for which that Python has no package
    mini.run("run", "--rm", "--network", "none", host_image.name, "true")
    root = tmp_path / "checkout"
    checkout.make(root)
    yield root
    checkout.remove_kept(root)


def run(mini: Mini, root: Path, *args: str) -> str:
    return run_command([str(root / "mini"), *args], mini.environ).out


def is_kept(root: Path) -> bool:
    """Whether the interpreter is mounted for the next start, read-only, and where nobody else can have put it."""
    kept = checkout.kept(root)
    if not (os.path.exists(kept) and os.path.samefile(kept, checkout.python(root))):
        return False
    # above it is what tells it where its library is
    info = os.stat(protect.KEPT + str(root))
    return bool(os.statvfs(kept).f_flag & os.ST_RDONLY) and (info.st_uid, info.st_mode & 0o77) == (0, 0)


@pytest.mark.parametrize("start", ["first", "next"])
@pytest.mark.parametrize("way", ["script", "link"])
def test_it_is_out_of_reach(mini: Mini, host_image: Image, root: Path, way: str, start: str) -> None:
    """Of a first start, which executes itself again, and of a next one, from the mount that was kept; even for --privileged.

    Writing itself is tried in tests/kernel/test_runtime_cli.py: mini's monitor, as long as it lives, keeps the file busy.
    """
    attack = root / "attack"
    if way == "script":
        attack.write_text(f"#!/proc/self/exe\n{REMOUNT}")
        attack.chmod(0o755)
    else:
        attack.symlink_to("/proc/self/exe")
    arguments = ["-c", REMOUNT] if way == "link" else []
    mini.run("create", "--privileged", "--network", "none", "--name", "it", host_image.name, "/attack", *arguments)
    mini.run("cp", str(attack), "it:/attack")
    if start == "next":
        run(mini, root, "run", "--rm", "--network", "none", host_image.name, "true")
    assert is_kept(root) == (start == "next")
    told = run(mini, root, "start", "-a", "it").split()
    assert told == [f"inode={os.stat(checkout.python(root)).st_ino}", "EINVAL", "read-only"]
    assert is_kept(root)


def test_an_upgrade_is_noticed(mini: Mini, host_image: Image, root: Path) -> None:
    """The old one is not started again, and its mount makes room. A container that it started lives on, and can be entered."""
    python = checkout.python(root)
    run(mini, root, "run", "-d", "--network", "none", "--name", "old", host_image.name, "sleep", "60")
    assert is_kept(root)
    shutil.copy(python, f"{python}.new")
    os.rename(f"{python}.new", python)
    assert not is_kept(root)
    assert run(mini, root, "run", "--rm", "--network", "none", host_image.name, "echo", "new") == "new"
    assert is_kept(root)
    assert Path("/proc/self/mountinfo").read_text().count(f" {checkout.kept(root)} ") == 1
    assert run(mini, root, "exec", "old", "echo", "entered") == "entered"


def test_what_is_no_mount_is_not_started(mini: Mini, host_image: Image, root: Path) -> None:
    """It was unmounted, or the host was restarted with /run on a disk: the file that it was mounted over is empty."""
    run(mini, root, "run", "--rm", "--network", "none", host_image.name, "true")
    # the container's monitor, which runs from it, ends after the client
    until(lambda: subprocess.run(["umount", checkout.kept(root)], capture_output=True).returncode == 0)
    assert os.path.getsize(checkout.kept(root)) == 0
    assert run(mini, root, "run", "--rm", "--network", "none", host_image.name, "echo", "again") == "again"
    assert is_kept(root)
