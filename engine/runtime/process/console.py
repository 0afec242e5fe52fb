"""The container's terminal: a pty of its own devpts, so that it is `/dev/pts/0` there and exists nowhere else.

    ptmx (master) <── monitor: what the user types, what the program prints
    pts/N (slave) ──> descriptors 0, 1, 2, controlling terminal of the session, and bound over /dev/console

pty(7), ioctl_tty(2). Every node is checked on its descriptor; the slave is opened through the master (TIOCGPTPEER, Linux
4.13) and bound by descriptor, never by name: CVE-2025-52565 is a /dev/pts/N or /dev/console that is a link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from engine import linux
from engine.runtime import inside, mounts

TIOCSCTTY, TIOCSWINSZ, TIOCSPTLCK, TIOCGPTPEER = 0x540E, 0x5414, 0x40045431, 0x5441  # asm-generic/ioctls.h
_PTMX = os.makedev(5, 2)


def open_pair(root: int, size: dict[str, int] | None) -> tuple[int, int]:
    """(master, slave) of a new pty in the devpts at /dev/pts below `root`; `size` {width, height} in characters.

    Raises OSError, ENOTTY where /dev/pts/ptmx is not the multiplexer of a devpts.
    """
    master = inside.open_in(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    if os.fstat(master).st_rdev != _PTMX or linux.fstatfs_type(master) != linux.DEVPTS_SUPER_MAGIC:
        os.close(master)
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), "/dev/pts/ptmx")
    os.set_blocking(master, True)
    fcntl.ioctl(master, TIOCSPTLCK, bytes(4))
    slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    set_size(master, (size or {}).get("height", 0), (size or {}).get("width", 0))
    return master, slave


def set_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ; the foreground process group gets SIGWINCH. Zero for both leaves it."""
    if rows or columns:
        fcntl.ioctl(fd, TIOCSWINSZ, b"".join(number.to_bytes(2, sys.byteorder) for number in (rows, columns, 0, 0)))


def bind_console(slave: int, root: int) -> None:
    """Binds the slave over /dev/console below `root`. Raises OSError, ELOOP where that is a symlink."""
    dev = inside.make_dir(root, "/dev")
    try:
        try:
            os.close(os.open("console", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dev))
        except FileExistsError:
            pass
        target = os.open("console", linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
    finally:
        os.close(dev)
    try:
        if stat.S_ISLNK(os.fstat(target).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), "/dev/console")
        tree = linux.open_tree(slave, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH)
        try:
            mounts.attach(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def control(slave: int) -> None:
    """Makes the slave the controlling terminal of the session that this process leads. It hangs up when the leader ends."""
    fcntl.ioctl(slave, TIOCSCTTY, 0)


def become_stdio(stdio: tuple[int, int, int]) -> None:
    """Duplicates three descriptors to 0, 1 and 2, in whatever order they overlap."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)
        os.close(fd)
