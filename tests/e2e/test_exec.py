"""`exec`: served by the container's monitor, whose child does what the client asks; what each of them holds, and outlives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime import attach
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini, run_command

pytestmark = pytest.mark.requires("linux", "root", "netns")


def monitor_of(mini: Mini, container: str) -> int:
    with open(f"{mini.root}/containers/{container}/state.json") as file:
        return int(json.load(file)["MonitorPid"])


def run_directory(mini: Mini, container: str) -> str:
    return f"{mini.root}/run/containers/{container}"


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def descriptors(pid: int) -> dict[int, str]:
    """What each descriptor of the process is, numbers of sockets and pipes left out."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}").partition(":[")[0]
    return found


def actions(mini: Mini, container: str) -> list[str]:
    shown = ("--filter", f"container={container}", "--format", "{{.Action}}")
    told = mini.run("events", "--since", "1h", "--until", "0s", *shown).lines
    return [action for action in told if action.startswith("exec_")]


class Served:
    """A container with a log, a terminal, an attached client and a command that is being executed in it."""

    def __init__(self, mini: Mini, container: str, client: Any) -> None:
        self.container, self.client = container, client
        self.monitor = monitor_of(mini, container)
        self.init = int(mini.inspect(container)["State"]["Pid"])
        (self.server,) = until(lambda: [pid for pid in children(self.monitor) if pid != self.init])
        self.command = until(lambda: [p for p in children(self.server) if _program(p) == "sleep"])[0]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and before it is read
        return ""


@pytest.fixture
def served(mini: Mini, host_image: Image) -> Iterator[Served]:
    container = mini.detached("-it", "--name", "it", host_image.name, "sleep", "600")
    with mini.terminal("attach", "it"):
        client = mini.start("exec", "it", "sleep", "601")
        yield Served(mini, container, client)
        client.kill()
        client.communicate()


# --- what is whose


