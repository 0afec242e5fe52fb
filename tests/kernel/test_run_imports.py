"""What a whole `mini run` and `mini exec` import: in the client, the monitor, its children, and init until it changes its root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import imports
from tests.support.images import Images
from tests.support.runner import Mini
from tests.unit.test_import_budget import HEAVY

pytestmark = pytest.mark.requires("root", "linux", "netns")


@pytest.fixture
def mini(images: Images) -> Iterator[Mini]:
    mini = Mini(images.environ)
    mini.run("pull", "-q", "host:latest")
    yield mini
    mini.close()


def imports_of(mini: Mini, log: Path, *argv: str) -> set[str]:
    return imports.imports_of(log, "engine.cli.start", "mini", *argv, environ=mini.environ)


def test_a_whole_run_imports_nothing_heavy(mini: Mini, tmp_path: Path) -> None:
    options = "--rm -v data:/data --memory 64m --pids-limit 20 --cpus 0.5 -w /data -e A=b".split()
    # Once before: the bridge, the index and the seccomp filter are made, which may take what they need.
    mini.run("run", *options, "host:latest", "true")
    found = imports_of(mini, tmp_path / "run", "run", *options, "host:latest", "true")
    assert "engine.runtime.process.init" in found
    assert not found & HEAVY


def test_a_whole_exec_imports_nothing_heavy(mini: Mini, tmp_path: Path) -> None:
    container = mini.detached("host:latest", "sleep", "60")
    found = imports_of(mini, tmp_path / "exec", "exec", "-e", "A=b", container, "true")
    assert "engine.containers.execution" in found
    assert not found & HEAVY


def test_the_client_of_an_exec_imports_nothing_that_makes_or_joins_a_container(mini: Mini, tmp_path: Path) -> None:
    container = mini.detached("host:latest", "sleep", "60")
    found = imports_of(mini, tmp_path / "exec", "exec", container, "true")
    ours = {name for name in found if name.startswith("engine.")}
    makers = (
        "engine.linux",
        "engine.storage",
        "engine.runtime.process",
        "engine.runtime.cgroups",
        "engine.containers.lifecycle",
    )
    assert not {name for name in ours if name.startswith(makers)}
    assert len(ours) <= 24, sorted(ours)
    # a command as short as this is dominated by them
    assert len(found) <= 38, sorted(found)


def test_an_exec_imports_nothing_in_its_monitors_child(mini: Mini, tmp_path: Path) -> None:
    """All of it was there when the container ran: an exec pays for none, and none is of another version of mini."""
    mini.run("run", "--rm", "host:latest", "true")
    log = tmp_path / "monitor"
    imports_of(mini, log, "run", "-d", "--name", "it", "host:latest", "sleep", "60")
    mini.run("exec", "it", "true")
    before = set(log.read_text().split())
    assert "engine.containers.execsession" in before
    mini.run("exec", "-i", "-e", "A=b", "-u", "1", "-w", "/tmp", "it", "sh", "-c", "exit 0")
    assert set(log.read_text().split()) == before
    assert not before & HEAVY
