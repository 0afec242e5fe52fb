"""The file systems that `cp` copies between, each as the directory that is its `/`: the host's, a container's, a volume's.

A running container's is what its own processes see, by /proc/PID/root: its volumes, its tmpfs, its /dev. Nothing in it is
executed or loaded (CVE-2019-14271: the daemon loaded the container's libraries). A stopped one's is put together anew:
its root, detached, with its volumes mounted on it in a mount namespace of a moment.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from engine import host, linux
from engine.containers import bundle, lifecycle, mountsources, records
from engine.containers.views import refresh
from engine.context import Context
from engine.errors import Conflict, NotFound
from engine.runtime import view
from engine.storage.tree_tar import BENEATH
from engine.storage.tree_write import IN_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.users import User

VOLUME = "volume"


class Root:
    """`fd` is the directory; `resolve` how openat2(2) looks a path up in it, `below` how it does for what a copy brings.

    `name` is what messages call it, empty for the host; `record` the container.
    """

    __slots__ = ("below", "fd", "name", "record", "resolve")

    def __init__(self, fd: int, name: str, record: records.Record | None = None) -> None:
        self.fd = fd
        self.name = name
        self.record = record
        self.resolve = IN_ROOT if name else 0
        self.below = IN_ROOT if name else BENEATH


def open_host(stack: ExitStack) -> Root:
    return Root(_kept(stack, os.open("/", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)), "")


def open_named(ctx: Context, stack: ExitStack, name: str, path: str) -> tuple[Root, str]:
    """The root of a container, or of a volume where it is "volume" and `path` is NAME/PATH; with the path in it.

    A stopped container cannot be started before `stack` is left: two overlays must not share one upper directory. A
    container that is called "volume" is one. Raises NotFound, RuntimeFault.
    """
    host.require_container_host()
    try:
        record = records.find(ctx.paths, name)
    except NotFound:
        if name != VOLUME:
            raise
        return _open_volume(ctx, stack, path)
    lock = record.lock()
    lock.__enter__()
    with ExitStack() as held:
        held.push(lock)
        state = refresh(ctx, record)
        if state["Running"]:
            return Root(_kept(stack, _of_running(record, state)), name, record), path
        fd = _of_stopped(ctx, record)
        stack.push(held.pop_all())
    # closed before the lock is given back
    return Root(_kept(stack, fd), name, record), path


def _of_running(record: records.Record, state: dict[str, object]) -> int:
    try:
        fd = os.open(f"/proc/{state['Pid']}/root", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise Conflict(f"Container {record.id} is not running") from e
    if not records.is_alive(state, "Pid"):  # else it is perhaps the root of who has the number now
        os.close(fd)
        raise Conflict(f"Container {record.id} is not running")
    return fd


def _of_stopped(ctx: Context, record: records.Record) -> int:
    root = lifecycle.mount_root(ctx, record)
    inspect = record.config
    wanted = bundle.user_mounts(inspect)
    try:
        if wanted:
            with ExitStack() as stack:
                mountsources.open_all(ctx, stack, inspect, wanted, lambda: _user(root, inspect))
                whole = view.with_mounts(root, wanted, f"{record.directory}/rootfs")
            os.close(root)
            root = whole
        if inspect["HostConfig"]["ReadonlyRootfs"]:
            linux.mount_setattr(root, "", linux.MOUNT_ATTR_RDONLY)
    except BaseException:
        os.close(root)
        raise
    return root


def _user(root: int, inspect: dict[str, Any]) -> User:
    return lifecycle.find_user(root, inspect["Config"]["User"], inspect["HostConfig"]["GroupAdd"] or ())


def _open_volume(ctx: Context, stack: ExitStack, path: str) -> tuple[Root, str]:
    from engine.containers import volumemounts
    from engine.storage.volumes import Volumes

    name, _, rest = path.lstrip("/").partition("/")
    with records.using_volumes(ctx.paths, shared=True):
        fd = volumemounts.open_content(ctx, stack, Volumes(ctx.paths).get(name))
    return Root(fd, f"{VOLUME} {name}"), f"/{rest}"


def _kept(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
