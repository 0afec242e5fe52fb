"""Whether this kernel mounts an index of this data root: tried, since there is no other way to know.

It needs Linux 6.12 with EROFS_FS and EROFS_FS_BACKED_BY_FILE, and a file system below that reads through the page cache
(not tmpfs, not overlayfs).
"""

from __future__ import annotations

import errno
import os

from engine import linux
from engine.errors import StoreError
from engine.files import remove_file
from engine.storage.erofs.build import write_index
from engine.storage.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.paths import Paths


def can_mount(paths: Paths) -> bool:
    """Makes an index of nothing and a file system of it, attached nowhere.

    True, too, where that cannot be tried, since the data root cannot be written or this root may not mount anything: an
    index can be made and kept there all the same, which is more than unpacking can.
    """
    index = f"{paths.indexes}/probe.{os.getpid()}"
    try:
        write_index(Tree(), [], index, bytes(16))
    except StoreError:
        return True  # whoever writes next says it better
    try:
        context = linux.fsopen("erofs")
        try:
            linux.fsconfig(context, linux.FSCONFIG_SET_FLAG, "ro")
            linux.fsconfig(context, linux.FSCONFIG_SET_STRING, "source", index)
            linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        finally:
            os.close(context)
        return True
    except OSError as e:
        return e.errno == errno.EPERM
    finally:
        remove_file(index)
