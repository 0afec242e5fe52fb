"""A bundle as create and run take it: config.json, the terminal, descriptors that are passed on."""

from __future__ import annotations

import os

from engine import files, lean
from engine.errors import RuntimeFault, UsageError
from engine.runtime import labels, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from engine.oci.runtime import Process, Spec
    from engine.runtime.process.launch import InitProcess


class Bundle:
    """`spec` with an absolute root; `raw` as it is in config.json. This process's directory is the bundle afterwards, as
    hooks expect it. Raises UsageError."""

    __slots__ = ("path", "raw", "spec", "warnings")

    def __init__(self, directory: str) -> None:
        try:
            os.chdir(directory)
        except OSError as e:
            raise UsageError(f"chdir {directory}: {os.strerror(e.errno or 0).lower()}") from e
        self.path = os.getcwd()
        try:
            self.raw = files.read_bytes("config.json")
        except FileNotFoundError:
            raise UsageError("JSON specification file config.json not found") from None
        except OSError as e:
            raise UsageError(f"cannot read {self.path}/config.json: {os.strerror(e.errno or 0).lower()}") from e
        try:
            self.spec: Spec = lean.loads(self.raw)
        except (ValueError, RecursionError) as e:
            raise UsageError(f"{self.path}/config.json is not JSON: {e}") from e
        check(self.spec)
        self.spec, self.warnings = validate.checked(self.spec)
        self.spec["mounts"] = labels.label_mounts(self.spec)
        self.spec["root"] = {**self.spec["root"], "path": os.path.join(self.path, self.spec["root"]["path"])}


def check(spec: Any) -> None:
    """What is needed before anything can be made of it. Raises UsageError."""
    if not isinstance(spec, dict):
        raise UsageError("config.json is not an object")
    version = spec.get("ociVersion")
    parts = version.split("-")[0].split("+")[0].split(".") if isinstance(version, str) else []
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise UsageError(f"ociVersion is not a version: {version!r}")
    # containerd 2.2 writes 1.3; what that adds for Linux (netDevices, memoryPolicy) validate knows, and refuses by its name
    if (int(parts[0]), int(parts[1])) not in ((1, 0), (1, 1), (1, 2), (1, 3)):
        raise UsageError(f"ociVersion {version} is not supported: 1.0.0 to 1.3 are")
    if spec.get("process") is None:
        raise UsageError("config.json has no process")


def check_terminal(process: Process, detach: bool, console_socket: str | None) -> None:
    """runc's rules and words. Raises UsageError."""
    terminal = process.get("terminal", False)
    if terminal and detach and not console_socket:
        raise UsageError("cannot allocate tty if mini-runtime will detach without setting console socket")
    if console_socket and not (terminal and detach):
        raise UsageError("cannot use console socket if mini-runtime will not detach or allocate tty")


def send_console(path: str, process: InitProcess) -> None:
    """Gives the pty's master to whoever listens at the socket, with its name, as runc does. Raises RuntimeFault."""
    _send(path, b"/dev/ptmx", process.console, "console")


def send_pidfd(path: str, process: InitProcess, kind: str) -> None:
    """Gives a pidfd to whoever listens at the socket; `kind` is runc's word: standard, or of exec setns. Raises RuntimeFault."""
    _send(path, kind.encode(), process.pidfd, "pidfd")


def _send(path: str, text: bytes, descriptor: int, what: str) -> None:
    import _socket
    import struct

    try:
        peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        peer.connect(path)
        peer.sendmsg([text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", descriptor))])
        peer.close()
    except OSError as e:
        message = f"cannot send the {what} to {path}: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault(what, message, e.errno or 0, path) from e


def preserve(options: dict[str, Any], process: Process) -> int:
    """How many descriptors from 3 on the program gets: those of systemd's socket activation (sd_listen_fds(3)) and
    `--preserve-fds`. Raises UsageError where one is not open."""
    meant = os.environ.get("LISTEN_PID", str(os.getpid())) == str(os.getpid())  # else they are somebody else's
    listening = _count(os.environ.get("LISTEN_FDS", "0"), "LISTEN_FDS") if meant else 0
    if listening:
        process["env"] = [*process.get("env", ()), f"LISTEN_FDS={listening}", "LISTEN_PID=1"]
    total = listening + _count(options.get("preserve-fds", "0"), "--preserve-fds")
    for fd in range(3, 3 + total):
        try:
            os.set_inheritable(fd, True)
        except OSError:
            raise UsageError(f"descriptor {fd} is not open: {total} were to be preserved") from None
    return total


def _count(text: str, name: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{name} is not a number: {text}")
    return int(text)


def seccomp(settings: dict[str, Any], cache: str) -> tuple[bytes, int] | None:
    """The compiled filter of a spec's `linux`."""
    if not settings.get("seccomp"):
        return None
    from engine.runtime.seccomp import compile as compiler

    return compiler.compile_filter(settings["seccomp"], cache)


def notifier(settings: dict[str, Any], state: dict[str, Any]) -> Callable[[int, int], None] | None:
    """Who gives the agent of a seccomp filter its descriptor, where there is one."""
    wanted = settings.get("seccomp") or {}
    if not wanted.get("listenerPath"):
        return None
    from engine.runtime.seccomp import listener

    return listener.sender(wanted, state)