def test_the_variables_and_files_are_the_clients(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("A\nB=2\n")
    mini.run("run", "-d", "--name", "it", host_image.name, "sleep", "60", env={"A": "of the monitor", "C": "too"})
    asked = ("exec", "--env-file", "file", "-e", "D", "-e", "C", "it", "sh", "-c", "echo $A.$B.$C.$D")
    assert mini.run(*asked, env={"A": "1", "D": "4"}, cwd=str(tmp_path)).out == "1.2..4"


def test_limits_and_mask_are_the_monitors(mini: Mini, host_image: Image) -> None:
    """As with a daemon: what the client's shell has set is no affair of the container's."""
    mini.run("run", "-d", "--name", "it", host_image.name, "sleep", "60")
    show = "umask; ulimit -n; ulimit -c"
    plain = mini.run("exec", "it", "sh", "-c", show).out
    program = mini.run("--version").args[0]
    command = f"umask 077; ulimit -n 99; ulimit -c 0; exec {program} exec it sh -c '{show}'"
    assert run_command(["sh", "-c", command], mini.environ).out == plain


def test_a_renamed_container_is_told_by_its_new_name(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "old", host_image.name, "sleep", "60")
    mini.run("rename", "old", "new")
    assert mini.run("exec", "new", "echo", "alive").out == "alive"
    shown = (
        "--filter",
        f"container={container}",
        "--filter",
        "event=exec_die",
        "--format",
        "{{.Actor.Attributes.name}}",
    )
    assert mini.run("events", "--since", "1h", "--until", "0s", *shown).out == "new"


def test_a_very_long_command_line(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "it", host_image.name, "sleep", "60")
    words = ["\N{SNOWMAN}" * 30_000] * 12
    assert mini.run("exec", "it", "printf", "%s", *words).stdout == "".join(words)


def test_the_window_is_resized(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "it", host_image.name, "sleep", "60")
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    with mini.terminal("exec", "-it", "it", "sh", "-c", script) as terminal:
        terminal.expect("ready")
        terminal.resize(33, 111)
        terminal.expect("33 111")


# --- who outlives whom


def test_it_goes_on_when_its_client_is_killed(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    client = mini.start(
        "exec", "-i", "it", "sh", "-c", "echo ready; until test -e /go; do sleep 0.02; done; echo >/done; exit 5"
    )
    assert client.stdout and client.stdout.readline() == "ready\n"
    client.kill()
    client.communicate()
    mini.run("exec", "it", "touch", "/go")
    until(lambda: mini.run("exec", "it", "test", "-e", "/done", check=False).code == 0)
    shown = ("--filter", f"container={container}", "--format", "{{.Actor.Attributes.exitCode}}")
    until(lambda: "5" in mini.run("events", "--since", "1h", "--until", "0s", *shown).lines)


def test_it_goes_on_when_its_client_is_gone_before_it_began(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    client = attach.connect(run_directory(mini, container), attach.EXEC_SOCKET)
    command = ["sh", "-c", "echo unread; sleep 0.1; echo unread && echo >/done; exit 6"]
    client.send(attach.json_frame(attach.EXEC, {"container": "it", "command": command, "size": None, "options": {}}))
    client.close()
    shown = ("--filter", f"container={container}", "--format", "{{.Actor.Attributes.exitCode}}")
    until(lambda: "6" in mini.run("events", "--since", "1h", "--until", "0s", *shown).lines)
    mini.run("exec", "it", "test", "-e", "/done")


def test_detached_it_goes_on(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    result = mini.run("exec", "-d", "it", "sh", "-c", "echo unseen; sleep 0.2; echo >/done")
    assert (result.stdout, result.stderr) == ("", "")
    until(lambda: mini.run("exec", "it", "test", "-e", "/done", check=False).code == 0)
    assert actions(mini, container)[0].startswith("exec_create: sh -c")
    assert "unseen" not in mini.run("logs", "it").stdout


def test_it_ends_with_its_container(mini: Mini, served: Served) -> None:
    mini.run("kill", "it")
    assert served.client.wait(60) == 137
    until(lambda: not _program(served.command) and not _program(served.server))


def test_it_ends_with_its_containers_monitor(mini: Mini, served: Served) -> None:
    os.kill(served.monitor, signal.SIGKILL)
    assert served.client.wait(60) == 137
    until(lambda: not _program(served.server))
    result = mini.run("exec", "it", "true", check=False)
    assert (result.code, "is not running" in result.stderr) == (1, True)


def test_a_detached_clients_event_has_the_execs_id(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    with mini.terminal("exec", "-it", "it", "sh", "-c", "echo ready; cat") as terminal:
        terminal.expect("ready")
        terminal.write("\x10\x11")
        assert terminal.wait() == 1
    shown = ("--filter", f"container={container}", "--format", "{{.Action}} {{.Actor.Attributes.execID}}")
    told = [line.split() for line in mini.run("events", "--since", "1h", "--until", "0s", *shown).lines]
    ids = {words[0].rstrip(":"): words[-1] for words in told if words[0].startswith("exec_")}
    assert list(ids) == ["exec_create", "exec_start", "exec_detach"]
    assert len(set(ids.values())) == 1


# --- the monitor and its children


def test_what_its_process_holds(served: Served) -> None:
    """Nothing of the monitor's: its listeners, log, terminal and clients would be kept open, or reach into the container."""
    assert {"/dev/pts/ptmx", "/dev/ptmx"} & set(descriptors(served.monitor).values())
    until(lambda: len(descriptors(served.monitor)) > 9)
    # the client, the command's two outputs, and the pidfd to wait by; the channel to the command closes when that is executed
    wanted = ["anon_inode", "pipe", "pipe", "socket"]
    held = until(lambda: sorted((found := descriptors(served.server)).values())[3:] == wanted and found)
    assert [held[fd] for fd in range(3)] == ["/dev/null"] * 3
    assert sorted(descriptors(served.command)) == [0, 1, 2]
    assert set(descriptors(served.command).values()) <= {"/dev/null", "pipe"}


def test_it_can_be_neither_overwritten_nor_watched(served: Served) -> None:
    """CVE-2019-5736: through the binary of whoever made it, a process of the container would write the host's."""
    program = os.open(f"/proc/{served.server}/exe", os.O_PATH)
    # the mount's own flag: an open(2) for writing would answer ETXTBSY for as long as anybody executes it
    assert os.fstatvfs(program).f_flag & os.ST_RDONLY
    os.close(program)
    assert os.readlink(f"/proc/{served.server}/ns/pid") == os.readlink("/proc/self/ns/pid")
    assert os.readlink(f"/proc/{served.command}/ns/pid") == os.readlink(f"/proc/{served.init}/ns/pid")


def test_it_counts_where_the_monitor_does_and_the_command_where_the_container_does(served: Served) -> None:
    groups = [
        Path(f"/proc/{pid}/cgroup").read_text() for pid in (served.server, served.monitor, served.command, served.init)
    ]
    assert groups[0] == groups[1]
    assert groups[2] == groups[3] != groups[0]
    assert os.getsid(served.server) == served.server


def test_the_monitor_keeps_nothing_of_it(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    monitor = monitor_of(mini, container)
    mini.run("exec", "it", "true")
    init = until(lambda: len(found := children(monitor)) == 1 and found)
    # it has closed what it waited with before it reaps
    before = descriptors(monitor)
    clients = [mini.start("exec", "it", "sh", "-c", f"exit {number}") for number in range(12)]
    for client in clients:
        client.communicate()
    assert [client.returncode for client in clients] == list(range(12))
    until(lambda: (descriptors(monitor), children(monitor)) == (before, init))


def test_a_client_that_says_nothing_or_nonsense_hinders_nobody(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    monitor = monitor_of(mini, container)
    before = children(monitor)
    silent, cut, confused = (attach.connect(run_directory(mini, container), attach.EXEC_SOCKET) for _ in range(3))
    cut.send(b"\6\0\0")
    confused.send(attach.frame(attach.EXEC, b'{"nonsense": []}'))
    assert confused.recv(100) == b""
    assert mini.run("exec", "it", "echo", "alive").out == "alive"
    for client in (silent, cut, confused):
        client.close()
    until(lambda: children(monitor) == before)


def test_only_root_can_ask(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    found = os.stat(f"{run_directory(mini, container)}/{attach.EXEC_SOCKET}")
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, 0)
    assert stat.S_IMODE(os.stat(run_directory(mini, container)).st_mode) == 0o700


# --- a container that cannot


def test_between_two_lives(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", "--restart", "always", host_image.name, "false")
    until(lambda: mini.inspect("it")["RestartCount"] >= 4)
    # it may live between any two looks at it
    refused = f"mini: Container {container} is restarting, wait until the container is running\n"
    result = until(lambda: (said := mini.run("exec", "it", "true", check=False)).stderr == refused and said)
    assert result.code == 1


def test_in_its_second_life(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "it", "--restart", "always", host_image.name, "sleep", "60")
    first = mini.inspect("it")["State"]["Pid"]
    mini.run("exec", "it", "kill", "-9", "-1", check=False)
    os.kill(first, signal.SIGKILL)
    until(lambda: (s := mini.inspect("it")["State"])["Status"] == "running" and s["Pid"] != first)
    assert mini.run("exec", "it", "echo", "alive").out == "alive"


def test_the_monitor_of_an_older_mini(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    os.unlink(f"{run_directory(mini, container)}/{attach.EXEC_SOCKET}")
    result = mini.run("exec", "it", "true", check=False)
    assert result.code == 1
    assert "another version of mini started it\n  mini restart it" in result.stderr
    mini.run("restart", "-t", "0", "it")
    assert mini.run("exec", "it", "echo", "alive").out == "alive"


def test_codes_of_what_cannot_be_executed(mini: Mini, host_image: Image) -> None:
    """As Docker's: the client's own mistakes 1, the command's 126 and 127, and 1 with -d."""
    mini.detached("--name", "it", host_image.name, "sleep", "60")
    codes = {
        ("--env-file", "/nosuch", "it", "true"): 1,
        ("-w", "relative", "it", "true"): 126,
        ("-w", "/nosuch", "it", "true"): 126,
        ("-u", "nosuch", "it", "true"): 126,
        ("-it", "it", "true"): 1,
        ("-d", "it", "nosuch"): 1,
        ("-d", "-u", "nosuch", "it", "true"): 1,
        ("it", "nosuch"): 127,
        ("it", "/etc"): 126,
    }
    assert {words: mini.run("exec", *words, check=False).code for words in codes} == codes
