"""From a command line to an exit code: parse, make the context, run the command, print its error."""

from __future__ import annotations

import gc
import os
import sys

from engine.cli import parse
from engine.cli.table import COMMANDS
from engine.context import Context
from engine.errors import MiniError, UsageError
from engine.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(argv: list[str]) -> int:
    """Runs the command line; the exit code."""
    try:
        try:
            parsed = parse.parse(argv)
        except parse.HelpWanted as e:
            return _help(e.words, e.unasked)
        except parse.CommandLineError as e:
            return _report_command_line(e)
        return command(parsed.path, parsed.target, parsed.globals, parsed.values)
    except BrokenPipeError:
        # whoever read our output has seen enough: `mini ps | head -1`; Python ignores the signal that ends others
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
        raise


def typed(path: str, globals: dict[str, Any], raw: dict[str, Any]) -> int:
    """Runs a command that Typer parsed; `raw` are its texts and flags."""
    try:
        values = parse.convert(path, raw)
    except parse.CommandLineError as e:
        return _report_command_line(e)
    return command(path, COMMANDS[path][0], globals, values)


def command(path: str, target: str, globals: dict[str, Any], values: dict[str, Any]) -> int:
    """Runs one command with the values of its options and arguments. Errors are printed here, and nowhere else."""
    debug = globals["debug"]
    try:
        context = Context.from_environment(globals["root"], globals["storage_driver"], debug)
        context.log = _print_error if debug else None
        run = _load(target)
        gc.freeze()
        gc.enable()
        code = run(context, **values)
        sys.stdout.flush()
        return code or 0
    except MiniError as e:
        return report(path, e, debug)
    except BrokenPipeError:
        raise
    except Exception as e:
        return _report_unexpected(path, e, debug)


def _load(target: str) -> Any:
    name, _, function = target.partition(":")
    module = __import__(f"engine.cli.commands.{name}", fromlist=[function])
    return getattr(module, function)


def _help(argv: list[str], unasked: bool) -> int:
    """Typer has the texts."""
    from engine.cli.app import app

    if unasked:
        sys.stdout = sys.stderr
    try:
        app(argv, prog_name="mini")
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1
    return 0


def _failure_code(path: str, error: Exception) -> int:
    """Docker's: what fails before the container runs is 125 in `run`, 1 elsewhere; `create` tells bad usage apart."""
    code = getattr(error, "exit_code", None)
    if code is not None:
        return int(code)
    return parse.FLAG_ERROR if path == "run" or (path == "create" and isinstance(error, UsageError)) else 1


def report(path: str, error: MiniError, debug: bool = False) -> int:
    """Prints the error of a command; its exit code."""
    if debug:
        _traceback()
    _print_error(f"mini: {error.message}", error.hint)
    if isinstance(error, UsageError) and path in ("run", "create") and error.exit_code is None:
        _print_error(f"\nRun 'mini {path} --help' for more information")
    return _failure_code(path, error)


def _report_command_line(error: parse.CommandLineError) -> int:
    _print_error(error.message, error.hint)
    _print_error("\n" + error.usage)
    return error.exit_code or 1


def _report_unexpected(path: str, error: Exception, debug: bool) -> int:
    """A bug, or a system error that nobody expected: one line, and where more is to be had."""
    if debug:
        _traceback()
    what = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    _print_error(f"mini: {what}", None if debug else "an error that mini did not expect; mini --debug … shows where")
    return _failure_code(path, error)


def _print_error(message: str, hint: str | None = None) -> None:
    lines = [message, *(f"  {line}" for line in (hint or "").splitlines())]
    for act in (sys.stdout.flush, lambda: print("\n".join(lines), file=sys.stderr)):
        try:
            act()
        except OSError:
            # a full disk or a closed pipe: nobody is left to tell
            continue


def _traceback() -> None:
    import traceback

    traceback.print_exc()
