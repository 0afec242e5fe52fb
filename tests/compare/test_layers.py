"""The root that Docker makes of hand-made layers, against the root of both storage drivers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from engine.host import architecture
from engine.paths import Paths
from engine.storage.drivers import DRIVERS
from tests.compare.conftest import Both
from tests.support import layers
from tests.support.layers import archive, directory, file, opaque, symlink, whiteout

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker", "iproute2", "overlay", "erofs")

# What `docker create` puts into a root of its own.
_DOCKERS = {".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "etc", "etc/hosts", "etc/hostname", "etc/mtab",
            "etc/resolv.conf", "proc", "sys"}  # fmt: skip

STACK = [
    archive(
        directory("a", mode=0o2750, uid=3, gid=4, mtime=2000),
        file("a/gone", b"gone"),
        file("a/kept", b"kept", uid=70000),
        file("root-level", b"x"),
        directory("opaque", mode=0o711, uid=8),
        file("opaque/old", b"old"),
        directory("whole", mtime=1),
        file("whole/file", b"x"),
        file("links/one", b"linked", uid=5),
        layers.entry("links/two", layers.LINK, link="links/one", mode=0o644, uid=5),
        file("becomes-dir", b"file"),
        directory("becomes-file"),
        file("becomes-file/inside", b"x"),
        symlink("usr-merged", "a"),
        symlink("usr-merged-too", "a"),
        layers.entry("devices/null", layers.CHAR, rdev=(1, 3), mode=0o666, gid=6),
        layers.entry("fifo", layers.FIFO, mode=0o622, uid=1),
        symlink("link", "/a/kept", uid=7, mtime=4000),
        file("/absolute//name/./x", b"n"),
        directory("replaced"),
        file("replaced/x"),
        layers.pax([("uid", "77"), ("comment", "a global header says nothing")], b"g"),
        file("after-global"),
    ),
    archive(
        # Docker forgets the attributes of a directory that this layer does not name; containerd and mini keep them
        directory("a", mode=0o2750, uid=3, gid=4, mtime=2000),
        directory("opaque", mode=0o711, uid=8),
        file("a/new", b"implied parent", mode=0o4755),
        whiteout("a/gone"),
        whiteout("root-level"),
        opaque("opaque"),
        file("opaque/new", b"new"),
        whiteout("whole"),
        directory("becomes-dir", mode=0o700),
        file("becomes-dir/inside", b"x"),
        file("becomes-file", b"now a file"),
        directory("usr-merged"),
        file("usr-merged/x", b"x"),
        file("usr-merged-too/x", b"below a symlink of a lower layer"),
        whiteout("never/was"),
        whiteout("replaced"),
        symlink("inside", "/a"),
        file("inside/followed", b"f"),
    ),
    archive(directory("whole", mode=0o1777, mtime=99), file("whole/again", b"again"), file("link", b"a file now")),
]


def docker_archive(stack: list[bytes], name: str) -> bytes:
    """An image as `docker save` writes it."""
    config = {
        "architecture": architecture()[0], "os": "linux", "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in stack]},
    }  # fmt: skip
    files = [("config.json", json.dumps(config).encode())]
    files += [(f"{number}/layer.tar", layer) for number, layer in enumerate(stack)]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [name for name, _ in files[1:]]}]
    return archive(*(file(path, data) for path, data in [*files, ("manifest.json", json.dumps(manifest).encode())]))


def exported(tar: bytes) -> dict[str, Any]:
    """What `docker export` says of each file; of directories not the time, which Docker's own additions change."""
    found: dict[str, Any] = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        for member in opened:
            about: dict[str, Any] = {"mode": oct(member.mode & 0o7777), "owner": (member.uid, member.gid)}
            if member.isreg() or member.islnk():
                source = opened.extractfile(member)
                assert source
                about["sha256"] = hashlib.sha256(source.read()).hexdigest()
            elif member.issym():
                about["target"] = member.linkname
            elif member.ischr():
                about["rdev"] = (member.devmajor, member.devminor)
            if not member.isdir():
                about["mtime"] = int(member.mtime)
            found[member.name.rstrip("/")] = about
    return {path: about for path, about in found.items() if path not in _DOCKERS}


def reduced(found: dict[bytes, dict[str, Any]]) -> dict[str, Any]:
    """The same of what mini shows."""
    result = {}
    for path, about in found.items():
        mode = int(about["mode"], 8)
        kept: dict[str, Any] = {"mode": oct(mode & 0o7777), "owner": about["owner"]}
        kept |= {key: about[key] for key in ("sha256",) if key in about}
        if "target" in about:
            kept["target"] = os.fsdecode(about["target"])
        if mode >> 12 == 2:
            kept["rdev"] = about["rdev"]
        if mode >> 12 != 4:
            kept["mtime"] = about["mtime"] // 10**9
        result[os.fsdecode(path)] = kept
    del result["."]
    return result


def test_the_same_layers_make_the_same_root(both: Both, tmp_path: Path) -> None:
    image = tmp_path / "image.tar"
    image.write_bytes(docker_archive(STACK, "layers:test"))
    both.docker.run("load", "-q", "-i", str(image))
    container = both.docker.run("create", "layers:test").lines[-1]
    both.docker.run("export", "-o", str(tmp_path / "root.tar"), container)
    both.docker.run("rm", container)
    both.docker.run("rmi", "layers:test")
    dockers = exported((tmp_path / "root.tar").read_bytes())
    assert len(dockers) > 25
    for kind in DRIVERS.values():
        driver = kind(Paths(str(tmp_path / "store")))
        found = layers.shown(driver.paths, driver, layers.store(driver, STACK))
        assert reduced(found) == dockers, driver.name
