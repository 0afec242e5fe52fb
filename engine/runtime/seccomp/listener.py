"""SCMP_ACT_NOTIFY: system calls that an agent outside of the container answers.

Loading such a filter gives a descriptor, over which the kernel asks. It goes to whoever listens at the spec's `listenerPath`, with
the *container process state*. OCI runtime spec, config-linux.md "The Container Process State"; seccomp_unotify(2).
"""

from __future__ import annotations

import os

from engine import lean
from engine.errors import RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def sender(seccomp: dict[str, Any], state: dict[str, Any]) -> Callable[[int, int], None]:
    """What `launch.create` and `exec.spawn` call with the process and the descriptor. `state` is the container's, in the
    specification's form; the process's number is its own where it has none."""

    def send(pid: int, fd: int) -> None:
        message = {
            "ociVersion": state["ociVersion"],
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": seccomp.get("listenerMetadata", ""),
            "state": {"pid": pid, **state},
        }
        _send(seccomp["listenerPath"], message, fd)

    return send


def _send(path: str, state: dict[str, Any], fd: int) -> None:
    import _socket
    import struct

    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        peer.connect(path)
        data = lean.dumps(state)
        sent = peer.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))])
        if sent < len(data):  # sendall of nothing is a call, too, and an error where the agent has read all and left
            peer.sendall(data[sent:])
    except OSError as e:
        text = f"cannot give the seccomp agent at {path} its descriptor: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("seccomp", text, e.errno or 0, path) from e
    finally:
        peer.close()
