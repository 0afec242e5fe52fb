"""Makes a checkout's virtual environment, `.venv`, or brings it up to date: `environment.py CHECKOUT [EXTRA…]`.

Called by `./mini` when `.venv/stamp` does not have pyproject.toml's modification time, and by `scripts/test` with the
extra "test". The stamp lists the requirements that are installed; only a change of those costs anything. Idempotent,
safe to run twice at once (flock on the checkout's directory, which leaves no file behind), and safe to interrupt: the
stamp is written last, and an environment without one is made anew.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib


class Failure(Exception):
    """Why the environment cannot be made, as a message for the user."""


def main(arguments: list[str]) -> int:
    checkout, extras = os.path.abspath(arguments[0]), arguments[1:]
    lock = os.open(checkout, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _prepare(checkout, extras)
    except Failure as error:
        print(f"mini: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mini: interrupted; the environment will be made at the next use", file=sys.stderr)
        return 130
    finally:
        os.close(lock)
    return 0


def _prepare(checkout: str, extras: list[str]) -> None:
    project_file = os.path.join(checkout, "pyproject.toml")
    venv = os.path.join(checkout, ".venv")
    time = os.stat(project_file).st_mtime_ns
    with open(project_file, "rb") as file:
        project = tomllib.load(file)["project"]
    optional = project.get("optional-dependencies", {})
    wanted = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    declared = {*project["dependencies"], *(line for lines in optional.values() for line in lines)}

    installed = _installed(venv)
    if installed is None or not set(wanted) <= installed:
        if not os.access(checkout if installed is None else venv, os.W_OK):
            raise Failure(
                f"{venv} is missing or out of date, and {checkout} cannot be written\n"
                f"  use a checkout of your own, or install mini: python3 -m venv DIRECTORY && DIRECTORY/bin/pip install {checkout}"
            )
        if installed is None:
            print(f"mini: preparing its environment in {venv} (once) …", file=sys.stderr)
            _make(venv)
        else:
            print("mini: its dependencies have changed, installing them …", file=sys.stderr)
        _install(venv, wanted)
        installed = (installed or set()) & declared | set(wanted)
    _stamp(venv, installed, time)


def _installed(venv: str) -> set[str] | None:
    """The requirements that the environment holds; None where there is none that works."""
    try:
        with open(os.path.join(venv, "stamp")) as file:
            lines = set(file.read().splitlines())
    except FileNotFoundError:
        return None
    # The interpreter that it was made with may be gone, or now be another minor version, which sees no packages.
    probe = [_python(venv), "-I", "-c", "import pip"]
    try:
        works = subprocess.run(probe, capture_output=True, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return lines if works.returncode == 0 else None


def _make(venv: str) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        _install_venv_module()
    _run([sys.executable, "-I", "-m", "venv", venv], "making a virtual environment")


def _install_venv_module() -> None:
    """Debian and Ubuntu keep venv's parts in a package of its own, one for each Python."""
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get") or not sys.executable.startswith("/usr/bin/"):
        raise Failure(f"{sys.executable} has no venv module; on Debian and Ubuntu: apt-get install {package}")
    print(f"mini: installing {package} (apt-get), which makes virtual environments …", file=sys.stderr)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    if subprocess.run(install, env=environ, capture_output=True, stdin=subprocess.DEVNULL).returncode != 0:
        _run(["apt-get", "update", "-q"], "apt-get update")
        _run(install, f"installing {package}", environ)


def _install(venv: str, requirements: list[str]) -> None:
    pip = [_python(venv), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if requirements:
        _run([*pip, "install", "--quiet", *requirements], "installing mini's dependencies")


def _stamp(venv: str, installed: set[str], time: int) -> None:
    """Writes the stamp with pyproject.toml's own time as it was when read: a later change always shows."""
    path = os.path.join(venv, "stamp")
    try:
        with open(f"{path}.new", "w") as file:
            file.write("".join(f"{line}\n" for line in sorted(installed)))
        os.utime(f"{path}.new", ns=(time, time))
        os.rename(f"{path}.new", path)
    except OSError as error:
        # Another user's checkout: what is installed serves, only the shortcut past this program is missing.
        if not os.path.exists(path):
            raise Failure(f"cannot write {path}: {error.strerror}") from error


def _run(command: list[str], purpose: str, environ: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise Failure(f"{purpose} failed ({' '.join(command[:6])} …):\n{done.stdout.rstrip()}")


def _python(venv: str) -> str:
    return os.path.join(venv, "bin", "python")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
