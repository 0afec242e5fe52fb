"""The image of this host's programs: the same twice, whole, and harmless."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from engine.demo import hostimage

pytestmark = pytest.mark.requires("linux")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> hostimage.HostImage:
    return hostimage.build(str(tmp_path_factory.mktemp("image")))


def _members(image: hostimage.HostImage) -> dict[str, tarfile.TarInfo]:
    """Of the layers below the last, which only changes them."""
    found: dict[str, tarfile.TarInfo] = {}
    for path in image.layers[:-1]:
        with tarfile.open(path) as tar:
            found |= {member.name: member for member in tar}
    return found


def test_the_same_host_gives_the_same_digests(image: hostimage.HostImage, tmp_path: Path) -> None:
    assert hostimage.build(str(tmp_path)).config == image.config
    digests = ["sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in image.layers]
    assert image.config["rootfs"]["diff_ids"] == digests


def test_programs_come_with_their_libraries(image: hostimage.HostImage) -> None:
    members = _members(image)

    def holds(path: str) -> bool:
        """Through the links that the image has, not the host."""
        parts, done = path.strip("/").split("/"), ""
        for _ in range(100):
            if not parts:
                return True
            name = os.path.normpath(f"{done}/{parts.pop(0)}").lstrip("/")
            if name not in members:
                return False
            if members[name].issym():
                target = members[name].linkname
                done = "" if target.startswith("/") else done
                parts = target.strip("/").split("/") + parts
            else:
                done = name
        return False

    for name in hostimage.NEEDED:
        if name != "sh":
            assert holds(f"/bin/{name}") or holds(f"/usr/bin/{name}"), name
    assert holds("/bin/sh") and holds("/usr/bin/env") and holds("/usr/bin/python3") and holds("/usr/local/bin/fetch")
    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True).stdout.split()
    libraries = [word for word in listed if word.startswith("/")]
    assert libraries and all(holds(path) for path in libraries)


def test_no_program_has_rights_of_its_own(image: hostimage.HostImage) -> None:
    members = _members(image)
    assert [name for name, member in members.items() if member.mode & 0o6000] == []
    assert {member.uid for name, member in members.items() if not name.startswith("home/user")} == {0}
    assert members["tmp"].mode == 0o1777
