"""Where mini starts: `./mini` of a checkout, the console script `mini` of an installed one, and `python -m engine`.

A checkout's launcher starts `python -I -S`: no `site`, which takes as long as a system call-bound command does. What `site`
would have found is put on sys.path here: this checkout, and the virtual environment's packages behind everything else, so
that the standard library is never looked for among them.
"""

from __future__ import annotations

import os
import sys

# Commands that fork container processes, which inherit this interpreter as their /proc/PID/exe (CVE-2019-5736).
_FORKING = ("run", "create", "start", "exec", "restart")
_GLOBALS_WITH_VALUE = ("--root", "--storage-driver")


def main() -> None:
    """Runs the command line in sys.argv and exits with its exit code."""
    if _is_isolated():
        _complete_path()
    if sys.platform == "linux" and _command_word(sys.argv[1:]) in _FORKING and os.geteuid() == 0:
        from engine.runtime.process.protect import ensure_protected

        ensure_protected()
    from engine.cli.execute import main as run

    code = run(sys.argv[1:])
    _leave(code)


def _is_isolated() -> bool:
    return bool(sys.flags.no_site)


def _complete_path() -> None:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "lib", version, "site-packages")
    sys.path += [here, packages]


def _command_word(argv: list[str]) -> str:
    """The command's own word ("run" of `--root X container run`), or nothing."""
    words = iter(argv)
    for word in words:
        if word in _GLOBALS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return next(words, "") if word == "container" else word
    return ""


def _leave(code: int) -> None:
    """Exits without tearing the interpreter down, which takes some milliseconds and undoes nothing that matters here."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    os._exit(code)


if __name__ == "__main__":
    main()
