"""The monitor's loop: one process a container, which outlives the client that started it.

            ┌──────────── monitor ────────────┐
  init ◀────┤ stdin pipe / pty master         │◀──── attached clients (attach.py), any number
  init ────▶│ stdout, stderr pipes / pty      ├────▶ log, then every client
  init exit │ pidfd                           │
            └─────────────────────────────────┘

Single-threaded, one poll(2). Output is read only as fast as the slowest attached client takes it (as Docker does), so no byte
is lost and memory stays bounded; after init's exit everything that is still in the pipes is read to the end, and no client is
waited for any more: one that is slow, or stopped, gets its last bytes from a process of its own.
"""

from __future__ import annotations

import _socket
import os
import select
import struct
import time

from engine.errors import MiniError, RuntimeFault
from engine.lean import signal
from engine.runtime import attach
from engine.runtime.loop import READ, WRITE, Loop
from engine.runtime.process import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.logs.writer import LogWriter
    from engine.runtime.process.launch import InitProcess

# An attached client that is this far behind stops the reading of output until it has caught up to the lower mark.
_HIGH, _LOW = 1 << 20, 1 << 18
# Seconds for which output is read after the exit of a container whose streams somebody outside holds open, as in Docker (moby,
# daemon/monitor.go: handleContainerExit): a descriptor can be passed on (unix(7)).
_PATIENCE = 2.0
_ROUNDS = 1024
_LONGEST_LOG = 1 << 20


class Stdio:
    """The monitor's ends of the container's standard streams, and the container's own, to be handed to its init.

    With a terminal there are none: the pty's master comes back from init. Closed stdin is /dev/null.
    """

    def __init__(self, terminal: bool, keep_stdin: bool) -> None:
        self.stdin = self.stdout = self.stderr = -1
        self.inner: tuple[int, int, int] | None = None
        if terminal:
            return
        self.stdout, out = os.pipe2(os.O_CLOEXEC)
        self.stderr, err = os.pipe2(os.O_CLOEXEC)
        if keep_stdin:
            source, self.stdin = os.pipe2(os.O_CLOEXEC)
        else:
            source = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.inner = (source, out, err)

    def close_inner(self) -> None:
        """Once init has them: an end kept open here would never let the other end see EOF."""
        for fd in self.inner or ():
            os.close(fd)
        self.inner = None


class _Client:
    __slots__ = ("fd", "inbox", "outbox", "output", "stdin")

    def __init__(self, fd: int, stdin: bool, output: bool) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.stdin = stdin
        self.output = output
        self.inbox = bytearray()
        self.outbox = bytearray()


