"""SIGKILL at any step of commit and cp: nothing is half there that counts as whole, and the container can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_killed import mend
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.killer import Killer, points
from tests.support.runner import Mini

pytestmark = [pytest.mark.requires("linux", "root", "netns"), pytest.mark.timeout(300)]

POINTS = 10


def test_commit(fresh_mini: Mini, host_image: Image) -> None:
    """The container runs or is told to be paused; the image is there and complete, or not there."""
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)
    container = mini.detached("--network", "none", host_image.name, "sh", "-c", "echo new > /srv/new; sleep 600")
    until(lambda: mini.run("exec", container, "cat", "/srv/new", check=False).out == "new")
    command = ["commit", container, "made:1"]
    with Killer(mini.environ) as killer:
        total = killer.run(0, *command)
        assert mini.run("run", "--rm", "--network", "none", "made:1", "cat", "/srv/new").out == "new"
        mini.run("rmi", "made:1")
        for step in points(total, POINTS):
            killer.run(step, *command)
            status = mini.inspect(container)["State"]["Status"]
            assert status in ("running", "paused")
            if status == "paused":
                mini.run("unpause", container)
            if mini.run("images", "-q", "made:1").out:
                assert mini.run("run", "--rm", "--network", "none", "made:1", "cat", "/srv/new").out == "new"
            mend(mini, step)
            assert mini.run("exec", container, "cat", "/srv/new").out == "new"
            mini.run(*command)
            mini.run("rmi", "made:1")


@pytest.mark.parametrize("running", [True, False])
def test_cp(fresh_mini: Mini, host_image: Image, tmp_path: Path, running: bool) -> None:
    """No mount, process or lock is left; the next one does it."""
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/f").write_text("content")
    options = ["--network", "none", "-v", "vol:/vol", host_image.name]
    container = mini.detached(*options, "sleep", "600") if running else mini.run("create", *options, "true").out
    into = ["cp", f"{tmp_path}/in", f"{container}:/srv"]
    out = ["cp", f"{container}:/srv/in/.", f"{tmp_path}/out"]
    mini.run(*into)
    with Killer(mini.environ) as killer:
        for command in (into, out):
            for step in points(killer.run(0, *command), POINTS):
                killer.run(step, *command)
                mend(mini, step)
                mini.run(*command)
                assert command is into or (tmp_path / "out/f").read_text() == "content"
    mini.run("rm", "-f", "-v", container)
    mini.run("volume", "rm", "vol")
    mini.assert_nothing_left()
