"""The client's side of a container's streams: a terminal in raw mode, signals passed on, detach keys.

What the monitor sends goes to stdout and stderr as it comes; what is typed goes to the monitor. The terminal is
restored in every way out, an exception and a signal among them.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import tty

from engine import lean
from engine.errors import Interrupted, MiniError, UsageError
from engine.lean import signal
from engine.runtime import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

DETACH_KEYS = b"\x10\x11"  # ctrl-p ctrl-q

# Not for the container: the client's own affair. Everything else that a user can send on purpose is passed on.
_OWN = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG, signal.SIGTSTP,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGABRT, signal.SIGPROF, signal.SIGVTALRM, signal.SIGALRM, signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip
# These end a client that does not pass them on; so does SIGINT, as KeyboardInterrupt.
_ENDING = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
# As Docker's: with so many SIGINT or SIGTERM the client leaves, whatever the container does with them.
_INSISTENT = 3
# Input that the monitor has not taken yet; with this much of it no more is read.
_ENOUGH = 1 << 18


class Streams:
    """The client's three descriptors."""

    __slots__ = ("stderr", "stdin", "stdout")

    def __init__(self, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    def size(self) -> tuple[int, int] | None:
        """(rows, columns) of the terminal that is one of the three, None where none is."""
        for fd in (self.stdin, self.stdout, self.stderr):
            if size := terminal_size(fd):
                return size
        return None


def terminal_size(fd: int) -> tuple[int, int] | None:
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def check_terminal(streams: Streams, interactive: bool, tty_wanted: bool) -> None:
    """`-it` needs a terminal on stdin; exit code 1 and Docker's words otherwise."""
    if interactive and tty_wanted and not os.isatty(streams.stdin):
        error = UsageError("the input device is not a TTY")
        error.exit_code = 1
        raise error


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or plain letters, separated by commas, as bytes. UsageError for what is neither."""
    keys = bytearray()
    for word in text.split(",") if text else []:
        if len(word) == 1 and ord(word) < 128:
            keys.append(ord(word))
        elif (
            word.startswith("ctrl-")
            and len(word) == 6
            and (word[5].isascii() and word[5].isalpha() or word[5] in "@[\\]^_")
        ):
            keys.append(ord(word[5].upper()) & 0x1F)
        else:
            raise UsageError(f"invalid detach keys ({text}): Unknown character: '{word}'")
    return bytes(keys)


def wait_started(fd: int, log: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The monitor's answer to a start: STARTED's value, or the error that ERROR carries, raised here (`fd` is closed then).

    `log` is told the steps that come before.
    """
    try:
        while True:
            # no more than the one frame: what follows belongs to `relay`
            answer = attach.read_frame(fd)
            if answer is None:
                raise MiniError("the container's monitor ended before it could say why", "mini --debug … shows more")
            kind, payload = answer
            if kind != attach.STEP:
                break
            if log:
                log(payload.decode())
        value: dict[str, Any] = lean.loads(payload)
        if kind == attach.ERROR:
            raise attach.error_from_payload(value)
        return value
    except BaseException:
        os.close(fd)
        raise


class Session:
    """One attachment, from here to the container's exit or to the detach keys."""

    def __init__(
        self,
        fd: int,
        streams: Streams,
        *,
        tty: bool,
        stdin: bool,
        sig_proxy: bool = True,
        detach_keys: bytes = DETACH_KEYS,
        signalled: Callable[[int], None] | None = None,
    ) -> None:
        """`signalled` is told of every signal that was passed on."""
        self._fd = fd
        self._signalled = signalled
        self._streams = streams
        self._tty = tty
        self._stdin = stdin
        self._sig_proxy = sig_proxy
        self._keys = detach_keys if tty and stdin else b""
        self._typed = b""
        self._signals: list[int] = []
        self._terminations = 0
        # the terminal's attributes as they were, while it is in raw mode
        self._saved: list[Any] | None = None
        self._outbox = bytearray()
        self._poll = select.poll()

    def relay(self) -> int | None:
        """Exit code of the container; None where the user detached. MiniError where the monitor vanished, Interrupted."""
        if self._tty and self._stdin and os.isatty(self._streams.stdin):
            self._saved = termios.tcgetattr(self._streams.stdin)
        wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        old_wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        old_handlers = self._catch()
        try:
            if self._saved:
                tty.setraw(self._streams.stdin, termios.TCSANOW)
            return self._loop(wake)
        finally:
            if self._saved:
                termios.tcsetattr(self._streams.stdin, termios.TCSADRAIN, self._saved)
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wakeup)
            os.close(wake)
            os.close(write)
            os.close(self._fd)

    def _catch(self) -> dict[int, Any]:
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {}
        if self._sig_proxy:
            handlers = dict.fromkeys(signal.valid_signals() - _OWN, self._note)
        elif self._saved:
            handlers = dict.fromkeys(_ENDING, self._die)
        if self._tty:
            handlers |= {signal.SIGWINCH: self._note, signal.SIGCONT: self._note}
        return {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)
        if number in (signal.SIGINT, signal.SIGTERM):
            self._terminations += 1
            if self._terminations == _INSISTENT:
                raise Interrupted(f"got {_INSISTENT} SIGTERM/SIGINTs, forcefully exiting")

    def _die(self, number: int, _frame: FrameType | None) -> None:
        """Of the signal, as without a handler, but from a terminal that is as it was."""
        assert self._saved
        termios.tcsetattr(self._streams.stdin, termios.TCSANOW, self._saved)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _loop(self, wake: int) -> int | None:
        """Never blocks on the monitor: with both sides waiting to write, `run -i … cat` would stand still for ever."""
        os.set_blocking(self._fd, False)
        self._poll.register(wake, select.POLLIN)
        inbox = bytearray()
        while True:
            self._poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._outbox else 0))
            # registered only while it is wanted: a hang-up would be reported for ever
            watching = self._stdin and len(self._outbox) < _ENOUGH
            if watching:
                self._poll.register(self._streams.stdin, select.POLLIN)
            for fd, events in self._poll.poll():
                if fd == wake:
                    os.read(wake, 512)
                    self._send_signals()
                elif fd == self._streams.stdin:
                    self._stdin = self._read_stdin()
                    if self._keys and self._typed == self._keys:
                        return None
                else:
                    if events & select.POLLOUT:
                        self._flush()
                    if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                        code = self._receive(inbox)
                        if code is not None:
                            return code
            if watching:
                self._poll.unregister(self._streams.stdin)

    def _receive(self, inbox: bytearray) -> int | None:
        try:
            data = os.read(self._fd, 4 * attach.CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            raise MiniError("the container's monitor is gone", "mini ps -a shows what became of the container")
        inbox += data
        for kind, payload in attach.take_frames(inbox):
            if kind == attach.EXIT:
                return int(payload)
            if kind in (attach.STDOUT, attach.STDERR):
                self._show(kind == attach.STDERR, payload)
        return None

    def _show(self, is_error: bool, payload: bytes) -> None:
        try:
            attach.send_all(self._streams.stderr if is_error else self._streams.stdout, payload)
        except BrokenPipeError:
            if self._sig_proxy:
                # Docker's client, which takes every signal for the container's then, is not ended by SIGPIPE
                raise Interrupted(f"write /dev/{'stderr' if is_error else 'stdout'}: broken pipe") from None
            raise

    def _send(self, packet: bytes) -> None:
        self._outbox += packet
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: os.write(self._fd, self._outbox)]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            # the end is on its way to us: it is read, with what came before it, by the loop
            self._outbox.clear()

    def _send_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGCONT and self._saved:
                # the shell that stopped us has set its own mode since
                tty.setraw(self._streams.stdin, termios.TCSANOW)
            if number in (signal.SIGWINCH, signal.SIGCONT):
                if size := self._streams.size():
                    self._send(attach.resize_frame(*size))
            else:
                self._send(attach.frame(attach.SIGNAL, bytes([number])))
                if self._signalled:
                    self._signalled(number)

    def _read_stdin(self) -> bool:
        """Passes on what is there. False at the end of input, or when the detach keys are complete."""
        try:
            data = os.read(self._streams.stdin, attach.CHUNK)
        except OSError:
            # EIO: the terminal is gone
            data = b""
        if not data:
            self._send(attach.frame(attach.STDIN_EOF))
            return False
        if not self._keys:
            self._send(attach.frame(attach.STDIN, data))
            return True
        out = bytearray()
        for byte in data:
            if self._keys[len(self._typed)] == byte:
                self._typed += bytes([byte])
                if self._typed == self._keys:
                    break
            else:
                # not the sequence after all: the keys held back are input
                out += self._typed
                self._typed = b""
                if self._keys[0] == byte:
                    self._typed = bytes([byte])
                else:
                    out.append(byte)
        if out:
            self._send(attach.frame(attach.STDIN, bytes(out)))
        return self._typed != self._keys
