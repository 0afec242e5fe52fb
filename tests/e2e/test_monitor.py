"""What befalls a monitor, and not its container: rubbish, no descriptor, no process, files that go, clients that die."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.files import FileLock
from engine.paths import Paths
from engine.runtime import attach
from tests.e2e.test_supervision import state, until
from tests.support import leaks
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = [pytest.mark.requires("root", "linux", "netns"), pytest.mark.timeout(180)]

MONITORS_FAIL = True
PROBE = ["--health-interval", "100ms", "--health-cmd"]


def connect(mini: Mini, container: str, name: str = attach.ATTACH_SOCKET) -> socket.socket:
    client = attach.connect(Paths(mini.root).container_run(container), name)
    return socket.socket(fileno=client.detach())


def follow(client: socket.socket) -> int | None:
    """What the monitor answers to somebody who asks it to look at its config."""
    client.sendall(attach.frame(attach.FOLLOW))
    answer = attach.read_frame(client.fileno())
    return answer[0] if answer else None


def said(mini: Mini, text: str) -> bool:
    """Whether it is in the result of one of the last probes."""
    return any(text in probe["Output"] for probe in state(mini, "it")["Health"]["Log"])


def directory(mini: Mini, container: str) -> Path:
    return Path(Paths(mini.root).container(container))


RUBBISH = {
    "bytes": b"\xff" * 64,
    "half a header": b"\x04",
    "half a frame": attach.frame(attach.SIGNAL, b"\x09")[:-1],
    "a huge length": attach.HEADER.pack(attach.STDIN, 0xFFFFFFFF),
    "no such signal": attach.frame(attach.SIGNAL, b"\xc8"),
    "two signals": attach.frame(attach.SIGNAL, b"\x09\x09"),
    "an empty greeting": attach.frame(attach.HELLO),
    "a size that is none": attach.frame(attach.RESIZE, b"12345"),
    "asked and gone": attach.frame(attach.FOLLOW) * 3,
    "no document": attach.frame(attach.EXEC, b"{"),
    "no request": attach.frame(attach.EXEC, b"[]"),
    "of another kind": attach.frame(attach.EXIT, b"1"),
}


@pytest.mark.parametrize("name", [attach.ATTACH_SOCKET, attach.EXEC_SOCKET])
@pytest.mark.parametrize("options", [[], ["-i"], ["-t"]], ids=" ".join)
def test_rubbish(mini: Mini, host_image: Image, name: str, options: list[str]) -> None:
    container = mini.detached(*options, host_image.name, "sh", "-c", "trap 'exit 3' USR1; while :; do sleep 0.05; done")
    kept = []
    for data in RUBBISH.values():
        kept.append(connect(mini, container, name))
        kept[-1].sendall(data)
        with connect(mini, container, name) as gone:
            gone.sendall(data)
    with connect(mini, container) as client:
        assert follow(client) == attach.FOLLOWED
    assert mini.run("exec", container, "echo", "well").out == "well"
    mini.run("kill", "-s", "USR1", container)
    assert mini.run("wait", container).out == "3"
    for client in kept:
        client.close()


def set_descriptors(pid: int, most: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def test_no_descriptor(mini: Mini, host_image: Image) -> None:
    """Probes fail, names are not found, who connects waits; then all is as before."""
    script = "while :; do python3 -c \"import socket; socket.gethostbyname('it')\" 2>&1 | tail -1; echo asked; done"
    options = ["--name", "it", "--health-cmd", "true", "--health-interval", "1s"]
    container = mini.detached(*options, host_image.name, "sh", "-c", script)
    until(lambda: state(mini, "it")["Health"]["Status"] == "healthy" and "asked" in mini.run("logs", "it").out)
    monitor = mini.monitor("it")
    clients = []

    def is_full() -> bool:
        """Every number below the limit is taken; a probe has some for a moment."""
        taken = {int(fd) for fd in os.listdir(f"/proc/{monitor}/fd")}
        if taken == set(range(len(taken))):
            set_descriptors(monitor, len(taken))
            return True
        clients.append(connect(mini, container))
        assert len(clients) < 50, [(fd, os.readlink(f"/proc/{monitor}/fd/{fd}")) for fd in taken]
        return False

    until(is_full)
    until(lambda: "name resolution" in mini.run("logs", "--tail", "2", "it").out)
    executed = mini.start("exec", "it", "echo", "well")
    late = connect(mini, container)
    time.sleep(1.5)  # a probe is due, whose result cannot be written
    assert mini.monitor("it") == monitor
    set_descriptors(monitor, 1024)
    until(lambda: said(mini, "Too many open files"))
    assert executed.communicate(timeout=60)[0] == "well\n"
    assert follow(late) == attach.FOLLOWED
    until(lambda: state(mini, "it")["Health"]["Status"] == "healthy")
    until(lambda: mini.run("logs", "--tail", "2", "it").lines == ["asked", "asked"])
    for client in [*clients, late]:
        client.close()
    mini.run("kill", "it")
    assert mini.run("wait", "it").out == "137"


@pytest.fixture
def narrow(mini: Mini, host_image: Image) -> Iterator[Path]:
    """A cgroup for one process."""
    mini.detached("--name", "first", "--network", "none", host_image.name, "sleep", "60")
    tree = next(tree for tree in leaks.hierarchies() if "pids" in tree.controllers)
    made = Path(f"{tree.path}{mini.cgroup_parent}/narrow")
    made.mkdir()
    (made / "pids.max").write_text("1")
    yield made
    mini.remove_containers()
    made.rmdir()


def test_no_process(mini: Mini, host_image: Image, narrow: Path) -> None:
    mini.detached("--name", "it", *PROBE, "true", host_image.name, "sleep", "60")
    monitor = mini.monitor("it")
    (narrow / "cgroup.procs").write_text(str(monitor))
    until(lambda: said(mini, "cannot fork"))
    result = mini.run("exec", "it", "true", check=False)
    assert (result.code, result.stderr) == (126, "mini: cannot fork for the exec: resource temporarily unavailable\n")
    (narrow / "pids.max").write_text("max")
    assert mini.run("exec", "it", "echo", "well").out == "well"
    until(lambda: not said(mini, "cannot fork"))
    mini.run("kill", "it")
    assert mini.run("wait", "it").out == "137"


def test_the_directory_is_gone(mini: Mini, host_image: Image) -> None:
    """State, config and log cannot be written: its output and exit code reach the client all the same."""
    options = ["-i", "--name", "it", "--log-opt", "max-size=1k", *PROBE, "echo > /probed"]
    client = mini.start("run", *options, host_image.name, "sh", "-c", "read x; seq 2000; exit 6")
    until(lambda: mini.run("ps", "-q").out)
    container = mini.inspect("it")["Id"]
    until(lambda: state(mini, "it")["Health"]["Status"] == "healthy")
    monitor = mini.monitor("it")
    root = f"/proc/{state(mini, 'it')['Pid']}/root"
    where = directory(mini, container)
    away = where.rename(f"{where}.away")
    os.unlink(f"{root}/probed")
    until(lambda: os.path.exists(f"{root}/probed"))
    out, _ = client.communicate("go\n", timeout=60)
    assert (client.returncode, out.split()) == (6, [str(n) for n in range(1, 2001)])
    until(lambda: not os.path.exists(f"/proc/{monitor}"))
    shutil.rmtree(where, ignore_errors=True)
    away.rename(where)
    assert not state(mini, "it")["Running"]


@pytest.mark.parametrize("text", ["", "{", "null", "{}", '{"Id": "another"}'])
def test_a_config_that_is_damaged(mini: Mini, host_image: Image, text: str) -> None:
    client = mini.start("run", "-i", "--name", "it", host_image.name, "sh", "-c", "read x; exit 6")
    until(lambda: mini.run("ps", "-q").out)
    container = mini.inspect("it")["Id"]
    config = directory(mini, container) / "config.json"
    whole = config.read_text()
    config.write_text(text)
    with connect(mini, container) as asking:
        assert follow(asking) == attach.FOLLOWED
    client.communicate("go\n", timeout=60)
    assert client.returncode == 6
    config.write_text(whole)
    assert mini.run("wait", "it").out == "6"


def test_the_client_dies_before_it_hears_of_the_start(mini: Mini, host_image: Image) -> None:
    mini.run("run", "--rm", host_image.name, "true")
    until(lambda: not leaks.processes(mini))  # that one's monitor gives its address back after the client has heard
    with FileLock(Paths(mini.root).lock("networks")):
        # the monitor waits for its address
        client = mini.start("run", "-d", "--name", "it", host_image.name, "sleep", "60")
        until(lambda: len(leaks.processes(mini)) == 2)
        client.kill()
        client.communicate()
    until(lambda: mini.run("ps", "-q").out)
    assert mini.run("exec", "it", "echo", "well").out == "well"


def test_a_client_that_is_stopped(mini: Mini, host_image: Image) -> None:
    """Nobody waits for it: the container ends, is started again and removed; and when it goes on, it has all and the exit code."""
    script = "seq 1000000 & sleep 2; test -e /again && exec sleep 60; echo > /again; exit 5"
    client = mini.start("run", "--name", "it", host_image.name, "sh", "-c", script)
    container = until(lambda: mini.run("ps", "-q", "--no-trunc").out)
    os.kill(client.pid, signal.SIGSTOP)
    until(lambda: state(mini, "it")["Status"] == "exited")
    assert state(mini, "it")["ExitCode"] == 5
    written = mini.run("logs", "it").stdout
    assert mini.run("wait", "it").out == "5"
    mini.run("start", "it")
    address = mini.address("it")
    assert address and mini.run("exec", "it", "echo", "well").out == "well"
    os.kill(client.pid, signal.SIGCONT)
    out, _ = client.communicate(timeout=60)
    assert (client.returncode, out) == (5, written)
    assert mini.address("it") == address and mini.run("exec", "it", "echo", "well").out == "well"
    mini.run("rm", "-f", container)


def test_a_stranger_holds_the_output(mini: Mini, host_image: Image) -> None:
    """Descriptors can be passed on: the container ends all the same, with what it had written."""
    container = mini.detached(
        "--name", "it", host_image.name, "sh", "-c", "until test -e /go; do sleep 0.05; done; echo said; exit 4"
    )
    out = os.open(f"/proc/{state(mini, 'it')['Pid']}/fd/1", os.O_WRONLY)
    mini.run("exec", "it", "touch", "/go")
    assert mini.run("wait", container).out == "4"
    os.close(out)
    assert mini.run("logs", "it").out == "said"


def test_what_outlives_init_ends_with_it(mini: Mini, host_image: Image) -> None:
    """In the host's PID namespace the kernel does not see to it."""
    result = mini.run(
        "run", "--pid", "host", "--name", "it", host_image.name, "sh", "-c", "sleep 61 & echo $!; exit 3", check=False
    )
    assert (result.code, state(mini, "it")["Status"]) == (3, "exited")
    until(lambda: not os.path.exists(f"/proc/{result.out}"))


