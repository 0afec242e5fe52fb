"""Volumes and bind mounts: what outlives a container, what the image puts into them, who may write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")


def test_a_named_volume_outlives_its_container(mini: Mini, image: Image) -> None:
    mini.run("run", "--rm", "-v", "data:/data", image.name, "sh", "-c", "echo kept > /data/file")
    assert mini.run("run", "--rm", "-v", "data:/data:ro", image.name, "cat", "/data/file").out == "kept"
    assert mini.run("volume", "ls", "-q").lines == ["data"]
    (volume,) = mini.run("volume", "inspect", "data").json()
    with open(f"{volume['Mountpoint']}/file") as file:
        assert file.read() == "kept\n"


def test_two_containers_share_a_volume(mini: Mini, image: Image) -> None:
    mini.run("volume", "create", "shared")
    mini.detached("--name", "one", "-v", "shared:/here", image.name, "sleep", "60")
    mini.detached("--name", "two", "-v", "shared:/there", image.name, "sleep", "60")
    mini.run("exec", "one", "sh", "-c", "echo between > /here/file")
    assert mini.run("exec", "two", "cat", "/there/file").out == "between"


def test_an_empty_volume_is_filled_from_the_image(mini: Mini, host_image: Image) -> None:
    command = ["sh", "-c", "cat /srv/index.html; stat -c '%u %a' /home/user"]
    options = ["--rm", "-v", "site:/srv", "-v", "home:/home/user"]
    assert mini.run("run", *options, host_image.name, *command).lines == ["hello from a container", "1000 755"]
    mini.run("run", "--rm", "-v", "site:/srv", host_image.name, "sh", "-c", "echo mine > /srv/index.html")
    assert mini.run("run", "--rm", "-v", "site:/srv", host_image.name, "cat", "/srv/index.html").out == "mine"


def test_a_volume_in_use_is_not_removed(mini: Mini, host_image: Image) -> None:
    container = mini.detached("-v", "used:/used", host_image.name, "sleep", "60")
    result = mini.run("volume", "rm", "used", check=False)
    assert result.code == 1
    assert container in result.stderr
    mini.run("rm", "-f", container)
    mini.run("volume", "rm", "used")


def test_rm_takes_anonymous_volumes_only(mini: Mini, host_image: Image) -> None:
    mini.run("run", "--rm", "-v", "/anonymous", "-v", "named:/named", host_image.name, "touch", "/anonymous/x")
    assert mini.run("volume", "ls", "-q").lines == ["named"]


def test_bind_mounts(mini: Mini, image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    assert mini.run("run", "--rm", "-v", f"{tmp_path}:/mnt:ro", image.name, "cat", "/mnt/file").out == "from the host"
    denied = mini.run("run", "--rm", "-v", f"{tmp_path}:/mnt:ro", image.name, "touch", "/mnt/new", check=False)
    assert denied.code != 0 and "read-only" in denied.stderr.lower()
    assert os.listdir(tmp_path) == ["file"]
    mini.run("run", "--rm", "-v", f"{tmp_path}:/mnt", image.name, "touch", "/mnt/new")
    assert sorted(os.listdir(tmp_path)) == ["file", "new"]
    mini.run("run", "--rm", "-v", f"{tmp_path}/file:/etc/motd", image.name, "sh", "-c", "echo back > /etc/motd")
    assert (tmp_path / "file").read_text() == "back\n"


def test_a_missing_host_directory_is_made(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    mini.run("run", "--rm", "-v", f"{tmp_path}/a/b:/mnt", host_image.name, "touch", "/mnt/x")
    assert (tmp_path / "a/b/x").exists()
