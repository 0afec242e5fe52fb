"""What the hot commands import: `run`, `exec` and `ps` must not wait for what they do not need (measured: DESIGN, docs/cli.md).

Each command line is really executed, in a process started as the launcher starts it, and its sys.modules is read at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

HEAVY = set(
    "requests pyroute2 typer tqdm isal asyncio http urllib email logging subprocess pathlib dataclasses typing tempfile shutil "
    "inspect hashlib importlib threading datetime argparse sqlite3 ipaddress gzip zlib random difflib traceback socket "
    "re enum json signal ctypes".split()
)

_REPORT = """
import os, sys
sys.argv = {argv!r}
sys.orig_argv = [sys.executable, *sys.argv]
sys.path.append({checkout!r})
leave = os._exit
def report(code):
    os.write({fd}, repr((code, sorted(sys.modules))).encode())
    leave(code)
os._exit = report
os.environ["MINI_ROOT"] = {root!r}
from engine.cli import start
start._protect = lambda: None
start.main()
"""


def modules_of(root: str, *argv: str) -> tuple[int, set[str]]:
    """(exit code, names of the modules loaded) of a command line; the re-execution from a protected interpreter is left out."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    program = _REPORT.format(argv=["mini", *argv], checkout=CHECKOUT, fd=write, root=root)
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, pass_fds=[write], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    assert text, done.stderr
    code, modules = eval(text)
    return code, set(modules)


@pytest.mark.parametrize(
    "line, code",
    [
        ("--version", 0),
        ("ps -a", 0),
        ("ps --format json", 0),
        ("run --rm --pull never -i --name x -e A=b -v v:/v -m 64m --cpus 1 alpine sh", 125),
        ("exec -it nosuch sh", 1),
        ("start nosuch", 1),
        ("stop nosuch", 1),
        ("kill nosuch", 1),
        ("rm nosuch", 1),
        ("logs nosuch", 1),
        ("attach nosuch", 1),
        ("restart nosuch", 1),
        ("pause nosuch", 1),
        ("top nosuch", 1),
        ("port nosuch", 1),
        ("wait nosuch", 1),
        ("ps -a --filter status=exited --filter label=a", 0),
        ("inspect -f {{.Id}} nosuch", 1),
        ("images", 0),
    ],
)
def test_hot_commands_import_nothing_heavy(line: str, code: int, tmp_path: object) -> None:
    found, modules = modules_of(str(tmp_path), *line.split())
    assert found == code
    assert not modules & HEAVY


def test_the_report_sees_what_is_imported(tmp_path: object) -> None:
    """A test of the test: what is imported in the middle of a command is seen."""
    assert "difflib" in modules_of(str(tmp_path), "run", "--entrypont", "x", "alpine")[1]
