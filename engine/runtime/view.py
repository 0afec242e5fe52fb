"""A running container's root, seen from outside: the file system alone, without what is mounted in it.

What is reached by /proc/PID/root shows volumes, /proc and everything else that was mounted over the root. A bind mount of the
root that is not recursive shows what lies below them, which is what belongs to the container. open_tree(2) clones only
mounts of its caller's own mount namespace, so a child process joins the container's, clones, and hands the descriptor over.
"""

from __future__ import annotations

import os

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime.process import channel

_STEP = "open_tree"


def root_of(pid: int) -> int:
    """The root of the container whose init is `pid` as a detached mount; the caller closes it. Raises RuntimeFault.

    The child has no business there but two system calls: it looks nothing up in the container, and the container's
    processes, which are in another PID namespace, cannot see it.
    """
    ours, theirs = channel.pair()
    namespace = -1
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _hand_over(theirs, namespace)
        theirs.close()
        answer = ours.receive()
        _, status = os.waitpid(child, 0)
    except OSError as e:
        raise RuntimeFault(
            _STEP, f"cannot join process {pid}: {os.strerror(e.errno or 0).lower()}", e.errno or 0
        ) from e
    finally:
        if namespace >= 0:
            os.close(namespace)
        ours.close()
        theirs.close()
    if answer is None:
        raise channel.died(_STEP, status)
    message, root = answer
    if root < 0:
        raise channel.fault(message)
    return root


def _hand_over(parent: channel.Channel, namespace: int) -> None:
    """The child: never returns."""
    try:
        linux.setns(namespace, linux.CLONE_NEWNS)
        parent.send("root", linux.open_tree(linux.AT_FDCWD, "/", linux.OPEN_TREE_CLONE))
    except OSError as e:
        text = f"cannot open the container's root: {os.strerror(e.errno or 0).lower()}"
        parent.send_fault(RuntimeFault(_STEP, text, e.errno or 0))
    finally:
        os._exit(0)
