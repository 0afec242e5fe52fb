"""`pip install .`: the wheel has all that a checkout's program has, starts as that does, and goes without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.process import protect
from tests.support import checkout
from tests.support.requirements import CHECKOUT

pytestmark = pytest.mark.requires("module:setuptools", "module:wheel")

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
OFFLINE = ["--no-deps", "--no-index", "--no-build-isolation"]
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
PACKAGES = f"lib/{VERSION}/site-packages"
LAUNCHERS = ("mini", "mini-runtime")


def run(*command: str | Path, **environ: str) -> str:
    """What it prints; nothing of the caller's environment, in which Python might find mini by itself."""
    # pip asks rustc for its version, and rustup makes itself at home
    with tempfile.TemporaryDirectory(prefix="mini-home-") as home:
        base = {"PATH": os.environ["PATH"], "HOME": home, "PIP_ROOT_USER_ACTION": "ignore"}
        done = subprocess.run(command, env={**base, **environ}, cwd="/", capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Dockerfile's build has of a checkout, of what git has."""
    source = tmp_path_factory.mktemp("source")
    lines = Path(CHECKOUT, ".dockerignore").read_text().splitlines()
    copied = 'target=$1 && shift && git ls-files -z "$@" | xargs -0 cp --parents -t "$target"'
    command = ["sh", "-c", copied, "sh", str(source), *(line[1:] for line in lines if line.startswith("!"))]
    if subprocess.run(command, cwd=CHECKOUT, stderr=subprocess.PIPE).returncode:
        pytest.skip("not a git checkout")
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    copy = shutil.copytree(source, directory / "built here")
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", directory, copy)
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture
def venv() -> Iterator[Path]:
    """An environment with mini's dependencies and without mini, that everybody can read, as pytest's own directory is not."""
    with tempfile.TemporaryDirectory(prefix="mini-installed-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        venv = Path(directory) / "an environment"
        run(sys.executable, "-m", "venv", "--without-pip", venv)
        for path in (Path(CHECKOUT) / ".venv" / PACKAGES).iterdir():
            if path.name != "__pycache__":
                (venv / PACKAGES / path.name).symlink_to(path)
        yield venv
        if os.path.exists(protect.KEPT):
            checkout.forget(venv / "bin" / VERSION)


def install(venv: Path, *what: str | Path) -> None:
    run(*PIP, "--python", venv / "bin/python", "install", *OFFLINE, *what)


def test_wheel(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    expected = {str(path.relative_to(source)) for path in (source / "engine").rglob("*") if path.is_file()}
    assert expected - set(contents) == set()
    assert not [name for name in contents if name.startswith(("tests", "scripts"))]
    for name in LAUNCHERS:
        (script,) = [data for path, data in contents.items() if path.endswith(f".data/scripts/{name}")]
        assert script == (source / name).read_bytes()
    paths = (os.fsencode(wheel.parent), os.fsencode(sys.prefix), os.fsencode(CHECKOUT))
    assert not [name for name, data in contents.items() if any(path in data for path in paths)]


def test_without_a_launcher(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    assert "Version:" in run(sys.executable, "-m", "engine", "version", PYTHONPATH=str(tmp_path))
    assert "mini-runtime version" in run(
        sys.executable, "-m", "engine.runtime.oci_cli", "--version", PYTHONPATH=str(tmp_path)
    )


def test_it_starts_as_a_checkout_does(wheel: Path, venv: Path, tmp_path: Path) -> None:
    """By whatever path, and without `site`, which would say so here."""
    install(venv, wheel)
    (venv / PACKAGES / "noticed.pth").write_text("import sys; sys.exit('site was imported')\n")
    (tmp_path / "link").symlink_to(venv / "bin/mini")
    for program in (venv / "bin/mini", tmp_path / "link"):
        assert "Version:" in run(program, "version")
    assert "Version:" in run("sh", "-c", 'cd "$1" && bin/mini version && cd bin && ./mini version', "sh", venv)
    assert "Version:" in run("mini", "version", PATH=f"{venv}/bin:{os.environ['PATH']}")
    assert "Usage:  mini run" in run(venv / "bin/mini", "run", "--help")  # with a dependency
    assert "mini-runtime version" in run(venv / "bin/mini-runtime", "--version")


@pytest.mark.requires("root", "linux", "netns")
def test_the_interpreter_is_kept(wheel: Path, venv: Path) -> None:
    install(venv, wheel)
    kept = protect.kept_path(protect.KEPT, str(venv / "bin" / VERSION))
    failed = subprocess.run([venv / "bin/mini-runtime", "run", "--bundle", "/nonexistent", "x"], capture_output=True)
    assert failed.returncode == 1
    assert os.path.samefile(kept, venv / "bin/python")
    (venv / PACKAGES / "engine/cli/start.py").write_text("import sys, typer\ndef main(): print(sys.executable)\n")
    assert run(venv / "bin/mini") == f"{kept}\n"


@pytest.mark.requires("root", "linux", "netns")
def test_the_unit_names_the_launcher(wheel: Path, venv: Path) -> None:
    install(venv, wheel)
    script = 'mount -t tmpfs none /etc && mkdir -p /etc/systemd/system && "$1" --root / system install && cat /etc/systemd/system/*'
    told = run("unshare", "--mount", "sh", "-c", script, "sh", venv / "bin/mini")
    assert f'ExecStart="{os.path.realpath(venv)}/bin/mini" --root / system start\n' in told


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "other"])
def test_beside_no_interpreter(wheel: Path, tmp_path: Path, path: str) -> None:
    """`pip install --user`: the distribution's Python, or another on PATH."""
    prefix = tmp_path / ".local"
    run(*PIP, "install", *OFFLINE, "--prefix", prefix, wheel)
    if path == "other":  # a version that no distribution has; the interpreter itself looks for no package there
        path = f"{tmp_path}:{path}"
        (prefix / "lib" / VERSION).rename(prefix / "lib/python3.999")
        gone = subprocess.run([prefix / "bin/mini", "version"], capture_output=True, text=True)
        message = "mini: it is installed for python3.999, which is gone: install it again with pip\n"
        assert (gone.returncode, gone.stdout, gone.stderr) == (1, "", message)
        (tmp_path / "python3.999").symlink_to(sys.executable)
    elif not os.path.exists(f"/usr/bin/{VERSION}"):
        path = f"{os.path.dirname(sys.executable)}:{path}"
    assert "Version:" in run(prefix / "bin/mini", "version", PATH=f"{path}:/usr/bin:/bin")


def test_editable(source: Path, venv: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "source")
    install(venv, "--editable", copy)
    with (copy / "engine/cli/start.py").open("a") as file:
        file.write("print('edited')\n")
    assert "edited\nmini" in run(venv / "bin/mini", "version")
    assert "mini-runtime version" in run(venv / "bin/mini-runtime", "--version")


@pytest.mark.parametrize("shared", [False, True])
def test_the_systems_packages(wheel: Path, tmp_path: Path, shared: bool) -> None:
    """Where an environment shares them, pip installs no dependency that is among them."""
    options = ["--system-site-packages"] if shared else []
    run(sys.executable, "-m", "venv", "--without-pip", *options, tmp_path / "venv")
    found = tmp_path / "venv" / PACKAGES
    install(tmp_path / "venv", wheel)
    show = "import sys; print(*sys.path, sep='\\n')"
    usual = run(tmp_path / "venv/bin/python", "-c", show).splitlines()
    (found / "engine/cli/start.py").write_text(f"def main(): {show}")
    ours = run(tmp_path / "venv/bin/mini").splitlines()
    added = [path for path in usual if path.endswith("-packages") and path != str(found)]
    assert bool(added) == shared
    assert [path for path in ours if path in added] == added
    assert shared or not [path for path in ours if path.endswith("-packages") and not path.startswith(str(found))]


@pytest.mark.requires("root", "linux")
def test_another_users(wheel: Path, venv: Path) -> None:
    install(venv, wheel)
    before = {path: path.stat().st_mtime_ns for path in venv.rglob("*")}
    for _ in range(2):
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", venv / "bin/mini")
        assert "Version:" in run(*nobody, "version")
    assert {path: path.stat().st_mtime_ns for path in venv.rglob("*")} == before


def test_nothing_is_left(wheel: Path, venv: Path) -> None:
    before = set(venv.rglob("*"))
    install(venv, wheel)
    for command in ("version", "--help"):
        run(venv / "bin/mini", command)
    run(*PIP, "--python", venv / "bin/python", "uninstall", "--yes", "mini-engine")
    assert set(venv.rglob("*")) - before == set()
