"""SIGKILL at any step of pull, run, rm and rmi: nothing is damaged, a repair mends the rest, and the host has nothing of it."""

from __future__ import annotations

import pytest

from engine.context import Context
from engine.paths import Paths
from engine.system import fsck
from tests.support import leaks
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.killer import Killer, points
from tests.support.runner import Mini

pytestmark = [pytest.mark.requires("linux", "root", "netns"), pytest.mark.timeout(300)]

POINTS = 6


def settle(mini: Mini) -> None:
    """Waits until nothing runs any more: a client was killed, and its monitor goes on, perhaps before it has begun a life."""
    until(lambda: not leaks.processes(mini))


def mend(mini: Mini, step: int) -> None:
    """What `fsck` says after the kill, and after the repair; in this process, since starting one takes longer than that."""
    context = Context(Paths(mini.root), {k: v for k, v in mini.environ.items() if k.startswith("MINI_")})
    found = fsck.fsck(context)
    assert not found.damaged, f"step {step}: {found.findings}"
    mended = fsck.fsck(context, repair=True)
    assert not [text for text in mended.done.values() if text.startswith("not ")], f"step {step}: {mended.done}"
    again = fsck.fsck(context)
    assert not again.findings, f"step {step}: {found.findings}, {mended.done}, {again.findings}"


@pytest.mark.parametrize("driver", [pytest.param("erofs", marks=pytest.mark.requires("erofs")), "directory"])
def test_pull(fresh_mini: Mini, host_image: Image, driver: str) -> None:
    fresh_mini.environ["MINI_STORAGE_DRIVER"] = driver
    with Killer(fresh_mini.environ) as killer:
        total = killer.run(0, "pull", "-q", host_image.name)
        assert total > 30
        for step in points(total, POINTS // 2):
            fresh_mini.run("rmi", "-f", host_image.name, check=False)
            killer.run(step, "pull", "-q", host_image.name)
            mend(fresh_mini, step)
            fresh_mini.run("pull", "-q", host_image.name)
            assert fresh_mini.run("run", "--rm", host_image.name, "echo", "well").out == "well"
            fresh_mini.run("rmi", host_image.name)
            fresh_mini.assert_nothing_left(images_too=True)


@pytest.mark.parametrize("options", ["--rm", "--name it"])
def test_run(fresh_mini: Mini, host_image: Image, options: str) -> None:
    fresh_mini.run("pull", "-q", host_image.name)
    fresh_mini.run("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "memory")
    volumes = ["-v", "/data", "-v", "memory:/memory"]
    command = ["run", *options.split(), *volumes, "-m", "64m", host_image.name, "true"]
    fresh_mini.run("run", "--rm", host_image.name, "true")
    with Killer(fresh_mini.environ) as killer:
        total = killer.run(0, *command)
        fresh_mini.remove_containers()
        assert total > 60
        for step in points(total, POINTS):
            killer.run(step, *command)
            settle(fresh_mini)
            mend(fresh_mini, step)
            assert fresh_mini.run("run", "--rm", host_image.name, "echo", "well").out == "well"
            fresh_mini.run("container", "prune", "-f")
            fresh_mini.run("volume", "prune", "-f")
            fresh_mini.assert_nothing_left()


def test_rm_of_a_running_container(fresh_mini: Mini, host_image: Image) -> None:
    fresh_mini.run("pull", "-q", host_image.name)
    start = ["run", "-d", "--name", "it", "-v", "/data", host_image.name, "sleep", "60"]
    with Killer(fresh_mini.environ) as killer:
        fresh_mini.run(*start)
        total = killer.run(0, "rm", "-f", "-v", "it")
        assert total > 10
        for step in points(total, POINTS):
            fresh_mini.run(*start)
            killer.run(step, "rm", "-f", "-v", "it")
            mend(fresh_mini, step)
            assert fresh_mini.run("rm", "-f", "-v", "it").code == 0
            fresh_mini.run("volume", "prune", "-f")
            fresh_mini.assert_nothing_left()


def test_rmi(fresh_mini: Mini, host_image: Image) -> None:
    with Killer(fresh_mini.environ) as killer:
        fresh_mini.run("run", "--rm", host_image.name, "true")
        total = killer.run(0, "rmi", host_image.name)
        assert total > 10
        for step in points(total, POINTS):
            fresh_mini.run("run", "--rm", host_image.name, "true")
            killer.run(step, "rmi", host_image.name)
            mend(fresh_mini, step)
            # killed between name and record, it leaves an image without a name, as whole as any other
            fresh_mini.run("image", "prune", "-af")
            fresh_mini.assert_nothing_left(images_too=True)
