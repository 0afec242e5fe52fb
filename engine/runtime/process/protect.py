"""Keeping the host's Python out of the container's reach.

CVE-2019-5736: whoever can make a runtime execute /proc/self/exe (an entrypoint that is a link to it, or `#!/proc/self/exe`)
holds the host's own binary open from within the container, as root, and can overwrite it once it is no longer running. For
mini that binary is the Python interpreter.

So a command that will make or enter a container executes itself again from a **read-only clone** of the interpreter's mount
point (open_tree(2) with OPEN_TREE_CLONE, mount_setattr(2)), attached to no mount namespace: /proc/self/exe leads to a file
that cannot be opened for writing, and nobody can remount it, since it is mounted nowhere. The kernel drops it with the last
process that runs it. Before Linux 5.12: from a sealed copy in memory (memfd_create(2)).

The second start costs as much as the first. The launchers `./mini` and `./mini-runtime` save it: the clone is then also attached,
at `kept_path`, where they find it and start it at once. It is as safe there: whoever is in another mount namespace can
neither write through /proc/self/exe, whose mount that is, nor remount what his namespace does not have. It belongs to no data
root: it stays until the host is down, or another interpreter has its path.

Imported first of all by every hot command: what is needed to execute again only is imported then.
"""

from __future__ import annotations

import os
import sys

KEPT = "/run/mini-runtime/.interpreter"  # the launchers look there

_ATTEMPTED = "MINI_PROTECTED"
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034


def ensure_protected(argv: list[str], keep: str | None = None) -> None:
    """Executes Python again from a protected interpreter, with `argv` (sys.orig_argv); returns where it is protected.

    `keep`: a directory below which the clone is kept for the next start.

    For the very start of a command that makes or enters containers: all that was imported before is imported again. Does
    nothing for a user who could not write it either, or where there is no Linux. Raises RuntimeFault where the host allows
    neither way.
    """
    if sys.platform != "linux" or (os.geteuid() != 0 and not _is_own()):
        return
    attempted = os.environ.pop(_ATTEMPTED, None)
    if not is_protected():
        _execute_again(argv, attempted, keep)


def is_protected() -> bool:
    """Whether this process's /proc/self/exe can be written through by nobody: on a read-only mount, or sealed."""
    fd = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
    try:
        # fstatvfs(3) tells the mount's own flag, not only the file system's
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY) or _is_sealed()
    finally:
        os.close(fd)


def _is_own() -> bool:
    """Whether the interpreter is this user's, as whom root of a rootless container could write it."""
    return os.stat("/proc/self/exe").st_uid == os.geteuid() or os.access("/proc/self/exe", os.W_OK)


def _is_sealed() -> bool:
    if not os.readlink("/proc/self/exe").startswith("/memfd:"):
        return False
    import fcntl

    fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, _F_GET_SEALS) & _SEALS == _SEALS
    finally:
        os.close(fd)


def _execute_again(argv: list[str], attempted: str | None, keep: str | None) -> None:
    from engine import linux
    from engine.errors import RuntimeFault

    if attempted == str(os.getpid()):
        raise RuntimeFault("protect", "the interpreter is still writable after it was executed from a read-only mount")
    try:
        fd = read_only_clone("/proc/self/exe")
        if keep:
            _keep(fd, keep)
    except OSError:  # ENOSYS before Linux 5.12; EPERM, EINVAL under an outer container's filter or on a strange root
        fd = sealed_copy("/proc/self/exe")
    # argv[0] is how Python finds its prefix and a virtual environment; the descriptor says which file is executed.
    environment = {**os.environ, _ATTEMPTED: str(os.getpid())}
    try:
        linux.execveat(fd, "", [sys.executable, *argv[1:]], environment, linux.AT_EMPTY_PATH)
    except OSError as e:
        os.close(fd)
        text = f"cannot execute the interpreter from a protected copy: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("protect", text, e.errno or 0) from e


def kept_path(keep: str, executable: str) -> str:
    """Where the clone of this interpreter is kept: a place for each path by which one is started."""
    return keep + os.path.abspath(executable)


def _keep(clone: int, keep: str) -> None:
    """Attaches the clone at `kept_path`, in the place of an older interpreter's. It is a cache: where that fails, it is not there.

    Beside it is the pyvenv.cfg by which it finds its library as the other does, so nobody else may write in a directory above.
    """
    import fcntl

    from engine import linux

    target = kept_path(keep, sys.executable)
    directory = os.path.dirname(target)
    mask = os.umask(0o077)
    try:
        os.makedirs(directory, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(target):
            if os.path.samefile(target, "/proc/self/exe"):
                return
            try:
                linux.umount2(target, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
            except OSError:
                pass  # a mount point that nothing is mounted at
        with open(f"{os.path.dirname(directory)}/pyvenv.cfg", "w") as file:
            file.write(f"home = {sys.base_exec_prefix}/bin\n")
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o700))
        linux.move_mount(clone, "", linux.AT_FDCWD, target)
    except OSError:
        pass
    finally:
        os.umask(mask)


def read_only_clone(path: str) -> int:
    """A detached read-only bind mount of the file, as a descriptor. Raises OSError."""
    from engine import linux

    tree = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE)
    try:
        linux.mount_setattr(tree, "", linux.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(tree)
        raise
    return tree


def sealed_copy(path: str) -> int:
    """A copy of the file in memory that nobody can write, as a descriptor. Raises RuntimeFault."""
    import fcntl

    from engine.errors import RuntimeFault

    try:
        copy = os.memfd_create("mini-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        while os.sendfile(copy, source, None, 1 << 24):
            pass
        os.close(source)
        fcntl.fcntl(copy, _F_ADD_SEALS, _SEALS)
        return copy
    except OSError as e:
        text = f"cannot copy the interpreter into memory: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("protect", text, e.errno or 0) from e


def forget_imports() -> None:
    """Takes from this process the means to import: from here on, `/` is the container's, and so would the module be.

    What CVE-2019-14271 was for docker cp: a library loaded after the change of root.
    """
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
