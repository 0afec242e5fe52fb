"""A container of mini-runtime on disk: names, states, and processes that only have the number of one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Conflict, NotFound, StoreError, UsageError
from engine.runtime import state

pytestmark = pytest.mark.requires("linux")


def facts() -> dict[str, Any]:
    return {
        "ociVersion": "1.2.0",
        "bundle": "/b",
        "rootfs": "/b/r",
        "created": "now",
        "owner": 0,
        "annotations": {},
        "cgroup": "",
    }


@pytest.fixture
def container(tmp_path: Path) -> state.Container:
    return state.reserve(str(tmp_path), "c1", facts())


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_name_is_taken_once(container: state.Container, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="already exists"):
        state.reserve(str(tmp_path), "c1", facts())
    assert state.find(str(tmp_path), "c1").data["bundle"] == "/b"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "ä"])
def test_what_is_no_id(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="invalid container ID format"):
        state.reserve(str(tmp_path), name, {})
    with pytest.raises(UsageError, match="invalid container ID format"):
        state.find(str(tmp_path), name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"pid": 1}'])
def test_a_damaged_state(container: state.Container, tmp_path: Path, content: str) -> None:
    """It is told of, and the others are there."""
    state.reserve(str(tmp_path), "c2", facts())
    (tmp_path / "c1/state.json").write_text(content)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="c1/state.json is damaged"):
        state.find(str(tmp_path), "c1")
    told: list[str] = []
    assert [found.id for found in state.find_all(str(tmp_path), told.append)] == ["c2"]
    assert [text.partition(" is damaged")[0] for text in told] == [f"{tmp_path}/c1/state.json"]


def test_states(container: state.Container, sleeper: subprocess.Popen[bytes]) -> None:
    """Told by the process and the socket, not by what somebody wrote before he was killed."""
    assert container.status() == "creating"
    container.save_process(sleeper.pid)
    Path(container.directory, "start.sock").touch()
    assert container.status() == "created"
    os.unlink(f"{container.directory}/start.sock")
    assert container.status() == "running"
    assert container.state()["pid"] == sleeper.pid
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert container.status() == "stopped", "a zombie does not run"
    assert container.state()["pid"] == 0


def test_a_creator_that_was_killed(container: state.Container) -> None:
    container.data["creatorStartTime"] -= 1
    assert container.status() == "stopped"


def test_another_process_with_its_number(container: state.Container, sleeper: subprocess.Popen[bytes]) -> None:
    container.save_process(sleeper.pid)
    container.data["startTime"] -= 1
    assert (container.pid, container.pidfd(), container.status()) == (0, -1, "stopped")
    with pytest.raises(Conflict, match="container not running"):
        container.signal(signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_name_without_a_state(tmp_path: Path) -> None:
    """Its owner was killed between two steps: only `delete --force` may take it away."""
    (tmp_path / "c1").mkdir()
    with pytest.raises(NotFound):
        state.find(str(tmp_path), "c1")
    assert state.find_all(str(tmp_path), pytest.fail) == []
    assert state.remove_reserved(str(tmp_path), "c1")
    assert os.listdir(tmp_path) == []


def test_a_state_is_not_taken_for_none(container: state.Container, tmp_path: Path) -> None:
    assert not state.remove_reserved(str(tmp_path), "c1")
    assert state.find(str(tmp_path), "c1")


def test_a_container_that_was_deleted_before_the_lock(container: state.Container, tmp_path: Path) -> None:
    other = state.find(str(tmp_path), "c1")
    container.remove()
    container.unlock()
    with pytest.raises(NotFound):
        other.lock()


def test_a_lock_excludes(container: state.Container, tmp_path: Path) -> None:
    script = f"import fcntl,os; fcntl.flock(os.open({container.directory!r}, 0), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    assert subprocess.run(["python3", "-c", script], capture_output=True).returncode != 0
    container.unlock()
    assert subprocess.run(["python3", "-c", script], capture_output=True).returncode == 0
