"""A checkout with a Python of its own, a copy, which an attack may overwrite and a test may replace."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from engine.demo import hostimage
from engine.runtime.process import protect
from tests.support.requirements import CHECKOUT


def make(root: Path) -> None:
    """What the launchers in it run is this checkout's code, with `python(root)`."""
    (root / ".venv/bin").mkdir(parents=True)
    for name in ("engine", "scripts", "pyproject.toml"):
        (root / name).symlink_to(f"{CHECKOUT}/{name}")
    for name in ("mini", "mini-runtime"):
        shutil.copy(f"{CHECKOUT}/{name}", root)
    # one that the image has as well, with the library that it needs
    original = os.path.realpath(shutil.which("python3", path=hostimage.PATH) or sys.executable)
    shutil.copy(original, python(root))
    (root / ".venv/pyvenv.cfg").write_text(f"home = {os.path.dirname(original)}\n")
    info = os.stat(f"{CHECKOUT}/pyproject.toml")
    (root / ".venv/stamp").touch()
    os.utime(root / ".venv/stamp", ns=(info.st_atime_ns, info.st_mtime_ns))


def python(root: Path) -> Path:
    return root / ".venv/bin/python"


def kept(root: Path) -> str:
    """Where the read-only mount of its interpreter is, once it has started."""
    return protect.kept_path(protect.KEPT, str(python(root)))


def remove_kept(root: Path) -> None:
    forget(python(root))


def forget(interpreter: Path) -> None:
    """Takes back what `mini` keeps of an interpreter PREFIX/bin/python."""
    kept = protect.kept_path(protect.KEPT, str(interpreter))
    subprocess.run(["umount", "--quiet", kept], check=False)
    top = os.path.dirname(os.path.dirname(kept))
    shutil.rmtree(top, ignore_errors=True)
    with contextlib.suppress(OSError):  # others' are there
        os.removedirs(os.path.dirname(top))
