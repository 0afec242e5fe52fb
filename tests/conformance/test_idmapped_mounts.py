"""config.md, "Mounts": `uidMappings`, `gidMappings`, `idmap`, `ridmap` (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine import linux
from tests.support.conformance import Container

MAPPINGS = {
    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
    "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 10}],
}
NO_IDMAP = pytest.mark.differs(runc="knows no id-mapped mounts")


@NO_IDMAP
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_an_id_mapped_mount(container: Container, tmp_path: Path, option: str) -> None:
    """Linux mount options: "If `uidMappings` or `gidMappings` are specified for the mount, the runtime MUST use those values".

    Not beside the bundle: that is on a tmpfs, which Linux maps from 6.3 only.
    """
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 3, 4)
    container.mount("/mnt", "bind", str(tmp_path), "rbind", option, **MAPPINGS)
    assert container.sh("stat -c '%u %g' /mnt/file") == "1003 2004\n"


@NO_IDMAP
def test_an_id_mapped_mount_without_the_option(container: Container, tmp_path: Path) -> None:
    """POSIX-platform Mounts: `uidMappings` with no option to say how far; "SHOULD contain either `idmap` or `ridmap`"."""
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 3, 4)
    container.mount("/mnt", "bind", str(tmp_path), "rbind", **MAPPINGS)
    assert container.sh("stat -c '%u %g' /mnt/file") == "1003 2004\n"


@pytest.mark.parametrize("missing", ["uidMappings", "gidMappings"])
@pytest.mark.differs(runc="ignores mappings of a mount")
def test_half_a_mapping(container: Container, missing: str) -> None:
    """POSIX-platform Mounts: "If specified, it MUST be specified along with `gidMappings`"."""
    more = {name: value for name, value in MAPPINGS.items() if name != missing}
    container.mount("/mnt", "bind", container.directory("source"), "rbind", "idmap", **more)
    container.refused()


@pytest.mark.differs(runc="takes idmap for data of a bind mount, which has none")
def test_idmap_without_mappings(container: Container) -> None:
    """Linux mount options: "no … specified and the container isn't using user namespaces, an error MUST be returned"."""
    container.mount("/mnt", "bind", container.directory("source"), "rbind", "idmap")
    container.refused()


# In a user namespace, whose ids are what the mappings are for

IN_CONTAINER = [{"containerID": 0, "hostID": 100000, "size": 65536}]
SAME: dict[str, Any] = {"uidMappings": IN_CONTAINER, "gidMappings": IN_CONTAINER}


def mapped(container: Container, source: Path, destination: str, *options: str) -> None:
    """An id-mapped mount at a place that is there, in a user namespace of the same ids."""
    container.user_namespace()
    os.makedirs(f"{container.upper}/{destination.lstrip('/')}", exist_ok=True)
    container.mount(destination, "bind", str(source), "bind", "idmap", *options, **SAME)


@NO_IDMAP
def test_files_of_root_are_the_containers_roots(container: Container, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mapped(container, tmp_path, "/mnt")
    assert container.sh("stat -c '%u %g' /mnt/file") == "0 0\n"


@NO_IDMAP
def test_what_the_containers_root_writes_is_roots(container: Container, tmp_path: Path) -> None:
    """On the disk, too, and it can write."""
    mapped(container, tmp_path, "/mnt")
    assert container.sh("touch /mnt/new; stat -c '%u %g' /mnt/new") == "0 0\n"
    it = (tmp_path / "new").stat()
    assert (it.st_uid, it.st_gid) == (0, 0)


@NO_IDMAP
@pytest.mark.parametrize("destination", ["/mnt/in/side", "mnt/in/side"])
def test_any_destination(container: Container, tmp_path: Path, destination: str) -> None:
    (tmp_path / "file").touch()
    mapped(container, tmp_path, destination)
    assert container.sh("stat -c '%u %g' /mnt/in/side/file") == "0 0\n"


@NO_IDMAP
def test_several_among_others(container: Container, tmp_path: Path) -> None:
    """Each mount has its own mapping, or none."""
    for name, owner in (("one", 0), ("two", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.chown(tmp_path / name / "file", owner, owner)
    for number, name in enumerate(("one", "two")):
        mapped(container, tmp_path / name, f"/mnt/{number}")
        os.makedirs(f"{container.upper}/plain/{number}")
        container.mount(f"/plain/{number}", "bind", str(tmp_path / name), "bind")
    script = "stat -c %u /mnt/0/file /mnt/1/file /plain/0/file /plain/1/file"
    assert container.sh(script).split() == ["0", "1", "65534", "65534"]


@pytest.mark.differs(crun="makes it private")
def test_its_propagation(container: Container, tmp_path: Path) -> None:
    linux.mount(str(tmp_path), str(tmp_path), None, linux.MS_BIND)
    try:
        mapped(container, tmp_path, "/mnt", "shared")
        found = [mount for mount in container.report()["mounts"] if mount["target"] == "/mnt"]
        assert found[0]["propagation"][0].startswith("shared:")
    finally:
        linux.umount2(str(tmp_path), linux.MNT_DETACH)


def test_its_flags(container: Container, tmp_path: Path) -> None:
    mapped(container, tmp_path, "/mnt", "ro", "noexec")
    found = [mount for mount in container.report()["mounts"] if mount["target"] == "/mnt"]
    assert {"ro", "noexec"} <= {*found[0]["options"]}


@pytest.mark.differs(runc="ignores mappings of a mount")
def test_of_no_bind_mount(container: Container) -> None:
    """POSIX-platform Mounts: a mapping is of what a bind mount shows: of another file system it cannot be applied."""
    container.mount("/mnt", "proc", "proc", **MAPPINGS)
    container.refused()
