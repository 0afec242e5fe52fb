"""$NOTIFY_SOCKET (sd_notify(3), systemd's Type=notify): who started the runtime hears that the container is ready, and no more."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.conformance import PRELUDE, PYTHON, Container, until

TELL = f"""{PRELUDE}
place = os.environ["NOTIFY_SOCKET"]
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(*lines): told.sendto("\\n".join(lines).encode(), place)
"""
STAY = "\nwhile True: time.sleep(60)"


class Listener:
    """Somebody's $NOTIFY_SOCKET, and what it was told. A descriptor that comes along is closed, as sd_notify_barrier(3) wants."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/notify"
        self.environ = {**os.environ, "NOTIFY_SOCKET": self.path}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._lines: list[str] = []
        self._read = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            if message == b"?":
                self._read.set()
            else:
                self._lines += message.decode().split()

    def lines(self) -> list[str]:
        """All until now."""
        self._read.clear()
        self._send(b"?")
        self._read.wait()
        return self._lines

    def close(self) -> None:
        """Idempotent."""
        if self._thread.is_alive():
            self._send(b"")
            self._thread.join()
            self._socket.close()

    def _send(self, message: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, self.path)

    def main_pid(self) -> int:
        """Of whom it was told that he is ready; that, and of a barrier, is all it was told."""
        lines = self.lines()
        ready, pid = [line for line in lines if line != "BARRIER=1"]
        assert ready == "READY=1" and pid.startswith("MAINPID="), lines
        return int(pid.removeprefix("MAINPID="))


@pytest.fixture
def listener(container: Container) -> Iterator[Listener]:
    made = Listener(container.directory("host"))
    yield made
    made.close()


def python(container: Container, code: str) -> None:
    container.process["args"] = [*PYTHON, TELL + code]


def detached(container: Container, listener: Listener) -> subprocess.Popen[str]:
    """`run --detach` that waits for the container to be ready."""
    container.save()
    null: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    arguments = ("run", "--detach", "--bundle", container.bundle, container.id)
    return container.runtime.start(*arguments, env=listener.environ, **null)


def spare(container: Container, *names: str) -> None:
    """Half a minute is not waited for each of these."""
    if container.runtime.name in names:
        pytest.skip(f"{container.runtime.name} waits for ever")


NO_PID = pytest.mark.differs(crun="does not tell MAINPID")


@NO_PID
def test_run_detached(container: Container, listener: Listener) -> None:
    """The container's first process is the unit's main one, and the runtime goes when it is ready."""
    python(container, f"say('READY=1'){STAY}")
    container.must("run", "--detach", env=listener.environ)
    assert listener.main_pid() == container.state()["pid"]


@NO_PID
def test_create_and_start(container: Container, listener: Listener) -> None:
    python(container, f"say('READY=1'){STAY}")
    container.create(env=listener.environ)
    assert listener.lines() == []
    container.must("start", env=listener.environ)
    assert listener.main_pid() == container.state()["pid"]


@NO_PID
@pytest.mark.parametrize(
    "terminal", [False, pytest.param(True, marks=pytest.mark.differs(runc="wants a terminal of its caller's"))]
)
def test_run_in_the_foreground(container: Container, listener: Listener, terminal: bool) -> None:
    """The runtime stays, and is the unit's main process; what comes after does not block the container."""
    container.process["terminal"] = terminal
    python(container, "say('READY=1')\nfor number in range(2000): say('WATCHDOG=1')\nsys.exit(5)")
    container.save()
    process = container.runtime.start("run", "--bundle", container.bundle, container.id, env=listener.environ)
    process.communicate(timeout=30)
    assert process.returncode == 5
    assert listener.main_pid() == process.pid


@NO_PID
def test_in_a_user_namespace(container: Container, listener: Listener) -> None:
    """Its root is another user on the host."""
    container.user_namespace()
    container.process["user"] = {"uid": 1234, "gid": 1234}
    os.makedirs(f"{container.upper}/run/notify")  # runc makes it as the namespace's root, whose the root is not
    python(container, f"say('READY=1'){STAY}")
    container.must("run", "--detach", env=listener.environ)
    assert listener.main_pid() == container.state()["pid"]


