"""`export`: a container's root file system as a tar, whether it runs or not."""

from __future__ import annotations

import os

from engine import host
from engine.containers import lifecycle, records
from engine.containers.views import refresh
from engine.context import Context
from engine.errors import Conflict
from engine.runtime import view
from engine.storage.tar_write import TarWriter
from engine.storage.tree_tar import write_tree


def export(ctx: Context, name: str, fd: int) -> None:
    """Writes the container's root to the descriptor: its image and what it changed, without volumes and other mounts.

    A running container goes on; a file that changes meanwhile is written as it was found. A stopped one cannot be started
    before this returns: two overlays must not share one upper directory. Raises NotFound, Conflict where the container was
    removed meanwhile, RuntimeFault, and OSError of the descriptor.
    """
    host.require_container_host()
    record = records.find(ctx.paths, name)
    with record.lock():
        state = refresh(ctx, record)
        root = view.root_of(state["Pid"]) if state["Running"] else lifecycle.mount_root(ctx, record)
        try:
            tar = TarWriter(fd)
            write_tree(tar, root)
            if not os.path.isdir(record.directory):
                raise Conflict(f"container {record.id[:12]} was removed while it was exported")
            tar.close()
        finally:
            os.close(root)
