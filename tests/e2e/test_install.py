"""`pip install .`: the wheel has all that a checkout's program has, and runs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.requirements import CHECKOUT

pytestmark = pytest.mark.requires("module:setuptools", "module:wheel")


def test_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    copied = "git ls-files -z pyproject.toml README.md LICENSE engine | xargs -0 cp --parents -t"
    source.mkdir()
    if subprocess.run(["sh", "-c", f'{copied} "$1"', "sh", source], cwd=CHECKOUT, stderr=subprocess.PIPE).returncode:
        pytest.skip("not a git checkout")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    expected = {str(path.relative_to(source)) for path in (source / "engine").rglob("*") if path.is_file()}
    assert expected - names == set()
    assert not [name for name in names if name.startswith(("tests", "scripts"))]
    (entry_points,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "mini = engine.__main__:main" in entry_points.read_text()

    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)}
    code = "from engine.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "version"], env=environ, cwd="/", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Version:" in done.stdout
