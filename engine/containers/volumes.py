"""What is done with volumes that takes more than the volume: which containers have it, what is mounted there, what is in it.

export   the volume's own directory as `./`, then everything below ──▶ tar
import   tar, plain or compressed ──spooled──▶ staging/ beside `_data` ──when complete──▶ moved over what is there
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from engine import files
from engine.containers import records, volumemounts
from engine.errors import LayerError, UsageError
from engine.storage import staging, tree_tar
from engine.storage.tar import read_entries
from engine.storage.tar_write import TarWriter
from engine.storage.tree_write import IN_ROOT, TreeWriter
from engine.storage.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.context import Context
    from engine.storage.volumes import Volume

FILTERS = ("dangling", "driver", "label", "name")
_SWITCH = {"1": True, "true": True, "0": False, "false": False}


def list_(ctx: Context, filters: Sequence[str] = ()) -> list[Volume]:
    """The volumes that pass every kind of filter, by name (moby, volume/service/by.go). UsageError in Docker's words."""
    chosen: dict[str, list[str]] = {}
    for text in filters:
        kind, _, value = text.partition("=")
        if kind not in FILTERS:
            raise UsageError(f"invalid filter '{kind}'", f"the filters are {', '.join(FILTERS)}")
        chosen.setdefault(kind, []).append(value)
    found = Volumes(ctx.paths).list_()
    if values := chosen.get("dangling"):
        wanted = {_SWITCH.get(value.lower()) for value in values}
        if len(wanted) != 1 or None in wanted:
            raise UsageError(f"invalid filter 'dangling=[{' '.join(values)}]'")
        used = _used(ctx)
        found = [v for v in found if (v.name not in used) in wanted]
    if values := chosen.get("driver"):
        found = [v for v in found if v.driver in values]
    if values := chosen.get("name"):
        found = [v for v in found if _matches(v.name, values)]
    return [v for v in found if all(_has(v.labels, value) for value in chosen.get("label", ()))]


def _used(ctx: Context) -> set[str]:
    return {m["Name"] for r in records.list_all(ctx.paths) for m in r.config["Mounts"] if m["Type"] == "volume"}


def _has(labels: dict[str, str], wanted: str) -> bool:
    key, separator, value = wanted.partition("=")
    return key in labels and (not separator or labels[key] == value)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Docker takes each for a regular expression that is found somewhere in the name, and one that is none for no match."""
    import re

    def found(pattern: str) -> bool:
        try:
            return bool(re.search(pattern, name))
        except re.error:
            return False

    return any(found(pattern) for pattern in patterns)


# --- export and import -----------------------------------------------------------------------------------------------


def export(ctx: Context, name: str, fd: int) -> None:
    """Writes what is in the volume to the descriptor, as a tar: owners, modes, times, attributes, links, devices, holes.

    A container that has it goes on; a file that changes meanwhile is written as it was found. Raises NotFound, RuntimeFault,
    StoreError, and OSError of the descriptor.
    """
    with ExitStack() as stack:
        with records.using_volumes(ctx.paths, shared=True):
            volume = Volumes(ctx.paths).get(name)
            data = volumemounts.open_content(ctx, stack, volume)
            with staging.Stage(data, inside=volume.needs_mount):
                pass  # what a killed import left is finished first
            stack.enter_context(staging.reading(volume.directory))
        tar = TarWriter(fd)
        tar.add(tree_tar.describe(b"./", data))
        tree_tar.write_tree(tar, data, sparse=True)
        tar.close()


def import_(ctx: Context, name: str, source: str | int) -> None:
    """Puts a tar, plain or compressed, of a path or a descriptor, into a volume that exists, as Podman does: what has the same
    name is replaced, two directories become one, the rest stays.

    The archive may be hostile: nothing of it gets out of the volume, and nothing of it gets in before all of it is read. Raises
    NotFound, LayerError, ArchiveError, Conflict, StoreError.
    """
    from engine.images.archive import open_input, spooled

    Volumes(ctx.paths).get(name)
    with ExitStack() as stack:
        archive = open_input(source)
        if isinstance(source, str):
            stack.callback(os.close, archive)
        spool = spooled(archive, ctx.paths.downloads)
        stack.callback(os.close, spool)
        try:
            with records.using_volumes(ctx.paths, shared=True):
                volume = Volumes(ctx.paths).get(name)
                data = volumemounts.open_content(ctx, stack, volume)
                stage = stack.enter_context(staging.Stage(data, inside=volume.needs_mount))
            _extract(spool, stage)
            stage.commit(staging.REPLACING)
        except OSError as e:
            raise files.store_error(e, "import into volume", name) from e


def _extract(archive: int, stage: staging.Stage) -> None:
    root = stage.make()
    count = 0
    try:
        with TreeWriter(root, b"", IN_ROOT, owners=True) as tree:
            for entry in read_entries(archive):
                count += 1
                if stat.S_ISDIR(entry.mode) and not entry.name.strip(b"./"):
                    tree.describe_top(entry)
                else:
                    tree.add(entry, data=archive)
            tree.finish()
    finally:
        os.close(root)
    if not count:
        raise LayerError("the archive is empty")
