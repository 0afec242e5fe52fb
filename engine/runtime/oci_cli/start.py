"""The first and the last things that a process of mini-runtime does."""

from __future__ import annotations

import gc
import os
import sys

from engine import pack
from engine.errors import MiniError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.oci_cli.context import Context
    from engine.runtime.oci_cli.log import Log
    from engine.runtime.oci_cli.options import Line

# Commands that make or enter a container: this interpreter must be out of its reach (CVE-2019-5736).
_ENTERING = frozenset(("create", "run", "exec"))
_MODULES = {
    "create": "making", "run": "making", "start": "lifecycle", "delete": "lifecycle", "kill": "lifecycle",
    "exec": "execute",
    "state": "report", "list": "report", "ps": "report", "events": "report",
    "pause": "resources", "resume": "resources", "update": "resources",
    "spec": "example", "features": "features",
}  # fmt: skip
_PREFIXES = {"create": "create failed: ", "run": "run failed: ", "exec": "exec failed: "}


def main() -> None:
    """Runs the command line in sys.argv and ends the process with its exit code."""
    gc.disable()  # a short life
    for number in range(3):
        _fill(number)
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 128 + 2
    pack.renew()
    # without tearing the interpreter down, which takes 3 ms and undoes nothing that the kernel does not
    os._exit(code)


def _fill(number: int) -> None:
    """A descriptor among the first three that is closed would be given to the next file that is opened."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)


def _run(argv: list[str]) -> int:
    from engine.runtime.oci_cli import context, log, options

    logger = log.Log()
    prefix, failure = "", 1
    try:
        # more than need be where an ID is one of these words, and never less
        if not _ENTERING.isdisjoint(argv):
            from engine.runtime.process import protect

            protect.ensure_protected(sys.orig_argv, protect.KEPT)
        try:
            line = options.parse(argv)
        except UsageError as e:
            return _misused(argv, e, logger)
        if line.settings.get("version"):
            log.say(context.VERSION)
            return 0
        if not line.command or line.settings.get("help") or line.options.get("help"):
            log.say(options.usage(line.command))
            return 0
        prefix = _PREFIXES.get(line.command, "")
        failure = 255 if line.command == "exec" else 1  # runc's, so that it is none of the command's own
        ctx = context.Context(line.settings)
        logger = ctx.log
        return _execute(ctx, line)
    except MiniError as e:
        logger.error(e, prefix)
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        logger.error(MiniError(f"{os.strerror(e.errno or 0).lower()}{where}"), prefix)
    return failure


def _execute(ctx: Context, line: Line) -> int:
    # not importlib: it takes a millisecond
    module = __import__(f"engine.runtime.oci_cli.{_MODULES[line.command]}", fromlist=[line.command])
    name = {"list": "list_", "exec": "exec_", "state": "state_"}.get(line.command, line.command)
    code: int = getattr(module, name)(ctx, line.options, line.arguments)
    return code


def _misused(argv: list[str], error: UsageError, logger: Log) -> int:
    from engine.runtime.oci_cli import log, options

    command = next((word for word in argv if word in options.COMMANDS), "")
    if error.message.startswith("No help topic"):
        logger.error(error)
        return 3
    log.say(f"Incorrect Usage: {error.message}\n\n{options.usage(command)}")
    logger.error(error)
    return 1
