"""Hooks: programs of whoever made the bundle, run at points of a container's life (OCI runtime spec,
config.md "POSIX-platform Hooks").

    create   prestart, createRuntime      by the runtime, in its own namespaces; all mounts are there
             createContainer              by init, in the container's namespaces, before the root is changed
    start    startContainer               by init, in the container's root, before its program
             poststart                    by the runtime, when the program runs
    delete   poststop                     by the runtime, when nothing is left

Each reads the container's state from its standard input. The first that fails ends the create or the start; of poststart and
poststop it is worth a warning.
"""

from __future__ import annotations

import os
import select

from engine import lean, linux
from engine.errors import RuntimeFault
from engine.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_LONGEST_OUTPUT = 1024  # bytes of what a hook printed that an error tells


class Hooks:
    """A spec's `hooks`, and the container's state, which lacks what changes: `status` and `pid`."""

    __slots__ = ("_hooks", "_state")

    def __init__(self, hooks: dict[str, Any], state: dict[str, Any]) -> None:
        self._hooks = hooks
        self._state = state

    def run(self, kind: str, status: str, pid: int, before: Callable[[], object] | None = None) -> None:
        """Runs those of one kind in order, until one fails. Raises RuntimeFault.

        `pid` is as the hook sees it. `before` is called in each process before it executes its hook.
        """
        for number, hook in enumerate(self._hooks.get(kind) or ()):
            _run(hook, f"{kind} hook #{number}", {**self._state, "status": status, "pid": pid}, before)

    def run_all(self, kind: str, status: str, pid: int, warn: Callable[[str], object]) -> None:
        """Runs those of one kind, each whatever became of the one before; `warn` is told of those that fail."""
        for number, hook in enumerate(self._hooks.get(kind) or ()):
            try:
                _run(hook, f"{kind} hook #{number}", {**self._state, "status": status, "pid": pid}, None)
            except RuntimeFault as e:
                warn(e.message)


def _run(hook: dict[str, Any], name: str, state: dict[str, Any], before: Callable[[], object] | None) -> None:
    """Runs a hook to its end, or to that of its `timeout` (seconds). Raises RuntimeFault."""
    # files in memory, not pipes: a hook may read nothing, print much, and leave children that hold them
    given = os.memfd_create("state", os.MFD_CLOEXEC)
    printed = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        os.write(given, lean.dumps(state))
        os.lseek(given, 0, os.SEEK_SET)
        child = os.fork()
        if child == 0:
            _execute(hook, given, printed, before)
        status = _wait(child, hook.get("timeout"))
        if status == 0:
            return
        path = hook.get("path")
        how = "timed out" if status is None else _describe(status)
        output = os.pread(printed, _LONGEST_OUTPUT, 0).decode(errors="replace").strip()
        raise RuntimeFault("hook", f"{name} ({path}) {how}{output and ': '}{output}", 0, path)
    finally:
        os.close(given)
        os.close(printed)


def _execute(hook: dict[str, Any], given: int, printed: int, before: Callable[[], object] | None) -> NoReturn:
    try:
        os.setsid()
        os.umask(0o022)
        for target, fd in enumerate((given, printed, printed)):
            os.dup2(fd, target)
        linux.close_range(3)  # also what the runtime's caller had left open, or is to be preserved for the program
        if before:
            before()
        environment = hook.get("env")
        env = os.environ if environment is None else dict(pair.partition("=")[::2] for pair in environment)
        os.execve(hook["path"], hook.get("args") or [hook["path"]], env)
    except BaseException as e:
        os.write(
            2,
            f"cannot be executed: {os.strerror(e.errno).lower() if isinstance(e, OSError) and e.errno else e}".encode(),
        )
    finally:
        os._exit(127)


def _wait(child: int, timeout: float | None) -> int | None:
    """The status of waitpid(2); None where it was killed, with its session, because its time was up."""
    if timeout is not None:
        pidfd = os.pidfd_open(child)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(timeout * 1000):
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
        finally:
            os.close(pidfd)
    return os.waitpid(child, 0)[1]


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
