"""$NOTIFY_SOCKET: who started the runtime (systemd, Type=notify) hears from within the container that it is ready (sd_notify(3)).

    ROOT/ID/notify/             made by create; in the container /run/notify, read-only, and $NOTIFY_SOCKET in it
                   notify.sock  bound by whoever starts the program, as long as that runs

The first `READY=1` is passed on, with the MAINPID that is right on the host; nothing else is: systemd would obey a container's
own MAINPID=1 or FDSTORE=1. As runc does it. Imported only where $NOTIFY_SOCKET is set.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Mount, Spec
    from engine.runtime.oci_cli.log import Log
    from engine.runtime.state import Container

_INSIDE = "/run/notify"
_PATIENCE = 30  # seconds for systemd to read what it is told
_AT_ONCE = 512  # datagrams, so that one who never stops does not keep its reader from anything else
_LONGEST = 4096  # bytes of a datagram that count


def mount(spec: Spec, container: Container) -> None:
    """Gives the container a place for its socket, and the name. A spec with a $NOTIFY_SOCKET of its own is left alone: that is
    another's (conmon, --sdnotify-socket)."""
    process = spec["process"]
    env = process.get("env") or []
    if any(entry.startswith("NOTIFY_SOCKET=") for entry in env):
        return
    source = f"{container.directory}/notify"
    os.mkdir(source)
    os.chmod(source, 0o755)  # whatever the umask: its users are others
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    added: Mount = {"destination": _INSIDE, "type": "bind", "source": source, "options": options}
    spec["mounts"] = [*spec["mounts"], added]
    process["env"] = [*env, f"NOTIFY_SOCKET={_INSIDE}/notify.sock"]


def listen(container: Container, pid: int, log: Log) -> Readiness | None:
    """To be called before the program starts. None where it has no place for a socket, or nobody is there to be told: a warning."""
    host = os.environ["NOTIFY_SOCKET"]
    if not os.path.isdir(f"{container.directory}/notify"):
        return None
    try:
        return Readiness(_connected(host), _bound(f"{container.place}/notify/notify.sock"), pid, log)
    except OSError as e:
        log.warning(f"cannot pass on that the container is ready to $NOTIFY_SOCKET, {host}: {_reason(e)}")
        return None


class Readiness:
    """What the container tells, and whom; `pid` is the main process for systemd. Nothing here raises: a warning tells who is not
    told."""

    __slots__ = ("_host", "_log", "_own", "_pid", "_told")

    def __init__(self, host: _socket.socket, own: _socket.socket, pid: int, log: Log) -> None:
        self._host = host
        self._own = own
        self._pid = pid
        self._log = log
        self._told = False

    def fileno(self) -> int:
        """Readable when there is something for `hear`."""
        return self._own.fileno()

    def hear(self) -> None:
        """Reads what the container sent, and passes on that it is ready, once. What it sent after that is read as well: a client's
        next message must not block, and sd_notify_barrier(3) waits until it was."""
        for _ in range(_AT_ONCE):
            try:
                # without a place for them, descriptors that come along are closed (recvmsg(2), MSG_CTRUNC)
                data = self._own.recv(_LONGEST, _socket.MSG_DONTWAIT)
            except OSError:  # EAGAIN: no more
                return
            if not self._told and b"READY=1" in data.split(b"\n"):
                self._told = True
                self._tell(f"READY=1\nMAINPID={self._pid}")

    def wait(self, pidfd: int, to_the_end: bool = False) -> None:
        """Until the container is ready and that is known, or its process has ended; `to_the_end`: until that in any case."""
        poll = select.poll()
        for fd in (self.fileno(), pidfd):
            poll.register(fd, select.POLLIN)
        while to_the_end or not self._told:
            found = dict(poll.poll())
            self.hear()
            if pidfd in found:
                break
        if self._told and not to_the_end:
            self._await_knowledge()

    def _tell(self, text: str, *rights: int) -> None:
        control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd)) for fd in rights]
        try:
            self._host.sendmsg([text.encode()], control)
        except OSError as e:
            self._log.warning(f"cannot tell $NOTIFY_SOCKET that the container is ready: {_reason(e)}")

    def _await_knowledge(self) -> None:
        """systemd asks which unit a message is of, by its sender: this process must be there still (sd_notify_barrier(3))."""
        reader, writer = os.pipe()
        self._tell("BARRIER=1", writer)
        os.close(writer)
        poll = select.poll()
        poll.register(reader, 0)  # POLLHUP comes in any case
        poll.poll(_PATIENCE * 1000)
        os.close(reader)


def _connected(address: str) -> _socket.socket:
    """A path, or an abstract name behind `@` (systemd, NOTIFY_SOCKET). Raises OSError."""
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    made.settimeout(_PATIENCE)
    made.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    return made


def _bound(path: str) -> _socket.socket:
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    made.bind(path)
    os.chmod(path, 0o777)  # nobody else gets there, and the container's root may be another user here
    return made


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
