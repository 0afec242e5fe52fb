"""Layers over each other, by both storage drivers, seen from the host's side through the container's root."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

import pytest

from tests.support.images import Image, Images
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay")

DRIVERS = [pytest.param("erofs", marks=pytest.mark.requires("erofs")), "directory"]


@pytest.fixture(params=DRIVERS)
def driven(request: pytest.FixtureRequest, images: Images) -> Iterator[Mini]:
    mini = Mini({**images.environ, "MINI_STORAGE_DRIVER": request.param})
    yield mini
    mini.close()


# What is mounted over the image: not of the tree, whose files an overlay may show with several device numbers.
_MOUNTED = {"dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"}


def _tree(mini: Mini, container: str) -> dict[str, tuple[object, ...]]:
    """The container's root without what is mounted into it: by name, all that a layer says of a file, and its content.

    Hard links show as the first name (sorted) that has the same inode.
    """
    root = f"/proc/{mini.inspect(container)['State']['Pid']}/root"
    first: dict[tuple[int, int], str] = {}
    tree: dict[str, tuple[object, ...]] = {}
    for path, directories, files in os.walk(f"{root}/."):
        below = os.path.relpath(path, f"{root}/.")
        directories[:] = sorted(name for name in directories if os.path.normpath(f"{below}/{name}") not in _MOUNTED)
        for name in sorted([*directories, *files]):
            key = os.path.normpath(f"{below}/{name}")
            if key not in _MOUNTED:
                tree[key] = _described(f"{root}/{key}", key, first)
    return tree


def _described(path: str, key: str, first: dict[tuple[int, int], str]) -> tuple[object, ...]:
    status = os.lstat(path)
    content: object = None
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    of_a_file = None
    if not stat.S_ISDIR(status.st_mode):  # a directory's time and link count are the file system's
        of_a_file = (status.st_nlink, status.st_mtime_ns, first.setdefault((status.st_dev, status.st_ino), key))
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    return (stat.filemode(status.st_mode), status.st_uid, status.st_gid, content, of_a_file, sorted(xattrs.items()))


def test_whiteouts_opaque_directories_and_hard_links(driven: Mini, host_image: Image) -> None:
    driven.run("pull", "-q", host_image.name)
    script = "ls /opt; cat /opt/replaced; ls -A /srv/site; cat /opt/motd; stat -c '%h %i' /etc/motd /opt/motd"
    *lines, one, two = driven.run("run", "--rm", host_image.name, "sh", "-c", script).lines
    assert lines == ["motd", "replaced", "the top layer's", "new.html", "an image made from this host's own files"]
    assert one == two and one.startswith("2 ")
    modes = driven.run(
        "run", "--rm", host_image.name, "stat", "-c", "%a %U", "/tmp", "/root", "/home/user", "/opt"
    ).lines
    assert modes == ["1777 root", "700 root", "755 user", "755 root"]


def test_a_hard_link_to_a_file_of_a_layer_below(driven: Mini, images: Images) -> None:
    script = "cat /opt/nsswitch.conf; stat -c '%h %i' /etc/nsswitch.conf /opt/nsswitch.conf"
    *lines, one, two = driven.run("run", "--rm", images.linked_name, "sh", "-c", script).lines
    assert lines == ["passwd: files", "group: files", "hosts: files dns"]
    assert one == two and one.startswith("2 ")


@pytest.mark.requires("erofs")
def test_both_drivers_give_the_same_tree(images: Images, image: Image) -> None:
    trees = []
    for driver in ("erofs", "directory"):
        mini = Mini({**images.environ, "MINI_STORAGE_DRIVER": driver})
        try:
            container = mini.detached(image.name, "sleep", "60")
            assert mini.run("info", "--format", "{{.Driver}}").out == driver
            trees.append(_tree(mini, container))
        finally:
            mini.close()
    erofs, directory = trees
    assert len(erofs) > 100
    assert {name: (erofs.get(name), directory.get(name)) for name in erofs.keys() ^ directory.keys()} == {}
    differing = {name: (erofs[name], directory[name]) for name in erofs if erofs[name] != directory[name]}
    assert differing == {}


def test_a_file_of_the_image_can_be_changed_in_place(driven: Mini, host_image: Image) -> None:
    """Copy-up: of content, mode, owner, a directory renamed, a file removed and made again."""
    script = (
        "echo more >> /etc/motd; tail -n 1 /etc/motd; chmod 600 /opt/replaced; chown user /srv/index.html;"
        "stat -c '%a %U' /opt/replaced /srv/index.html; mv /srv/site /srv/moved && ls /srv/moved;"
        "rm /etc/nsswitch.conf; echo new > /etc/nsswitch.conf; cat /etc/nsswitch.conf; rm -r /opt; mkdir /opt; ls -A /opt"
    )
    driven.run("pull", "-q", host_image.name)
    assert driven.run("run", "--rm", host_image.name, "sh", "-c", script).lines == [
        "more",
        "600 root",
        "644 user",
        "new.html",
        "new",
    ]
