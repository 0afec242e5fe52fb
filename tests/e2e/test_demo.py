"""`mini demo`: it shows what it says, and takes everything with it, also when it is interrupted."""

from __future__ import annotations

import glob
import os
import signal
import socket
import subprocess

import pytest

from tests.support.runner import PROGRAM
from tests.support.terminal import Terminal

pytestmark = pytest.mark.requires("linux", "root", "netns")


def _on_the_host() -> dict[str, object]:
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split()[4] for line in file if "mini-demo" in line]
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        forwarding = file.read()
    return {
        "mounts": mounts,
        "links": sorted(name for _, name in socket.if_nameindex() if "demo" in name or name.startswith("veth")),
        "cgroups": glob.glob("/sys/fs/cgroup/**/mini-demo-*", recursive=True),
        "files": glob.glob("/var/tmp/mini-demo-*"),
        "forwarding": forwarding,
    }


def test_demo() -> None:
    before = _on_the_host()
    done = subprocess.run([PROGRAM, "demo"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Cannot fork" in done.stderr
    assert "\x1b" not in done.stdout
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
        assert expected in done.stdout
    assert _on_the_host() == before


def test_interrupted_on_a_terminal() -> None:
    before = _on_the_host()
    with Terminal([PROGRAM, "demo"], {**os.environ, "TERM": "xterm"}) as terminal:
        terminal.expect("\x1b[1;36m1. An image", timeout=60)
        terminal.expect("--name web", timeout=60)
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == 130
        assert "interrupted" in terminal.screen.decode()
    assert _on_the_host() == before
