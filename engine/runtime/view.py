"""A container's root, seen from outside. Of a running one: the file system alone, without what is mounted in it.

What is reached by /proc/PID/root shows volumes, /proc and everything else that was mounted over the root. A bind mount of the
root that is not recursive shows what lies below them, which is what belongs to the container. open_tree(2) clones only
mounts of its caller's own mount namespace, so a child process joins the container's, clones, and hands the descriptor over.
"""

from __future__ import annotations

import os

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import rootfs, rootmounts
from engine.runtime.process import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.oci.runtime import Mount

_STEP = "open_tree"


def root_of(pid: int) -> int:
    """The root of the container whose init is `pid` as a detached mount; the caller closes it. Raises RuntimeFault.

    The child has no business there but two system calls: it looks nothing up in the container, and the container's
    processes, which are in another PID namespace, cannot see it.
    """
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise RuntimeFault(
            _STEP, f"cannot join process {pid}: {os.strerror(e.errno or 0).lower()}", e.errno or 0
        ) from e
    try:
        return _from_child(lambda: _clone_root(namespace))
    finally:
        os.close(namespace)


def _clone_root(namespace: int) -> int:
    linux.setns(namespace, linux.CLONE_NEWNS)
    return linux.open_tree(linux.AT_FDCWD, "/", linux.OPEN_TREE_CLONE)


def _from_child(make: Callable[[], int]) -> int:
    """The descriptor that `make` returns in a child process. Raises RuntimeFault."""
    ours, theirs = channel.pair()
    try:
        child = os.fork()
        if child == 0:
            _hand_over(theirs, make)
        theirs.close()
        answer = ours.receive()
        _, status = os.waitpid(child, 0)
    except OSError as e:
        raise RuntimeFault(_STEP, f"cannot fork: {os.strerror(e.errno or 0).lower()}", e.errno or 0) from e
    finally:
        ours.close()
        theirs.close()
    if answer is None:
        raise channel.died(_STEP, status)
    message, root = answer
    if root < 0:
        raise channel.fault(message)
    return root


def _hand_over(parent: channel.Channel, make: Callable[[], int]) -> None:
    """The child: never returns."""
    try:
        parent.send("root", make())
    except RuntimeFault as e:
        parent.send_fault(e)
    except OSError as e:
        text = f"cannot open the container's root: {os.strerror(e.errno or 0).lower()}"
        parent.send_fault(RuntimeFault(_STEP, text, e.errno or 0))
    finally:
        os._exit(0)


def with_mounts(root: int, wanted: list[Mount], path: str) -> int:
    """The detached mount `root` with `wanted` mounted in it, as one detached tree; the caller closes it. Raises RuntimeFault.

    A child puts it together at the directory `path` in a mount namespace of its own, which ends with it.
    """
    return _from_child(lambda: _assemble(root, wanted, path))


def _assemble(root: int, wanted: list[Mount], path: str) -> int:
    top = _mounted(root, path)
    for m in wanted:
        rootmounts.mount_inside(m, top)
    return linux.open_tree(top, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH | linux.AT_RECURSIVE)


def below(mount: int, find: Callable[[int], int], path: str) -> int:
    """What `find` makes a detached mount of, given a descriptor of the detached `mount`'s top; the caller closes it.

    Only what is mounted can be cloned in part (open_tree(2); detached mounts since Linux 6.15), so a child mounts it at the
    directory `path` in a mount namespace of its own. Raises RuntimeFault.
    """
    return _from_child(lambda: find(_mounted(mount, path)))


def _mounted(mount: int, path: str) -> int:
    linux.unshare(linux.CLONE_NEWNS)
    rootfs.isolate("rprivate", path)
    return rootfs.assemble(mount, path)
