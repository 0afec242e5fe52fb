"""A tree as a tar: all that a tree can have, against GNU tar's extraction; and what a hostile or living tree tries."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import linux
from engine.errors import LayerError
from engine.files import remove_tree
from engine.storage.tar import read_entries
from engine.storage.tar_write import TarWriter
from engine.storage.tree_tar import write_tree
from tests.support.layers import scan

pytestmark = pytest.mark.requires("linux", "root")


def written(tree: Path, archive: Path) -> list[bytes]:
    """Writes the tree's tar; the names in it."""
    top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open(archive, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    tar = TarWriter(fd)
    write_tree(tar, top)
    tar.close()
    names = [entry.name for entry in read_entries(fd)]
    os.close(fd)
    os.close(top)
    return names


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """One of everything."""
    top = tmp_path / "tree"
    deep = top / "usr" / "/".join(["d" * 60] * 4)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (top / "empty").mkdir(mode=0o1777)
    (top / "empty").chmod(0o1777)
    (top / "file").write_bytes(b"x" * 3_000_000)
    (top / "file").chmod(0o4711)
    os.chown(top / "file", 12_345, 3_000_000_000)
    os.setxattr(top / "file", "user.note", b"\0\xff\n=")
    os.setxattr(top / "file", "security.capability", b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
    os.link(top / "file", top / "usr" / "linked")
    os.symlink("../" + "x" * 150, top / "usr" / "dangling")
    os.symlink("/etc/passwd", top / "absolute")
    Path(os.fsdecode(os.fsencode(top) + b"/bytes\xff\n")).write_bytes(b"")
    os.mkfifo(top / "fifo", 0o600)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 300))
    with open(top / "sparse", "wb") as sparse:
        sparse.truncate(1 << 20)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{top}/socket")
    for path, time in ((top / "file", 1_600_000_000_123_456_789), (top / "empty", -5_000_000_001)):
        os.utime(path, ns=(time, time))
    yield top


def test_everything_a_tree_can_have(tree: Path, tmp_path: Path) -> None:
    names = written(tree, tmp_path / "tar")
    assert names[:3] == [b"absolute", b"bytes\xff\n", b"disk"]
    assert b"socket" not in names
    assert len(names) == len(set(names))
    extracted = tmp_path / "extracted"
    extracted.mkdir()
    subprocess.run(
        ["tar", "-xf", tmp_path / "tar", "-C", extracted, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p"],
        check=True,
    )
    expected, found = scan(tree), scan(extracted)
    for tree_ in (expected, found):
        del tree_[b"."]
    del expected[b"socket"]
    assert found == expected


def test_what_no_tar_can_hold(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    os.setxattr(tree / "file", "user.a=b", b"c")
    os.setxattr(tree / "file", "user.plain", b"d=e")
    written(tree, tmp_path / "tar")
    fd = os.open(tmp_path / "tar", os.O_RDONLY)
    (entry,) = read_entries(fd)
    os.close(fd)
    assert entry.xattrs == {b"user.plain": b"d=e"}
    here = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(LayerError, match="lies deeper than a path can reach"):
        written(tree, tmp_path / "tar")
    remove_tree(str(tree))


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    written(tree, tmp_path / "one")
    written(tree, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_other_mounts_are_left_out(tree: Path, tmp_path: Path) -> None:
    linux.mount("tmpfs", str(tree / "empty"), "tmpfs")
    try:
        (tree / "empty" / "secret").write_bytes(b"a volume's")
        names = written(tree, tmp_path / "tar")
    finally:
        linux.umount2(str(tree / "empty"))
    assert not [name for name in names if b"secret" in name]


def test_a_tree_that_changes_all_the_time_leads_nowhere(tmp_path: Path) -> None:
    """A directory that is now and then a link to the host's, a file that is now and then a FIFO: neither is followed."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for directory in (tree, outside):
        (directory / "swapped").mkdir(parents=True)
        (directory / "swapped" / "file").write_bytes(b"inside" if directory == tree else b"the host's secret")
    os.mkfifo(tree / "fifo")
    (tree / "plain").write_bytes(b"plain")
    stop = threading.Event()

    def swap() -> None:
        os.symlink(outside / "swapped", tree / "link")
        top = os.open(tree, os.O_RDONLY)
        while not stop.is_set():
            for a, b in (("link", "swapped"), ("fifo", "plain")):
                os.rename(a, "aside", src_dir_fd=top, dst_dir_fd=top)
                os.rename(b, a, src_dir_fd=top, dst_dir_fd=top)
                os.rename("aside", b, src_dir_fd=top, dst_dir_fd=top)
        os.close(top)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(200):
            written(tree, tmp_path / "tar")
            assert b"secret" not in (tmp_path / "tar").read_bytes()
    finally:
        stop.set()
        swapper.join()
