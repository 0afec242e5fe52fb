"""`diff` and `commit`: what a container changed, and the image that is made of it, with both storage drivers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.images import Image, Images
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

SCRIPT = """
echo new > /srv/new; ln /srv/new /srv/hard; ln -s new /srv/sym; mknod /srv/null c 1 3
rm /etc/motd; touch /etc/passwd; chmod 700 /home
mkdir -p /a/b; echo deep > /a/b/c
rm -r /opt; mkdir /opt; echo only > /opt/only
python3 -c 'import os; os.setxattr("/srv/new", "user.k", b"v"); f = open("/srv/sparse", "w"); f.truncate(1 << 20)'
touch /tmp/out /dev/shm/not /vol/not
"""


@pytest.fixture(params=["erofs", "directory"])
def engine(request: pytest.FixtureRequest, images: Images) -> Iterator[Mini]:
    mini = Mini({**images.environ, "MINI_STORAGE_DRIVER": request.param})
    try:
        mini.run("pull", "-q", "host")
        yield mini
    finally:
        mini.close()


def layer(mini: Mini, image: str) -> dict[str, Any]:
    """The members of the last layer."""
    (found,) = mini.run("image", "inspect", image).json()
    diff_id = found["RootFS"]["Layers"][-1].removeprefix("sha256:")
    with open(f"{mini.root}/layers/sha256/{diff_id}.tar", "rb") as file:
        data = file.read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_diff_and_commit(engine: Mini) -> None:
    container = engine.detached("--network", "none", "-v", "/vol", "host", "sh", "-ec", SCRIPT)
    assert engine.run("wait", container).out == "0", engine.run("logs", container)
    found = engine.run("diff", container).lines
    expected = "A /a|A /a/b|A /a/b/c|C /etc|D /etc/motd|C /etc/passwd|C /home|C /opt|D /opt/motd|A /opt/only"
    expected += (
        "|D /opt/replaced|C /srv|A /srv/hard|A /srv/new|A /srv/null|A /srv/sparse|A /srv/sym|C /tmp|A /tmp/out|A /vol"
    )
    assert found == expected.split("|")

    made = engine.run("commit", "-a", "me", "-m", "why", "-c", "CMD cat /srv/hard", container, "made:1").out
    (image,) = engine.run("image", "inspect", "made:1").json()
    assert (image["Id"], image["Author"], image["Comment"], image["Container"]) == (made, "me", "why", container)
    members = layer(engine, "made:1")
    assert members["etc/.wh.motd"].size == 0
    assert "opt/.wh..wh..opq" in members
    assert members["srv/new"].islnk() and members["srv/new"].linkname == "srv/hard"
    assert members["srv/hard"].pax_headers["SCHILY.xattr.user.k"] == "v"
    assert list(members) == sorted(members, key=lambda name: [p.removeprefix(".wh.") for p in name.split("/")])
    assert not {"etc/hosts", "etc/resolv.conf", "dev", "proc", "sys", "vol/not"} & set(members)

    assert engine.run("run", "--rm", "--network", "none", "made:1").out == "new"
    script = "cat /opt/only /a/b/c; ls /opt; ls /etc/motd; stat -c %s /srv/sparse; stat -c %a /home"
    result = engine.run("run", "--rm", "--network", "none", "made:1", "sh", "-c", script, check=False)
    assert result.out.split() == ["only", "deep", "only", "1048576", "700"]

    again = engine.run("commit", container).out
    assert engine.run("image", "inspect", again).json()[0]["RootFS"] == image["RootFS"]
    engine.run("rm", "-v", container)


def test_nothing_changed(mini: Mini, host_image: Image) -> None:
    container = mini.run("create", host_image.name, "true").out
    assert mini.run("diff", container).out == ""
    image = mini.run("commit", container).out
    (before, after) = (mini.run("image", "inspect", name).json()[0] for name in (host_image.name, image))
    assert before["RootFS"] == after["RootFS"]
    assert mini.run("history", "--no-trunc", "--format", "{{.Size}}", image).lines[0] == "0B"
    mini.run("rmi", image)


def test_a_running_container_is_frozen_meanwhile(mini: Mini, host_image: Image) -> None:
    """Two files that are always written one after the other are never found apart by more than one."""
    script = "i=0; while :; do i=$((i+1)); echo $i > /srv/a; echo $i > /srv/b; done"
    container = mini.detached("--cpus", "0.5", host_image.name, "sh", "-c", script)
    for _ in range(3):
        image = mini.run("commit", container).out
        assert mini.inspect(container)["State"]["Status"] == "running"
        text = mini.run("run", "--rm", "--network", "none", image, "cat", "/srv/a", "/srv/b", check=False).out.split()
        if len(text) == 2:
            assert abs(int(text[0]) - int(text[1])) <= 1
        mini.run("rmi", image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "No such container: nosuch"),
        (["CONTAINER", "BAD:x"], "invalid reference format: repository name (library/BAD) must be lowercase"),
        (["-c", "RUN x", "CONTAINER"], "run is not a valid change command"),
        (["CONTAINER", "x@sha256:" + 64 * "a"], "refusing to create a tag with a digest reference"),
    ],
)
def test_refused(mini: Mini, host_image: Image, arguments: list[str], message: str) -> None:
    container = mini.run("create", host_image.name, "true").out
    result = mini.run("commit", *(container if a == "CONTAINER" else a for a in arguments), check=False)
    assert (result.code, result.stderr.splitlines()[0]) == (1, f"mini: {message}")


def test_hostile_depth(mini: Mini, host_image: Image) -> None:
    """A tree deeper than a path can reach ends in an error, not in a recursion without end."""
    script = "import os\nfor i in range(3000):\n os.mkdir('d'); os.chdir('d')"
    container = mini.detached("-w", "/srv", host_image.name, "python3", "-c", script)
    mini.run("wait", container)
    result = mini.run("commit", container, check=False)
    assert result.code == 1 and "deeper than a path can reach" in result.stderr
