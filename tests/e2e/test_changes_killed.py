"""SIGKILL at any step of rename, update, pause, unpause and restart: the container is as before or as asked for, and whole."""

from __future__ import annotations

import pytest

from tests.e2e.test_killed import mend
from tests.support.images import Image
from tests.support.killer import Killer, points
from tests.support.runner import Mini

pytestmark = [pytest.mark.requires("linux", "root", "netns"), pytest.mark.timeout(300)]

POINTS = 8


@pytest.mark.parametrize(
    "command",
    ["rename it other", "update -m 64m --memory-swap 64m --cpus 0.5 it", "pause it", "unpause it", "restart -t 0 it"],
)
def test_killed(fresh_mini: Mini, host_image: Image, command: str) -> None:
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)

    def start() -> None:
        mini.run("run", "-d", "--name", "it", "--network", "none", host_image.name, "sleep", "60")
        if command == "unpause it":
            mini.run("pause", "it")

    start()
    with Killer(mini.environ) as killer:
        total = killer.run(0, *command.split())
        assert total >= 3
        mini.remove_containers()
        for step in points(total, POINTS):
            start()
            killer.run(step, *command.split())
            (name,) = mini.run("ps", "-a", "--format", "{{.Names}}").lines
            assert name in ("it", "other")
            found = mini.inspect(name)
            assert found["Name"] == f"/{name}"
            assert found["State"]["Status"] in (
                "running",
                "paused",
                *(["exited", "created"] if "restart" in command else []),
            )
            assert found["HostConfig"]["Memory"] in (0, 64 << 20)
            mend(mini, step)
            # what was asked for can be had, whatever is done already
            again = mini.run(*command.split(), check=False)
            assert again.code == 0 or "already" in again.stderr or "is not paused" in again.stderr or name == "other", (
                again
            )
            mini.run("unpause", name, "other", check=False)
            (name,) = mini.run("ps", "-a", "--format", "{{.Names}}").lines
            assert mini.run("exec", name, "echo", "well").out == "well"
            mini.run("rm", "-f", name)
            mini.run("create", "--name", "it", host_image.name, "true")
            mini.run("create", "--name", "other", host_image.name, "true")
            mini.remove_containers()
            mini.assert_nothing_left()
