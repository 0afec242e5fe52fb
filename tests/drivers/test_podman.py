"""Podman with mini-runtime as its runtime: conmon creates, starts, executes in and deletes containers through it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import leaks
from tests.support.podman import RunningPodman
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay", "podman", "docker-registry")

WAITS = "trap 'echo term; exit 7' TERM; trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done"


class Story:
    """Podman with an image, and the options that every container here gets."""

    def __init__(self, podman: RunningPodman, image: str) -> None:
        self.podman = podman
        self.image = image
        self.run = podman.run
        self.options = ["--network", "none", "--cgroup-parent", podman.cgroup_parent]

    def once(self, options: str, *command: str, **more: Any) -> Result:
        return self.run("run", "--rm", *self.options, *options.split(), self.image, *command, **more)

    def up(self, options: str = "", script: str = WAITS) -> str:
        """A container that has said that it is ready; its ID."""
        container = self.run("run", "-d", *self.options, *options.split(), self.image, "sh", "-c", script).out
        wait(lambda: "ready" in self.run("logs", container).stdout)
        return container

    def inspect(self, container: str, field: str) -> Any:
        return json.loads(self.run("inspect", "-f", f"{{{{json {field}}}}}", container).out)

    def limits(self, container: str) -> tuple[int, int]:
        """Of memory and processes, as files of the container's cgroups have them, on the host."""
        found = {}
        path = self.inspect(container, ".State.CgroupPath")
        for tree in leaks.hierarchies():
            for name in ("memory.limit_in_bytes", "memory.max", "pids.max"):
                if os.path.exists(file := f"{tree.path}{path}/{name}"):
                    found[name[:6]] = int(Path(file).read_text())
        return found["memory"], found["pids.m"]

    def status(self, container: str) -> str:
        status: str = self.inspect(container, ".State.Status")
        return status


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def story(podman: RunningPodman, image: str) -> Iterator[Story]:
    """Nothing runs; and afterwards the runtime has left nothing."""
    yield Story(podman, image)
    podman.run("pod", "rm", "--all", "--force", "--time", "0")
    podman.run("rm", "--all", "--force", "--time", "0")
    # conmon's and pods' are Podman's own
    assert [path for path in leaks.cgroups(podman.cgroup_parent) if "/libpod-" in path] == []
    assert [name for name in os.listdir(f"{podman.root}/state") if not name.startswith(".")] == []


def test_what_podman_says_of_it(story: Story) -> None:
    runtime = story.run("info", "--format", "json").json()["host"]["ociRuntime"]
    assert runtime["name"] == "mini" and runtime["version"].startswith("mini-runtime version ")
    assert story.inspect(story.up(), ".OCIRuntime") == "mini"


def test_streams_and_exit_codes(story: Story) -> None:
    result = story.once("-i", "sh", "-c", "cat; echo out; echo err >&2; exit 3", input="in\n", check=False)
    assert (result.code, result.stdout, result.stderr) == (3, "in\nout\n", "err\n")
    assert story.once("--init", "sh", "-c", "kill -9 $$", check=False).code == 137


