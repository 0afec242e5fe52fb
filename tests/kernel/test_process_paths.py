"""Paths below a hostile root: where they lead, what is made for them, and that it is never outside."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime import inside

pytestmark = pytest.mark.requires("linux")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """`tmp_path/root` as a descriptor; beside it lies what no path may reach."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    fd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]


def made(fd: int) -> str:
    """The real path of the descriptor, which is closed."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


@pytest.mark.parametrize(
    ("link", "path", "expected"),
    [
        (None, "a/b/c", "a/b/c"),
        (None, "/a//./b/", "a/b"),
        (None, "../../outside/x", "outside/x"),
        (None, "a/../../../b", "b"),
        ("/outside", "link/x", "outside/x"),
        ("../../outside", "link/x", "outside/x"),
        ("../run/inner", "link", "run/inner"),
        ("/etc", "link/new", "etc/new"),
        ("etc/../../../..", "link/x", "x"),
        ("link2", "link/x", "link2/x"),
    ],
)
def test_directories_are_made_inside(root: int, tmp_path: Path, link: str | None, path: str, expected: str) -> None:
    if link:
        os.symlink(link, "link", dir_fd=root)
    assert made(inside.make_dir(root, path)) == f"{tmp_path}/root/{expected}"
    assert (tmp_path / "root" / expected).is_dir()


def test_files_are_made_inside(root: int, tmp_path: Path) -> None:
    os.symlink("/run/systemd/resolve/stub", "etc/resolv.conf", dir_fd=root)
    assert made(inside.make_file(root, "/etc/resolv.conf")) == f"{tmp_path}/root/run/systemd/resolve/stub"
    os.symlink(f"{tmp_path}/outside/secret", "etc/shadow", dir_fd=root)
    target = made(inside.make_file(root, "/etc/shadow"))
    assert target == f"{tmp_path}/root{tmp_path}/outside/secret"
    assert os.stat(target).st_size == 0 and stat.S_IMODE(os.stat(target).st_mode) == 0o644


def test_what_exists_is_left_as_it_is(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/etc/hosts").write_text("kept")
    os.close(inside.make_file(root, "etc/hosts"))
    os.close(inside.make_dir(root, "etc"))
    assert (tmp_path / "root/etc/hosts").read_text() == "kept"


@pytest.mark.parametrize("links", [{"a": "b", "b": "a"}, {"a": "a/x"}, {"a": "/b/../c", "c": "a"}])
def test_links_in_a_circle(root: int, links: dict[str, str]) -> None:
    for name, target in links.items():
        os.symlink(target, name, dir_fd=root)
    with pytest.raises(OSError) as caught:
        inside.make_dir(root, "a/x")
    assert caught.value.errno == errno.ELOOP


def test_magic_links_lead_nowhere(root: int, tmp_path: Path) -> None:
    os.mkdir("proc", dir_fd=root)
    outside = os.open(tmp_path / "outside", os.O_RDONLY)
    proc = os.open("/proc", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            inside.open_in(proc, f"self/fd/{outside}/secret")
        assert caught.value.errno == errno.ELOOP
    finally:
        os.close(outside)
        os.close(proc)


def test_a_file_in_the_way(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/file").write_text("")
    with pytest.raises(NotADirectoryError):
        inside.make_dir(root, "file/x")
