"""config.md, "Process": `terminal` and `consoleSize`; the console socket of runc's command line."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support.conformance import PROBE, Container, reported


class Console(NamedTuple):
    """A socket that is waiting for the terminal's descriptor."""

    path: str
    listener: socket.socket

    def receive(self) -> int:
        """The master's descriptor: one message with one of them (SCM_RIGHTS)."""
        self.listener.settimeout(60)
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(60)
            _, messages, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        numbers.frombytes(messages[0][2][:4])
        assert messages[0][:2] == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        return numbers[0]


@pytest.fixture
def console(container: Container) -> Iterator[Console]:
    path = f"{container.bundle}/console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        yield Console(path, listener)


def report(container: Container, console: Console) -> dict[str, Any]:
    """What the probe sees that runs on the terminal."""
    container.process["terminal"] = True
    container.process["args"] = [PROBE]
    container.create("--console-socket", console.path)
    master = console.receive()
    container.start()
    found = reported(_everything(master))
    container.wait("stopped")
    return found


def _everything(master: int) -> str:
    """Until the other end is closed, which is EIO."""
    out = b""
    try:
        while block := os.read(master, 65536):
            out += block
    except OSError:
        pass
    os.close(master)
    return out.decode()


def test_a_terminal(container: Container, console: Console) -> None:
    """Process: "a pseudoterminal pair is allocated for the process and … duplicated on the process's standard streams"."""
    assert report(container, console)["terminal"]["tty"] == [True, True, True]


def test_it_is_the_controlling_terminal(container: Container, console: Console) -> None:
    """The process leads the session of its terminal: it gets SIGINT, SIGWINCH."""
    assert report(container, console)["terminal"]["foreground"]


def test_it_is_the_containers_own(container: Container, console: Console) -> None:
    """Default Devices: the container's own devpts has it."""
    assert report(container, console)["terminal"]["name"] in ("/dev/pts/0", "/dev/console")


def test_dev_console(container: Container, console: Console) -> None:
    """Default Devices: "`/dev/console` is set up … by bind mounting the pseudoterminal pty to `/dev/console`"."""
    found = report(container, console)
    assert found["dev"]["/dev/console"]["type"] == "c"
    assert "/dev/console" in [mount["target"] for mount in found["mounts"]]


def test_console_size(container: Container, console: Console) -> None:
    """Process: "`consoleSize` (object, OPTIONAL) specifies the console size in characters of the terminal"."""
    container.process["consoleSize"] = {"height": 33, "width": 77}
    assert report(container, console)["terminal"]["size"] == [33, 77]


def test_console_size_without_a_terminal(container: Container) -> None:
    """Process: "Runtimes MUST ignore `consoleSize` if `terminal` is `false` or unset"."""
    container.process["consoleSize"] = {"height": 33, "width": 77}
    assert container.report()["terminal"]["tty"] == [False, False, False]


def test_the_terminal_is_the_users(container: Container, console: Console) -> None:
    """So that it can be opened by its name, as programs do."""
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.process["terminal"] = True
    container.process["args"] = ["sh", "-c", "stat -c %u $(tty) && echo opened > $(tty)"]
    container.create("--console-socket", console.path)
    master = console.receive()
    container.start()
    assert _everything(master).split() == ["1000", "opened"]


def test_a_terminal_carries_both_ways(container: Container, console: Console) -> None:
    container.process["terminal"] = True
    container.process["args"] = ["sh", "-c", "read line; echo got $line"]
    container.create("--console-socket", console.path)
    master = console.receive()
    container.start()
    os.write(master, b"text\n")
    assert "got text" in _everything(master)


def test_ctrl_c_reaches_the_program(container: Container, console: Console) -> None:
    container.process["terminal"] = True
    container.process["args"] = [
        "sh",
        "-c",
        "trap 'echo interrupted; exit' INT; echo ready; while :; do sleep 0.01; done",
    ]
    container.create("--console-socket", console.path)
    master = console.receive()
    container.start()
    out = b""
    while b"ready" not in out:
        out += os.read(master, 4096)
    os.write(master, b"\x03")
    assert "interrupted" in _everything(master)


def test_the_size_may_change_later(container: Container, console: Console) -> None:
    """By whoever has the master: the container sees SIGWINCH."""
    container.process["terminal"] = True
    container.process["args"] = ["sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"]
    container.create("--console-socket", console.path)
    master = console.receive()
    container.start()
    out = b""
    while b"ready" not in out:
        out += os.read(master, 4096)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 34, 0, 0))
    assert "12 34" in _everything(master)