def test_what_cannot_run(story: Story) -> None:
    for command, code, words in (
        ("no-such-program", 127, "executable file not found in $PATH"),
        ("/no/such/program", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
    ):
        result = story.once("", command, check=False)
        assert result.code == code
        assert words in result.stderr


def test_options(story: Story, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    tmp_path.chmod(0o755)
    script = "cat /v/file; echo $A; id -u; id -g; pwd; touch /x; touch /v/x; touch /tmp/x && echo written; hostname"
    options = f"-e A=5 -u 1234:4321 -w /etc -v {tmp_path}:/v:ro --read-only --hostname box"
    result = story.once(options, "sh", "-c", script)
    assert result.lines == ["of the host", "5", "1234", "4321", "/etc", "written", "box"]
    assert result.stderr.count("Read-only file system") == 2
    assert story.once("--init", "sh", "-c", "cat /proc/1/comm").out == "podman-init"


def test_a_terminal(story: Story) -> None:
    command = [
        "run",
        "-it",
        "--rm",
        *story.options,
        story.image,
        "sh",
        "-c",
        "stty -echo; tty; echo ready; cat; exit 3",
    ]
    with story.podman.terminal(*command) as terminal:
        assert "/dev/pts/0" in terminal.expect("ready")
        terminal.await_raw()
        terminal.write("word\n")
        terminal.expect("word\r\n")
        terminal.write("\x04")
        assert terminal.wait() == 3


def test_exec(story: Story) -> None:
    container = story.up("-e A=1")
    script = "cat; echo $A $B; id -u; pwd; echo err >&2; exit 4"
    options = ["-i", "-e", "B=2", "-u", "1234", "-w", "/usr"]
    result = story.run("exec", *options, container, "sh", "-c", script, input="in\n", check=False)
    assert (result.code, result.lines, result.stderr) == (4, ["in", "1 2", "1234", "/usr"], "err\n")
    result = story.run("exec", container, "no-such-program", check=False)
    assert (result.code, "executable file not found in $PATH" in result.stderr) == (127, True)
    story.run("exec", "-d", container, "sh", "-c", "echo done >/tmp/done")
    wait(lambda: story.run("exec", container, "cat", "/tmp/done", check=False).out == "done")
    with story.podman.terminal("exec", "-it", container, "sh", "-c", "stty -echo; tty; cat; exit 5") as terminal:
        terminal.expect("/dev/pts/0")
        terminal.await_raw()
        terminal.write("\x04")
        assert terminal.wait() == 5


def test_a_life(story: Story) -> None:
    container = story.up()
    assert [line for line in story.run("top", container, "args").lines if line.startswith("sh -c trap")]
    story.run("pause", container)
    assert story.status(container) == "paused"
    story.run("unpause", container)
    assert story.status(container) == "running"
    story.run("kill", "-s", "HUP", container)
    wait(lambda: "hup" in story.run("logs", container).stdout)
    story.run("stop", container)
    assert (story.status(container), story.inspect(container, ".State.ExitCode")) == ("exited", 7)
    assert story.run("logs", container).lines == ["ready", "hup", "term"]
    story.run("start", container)
    story.run("restart", "--time", "0", container)
    assert story.status(container) == "running"
    story.run("kill", container)
    assert story.run("wait", container).out == "137"
    story.run("rm", container)


def test_statistics(story: Story) -> None:
    container = story.up("--memory 64m", "echo ready; exec sleep 600")
    (stats,) = story.run("stats", "--no-stream", "--format", "json", container).json()
    used, _, most = stats["mem_usage"].partition(" / ")
    assert (stats["pids"], most) == ("1", "67.11MB")
    assert used != "0B"


def test_limits_and_their_update(story: Story) -> None:
    container = story.up("--memory 64m --pids-limit 30")
    assert story.limits(container) == (64 << 20, 30)
    story.run("update", "--memory", "96m", container)
    assert story.limits(container) == (96 << 20, 30)


def test_a_health_check(story: Story) -> None:
    """By hand: Podman's timers are systemd's."""
    for command, code, status in (("true", 0, "healthy"), ("false", 1, "starting")):
        container = story.up(f"--health-cmd {command} --health-interval disable --health-retries 2")
        assert story.run("healthcheck", "run", container, check=False).code == code
        assert story.inspect(container, ".State.Health.Status") == status


def test_a_pod_shares_namespaces(story: Story) -> None:
    infra = ["--infra-image", story.image, "--infra-command", "sleep 600"]
    story.run("pod", "create", "--name", "pod", *story.options, *infra)
    command = ["sh", "-c", "cd /proc/self/ns; readlink net ipc uts pid mnt; hostname; echo ready; exec sleep 600"]
    seen = []
    for _ in range(2):
        container = story.run("run", "-d", "--pod", "pod", *story.options[2:], story.image, *command).out
        wait(lambda container=container: "ready" in story.run("logs", container).stdout)  # type: ignore[misc]
        seen.append(story.run("logs", container).lines)
    first, second = seen
    assert first[:3] == second[:3] and first[0] != os.readlink("/proc/self/ns/net")
    assert first[3] != second[3] and first[4] != second[4]
    assert first[5] == second[5] == "pod"
    assert story.run("pod", "ps", "--format", "{{.Status}} {{.NumberOfContainers}}").out == "Running 3"
    story.run("pod", "pause", "pod")
    assert story.run("pod", "ps", "--format", "{{.Status}}").out == "Paused"
    story.run("pod", "unpause", "pod")
    story.run("pod", "stop", "--time", "0", "pod")
    assert story.run("pod", "ps", "--format", "{{.Status}}").out == "Exited"


def test_user_namespaces(story: Story) -> None:
    script = "cat /proc/self/uid_map; stat -c %u /etc/motd; id -u"
    lines = story.once("--uidmap 0:200000:5000 --gidmap 0:200000:5000", "sh", "-c", script).lines
    assert [line.split() for line in lines] == [["0", "200000", "5000"], ["0"], ["0"]]


def test_a_container_says_that_it_is_ready(story: Story, tmp_path: Path) -> None:
    """As a unit of Type=notify: conmon has a socket in the container, and tells who is the unit's main process."""
    tell = (
        "import os, socket, time; told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "told.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); time.sleep(600)"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path := f"{tmp_path}/notify")
        listener.settimeout(20)
        options = [*story.options, "--sdnotify=container"]
        container = story.run(
            "run", "-d", *options, story.image, "python3", "-c", tell, env={"NOTIFY_SOCKET": path}
        ).out
        told = {listener.recv(4096).decode() for _ in range(2)}
    assert told == {"READY=1", f"MAINPID={story.inspect(container, '.State.ConmonPid')}"}


def test_a_checkpoint_is_refused(story: Story) -> None:
    container = story.up()
    result = story.run("container", "checkpoint", container, check=False)
    assert result.code == 125
    assert result.stderr == "Error: configured runtime does not support checkpoint/restore\n"
    assert story.status(container) == "running"
