"""Mounts inside a container's root: where each goes, resolved within the root, and what may not be mounted there.

mounts.py makes the mount, inside.py finds the place. /proc and what is under it are nobody's to replace.
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import inside, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Mount
    from engine.runtime.mounts import Plan

_REPLACEABLE_IN_PROC = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime")
)


def mount_inside(m: Mount, root: int) -> None:
    """Mounts `m` at its `destination` below the directory `root`, making the mount point where missing.

    /proc and /sys must be plain directories: a link there would put the kernel's files, and what is masked in them, at a
    place that the image chose (CVE-2019-19921, CVE-2023-27561). Nothing else may stand for /proc or in it (an image's
    `VOLUME /proc`: CVE-2019-16884), but for the files that lxcfs and the like replace. Raises RuntimeFault.
    """
    try:
        plan = mounts.parse(m)
        if m.get("type") == "tmpfs":
            _keep_mode(plan, m["destination"], root)
        target = _mount_point(m, plan, root)
        try:
            _check_proc(m, plan, target, root)
            if plan.remount:
                _remount(plan, target)
                return
            fd = mounts.detached(m, plan)
            try:
                if plan.copy_up:
                    _copy_up(target, fd)
                mounts.attach(fd, target, plan)
            finally:
                os.close(fd)
        finally:
            os.close(target)
    except OSError as e:
        raise mounts.fault(m, e) from e


def _remount(plan: Plan, target: int) -> None:
    """mount(8)'s `remount`: what is mounted there gets other options, and keeps those that are not named; with `bind` only
    those of the mount itself."""
    if not plan.bind:
        context = linux.fspick(target)
        try:
            mounts.configure(context, plan.data, [])
            linux.fsconfig(context, linux.FSCONFIG_CMD_RECONFIGURE)
        finally:
            os.close(context)
    linux.mount_setattr(target, "", plan.set, plan.clear)


def _mount_point(m: Mount, plan: Plan, root: int) -> int:
    destination = m["destination"]
    if plan.remount:
        return inside.open_in(root, destination)
    if plan.bind and not stat.S_ISDIR(os.stat(m.get("fd", m["source"])).st_mode):
        return inside.make_file(root, destination)
    if m.get("type") not in ("proc", "sysfs"):
        return inside.make_dir(root, destination)
    os.close(inside.make_dir(root, destination))
    try:
        return inside.open_in(root, destination, linux.O_PATH | os.O_DIRECTORY, linux.RESOLVE_NO_SYMLINKS)
    except OSError as e:
        if e.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise RuntimeFault(
            "mount",
            f"cannot mount {mounts.describe(m)}: it is a symbolic link, not a directory",
            errno.ELOOP,
            destination,
        ) from e


def _check_proc(m: Mount, plan: Plan, target: int, root: int) -> None:
    """Refuses what is resolved to be in /proc; as runc's checkProcMount. Raises RuntimeFault."""
    where = os.readlink(f"/proc/self/fd/{target}").removeprefix(os.readlink(f"/proc/self/fd/{root}").rstrip("/"))
    if f"{where}/".startswith("/proc/") and where not in _REPLACEABLE_IN_PROC:
        if where == "/proc" and (m.get("type") == "proc" or (plan.bind and _is_procfs(m))):
            return
        text = f"cannot mount {mounts.describe(m)}: it is inside /proc"
        raise RuntimeFault("mount", text, errno.EPERM, m["destination"])


def _is_procfs(m: Mount) -> bool:
    """Whether the source of a bind is the top of a proc file system."""
    fd = os.dup(m["fd"]) if "fd" in m else os.open(m["source"], linux.O_PATH | os.O_CLOEXEC)
    try:
        return linux.fstatfs_type(fd) == linux.PROC_SUPER_MAGIC and os.fstat(fd).st_ino == 1
    finally:
        os.close(fd)


def _keep_mode(plan: Plan, destination: str, root: int) -> None:
    """A tmpfs over a directory of the image keeps its mode, where the options name none, as runc has it."""
    if any(key == "mode" for key, _ in plan.data):
        return
    try:
        fd = inside.open_in(root, destination)
    except FileNotFoundError:
        return
    plan.data.append(("mode", f"{stat.S_IMODE(os.fstat(fd).st_mode):o}"))
    os.close(fd)


def _copy_up(source: int, target: int) -> None:
    """Copies what is at the mount point into the new tmpfs, before that covers it. Descriptors only, links as links."""
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    try:
        for name in os.listdir(directory):
            _copy_entry(directory, target, name)
    finally:
        os.close(directory)


def _copy_entry(source: int, target: int, name: str) -> None:
    info = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(info.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=target)
        below = [os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd) for fd in (source, target)]
        _copy_up(*below)
        for fd in below:
            os.close(fd)
    elif kind == stat.S_IFREG:
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        while os.sendfile(writer, reader, None, 1 << 20):
            pass
        os.close(reader)
        os.close(writer)
    else:
        os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target)
    os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=target)
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=target, follow_symlinks=False)
