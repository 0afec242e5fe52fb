"""Keeping the host's Python out of the container's reach.

CVE-2019-5736: whoever can make a runtime execute /proc/self/exe (an entrypoint that is a link to it, or `#!/proc/self/exe`)
holds the host's own binary open from within the container, as root, and can overwrite it once it is no longer running. For
mini that binary is the Python interpreter.

So a command that will make or enter a container executes itself again from a **read-only clone** of the interpreter's mount
point (open_tree(2) with OPEN_TREE_CLONE, mount_setattr(2)), attached to no mount namespace: /proc/self/exe leads to a file
that cannot be opened for writing, and nobody can remount it, since it is mounted nowhere. The kernel drops it with the last
process that runs it. Before Linux 5.12: from a sealed copy in memory (memfd_create(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from engine import linux
from engine.errors import RuntimeFault

_ATTEMPTED = "MINI_PROTECTED"
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE
_F_GET_SEALS, _F_ADD_SEALS = 1034, 1033


def is_protected() -> bool:
    """Whether this process's /proc/self/exe can be written through by nobody: on a read-only mount, or sealed."""
    fd = os.open("/proc/self/exe", linux.O_PATH | os.O_CLOEXEC)
    try:
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return True
    finally:
        os.close(fd)
    return _is_sealed()


def _is_sealed() -> bool:
    if not os.readlink("/proc/self/exe").startswith("/memfd:"):
        return False
    fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, _F_GET_SEALS) & _SEALS == _SEALS
    finally:
        os.close(fd)


def ensure_protected(argv: list[str]) -> None:
    """Executes Python again from a protected interpreter, with `argv` (sys.orig_argv); returns where it is protected.

    For the very start of a command that makes or enters containers: all that was imported before is imported again. Does
    nothing for a user other than root, or where there is no Linux. Raises RuntimeFault where the host allows neither way.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or is_protected():
        return
    if os.environ.get(_ATTEMPTED) == str(os.getpid()):
        raise RuntimeFault("protect", "the interpreter is still writable after it was executed from a read-only mount")
    environment = {**os.environ, _ATTEMPTED: str(os.getpid())}
    # argv[0] is how Python finds its prefix and a virtual environment; the descriptor says which file is executed.
    command = [sys.executable, *argv[1:]]
    try:
        fd = _read_only_clone()
    except OSError as e:
        if e.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            raise RuntimeFault("protect", f"cannot clone the interpreter's mount: {e}", e.errno or 0) from e
        fd = _sealed_copy()
    linux.execveat(fd, "", command, environment, linux.AT_EMPTY_PATH)


def _read_only_clone() -> int:
    tree = linux.open_tree(linux.AT_FDCWD, "/proc/self/exe", linux.OPEN_TREE_CLONE)
    try:
        linux.mount_setattr(tree, "", linux.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(tree)
        raise
    return tree


def _sealed_copy() -> int:
    source = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    copy = os.memfd_create("mini-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while os.sendfile(copy, source, None, 1 << 24):
            pass
        fcntl.fcntl(copy, _F_ADD_SEALS, _SEALS)
    except OSError as e:
        os.close(copy)
        raise RuntimeFault("protect", f"cannot copy the interpreter into memory: {e}", e.errno or 0) from e
    finally:
        os.close(source)
    return copy


def forget_imports() -> None:
    """Takes from this process the means to import: from here on, `/` is the container's, and so would the module be.

    What CVE-2019-14271 was for docker cp: a library loaded after the change of root.
    """
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
