"""The caller's side of a process in the foreground: signals passed on, a terminal relayed, its exit code."""

from __future__ import annotations

import os

from engine.lean import signal
from engine.runtime.process.launch import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from engine.runtime.oci_cli.notify import Readiness
    from engine.runtime.process.launch import InitProcess

# Not passed on: the kernel's news for this process itself.
_OWN = frozenset((signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH,
                  signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL))  # fmt: skip
_CHUNK = 1 << 16


class Relay:
    """Until its end of life a context manager: from its beginning signals reach the process, at its end the terminal is
    as it was."""

    def __init__(self, process: InitProcess) -> None:
        self._process = process
        self._saved: Any = None

    def __enter__(self) -> Relay:
        for number in signal.valid_signals() - _OWN:
            signal.signal(number, self._pass_on)
        if self._process.console >= 0:
            self._enter_raw_mode()
            self._resize()
            signal.signal(signal.SIGWINCH, self._resize)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._saved:
            import termios

            termios.tcsetattr(0, termios.TCSANOW, self._saved)

    def wait(self, readiness: Readiness | None = None) -> int:
        """Blocks until the process ends; its exit code, 128 + n where signal n ended it."""
        if self._process.console >= 0:
            self._copy(readiness)
        if readiness:
            readiness.wait(self._process.pidfd, to_the_end=True)
        return exit_code(self._process.wait())

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._process.kill(number)

    def _enter_raw_mode(self) -> None:
        if not os.isatty(0):
            return
        import termios
        import tty

        self._saved = termios.tcgetattr(0)
        tty.setraw(0)

    def _resize(self, *_: object) -> None:
        import fcntl
        import termios

        if os.isatty(0):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            if size[:4] != bytes(4):
                fcntl.ioctl(self._process.console, termios.TIOCSWINSZ, size)

    def _copy(self, readiness: Readiness | None) -> None:
        """Between 0, 1 and the pty, until that hangs up, or the process has ended and all is read."""
        import select

        master = self._process.console
        poll = select.poll()
        for fd in (0, master, self._process.pidfd, *([readiness.fileno()] if readiness else ())):
            poll.register(fd, select.POLLIN)
        ended = False
        while True:
            ready = dict(poll.poll(0 if ended else None))
            if master in ready and not _forward(master, 1):
                return
            if ended and master not in ready:
                return
            if 0 in ready and not _forward(0, master):
                poll.unregister(0)
                os.write(master, b"\x04")
            if readiness:
                readiness.hear()
            if self._process.pidfd in ready:
                ended = True


def _forward(source: int, target: int) -> bool:
    """One read and its writes; False at the end of the source."""
    try:
        data = os.read(source, _CHUNK)
    except OSError:  # EIO: nobody has the other side of the pty any more
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)
