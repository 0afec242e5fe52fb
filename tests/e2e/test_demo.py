"""`mini demo`: it shows what it says, and takes everything with it, also when it is interrupted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.runner import PROGRAM
from tests.support.terminal import Terminal

pytestmark = pytest.mark.requires("linux", "root", "netns")


def until(condition: Callable[[], list[str]]) -> list[str]:
    """What `condition` returns once it is not empty."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


class Demo:
    """What a demo with these variables leaves on the host. Its files are below TMPDIR, its cgroups are named as its directory."""

    def __init__(self, directory: Path) -> None:
        self.environ = {**os.environ, "TERM": "xterm", "TMPDIR": str(directory)}
        self._directory = directory
        self._before = self._common()

    def left(self, name: str) -> object:
        """Nothing, where the demo whose directory had this name has taken everything with it."""
        return (
            self.cgroups(name)
            + os.listdir(self._directory)
            + [what for what in self._common() if what not in self._before]
        )

    @staticmethod
    def cgroups(name: str) -> list[str]:
        return [path for tree in leaks.hierarchies() if os.path.exists(path := f"{tree.path}/{name}")]

    def made(self) -> str:
        """Its directory's name, as soon as there is one."""
        return until(lambda: os.listdir(self._directory))[0]

    @staticmethod
    def _common() -> list[str]:
        with open("/proc/self/mountinfo") as mounts, open("/proc/sys/net/ipv4/ip_forward") as forwarding:
            return [*mounts, *(name for _, name in socket.if_nameindex()), f"forwarding: {forwarding.read()}"]


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def test_demo(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> None:
    said = tmp_path_factory.mktemp("said")
    with open(said / "out", "w") as out, open(said / "err", "w") as err:
        process = subprocess.Popen(
            [PROGRAM, "demo"], env=demo.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        name = demo.made()
        code = process.wait(timeout=100)
    stdout, stderr = (said / "out").read_text(), (said / "err").read_text()
    assert code == 0, stdout + stderr
    assert "Cannot fork" in stderr
    assert "\x1b" not in stdout
    for expected in (
        "$ mini pull demo\n",
        "Status: Downloaded newer image for demo:latest\n",
        "PID 1 on box, as root, from host\n",
        "(exit code 3)\n",
        "$ mini run --rm -v notes:/notes demo cat /notes/file\nkept\n",
        "$ mini volume import copy notes.tar\n$ mini run --rm -v copy:/notes:ro demo cat /notes/file\nkept\n",
        "/index.html\nhello from a container\n",
        "   processes: none\n",
    ):
        assert expected in stdout
    assert demo.left(name) == []


def test_interrupted_on_a_terminal(demo: Demo) -> None:
    with Terminal([PROGRAM, "demo"], demo.environ) as terminal:
        terminal.expect("\x1b[1;36m1. An image", timeout=60)
        name = demo.made()
        terminal.expect("--name web", timeout=60)
        until(lambda: demo.cgroups(name))
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == 130
        assert "interrupted" in terminal.screen.decode()
    assert demo.left(name) == []
