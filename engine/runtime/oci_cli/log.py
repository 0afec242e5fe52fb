"""mini-runtime's log, in the two formats of runc's: containerd and conmon read the last error from the JSON one."""

from __future__ import annotations

import os
import time

from engine.errors import MiniError, RuntimeFault, UsageError
from engine.lean import dumps, quote


class Log:
    """Appends to `path`, or to standard error. An error that goes to a file is told on standard error as well."""

    __slots__ = ("_debug", "_fd", "_json")

    def __init__(self, path: str | None = None, kind: str = "text", debug: bool = False) -> None:
        if kind not in ("text", "json"):
            raise UsageError(f'invalid log-format "{kind}"')
        self._json = kind == "json"
        self._debug = debug
        self._fd = 2
        if path and path != "/dev/stderr":
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except OSError as e:
                raise UsageError(f"cannot open the log {path}: {os.strerror(e.errno or 0).lower()}") from e

    def debug(self, text: str) -> None:
        if self._debug:
            self._write("debug", text, {})

    def warning(self, text: str) -> None:
        self._write("warning", text, {})

    def error(self, error: MiniError, prefix: str = "") -> None:
        """One line: the message, with the hint, and of a fault its step, path and errno."""
        text = prefix + error.message + (f" ({error.hint})" if error.hint else "")
        more: dict[str, object] = {}
        if isinstance(error, RuntimeFault):
            more = {"step": error.step, "path": error.path, "errno": error.errno}
        self._write("error", text, {key: value for key, value in more.items() if value})
        if self._fd != 2:
            _print(2, text)

    def _write(self, level: str, text: str, more: dict[str, object]) -> None:
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        if self._json:
            line = dumps({"level": level, "msg": text, "time": f"{stamp}.{nanoseconds:09}Z", **more}).decode()
        else:
            pairs = "".join(f" {key}={quote(str(value))}" for key, value in more.items())
            line = f'time="{stamp}Z" level={level} msg={quote(text)}{pairs}'
        _print(self._fd, line)


def say(text: str) -> None:
    """To standard output, as a whole. Raises MiniError where that takes no more."""
    view = memoryview(text.encode(errors="surrogateescape"))
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError as e:
        raise MiniError(f"cannot write to standard output: {os.strerror(e.errno or 0).lower()}") from e


def _print(fd: int, line: str) -> None:
    try:
        os.write(fd, line.encode(errors="replace") + b"\n")
    except OSError:
        pass  # closed, or full: nobody can be told
