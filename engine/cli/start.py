"""The first and the last things that a process of mini does."""

from __future__ import annotations

import gc
import os
import sys

from engine import pack

# Commands that fork container processes, which inherit this interpreter as their /proc/PID/exe (CVE-2019-5736). Those of `exec`
# the container's monitor forks.
_FORKING = ("run", "create", "start", "restart")
_OPTIONS_WITH_VALUE = ("--root", "--storage-driver")


def main() -> None:
    """Runs the command line in sys.argv and ends the process with its exit code."""
    # Importing makes thousands of objects that live to the end; `execute` turns the collector on behind them.
    gc.disable()
    _fill_standard_streams()
    try:
        if sys.platform == "linux" and _command_word(sys.argv[1:]) in _FORKING and os.geteuid() == 0:
            _protect()
        from engine.cli.execute import main as run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 128 + 2
    _leave(code)


def _fill_standard_streams() -> None:
    """A descriptor among the first three that is closed would be given to the next file that is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "w" if number else "r"))


def _protect() -> None:
    """Goes on from here only in a process whose interpreter no container can write to."""
    from engine.errors import MiniError
    from engine.runtime.process import protect

    try:
        # an installed mini has no launcher that would find it
        protect.ensure_protected(sys.orig_argv, protect.KEPT if sys.flags.no_site else None)
    except MiniError as e:
        from engine.cli.execute import report

        _leave(report("run", e))


def _command_word(argv: list[str]) -> str:
    """The command's own word ("run" of `--root X container run`), or nothing."""
    words = iter(argv)
    for word in words:
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return next(words, "") if word == "container" else word
    return ""


def _leave(code: int) -> None:
    """Exits without tearing the interpreter down, which takes 3 ms and undoes nothing that the kernel does not."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    pack.renew()
    os._exit(code)