@pytest.mark.differs(crun="does not tell MAINPID, and takes NOTREADY=1 for it")
def test_nothing_else_is_passed_on(container: Container, listener: Listener) -> None:
    """What systemd obeys: another main process, descriptors to keep, watchdogs; and of READY=1 the first."""
    spare(container, "runc")  # for READY=1 at the beginning of a message
    python(
        container,
        "say('STATUS=x', 'MAINPID=1', 'NOTREADY=1', 'READY=0'); say('WATCHDOG=trigger', 'ERRNO=2')\n"
        "told.connect(place); socket.send_fds(told, [b'FDSTORE=1\\nFDNAME=x'], [0, 1, 2])\n"
        "say('MAINPID=1', 'READY=1', 'FDSTORE=1'); say('READY=1'); say('STOPPING=1', 'READY=1')",
    )
    container.save()
    process = container.runtime.start("run", "--bundle", container.bundle, container.id, env=listener.environ)
    assert process.communicate(timeout=30) == ("", "")
    assert listener.main_pid() == process.pid


@pytest.mark.differs(crun="takes NOTREADY=1 for it")
def test_one_that_ends_before_it_is_ready(container: Container, listener: Listener) -> None:
    spare(container, "runc")
    python(container, "say('STATUS=READY=1', 'NOTREADY=1', 'READY=10', 'READY=0')")
    container.must("run", "--detach", env=listener.environ)
    container.wait("stopped")
    assert listener.lines() == []


def test_nobody_is_there_to_be_told(container: Container, listener: Listener) -> None:
    """The name is left over from somebody who has gone: the container runs, and is not waited for."""
    spare(container, "crun")
    listener.close()
    container.process["args"] = ["sleep", "600"]
    container.must("run", "--detach", env=listener.environ)
    assert container.state()["status"] == "running"


FLOOD = "while True:\n try: say('STATUS=' + 'x' * 3000)\n except OSError: pass"


@pytest.mark.parametrize("command", ["kill", "delete"])
def test_one_that_never_is_ready_and_never_stops(container: Container, listener: Listener, command: str) -> None:
    """Other commands do not wait for it, and with its end the runtime goes."""
    spare(container, "runc")
    python(container, FLOOD)
    waiting = detached(container, listener)
    until(lambda: container.exists() and container.state()["status"] == "running")
    if command == "kill":
        container.kill()
    else:
        container.must("delete", "--force")
    waiting.wait(60)
    assert listener.lines() == []


def test_a_flood_from_who_is_left(container: Container, listener: Listener) -> None:
    """Without PIDs of its own a container's other processes outlive the first, which alone counts."""
    spare(container, "runc", "crun")
    container.without_namespace("pid")
    python(
        container, f"own, other = os.pipe()\nif os.fork(): os.read(own, 1); sys.exit()\nos.write(other, b'x')\n{FLOOD}"
    )
    detached(container, listener).wait(60)
    assert container.state()["status"] == "stopped"


@pytest.mark.differs(runc="hides it behind its own", crun="hides it behind its own")
def test_a_socket_of_the_specs_own(container: Container, listener: Listener) -> None:
    """Of who made the bundle (conmon, --sdnotify-socket): he listens there himself."""
    container.mount("/own", "bind", os.path.dirname(listener.path), "bind")
    container.process["env"].append("NOTIFY_SOCKET=/own/notify")
    python(container, "say('READY=1', 'STATUS=x')")
    container.must("run", env=listener.environ)
    assert listener.lines() == ["READY=1", "STATUS=x"]


def test_exec_is_told_of_no_socket(container: Container, listener: Listener) -> None:
    """Nobody listens any more, and it is not the service."""
    python(container, f"say('READY=1'){STAY}")
    container.must("run", "--detach", env=listener.environ)
    assert "NOTIFY_SOCKET" not in container.exec("env", env=listener.environ).out
