"""Hooks as processes: what they are given, what is told of those that fail, and their time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RuntimeFault
from engine.runtime.hooks import Hooks

pytestmark = pytest.mark.requires("linux")

STATE = {"ociVersion": "1.2.0", "id": "c1", "bundle": "/b", "annotations": {"a": "b"}}


def sh(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]} | more


def run(*hooks: dict[str, Any]) -> None:
    Hooks({"prestart": [*hooks]}, STATE).run("prestart", "creating", 42)


def test_the_state(tmp_path: Path) -> None:
    run(sh(f"cat > {tmp_path}/state"))
    assert json.loads((tmp_path / "state").read_text()) == STATE | {"status": "creating", "pid": 42}


def test_environment_and_descriptors(tmp_path: Path) -> None:
    """Its own three, and the environment that it names."""
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    run(sh(f"env > {tmp_path}/env; exec ls /proc/self/fd > {tmp_path}/fds", env=["PATH=/usr/bin:/bin", "A=b=c"]))
    os.close(held)
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"], "3 is the directory that ls reads"
    assert "A=b=c" in (tmp_path / "env").read_text()
    assert "HOME" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    "hook, message",
    [
        (sh("echo why >&2; exit 3"), "prestart hook #0 (/bin/sh) ended with exit code 3: why"),
        (sh("kill -9 $$"), "prestart hook #0 (/bin/sh) was killed by signal 9"),
        (sh("exec sleep 60", timeout=1), "prestart hook #0 (/bin/sh) timed out"),
        ({"path": "/no"}, "prestart hook #0 (/no) ended with exit code 127: cannot be executed: no such file or directory"),
    ],
)  # fmt: skip
def test_what_fails(hook: dict[str, Any], message: str, tmp_path: Path) -> None:
    """And what would come next is not run."""
    with pytest.raises(RuntimeFault) as e:
        run(hook, sh(f"touch {tmp_path}/next"))
    assert (e.value.step, e.value.message) == ("hook", message)
    assert os.listdir(tmp_path) == []


def test_a_time_out_ends_its_children_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="timed out"):
        run(sh(f"sleep 60 & echo $! > {tmp_path}/pid; wait", timeout=1))
    pid = int((tmp_path / "pid").read_text())
    for _ in range(1200):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    pytest.fail("a child of the hook lives on")


def test_much_output_and_a_child_that_stays(tmp_path: Path) -> None:
    """Neither makes the runtime wait: standard output is a file."""
    run(sh(f"head -c 1000000 /dev/zero; sleep 60 & echo $! > {tmp_path}/pid"))
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_all_of_them_whatever_fails(tmp_path: Path) -> None:
    told: list[str] = []
    hooks = Hooks({"poststop": [sh("exit 1"), sh(f"touch {tmp_path}/second"), sh("exit 2")]}, STATE)
    hooks.run_all("poststop", "stopped", 0, told.append)
    assert os.listdir(tmp_path) == ["second"]
    assert [text.split(" ")[2] for text in told] == ["#0", "#2"]