class Monitor:
    """Carries one container from its start to the last byte of its output.

    `stdin_once`: the container's stdin is closed when the client that feeds it goes (Docker's StdinOnce, `run -i`).
    """

    def __init__(
        self,
        process: InitProcess,
        stdio: Stdio,
        log: LogWriter | None,
        listener: _socket.socket | None,
        stdin_once: bool,
        loop: Loop | None = None,
    ) -> None:
        self.loop = loop or Loop()
        # carries out what has changed in the container's config; its error is told to whoever asked
        self.follow: Callable[[], object] | None = None
        # ends what may outlive init
        self.ended: Callable[[], object] | None = None
        self._process = process
        self._log = log
        self._listener = listener
        self._stdin_once = stdin_once
        self._terminal = process.console >= 0
        self._stdin = process.console if self._terminal else stdio.stdin
        self._feed = bytearray()
        self._stdin_ending = False
        self._outputs: dict[int, int] = {}
        if self._terminal:
            self._outputs[process.console] = attach.STDOUT
        else:
            self._outputs = {stdio.stdout: attach.STDOUT, stdio.stderr: attach.STDERR}
        self._clients: dict[int, _Client] = {}
        self._exited = False
        for fd in (*self._outputs, self._stdin):
            if fd >= 0:
                os.set_blocking(fd, False)

    def add_client(self, fd: int, stdin: bool, output: bool) -> None:
        """A client that is connected already; its HELLO may still change what it wants. Closed by `finish`, or when it goes."""
        self._clients[fd] = _Client(fd, stdin, output)
        self._watch(fd)

    # --- the loop

    def run(self) -> int:
        """Until init has exited and its output is drained: returns the raw wait status. Attached clients stay connected."""
        self.loop.watch(self._process.pidfd, select.POLLIN, self._ended)
        if self._listener:
            self.loop.watch(self._listener.fileno(), select.POLLIN, self._accept)
        for fd in self._outputs:
            self._watch(fd)
        while not self._exited or self._outputs:
            self.loop.step()
        if self._listener:
            self.loop.forget(self._listener.fileno())
        self.loop.cancel(self._let_go)
        status = self._process.wait()
        if self._log:
            self._log.close()
        return status

    def finish(self, last: bytes) -> None:
        """Sends `last` (the EXIT frame) to every client, and closes. Waits for none: see above."""
        for client in list(self._clients.values()):
            client.outbox += last
            self._flush(client)
            if client.outbox and client.fd in self._clients:
                self._leave(client)
            self._drop(client)

    def _leave(self, client: _Client) -> None:
        """To a process that sends what is left, and ends when the client has it all or is gone."""
        from engine.runtime.subprocesses import fork

        def send() -> None:
            os.set_blocking(client.fd, True)
            attach.send_all(client.fd, bytes(client.outbox))

        def leave() -> None:
            fork(send, client.fd)

        try:
            # by one between, which we can wait for
            os.waitpid(fork(leave, client.fd), 0)
        except OSError:
            # no process can be had: the client sees the end, and what became of the container is in its state
            return

    def _ended(self, fd: int, _events: int) -> None:
        self._exited = True
        self.loop.forget(fd)
        self._close_stdin()
        if self.ended:
            self.ended()
        # what is there is no more than the pipes hold
        for output in self._outputs:
            self._watch(output)
        self.loop.at(time.monotonic() + _PATIENCE, self._let_go)

    def _let_go(self) -> None:
        """What is there by now is still the container's; but a stranger might write on for ever."""
        for output in list(self._outputs):
            for _ in range(_ROUNDS):
                if not self._read_output(output):
                    break
            if output in self._outputs:
                self._end_output(output)

    def _stream(self, fd: int, events: int) -> None:
        # a pty's master is both an output and the stdin
        if fd in self._outputs and events & READ:
            self._read_output(fd)
        if fd == self._stdin and events & WRITE:
            self._feed_stdin()

    def _watch(self, fd: int) -> None:
        """Watches for what is wanted of a descriptor now."""
        wanted = 0
        if fd in self._clients:
            client = self._clients[fd]
            if len(self._feed) < _LOW or not client.stdin:
                wanted |= select.POLLIN
            if client.outbox:
                wanted |= select.POLLOUT
            return self.loop.watch(fd, wanted, self._serve)
        if fd in self._outputs and not self._held_back():
            wanted |= select.POLLIN
        if fd == self._stdin and self._feed:
            wanted |= select.POLLOUT
        self.loop.watch(fd, wanted, self._stream)

    def _held_back(self) -> bool:
        return not self._exited and any(len(c.outbox) > _HIGH for c in self._clients.values())

    # --- output

    def _read_output(self, fd: int) -> bool:
        """False where there was nothing, or the end."""
        try:
            data = os.read(fd, attach.CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            # EIO: the last holder of the terminal's other side is gone (pty(7))
            data = b""
        if not data:
            self._end_output(fd)
            return False
        kind = self._outputs[fd]
        if self._log:
            self._log.write("stdout" if kind == attach.STDOUT else "stderr", data)
        packet = attach.frame(kind, data)
        for client in list(self._clients.values()):
            if client.output:
                client.outbox += packet
                self._flush(client)
        if self._held_back():
            for output in self._outputs:
                self._watch(output)
        return True

    def _end_output(self, fd: int) -> None:
        self.loop.forget(fd)
        self._outputs.pop(fd)
        if not self._terminal:
            os.close(fd)

    def _flush(self, client: _Client) -> None:
        was_held = len(client.outbox) > _HIGH
        try:
            while client.outbox:
                del client.outbox[: os.write(client.fd, client.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            return self._drop(client)
        self._watch(client.fd)
        if was_held and not self._held_back():
            for output in self._outputs:
                self._watch(output)

    # --- clients

    def _accept(self, listener: int, _events: int) -> None:
        assert self._listener
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # typeshed has only socket's subclass
        except OSError as e:
            return self.loop.refused(listener, e)
        self.add_client(fd, stdin=False, output=False)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.fd, None) is None:
            return
        self.loop.forget(client.fd)
        os.close(client.fd)
        if client.stdin and self._stdin_once and not self._terminal:
            self._end_stdin()
        for output in self._outputs:
            self._watch(output)

    def _serve(self, fd: int, events: int) -> None:
        client = self._clients[fd]
        if events & select.POLLOUT:
            self._flush(client)
        if fd not in self._clients or not events & READ:
            return
        try:
            data = os.read(client.fd, attach.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.inbox += data
        try:
            for kind, payload in attach.take_frames(client.inbox):
                self._obey(client, kind, payload)
                if fd not in self._clients:
                    return
        except (ValueError, struct.error):
            data = b""
        except BaseException:
            # who waits for an answer waits no longer
            self._drop(client)
            raise
        if not data:
            self._drop(client)

    def _obey(self, client: _Client, kind: int, payload: bytes) -> None:
        if kind == attach.HELLO:
            stdin, output = payload
            client.stdin, client.output = bool(stdin), bool(output)
        elif kind == attach.STDIN and client.stdin:
            self._feed += payload
            self._feed_stdin()
        elif kind == attach.STDIN_EOF and client.stdin and self._stdin_once:
            self._end_stdin()
        elif kind == attach.RESIZE and self._terminal:
            rows, columns = struct.unpack("!HH", payload)
            console.set_size(self._process.console, rows, columns)
        elif kind == attach.SIGNAL:
            (number,) = struct.unpack("!B", payload)
            try:
                self._process.kill(number)
            except OSError:
                # no such signal
                raise ValueError(f"signal {number}") from None
        elif kind == attach.FOLLOW:
            client.outbox += self._followed()
            self._flush(client)

    def _followed(self) -> bytes:
        try:
            if self.follow:
                self.follow()
        except (MiniError, OSError) as e:
            return attach.json_frame(attach.ERROR, attach.error_payload(_fault(e)))
        return attach.frame(attach.FOLLOWED)

    # --- the container's stdin

    def _feed_stdin(self) -> None:
        if self._stdin < 0:
            self._feed.clear()
            return
        was_full = len(self._feed) >= _LOW
        try:
            while self._feed:
                del self._feed[: os.write(self._stdin, self._feed[: attach.CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            return self._close_stdin()
        if not self._feed and self._stdin_ending:
            return self._close_stdin()
        self._watch(self._stdin)
        if was_full != (len(self._feed) >= _LOW):
            self._watch_feeders()

    def _end_stdin(self) -> None:
        self._stdin_ending = True
        self._feed_stdin()

    def _close_stdin(self) -> None:
        self._feed.clear()
        if self._stdin < 0 or self._terminal:
            return
        self.loop.forget(self._stdin)
        os.close(self._stdin)
        self._stdin = -1
        self._watch_feeders()

    def _watch_feeders(self) -> None:
        for client in self._clients.values():
            if client.stdin:
                self._watch(client.fd)


def fork_monitor(body: Callable[[int], None], log: str) -> int:
    """Forks a monitor: a process that leaves the terminal and runs `body` with its end of a socket. Returns the other end.

    A MiniError or OSError of `body` goes to the client as ERROR, and anything else that it raises into the file `log`.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    fork_for(theirs.fileno(), body, log)
    theirs.close()
    return ours.detach()


def fork_for(client: int, body: Callable[[int], None], log: str) -> int:
    """As `fork_monitor`, for a client whose socket is there; the caller closes its own copy. Returns the process's pid."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        detach_from_terminal(keep=(client,))
        try:
            body(client)
            status = 0
        except (MiniError, OSError) as e:
            attach.tell(client, attach.json_frame(attach.ERROR, attach.error_payload(_fault(e))))
    except BaseException:
        note_failure(log)
    finally:
        os._exit(status)


def _fault(e: MiniError | OSError) -> MiniError:
    return e if isinstance(e, MiniError) else RuntimeFault("monitor", f"{e.strerror}", e.errno or 0)


def note_failure(log: str) -> None:
    """In an `except` clause: adds the traceback to the file `log`, if that can be."""
    try:
        import traceback

        with open(log, "a") as file:
            if file.tell() < _LONGEST_LOG:
                traceback.print_exc(file=file)
    except (OSError, ImportError):
        return


def detach_from_terminal(keep: tuple[int, ...]) -> None:
    """Makes the calling process a monitor: own session, no terminal, root directory, /dev/null for stdio, no other descriptor.

    A pipe of the client's kept open here would keep `mini run -d | cat` waiting for ever.
    """
    os.setsid()
    os.chdir("/")
    with open("/proc/self/comm", "w") as comm:
        comm.write("mini-monitor")
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        if fd not in keep:
            os.dup2(null, fd)
    low = 3
    for fd in sorted(k for k in keep if k > 2):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 65536)
    # what a monitor had for itself, its child has not
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
