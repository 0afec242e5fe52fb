"""Id-mapped mounts: a mount through which files belong to others than they do on disk (Linux 5.12).

    on disk     1000 ──┐ map of a user namespace ┌──▶ 0     seen through the mount
    on disk     1000 ◀─┘                         └─── 0     made through it

The map is that of a user namespace in which nobody lives: a child process makes it, and dies. An id that is in no range is seen
as 65534 (nobody) and cannot be given to a file. mount_setattr(2), user_namespaces(7), Documentation/filesystems/idmappings.rst.
"""

from __future__ import annotations

import errno
import os

from engine import linux
from engine.errors import RuntimeFault, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    Range = tuple[int, int, int]

_STEP = "idmap"


def apply(mount: int, uids: Sequence[Range], gids: Sequence[Range], recursive: bool, what: str) -> None:
    """Maps the detached `mount` by ranges of (id on disk, id seen, how many). `what` names it in errors.

    Raises Unsupported where its file system cannot, RuntimeFault for ranges that the kernel refuses.
    """
    namespace = user_namespace(uids, gids)
    try:
        linux.mount_setattr(mount, "", linux.MOUNT_ATTR_IDMAP, userns_fd=namespace, recursive=recursive)
    except OSError as e:
        text = f"cannot map the ids of {what}: {os.strerror(e.errno or 0).lower()}"
        if e.errno == errno.EINVAL:
            hint = "its file system, or one mounted below it, has no id-mapped mounts (mount_setattr(2) lists those that have)"
            if recursive:
                hint += "; bind-recursive=disabled leaves out what is mounted below"
            raise Unsupported(text, hint) from e
        raise RuntimeFault(_STEP, text, e.errno or 0, what) from e
    finally:
        os.close(namespace)


def user_namespace(uids: Sequence[Range], gids: Sequence[Range]) -> int:
    """A descriptor of a new user namespace with these maps; the caller closes it. Raises RuntimeFault."""
    ready, told = os.pipe2(os.O_CLOEXEC)
    done, end = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.fork()
        if child == 0:
            _live(told, done, (ready, end))
        os.close(told)
        told = -1
        try:
            if os.read(ready, 1) != b"1":
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            for name, ranges in (("uid_map", uids), ("gid_map", gids)):
                with open(f"/proc/{child}/{name}", "w", buffering=4096) as file:
                    file.write("".join(f"{disk} {seen} {count}\n" for disk, seen, count in ranges))
            return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(end)
            end = -1
            os.waitpid(child, 0)
    except OSError as e:
        text = f"cannot make a user namespace to map ids with: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault(_STEP, text, e.errno or 0) from e
    finally:
        for fd in (ready, told, done, end):
            if fd >= 0:
                os.close(fd)


def _live(told: int, done: int, others: tuple[int, int]) -> NoReturn:
    """The child: in the namespace until its parent has closed the other end of `done`."""
    try:
        for fd in others:
            os.close(fd)
        linux.unshare(linux.CLONE_NEWUSER)
        os.write(told, b"1")
        os.read(done, 1)
    finally:
        os._exit(0)
