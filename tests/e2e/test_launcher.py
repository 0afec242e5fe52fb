"""`./mini` in a checkout: its environment made once, whoever is first; then nothing but Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.requirements import CHECKOUT

pytestmark = pytest.mark.requires("module:ensurepip")

_MAIN = "import sys; print(sys.argv[1:], sys.flags.isolated, sys.flags.no_site)"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with no dependencies, for there is no network here, whose program shows how it was started."""
    top = tmp_path / "a check out"
    (top / "engine").mkdir(parents=True)
    (top / "scripts").mkdir()
    shutil.copy(f"{CHECKOUT}/mini", top)
    for name in ("prepare", "environment.py"):
        shutil.copy(f"{CHECKOUT}/scripts/{name}", top / "scripts")
    _declare(top, [])
    (top / "engine/__main__.py").write_text(_MAIN)
    return top


def _declare(checkout: Path, dependencies: list[str]) -> None:
    (checkout / "pyproject.toml").write_text(f"[project]\nname = 'x'\ndependencies = {dependencies}\n")


def _run(*command: str | Path, **options: str | Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_RETRIES": "0"}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=100, **options)  # type: ignore[call-overload, no-any-return]


def test_first_use_then_nothing_but_python(checkout: Path, tmp_path: Path) -> None:
    first = _run(checkout / "mini", "run", "a b")
    assert first.stdout == "['run', 'a b'] 1 1\n"
    assert first.stderr == f"mini: preparing its environment in {checkout}/.venv (once) …\n"

    (checkout / "scripts/prepare").unlink()  # from now on it must do without
    link = tmp_path / "link"
    link.symlink_to("a check out/mini")
    for command, cwd in (([checkout / "mini"], "/"), (["./mini"], checkout), (["sh", "mini"], checkout), ([link], "/")):
        again = _run(*command, "ps", cwd=cwd)
        assert (again.stdout, again.stderr) == ("['ps'] 1 1\n", "")


def test_the_two_differ_in_what_they_start_only() -> None:
    texts = [
        Path(CHECKOUT, name).read_text().replace("mini-runtime, from", "mini, from")
        for name in ("mini", "mini-runtime")
    ]
    different = [pair for pair in zip(*(text.splitlines() for text in texts), strict=True) if len(set(pair)) > 1]
    assert [first for first, _ in different] == ["module=engine main=engine/__main__.py"]


def test_a_change_of_the_dependencies_only(checkout: Path) -> None:
    _run(checkout / "mini")
    os.utime(checkout / "pyproject.toml", (1, 1))
    untouched = _run(checkout / "mini")
    assert (untouched.stdout, untouched.stderr) == ("[] 1 1\n", "")

    _declare(checkout, ["no-such-thing==1.0"])
    changed = _run(checkout / "mini")
    assert (changed.returncode, changed.stdout) == (1, "")
    assert "mini: its dependencies have changed, installing them …\n" in changed.stderr
    assert "no-such-thing" in changed.stderr


def test_two_first_uses_at_once(checkout: Path) -> None:
    environ = {"PATH": os.environ["PATH"]}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen([checkout / "mini"], text=True, env=environ, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    outputs = [process.communicate(timeout=100) for process in both]
    assert [out for out, _ in outputs] == ["[] 1 1\n"] * 2
    assert sorted(err.count("preparing") for _, err in outputs) == [0, 1]


def test_an_interrupted_first_use(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").write_text("half a file")
    assert _run(checkout / "mini").stdout == "[] 1 1\n"


@pytest.mark.requires("root", "linux")
def test_a_checkout_that_cannot_be_written(checkout: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as readable:  # as pytest's own directory is not
        os.chmod(readable, 0o755)
        shutil.copytree(checkout, f"{readable}/checkout")
        nobody = _run("setpriv", "--reuid=65534", "--clear-groups", f"{readable}/checkout/mini")
        assert nobody.returncode == 1
        assert "cannot be written" in nobody.stderr
        assert not os.path.exists(f"{readable}/checkout/.venv")
