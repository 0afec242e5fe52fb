"""A command on a pseudo-terminal, as its user: what it prints is read, keys are pressed, the window is resized."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable


class Terminal:
    """Reads collect in `screen`; `expect` consumes it up to what was expected."""

    def __init__(self, command: list[str], environ: dict[str, str], rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        os.set_inheritable(slave, False)
        self.screen = b""
        self._size(slave, rows, columns)
        self.attributes_before = list(termios.tcgetattr(slave))
        self.process = subprocess.Popen(
            command, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_control
        )
        os.close(slave)

    def expect(self, text: str, timeout: float = 60) -> str:
        """Waits for `text`, and returns all that came before it. Raises AssertionError at the time limit or the end."""
        wanted, deadline = text.encode(), time.monotonic() + timeout
        while wanted not in self.screen:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} did not come; the screen has {self.screen!r}")
        before, _, self.screen = self.screen.partition(wanted)
        return before.decode(errors="replace")

    def await_reader(self) -> None:
        """Until the command reads its terminal: a thread is in read(2) of its stdin (proc_pid_syscall(5))."""
        call = "0 0x0 " if os.uname().machine == "x86_64" else "63 0x0 "
        threads = f"/proc/{self.process.pid}/task"
        self._until(lambda: any(self._syscall(thread).startswith(call) for thread in os.listdir(threads)))

    def await_raw(self) -> None:
        """Until the command has changed the terminal's attributes: before, control characters do not reach it as bytes."""
        self._until(lambda: self.attributes() != self.attributes_before)

    def write(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """The kernel sends SIGWINCH to the foreground process group."""
        self._size(self.master, rows, columns)

    def wait(self, timeout: float = 60) -> int:
        """Reads until the command has closed the terminal and ended; its exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        try:
            return self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended; the screen has {self.screen!r}") from None

    def attributes(self) -> list[object]:
        """termios(3) attributes as they are now: has the command put back what it changed?"""
        return list(termios.tcgetattr(self.master))

    def put_back(self) -> None:
        """What a shell does with the terminal when a job of its has been stopped."""
        termios.tcsetattr(self.master, termios.TCSANOW, self.attributes_before)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _syscall(self, thread: str) -> str:
        try:
            with open(f"/proc/{self.process.pid}/task/{thread}/syscall") as file:
                return file.read()
        except OSError:
            return ""  # it has ended

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last process has closed the other end
            return False
        self.screen += data
        return bool(data)

    @staticmethod
    def _size(descriptor: int, rows: int, columns: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _control() -> None:
    """In the child, a session leader by now: its stdin becomes the controlling terminal (tty_ioctl(4))."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
