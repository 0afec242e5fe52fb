"""From a command line to an exit code: what is printed where, and how mini ends when nobody listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import execute
from engine.errors import CommandNotFound, Conflict, NotFound, UsageError

MAIN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "engine", "__main__.py"
)


def mini(root: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "MINI_ROOT": str(root), "HOME": str(root), "PYTHONPATH": str(root)}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-I", "-S", MAIN, *words]
    return subprocess.run(command, env=environ, text=True, timeout=60, **{**streams, **options})


@pytest.mark.parametrize(
    "path, error, code, printed",
    [
        ("run", NotFound("No such image: x"), 125, "mini: No such image: x\n"),
        ("create", NotFound("No such image: x"), 1, "mini: No such image: x\n"),
        ("create", UsageError("bad"), 125, "mini: bad\n\nRun 'mini create --help' for more information\n"),
        ("ps", UsageError("bad", "do this\nor that"), 1, "mini: bad\n  do this\n  or that\n"),
        ("rm", Conflict("in use"), 1, "mini: in use\n"),
        ("exec", CommandNotFound("exec", "no such program"), 127, "mini: no such program\n"),
    ],
)
def test_errors(path: str, error: Any, code: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute.report(path, error) == code
    assert capsys.readouterr() == ("", printed)


def test_every_name_is_tried(tmp_path: Path) -> None:
    mini(tmp_path, "volume", "create", "there")
    done = mini(tmp_path, "volume", "rm", "missing", "there")
    assert (done.returncode, done.stdout, done.stderr) == (1, "there\n", "mini: get missing: no such volume\n")


def test_what_is_found_is_printed_before_what_is_not(tmp_path: Path) -> None:
    mini(tmp_path, "volume", "create", "there")
    done = mini(tmp_path, "inspect", "-f", "{{.Name}}", "missing", "there")
    assert (done.returncode, done.stdout, done.stderr) == (1, "there\n", "Error: No such object: missing\n")


def test_an_unexpected_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{'0' * 64}.json").write_text("[]")
    done = mini(tmp_path, "images")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mini: ") and "Traceback" not in done.stderr
    assert "Traceback" in mini(tmp_path, "--debug", "images").stderr


@pytest.mark.requires("linux")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = mini(tmp_path, "volume", "ls", stdout=full)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error_to_print(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = mini(tmp_path, "volume", "ls", stdout=pipe)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_closed_streams_are_filled(tmp_path: Path) -> None:
    """Otherwise the first file that mini opens would be its stdout, and a container's."""
    done = mini(tmp_path, "volume", "create", "there", stdout=None, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")
    assert mini(tmp_path, "volume", "ls", "-q").stdout == "there\n"


def test_nothing_is_imported_from_the_current_directory_or_pythonpath(tmp_path: Path) -> None:
    for name in ("json", "engine", "typer", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current directory')")
    assert mini(tmp_path, "volume", "ls", cwd=tmp_path).stdout == "DRIVER    VOLUME NAME\n"
