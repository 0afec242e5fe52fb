"""Project quotas: a limit on what a directory and all below it take, on xfs, or ext4 with the feature `project`.

    directory ──project ID, inherited──▶ whatever is made in it ──counted──▶ the project's limit
    FS_IOC_FSSETXATTR (ioctl_xfs_fssetxattr)                                 quotactl_fd(2), Linux 5.14

The file system must be mounted with `prjquota`. Moving a file in from another project is refused (EXDEV), so a volume's whole
directory is one project: what copy-up and import prepare lies beside `_data`, and is counted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from engine import linux

_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("5I8x")  # xflags, extsize, nextents, projid, cowextsize (linux/fs.h)
_PROJINHERIT = 0x200
FIRST_PROJECT = 0x6D690000


def limit(directory: str, project: int, size: int) -> None:
    """Makes the empty `directory` a project that may take `size` bytes. Raises OSError where the file system cannot.

    Who has CAP_SYS_RESOURCE is not held by it: root on the host, and a privileged container.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not linux.enforces_project_limits(fd):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), directory)
        linux.set_project_limit(fd, project, size)
        flags, extent, count, _, copy_extent = _FSXATTR.unpack(fcntl.ioctl(fd, _FSGETXATTR, bytes(_FSXATTR.size)))
        fcntl.ioctl(fd, _FSSETXATTR, _FSXATTR.pack(flags | _PROJINHERIT, extent, count, project, copy_extent))
    finally:
        os.close(fd)