def test_killed_between_two_lives(mini: Mini, host_image: Image) -> None:
    """The last life's end is what counts."""
    container = mini.detached("--name", "it", "--restart", "always", host_image.name, "sh", "-c", "exit 9")
    until(lambda: mini.inspect("it")["RestartCount"] >= 4 and state(mini, "it")["Status"] == "restarting")
    waiting = mini.start("wait", "it")
    os.kill(json.loads((directory(mini, container) / "state.json").read_text())["MonitorPid"], signal.SIGKILL)
    until(lambda: state(mini, "it")["Status"] == "exited")
    assert waiting.communicate(timeout=60)[0] in ("9\n", "137\n")
    found = state(mini, "it")
    assert found["ExitCode"] == 9 and "was killed" in found["Error"]
    since = [
        "--since",
        str(int(time.time()) - 60),
        "--until",
        str(int(time.time()) + 1),
        "--filter",
        f"container={container}",
    ]
    died = mini.run("events", *since, "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}").lines
    assert set(died) == {"9"}
    mini.run("start", "it")


def test_a_restart_that_cannot_be_made(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    mini.detached("--name", "it", "--restart", "always", "-v", f"{tmp_path}/x:/x", host_image.name, "sleep", "60")
    mini.run("exec", "it", "true")
    (tmp_path / "x").rmdir()
    os.kill(state(mini, "it")["Pid"], signal.SIGKILL)
    until(lambda: state(mini, "it")["Status"] == "exited")
    found = state(mini, "it")
    assert (found["ExitCode"], found["Running"]) == (137, False) and f"{tmp_path}/x" in found["Error"]
    assert found["StartedAt"] < found["FinishedAt"]
    (tmp_path / "x").mkdir()
    mini.run("start", "it")
    assert state(mini, "it")["Running"]
