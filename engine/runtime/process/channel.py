"""The channel between whoever makes a process and that process, until it has become the container's program.

A SOCK_SEQPACKET socket pair: one JSON object a packet, `type` first. Close-on-exec, so that the end of file is the news that
execve(2) succeeded.

    parent (launch.py)                        init (init.py)
      │── fork ───────────────────────────────> │
      │── cgroup, or no cgroup ───────────────> │ where it is made only now
      │ <── namespaces ──────────────────────── │ its network namespace exists
      │── network ────────────────────────────> │ its interfaces are there
      │ <── console + descriptor ────────────── │ the pty's master, if there is a terminal
      │ <── mounted ─────────────────────────── │ where there are hooks: all mounts are there, the root is not changed yet
      │── hooked ─────────────────────────────> │
      │ <── ready ───────────────────────────── │ all is done but execve
      │── start ──────────────────────────────> │
      │ <── (end of file) ───────────────────── │ execve succeeded
      │ <── fault ───────────────────────────── │ instead of any of its messages: kind, step, message, errno, path, hint

Instead of `start`, `created` may come with a listening socket: the parent leaves, and whoever connects to the socket is the
parent from there on (OCI's `create` and `start` are two commands).

A process that joins a container (exec.py) has `forked` and `adopted` instead of `namespaces` and `network`.

An end of file before `ready` means that it died (the OOM killer, SIGKILL). An end of file on the other side means that the
parent is gone: then the process ends as well, rather than wait for ever for its start.
"""

from __future__ import annotations

import _socket
import os
import sys

from engine import errors, lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LONGEST = 65536  # bytes of a message
_LONGEST_TEXT = 2048  # characters of a fault's text: a name in it is the user's, who may give it any length
_FD_SIZE = 4  # bytes of a descriptor in a control message
_FAULTS = {kind.__name__: kind for kind in (errors.RuntimeFault, errors.CommandNotFound, errors.CommandNotExecutable)}


class Channel:
    """One end. Raises OSError where the kernel does; a dead peer is `None` from `receive`."""

    __slots__ = ("_socket",)

    def __init__(self, socket: _socket.socket) -> None:
        self._socket = socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def move_to(self, fd: int) -> None:
        """Makes this end the descriptor `fd`, close-on-exec; what was there is closed, and the old one left open."""
        if self.fileno() != fd:
            os.dup2(self._socket.detach(), fd, inheritable=False)
            self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)

    def replace_by(self, listener: int) -> None:
        """Closes this end; the next to connect to the listening socket is the peer. The descriptor is used up."""
        self._socket.close()
        accepting = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, listener)
        fd, _ = accepting._accept()  # type: ignore[attr-defined]  # the C module's own
        accepting.close()
        os.set_inheritable(fd, False)
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)

    def send(self, type_: str, fd: int | None = None, **fields: Any) -> None:
        """Sends one message, with a copy of the descriptor `fd` (unix(7), SCM_RIGHTS)."""
        data = lean.dumps({"type": type_, **fields})
        rights = [] if fd is None else [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(_FD_SIZE, sys.byteorder))]
        self._socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[dict[str, Any], int] | None:
        """The next message and the descriptor that came with it, or -1. None at the end of file."""
        try:
            data, rights = self._receive()
        except ConnectionResetError:
            # The peer closed its end with something of ours unread. The kernel says so once, and before it gives out what
            # the peer had sent: perhaps the fault that tells why.
            data, rights = self._receive()
        if not data:
            return None
        return lean.loads(data), int.from_bytes(rights[0][2], sys.byteorder) if rights else -1

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        return self._socket.recvmsg(_LONGEST, _socket.CMSG_SPACE(_FD_SIZE), _socket.MSG_CMSG_CLOEXEC)[:2]

    def send_fault(self, error: errors.RuntimeFault) -> None:
        """Tells why it ends here; `fault` makes the same error of it again."""
        kind = next(c.__name__ for c in type(error).__mro__ if c.__name__ in _FAULTS)
        self.send(
            "fault",
            kind=kind,
            step=error.step,
            message=error.message[:_LONGEST_TEXT],
            errno=error.errno,
            path=error.path and error.path[:_LONGEST_TEXT],
            hint=error.hint,
        )


def pair() -> tuple[Channel, Channel]:
    """Two connected ends, close-on-exec both."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
    return Channel(ours), Channel(theirs)


def listen(path: str) -> int:
    """A listening socket at `path`, close-on-exec; the caller closes it, and removes the name. Raises OSError."""
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    made.bind(path)
    made.listen(1)
    return made.detach()


def connect(path: str) -> Channel:
    """The other end. Raises OSError, ECONNREFUSED where nobody listens any more."""
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    made.connect(path)
    return Channel(made)


def fault(message: dict[str, Any]) -> errors.RuntimeFault:
    """The error that a `fault` message stands for."""
    kind = _FAULTS[message["kind"]]
    return kind(message["step"], message["message"], message["errno"], message["path"], message["hint"])


def died(step: str, status: int) -> errors.RuntimeFault:
    """The error for a process that ended without a word; `status` as of waitpid(2)."""
    number = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-number}" if number < 0 else f"exited with code {number}"
    hint = "signal 9 may be the out of memory killer: is the memory limit too small?" if number == -9 else None
    return errors.RuntimeFault(step, f"the container's first process {how} before its program ran", hint=hint)


def start_created(path: str) -> None:
    """Starts the program of a container that was left (`InitProcess.leave`) with a listening socket at `path`.

    Returns when execve(2) succeeded. Raises what `launch.InitProcess.start` raises; its process ends then.
    """
    try:
        peer = connect(path)
    except OSError as e:
        text = f"cannot start the container, its first process has ended: {os.strerror(e.errno or 0).lower()}"
        raise errors.RuntimeFault("start", text, e.errno or 0, path) from e
    try:
        # from here on nobody else can start it, and if we die it does
        os.unlink(path)
        peer.send("start")
        answer = peer.receive()
    except OSError as e:
        raise errors.RuntimeFault(
            "start", f"cannot start the container: {os.strerror(e.errno or 0).lower()}", e.errno or 0
        ) from e
    finally:
        peer.close()
    if answer is not None:
        raise fault(answer[0])
