"""What mini-runtime imports, in its own processes and in those of the container: each module costs, and runc starts fast."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import imports
from tests.support.conformance import Container, Runtime
from tests.support.leaks import hierarchies
from tests.support.requirements import CHECKOUT
from tests.unit.test_import_budget import HEAVY

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay")


@pytest.fixture
def container(template: str) -> Iterator[Container]:
    with tempfile.TemporaryDirectory(prefix="mini-runtime-") as directory:
        runtime = Runtime("mini", [f"{CHECKOUT}/mini-runtime"], directory, template, hierarchies())
        container = runtime.container()
        yield container
        container.close()
        runtime.close()


def imports_of(container: Container, log: Path, *argv: str) -> set[str]:
    return imports.imports_of(
        log, "engine.runtime.oci_cli.start", "mini-runtime", "--root", container.runtime.root, *argv
    )


def test_nothing_heavy(container: Container, tmp_path: Path) -> None:
    container.process["args"] = ["sleep", "60"]
    container.save()
    bundle = ("--bundle", container.bundle, container.id)
    lines = {"create": bundle, "state": (container.id,), "start": (container.id,), "exec": (container.id, "true"),
             "list": (), "kill": (container.id, "KILL"), "delete": ("--force", container.id)}  # fmt: skip
    for command, arguments in lines.items():
        found = imports_of(container, tmp_path / command, command, *arguments)
        assert not found & HEAVY, command


def test_few(container: Container, tmp_path: Path) -> None:
    """A tenth of a millisecond or two each."""
    container.process["args"] = ["true"]
    container.save()
    found = imports_of(container, tmp_path / "run", "run", "--bundle", container.bundle, container.id)
    assert "engine.runtime.process.init" in found
    ours = {name for name in found if name.startswith("engine")}
    assert len(ours) <= 51, sorted(ours)
    assert not found & {"struct", "select"}


def test_from_one_file(container: Container, tmp_path: Path) -> None:
    """engine/pack.py: once a command has been used, no bytecode file of its modules is opened, but of those that lead there."""
    container.process["args"] = ["true"]
    container.save()
    null = subprocess.DEVNULL
    for number in range(3):
        log = tmp_path / str(number)
        program = (
            f"import os, sys\nsys.path.append({CHECKOUT!r})\nlog = os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
            "def note(event, args):\n"
            "    if event == 'open' and str(args[0]).endswith('.pyc'): os.write(log, args[0].encode() + b'\\n')\n"
            "sys.addaudithook(note)\n"
            f"sys.argv = ['mini-runtime', '--root', {container.runtime.root!r}, 'run', '--bundle', {container.bundle!r},"
            f" {container.id!r}]\n"
            f"from engine import pack\npack.install({CHECKOUT!r})\n"
            "from engine.runtime.oci_cli.start import main\nmain()\n"
        )
        done = subprocess.run([sys.executable, "-I", "-S", "-c", program], stdin=null, stdout=null, timeout=60)
        assert done.returncode == 0
    opened = {line.removeprefix(f"{CHECKOUT}/") for line in log.read_text().splitlines() if line.startswith(CHECKOUT)}
    assert {line.partition(".")[0] for line in opened} <= {
        f"engine/__pycache__/{name}" for name in ("__init__", "pack", "modules")
    }
