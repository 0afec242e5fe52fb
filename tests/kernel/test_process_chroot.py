"""mini run from within a chroot: nothing of what lies above it may be within a container's reach."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import linux
from tests.support.process import Box

pytestmark = pytest.mark.requires("linux", "root")

# chroot(2), NOTES: with CAP_SYS_CHROOT, which Docker leaves to a container, `..` is followed above a root that one has left.
ESCAPE = """
import os
os.mkdir("/jail")
os.chroot("/jail")
for _ in range(64):
    os.chdir("..")
os.chroot(".")
print(sorted(os.listdir("/")))
"""


def in_chroot(directory: Path, work: Callable[[], str]) -> str:
    """What `work` returns, in a child whose root is the host's own, bound to a directory."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
            linux.mount("/", str(directory), None, linux.MS_BIND | linux.MS_REC)
            os.chroot(directory)
            os.chdir("/")
            os.write(writer, work().encode())
        except BaseException as e:
            os.write(writer, f"{type(e).__name__}: {e}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = file.read()
    os.waitpid(pid, 0)
    return found


def test_there_is_nothing_above_the_root(box: Box, tmp_path: Path) -> None:
    (tmp_path / "chroot").mkdir()
    inside = box.python("import os; print(sorted(os.listdir('/') + ['jail']))")
    found = in_chroot(tmp_path / "chroot", lambda: box.python(ESCAPE))
    assert found == inside


def test_exec_arrives_in_the_container(box: Box, tmp_path: Path) -> None:
    (tmp_path / "chroot").mkdir()

    def work() -> str:
        first = box.start("sleep", "60")
        try:
            return box.exec(first, "cat", "/proc/1/comm").out + box.exec(first, "ls", "/").out
        finally:
            first.abandon()

    assert in_chroot(tmp_path / "chroot", work) == "sleep\n" + box.sh("ls /")