def test_a_terminal_wants_a_socket(container: Container) -> None:
    """Create, or `run --detach`, has no terminal of its own to carry it to."""
    container.process["terminal"] = True
    container.refused()


@pytest.mark.differs(crun="does not look")
def test_a_socket_wants_a_terminal(container: Container, console: Console) -> None:
    """What would wait for a descriptor that never comes."""
    assert container.attempt("create", "--console-socket", console.path).code != 0


def test_a_socket_that_is_missing(container: Container) -> None:
    container.process["terminal"] = True
    assert container.attempt("create", "--console-socket", f"{container.bundle}/nothing").code != 0
    assert not container.exists()


def test_run_detached_sends_the_terminal(container: Container, console: Console) -> None:
    container.process["terminal"] = True
    container.process["args"] = ["echo", "from the terminal"]
    container.must("run", "--detach", "--console-socket", console.path)
    assert "from the terminal" in _everything(console.receive())


def test_exec_with_a_terminal(container: Container, console: Console) -> None:
    container.started()
    done = container.exec("sh", "-c", "tty; stty size", options=("--tty", "--detach", "--console-socket", console.path))
    assert done.code == 0, done
    name, size = _everything(console.receive()).splitlines()
    assert name.startswith("/dev/pts/") and len(size.split()) == 2


@pytest.mark.parametrize("ids", [(0, 0), (1000, 1000)], ids=str)
@pytest.mark.parametrize("command", ["create", "exec"])
def test_the_terminal_has_the_group_of_ttys(
    container: Container, console: Console, command: str, ids: tuple[int, int]
) -> None:
    """Its owner is the user, its group what the mount of devpts says: `gid=5`."""
    container.process["user"] = {"uid": ids[0], "gid": ids[1]}
    script = ["sh", "-c", "stat -c %u:%g $(tty)"]
    if command == "exec":
        container.started("sleep", "60")
        done = container.exec(*script, options=("--tty", "--detach", "--console-socket", console.path))
        assert done.code == 0, done
    else:
        container.process["terminal"] = True
        container.process["args"] = script
        container.create("--console-socket", console.path)
        container.start()
    assert _everything(console.receive()).split() == [f"{ids[0]}:5"]


def test_the_streams_are_all_the_terminal(container: Container, console: Console) -> None:
    """By its name inside, which ttyname(3) finds."""
    container.process["terminal"] = True
    container.process["args"] = ["sh", "-c", "for n in 0 1 2; do readlink /proc/self/fd/$n; done"]
    container.create("--console-socket", console.path)
    container.start()
    assert _everything(console.receive()).split() == ["/dev/pts/0"] * 3


def test_exec_with_a_console_size(container: Container, console: Console) -> None:
    """Process: `consoleSize` of the document of exec. crun sets it when the program may run already."""
    container.started()
    script = 'n=3000; while [ "$(stty size)" = "0 0" ] && [ $n -gt 0 ]; do n=$((n - 1)); sleep 0.01; done; stty size'
    process = {"args": ["sh", "-c", script], "terminal": True, "consoleSize": {"height": 10, "width": 110}}
    options = ("--tty", "--detach", "--console-socket", console.path)
    assert container.exec_process(process, *options).code == 0
    assert _everything(console.receive()).split() == ["10", "110"]


@pytest.mark.differs(runc="wants a terminal of its caller", crun="wants a terminal of its caller")
@pytest.mark.parametrize("command", ["run", "exec"])
def test_in_the_foreground_with_a_stdin_that_is_none(container: Container, command: str) -> None:
    """The container's terminal is one, though the caller has none: its output is relayed."""
    script = ["sh", "-c", "tty; test -t 1 && echo is one"]
    if command == "exec":
        container.started()
        done = container.exec(*script, options=("--tty",))
    else:
        container.process["terminal"] = True
        done = container.run(*script)
    assert (done.code, done.out.split()) == (0, ["/dev/pts/0", "is", "one"]), done


@pytest.mark.parametrize("size", [{"height": 1, "width": 1}, {"height": 0, "width": 0}, {"height": 100, "width": 500}])
def test_any_size(container: Container, console: Console, size: dict[str, int]) -> None:
    container.process["consoleSize"] = size
    assert report(container, console)["terminal"]["size"] == [size["height"], size["width"]]
