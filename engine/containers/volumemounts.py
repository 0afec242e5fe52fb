"""Which containers have a volume now, and what is mounted there for them.

    RUN/volumes/NAME/ID    container ID runs and has the volume NAME

A volume with `--opt type=… device=…` is a file system: mounted over the volume's directory when the first container that has it
starts, unmounted when the last one has ended, as Docker does it. The files say who that is; the one of a monitor that was
killed goes with whatever else its container took (lifecycle.release).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager

from engine import events, files, linux
from engine.errors import NotFound, RuntimeFault
from engine.storage import copyup, staging, volume_driver
from engine.storage.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.storage.volumes import Volume

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def acquire(ctx: Context, record: Record) -> None:
    """For a container that starts: notes that it has its volumes, and mounts those that nobody else has. Raises RuntimeFault."""
    for point in record.config["Mounts"]:
        if point["Type"] != "volume":
            continue
        volume = Volumes(ctx.paths).get(point["Name"])
        if staging.leftovers(volume.directory):
            staging.finish(volume.directory)
        with _locked(volume):
            _note(ctx, volume.name, record.id)
            if volume.needs_mount and not volume_driver.is_mounted(volume.path):
                _mount(volume)
        access = {"read/write": str(point["RW"]).lower(), "propagation": point["Propagation"]}
        told = {"container": record.id, "destination": point["Destination"], "driver": volume.driver, **access}
        events.emit(ctx.paths, "volume", "mount", volume.name, dict(sorted(told.items())))


def fill(ctx: Context, root: int, points: Sequence[dict[str, Any]]) -> None:
    """Copies what the image at `root` has at the mount points into the volumes that are empty. Raises StoreError."""
    for point in points:
        volume = Volumes(ctx.paths).get(point["Name"])
        if not copyup.needs_copy_up(volume.path):
            continue
        fd = os.open(volume.path, _DIRECTORY)
        try:
            copyup.copy_up(root, point["Destination"], fd, inside=volume.needs_mount)
        finally:
            os.close(fd)


def release(ctx: Context, container_id: str) -> None:
    """For one that has ended; unmounts what no other has. Idempotent; needs nothing but its ID. Raises RuntimeFault."""
    for name in files.names_in(ctx.paths.volumes_run):
        note = f"{ctx.paths.volume_run(name)}/{container_id}"
        if not os.path.exists(note):
            forget_unused(ctx, name)
            continue
        try:
            volume = Volumes(ctx.paths).get(name)
        except NotFound:
            files.remove_tree(ctx.paths.volume_run(name))
            continue
        with _locked(volume):
            if files.names_in(ctx.paths.volume_run(name)) == [container_id]:
                _unmount(volume)
            # as long as the note is there, whoever is killed before this will be followed by somebody who does it again
            files.remove_file(note)
            forget_unused(ctx, name)
        events.emit(ctx.paths, "volume", "unmount", name, {"container": container_id, "driver": volume.driver})


def forget_unused(ctx: Context, name: str) -> None:
    """Removes the place for the notes on a volume where there are none: a monitor was killed between the two."""
    try:
        os.rmdir(ctx.paths.volume_run(name))
    except OSError:
        # somebody has the volume, or has just removed the place
        pass


def open_content(ctx: Context, stack: ExitStack, volume: Volume) -> int:
    """What a container would see of the volume, as a directory that `stack` closes. Mounts it for as long, where nobody has it.

    Raises RuntimeFault.
    """
    top = open_mount(stack, volume)
    fd = os.open(volume.path, _DIRECTORY) if top < 0 else os.open(".", _DIRECTORY, dir_fd=top)
    stack.callback(os.close, fd)
    return fd


def open_mount(stack: ExitStack, volume: Volume) -> int:
    """The volume's file system as a detached mount that `stack` closes; -1 where the volume's directory has the content."""
    with _locked(volume):
        if not volume.needs_mount or volume_driver.is_mounted(volume.path):
            return -1
        fd = _detached(volume)
    stack.callback(os.close, fd)
    return fd


def _note(ctx: Context, name: str, container_id: str) -> None:
    directory = ctx.paths.volume_run(name)
    while True:
        files.make_dirs(directory, 0o700)
        try:
            os.close(os.open(f"{directory}/{container_id}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return
        except FileNotFoundError:
            # the one that had it last has just removed the directory
            continue


@contextmanager
def _locked(volume: Volume) -> Iterator[None]:
    """Where there is anything to mount: nobody else mounts or unmounts it meanwhile."""
    if not volume.needs_mount:
        yield
        return
    fd = os.open(volume.directory, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _mount(volume: Volume) -> None:
    mount = _detached(volume)
    try:
        linux.move_mount(mount, "", linux.AT_FDCWD, volume.path)
    finally:
        os.close(mount)


def _detached(volume: Volume) -> int:
    from engine.runtime import mounts

    try:
        wanted = volume_driver.mount(volume.path, volume.options)
        return mounts.detached(wanted, mounts.parse(wanted))
    except OSError as e:
        text = volume_driver.failure(volume.path, volume.options, mounts.reason(e))
        raise RuntimeFault("mount", text, e.errno or 0, volume.path) from e


def _unmount(volume: Volume) -> None:
    from engine.runtime import mounts

    while volume.needs_mount and volume_driver.is_mounted(volume.path) and mounts.unmount(volume.path):
        continue
