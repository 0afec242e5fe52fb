"""Who a container's process is: Docker's reading of `User`, on hostile passwd and group files too."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import RuntimeFault, UsageError
from engine.oci.users import User, read_root_file, resolve

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
web:x:33:34:web server:/var/www:/sbin/nologin
1001:x:7:7::/seven:

homeless:x:50:50:::/bin/sh
short:x:60:61
twin:x:33:99::/twin:
overflow:x:4294967296:0::/:
nonsense:x:abc:0::/root:
"""
GROUP = b"""root:x:0:root
#comment:x:5:web
web:x:34:
disk:x:6:web,root
adm:x:4:web
adm2:x:4:web
huge:x:99999999999999999999:
nonsense:x::web
"""


def identity(user: User) -> tuple[int, int, list[int], str, str]:
    return user.uid, user.gid, user.additional_gids, user.home, user.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, [0, 6], "/root", "root")),
        ("root", (0, 0, [0, 6], "/root", "root")),
        ("web", (33, 34, [34, 6, 4], "/var/www", "web")),
        ("33", (33, 34, [34, 6, 4], "/var/www", "web")),
        ("web:disk", (33, 6, [6], "/var/www", "web")),
        ("web:1234", (33, 1234, [1234], "/var/www", "web")),
        (":disk", (0, 6, [6], "/root", "root")),
        ("1234", (1234, 0, [0], "/", "")),
        ("1234:5678", (1234, 5678, [5678], "/", "")),
        ("1234:disk", (1234, 6, [6], "/", "")),
        ("homeless", (50, 50, [50], "/", "homeless")),
        ("short", (60, 61, [61], "/", "short")),
        ("0000000000000000", (0, 0, [0, 6], "/root", "root")),
        ("2147483647", (2147483647, 0, [0], "/", "")),
    ],
)
def test_reading(text: str, expected: tuple[int, int, list[int], str, str]) -> None:
    assert identity(resolve(text, PASSWD, GROUP)) == expected


def test_a_number_is_never_a_name() -> None:
    assert identity(resolve("1001", PASSWD, GROUP)) == (1001, 0, [0], "/", "")


def test_extra_groups_come_by_name_and_number_and_once() -> None:
    assert resolve("web:web", PASSWD, GROUP, ["adm", "77", "web"]).additional_gids == [34, 4, 77]


def test_without_passwd_and_group() -> None:
    assert identity(resolve("", b"", b"")) == (0, 0, [0], "/", "")
    assert identity(resolve("12:34", b"", b"", ["5"])) == (12, 34, [34, 5], "/", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("nonsense", "unable to find user nonsense: no matching entries in passwd file"),
        ("web:none", "unable to find group none: no matching entries in group file"),
        ("web:nonsense", "unable to find group nonsense: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("9" * 5000, "uids and gids must be in range 0-2147483647"),
        ("0:4294967296", "uids and gids must be in range 0-2147483647"),
        # what the image's own files say is held to the same range (CVE-2024-40635)
        ("overflow", "uids and gids must be in range 0-2147483647"),
        ("web:huge", "uids and gids must be in range 0-2147483647"),
        ("٣", "unable to find user ٣: no matching entries in passwd file"),
    ],
)
def test_refusals_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(text, PASSWD, GROUP)
    assert caught.value.message == message


def test_an_unknown_extra_group() -> None:
    with pytest.raises(UsageError, match="unable to find group nope: no matching entries in group file"):
        resolve("root", PASSWD, GROUP, ["nope"])


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    (tmp_path / "root/etc").mkdir(parents=True)
    fd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield tmp_path / "root", fd
    os.close(fd)


@pytest.mark.requires("linux")
class TestReadRootFile:
    def test_plain_and_missing(self, root: tuple[Path, int]) -> None:
        directory, fd = root
        (directory / "etc/passwd").write_bytes(PASSWD)
        assert read_root_file(fd, "/etc/passwd") == PASSWD
        assert read_root_file(fd, "/etc/group") == b""
        assert read_root_file(fd, "/etc/passwd/x") == b""

    @pytest.mark.parametrize("target", ["{outside}", "../../secret", "/etc/../../../../../secret"])
    def test_a_symlink_stays_inside(self, root: tuple[Path, int], tmp_path: Path, target: str) -> None:
        directory, fd = root
        (tmp_path / "secret").write_bytes(b"of the host")
        (directory / "secret").write_bytes(b"of the image")
        link = target.format(outside=tmp_path / "secret")
        (directory / "etc/passwd").symlink_to(link)
        inside = b"" if link.startswith(str(tmp_path)) else b"of the image"
        assert read_root_file(fd, "/etc/passwd") == inside

    def test_a_fifo_does_not_hang(self, root: tuple[Path, int]) -> None:
        directory, fd = root
        os.mkfifo(directory / "pipe")
        (directory / "etc/passwd").symlink_to("/pipe")
        with pytest.raises(RuntimeFault, match="passwd is not a regular file"):
            read_root_file(fd, "/etc/passwd")

    def test_directory_and_socket_are_refused(self, root: tuple[Path, int]) -> None:
        directory, fd = root
        (directory / "etc/passwd").mkdir()
        with pytest.raises(RuntimeFault, match="not a regular file"):
            read_root_file(fd, "/etc/passwd")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(directory / "etc/group"))
            with pytest.raises(RuntimeFault, match="not a regular file"):
                read_root_file(fd, "/etc/group")

    def test_the_size_is_bounded(self, root: tuple[Path, int]) -> None:
        directory, fd = root
        (directory / "etc/passwd").write_bytes(b"x" * 101)
        assert len(read_root_file(fd, "/etc/passwd", limit=101)) == 101
        with pytest.raises(RuntimeFault, match="larger than 100 bytes"):
            read_root_file(fd, "/etc/passwd", limit=100)

    def test_no_descriptor_stays_open(self, root: tuple[Path, int]) -> None:
        directory, fd = root
        os.mkfifo(directory / "etc/passwd")
        before = os.listdir("/proc/self/fd")
        assert read_root_file(fd, "/etc/none") == b""
        with pytest.raises(RuntimeFault):
            read_root_file(fd, "/etc/passwd")
        assert os.listdir("/proc/self/fd") == before
