"""`pause` and `unpause`: what stands still, what is refused meanwhile, and what ends it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

_COUNTER = "i=0; trap 'exit 5' TERM; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done"


@pytest.fixture
def counter(mini: Mini, host_image: Image) -> str:
    """A container that writes a number every so often, and ends by SIGTERM with 5."""
    container = mini.detached("--name", "it", "--network", "none", host_image.name, "sh", "-c", _COUNTER)
    until(lambda: count(mini))
    return container


def count(mini: Mini) -> str:
    """The number; nothing before the first, and where it is just being written."""
    try:
        return Path(f"/proc/{mini.inspect('it')['State']['Pid']}/root/count").read_text()
    except FileNotFoundError:
        return ""


def state(mini: Mini) -> tuple[str, bool, bool]:
    found = mini.inspect("it")["State"]
    return found["Status"], found["Running"], found["Paused"]


def is_frozen(mini: Mini, container: str) -> bool:
    """As the kernel has it: the freezer controller of cgroup v1, or what every cgroup of v2 has."""
    if any("freezer" in tree.controllers for tree in leaks.hierarchies()):
        return Path(mini.cgroup_path("freezer", container), "freezer.state").read_text() == "FROZEN\n"
    return "frozen 1\n" in Path(mini.cgroup_path("pids", container), "cgroup.events").read_text()


def test_nothing_runs_while_it_is_paused(mini: Mini, counter: str) -> None:
    assert mini.run("pause", "it").out == "it"
    assert state(mini) == ("paused", True, True)
    assert is_frozen(mini, counter)
    assert mini.run("ps", "--format", "{{.State}} {{.Status}}").out.endswith("(Paused)")
    before = count(mini)
    time.sleep(0.3)
    assert count(mini) == before
    assert mini.run("unpause", "it").out == "it"
    assert state(mini) == ("running", True, False)
    assert not is_frozen(mini, counter)
    until(lambda: count(mini) != before)


def test_what_is_refused(mini: Mini, counter: str) -> None:
    assert f"Container {counter} is not paused" in mini.run("unpause", "it", check=False).stderr
    mini.run("pause", "it")
    for command, said in (
        (["pause", "it"], f"Container {counter} is already paused"),
        (["exec", "it", "true"], "Container it is paused, unpause the container before exec"),
        (["attach", "it"], "You cannot attach to a paused container, unpause it first"),
        (["start", "it"], "cannot start a paused container, try unpause instead"),
        (["rm", "it"], f"You cannot remove a paused container {counter}. Unpause and then stop"),
    ):
        result = mini.run(*command, check=False)
        assert (result.code, result.stdout) == (1, "")
        assert said in result.stderr
    assert state(mini)[0] == "paused"
    assert mini.run("top", "it").lines[1:]
    mini.run("create", "--name", "created", "--network", "none", "host", "true")
    result = mini.run("pause", "created", "nosuch", check=False)
    assert (result.code, len(result.stderr.splitlines())) == (1, 2)
    assert "is not running" in result.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [(["stop", "-t", "20"], 5), (["kill"], 137), (["kill", "-s", "TERM"], 5), (["restart", "-t", "20"], None)],
)
def test_what_ends_it(mini: Mini, counter: str, command: list[str], code: int | None) -> None:
    mini.run("pause", "it")
    mini.run(*command, "it")
    if code is None:
        assert state(mini) == ("running", True, False)
        return
    assert mini.run("wait", "it").out == str(code)
    assert state(mini) == ("exited", False, False)
    mini.run("start", "it")
    assert state(mini) == ("running", True, False)


def test_rm_f(mini: Mini, counter: str) -> None:
    mini.run("pause", "it")
    mini.run("rm", "-f", "it")
    mini.assert_nothing_left()


def test_a_stop_signal_of_its_own_thaws_and_others_wait(mini: Mini, host_image: Image) -> None:
    script = "trap 'exit 6' USR1; trap 'echo usr2' USR2; echo > /ready; while :; do sleep 0.02; done"
    mini.detached("--name", "it", "--network", "none", "--stop-signal", "USR1", host_image.name, "sh", "-c", script)
    until(lambda: mini.run("exec", "it", "test", "-e", "/ready", check=False).code == 0)
    mini.run("pause", "it")
    mini.run("kill", "-s", "USR2", "it")
    assert state(mini)[0] == "paused"
    mini.run("stop", "it")
    assert mini.inspect("it")["State"]["ExitCode"] == 6
    assert mini.run("logs", "it").out in ("usr2", "")


def test_events(mini: Mini, counter: str) -> None:
    mini.run("pause", "it")
    mini.run("unpause", "it")
    mini.run("pause", "it")
    mini.run("stop", "it")
    shown = mini.run(
        "events", "--since", "1h", "--until", "0s", "--filter", f"container={counter}", "--format", "{{.Action}}"
    )
    assert shown.lines == "create start pause unpause pause kill unpause die stop".split()


def test_what_pauses_itself_out_of_life(mini: Mini, host_image: Image) -> None:
    """A container that ends at that moment is paused or not running, and never both or stuck."""
    for _ in range(8):
        mini.run("run", "-d", "--name", "it", "--network", "none", host_image.name, "sleep", "0.05")
        result = mini.run("pause", "it", check=False)
        assert result.code == 0 or "is not running" in result.stderr
        if mini.inspect("it")["State"]["Status"] == "paused":
            mini.run("unpause", "it")
        assert mini.run("wait", "it").out == "0"
        mini.run("rm", "it")


def test_health_checks_wait(mini: Mini, host_image: Image) -> None:
    """A probe in a frozen container would be too late, and killing it would not end it."""
    options = ["--health-cmd", "sleep 0.05", "--health-interval", "20ms", "--health-timeout", "4s"]
    options += ["--health-retries", "1", "--health-on-failure", "kill"]
    mini.detached("--name", "it", "--network", "none", *options, host_image.name, "sleep", "60")
    while mini.inspect("it")["State"]["Health"]["Status"] != "healthy":
        time.sleep(0.02)
    mini.run("pause", "it")
    time.sleep(5)
    assert state(mini)[0] == "paused"
    mini.run("unpause", "it")
    probes = len(mini.inspect("it")["State"]["Health"]["Log"])
    time.sleep(0.3)
    found = mini.inspect("it")["State"]
    assert (found["Status"], found["Health"]["Status"], found["Health"]["FailingStreak"]) == ("running", "healthy", 0)
    assert probes and all(p["ExitCode"] == 0 for p in found["Health"]["Log"])
