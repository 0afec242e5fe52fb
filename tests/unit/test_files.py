"""Atomic files, reservations, locks and removal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import files
from engine.errors import Conflict, StoreError


def test_write_atomic_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    for data in (b"one", b"two" * 100000):
        files.write_atomic(path, data, 0o600)
        assert files.read_bytes(path) == data
    assert os.listdir(tmp_path) == ["f"]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    files.write_atomic(path, b"old")
    code = (
        "import resource, signal, sys; sys.path.insert(0, '.')\n"
        "from engine import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"files.write_atomic({path!r}, b'x' * 5000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StoreError: cannot write" in done.stderr
    assert files.read_bytes(path) == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_damaged_json_is_a_store_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("{")
    with pytest.raises(StoreError, match=f"{tmp_path}/f is damaged"):
        files.read_json(f"{tmp_path}/f")


def test_create_exclusive(tmp_path: Path) -> None:
    files.create_exclusive(f"{tmp_path}/f", b"one")
    with pytest.raises(FileExistsError):
        files.create_exclusive(f"{tmp_path}/f", b"two")
    assert os.listdir(tmp_path) == ["f"]
    assert files.read_bytes(f"{tmp_path}/f") == b"one"


def test_lock_excludes_and_goes_with_its_holder(tmp_path: Path) -> None:
    path = f"{tmp_path}/locks/l"
    with files.FileLock(path), pytest.raises(Conflict):
        files.FileLock(path, wait=False).__enter__()
    if (pid := os.fork()) == 0:
        files.FileLock(path).__enter__()
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    with files.FileLock(path, wait=False):
        pass


def test_remove_tree_of_any_depth_and_shape(tmp_path: Path) -> None:
    """Deeper than the recursion limit, RLIMIT_NOFILE and PATH_MAX."""
    top = tmp_path / "top"
    (top / "wide" / "a").mkdir(parents=True)
    (top / "wide" / "b").mkdir()
    (top / "wide" / "a" / "f").write_text("x")
    os.mkfifo(top / "fifo")
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("last", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    files.remove_tree(str(top))
    assert os.listdir(tmp_path) == []
    files.remove_tree(str(top))


def test_remove_tree_does_not_follow_symlinks(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "link").symlink_to(outside)
    (top / "d" / "link").symlink_to(outside)
    files.remove_tree(str(top))
    assert (outside / "keep").exists()
    assert not top.exists()
    link = tmp_path / "link"
    link.symlink_to(outside)
    with pytest.raises(StoreError):
        files.remove_tree(str(link))
    assert (outside / "keep").exists()


def test_overwrite_takes_no_room(tmp_path: Path) -> None:
    """In place: the same file, and what is left of the old content is blank."""
    path = tmp_path / "file"
    path.write_bytes(b'{"long": "content"}\n')
    inode = path.stat().st_ino
    files.overwrite(str(path), b"[1]\n")
    assert files.read_json(str(path)) == [1]
    assert (path.stat().st_ino, path.stat().st_size) == (inode, 20)
    files.overwrite(str(path), b'"' + b"x" * 40 + b'"')
    assert files.read_json(str(path)) == "x" * 40


def test_what_does_not_fit_into_a_files_blocks_leaves_it_as_it_was(tmp_path: Path) -> None:
    """It may be called for on a full disk: half of the new content, over the old, would be neither."""
    path = tmp_path / "file"
    path.write_bytes(b"[1]\n")
    with pytest.raises(StoreError, match="No space left on device"):
        files.overwrite(str(path), b'"' + b"x" * 200_000 + b'"')
    assert files.read_json(str(path)) == [1]
