"""Derives an image's index from its layers."""

from __future__ import annotations

import os

from engine.files import make_dirs, remove_file, store_error, sync_dir
from engine.storage.erofs.writer import Device, Writer
from engine.storage.layers import chain_id
from engine.storage.tree import Tree, apply_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.paths import Paths


def build_index(paths: Paths, diff_ids: list[str]) -> None:
    """Writes `paths.index(chain ID)` from the layers, lowest first: synced, then renamed into place.

    Deterministic: the UUID is the chain ID's first half, the tag of each device its DiffID. The caller holds the lock.
    Raises LayerError, StoreError; nothing is left then.
    """
    _sweep(paths)
    tree, devices, uuid = _merged(paths, diff_ids)
    write_index(tree, devices, paths.index(chain_id(diff_ids)), uuid)


def compose_index(paths: Paths, diff_ids: list[str], file: str) -> None:
    """Writes the index into an empty file that exists, for comparison. Raises LayerError, StoreError."""
    tree, devices, uuid = _merged(paths, diff_ids)
    Writer(tree.root, devices, uuid).write(file)


def _merged(paths: Paths, diff_ids: list[str]) -> tuple[Tree, list[Device], bytes]:
    tree = Tree()
    devices = []
    for diff_id in diff_ids:
        path = paths.layer(diff_id)
        apply_layer(tree, path)
        devices.append(Device(diff_id.removeprefix("sha256:"), path))
    return tree, devices, bytes.fromhex(chain_id(diff_ids).removeprefix("sha256:"))[:16]


def _sweep(paths: Paths) -> None:
    """Removes what a mini that was killed left half-written."""
    if os.path.isdir(paths.indexes):
        for name in os.listdir(paths.indexes):
            if name.endswith(".tmp"):
                remove_file(f"{paths.indexes}/{name}")


def write_index(tree: Tree, devices: list[Device], final: str, uuid: bytes) -> None:
    """Writes the tree as an EROFS image at `final`, in one step. Raises LayerError, StoreError."""
    temporary = f"{final}.tmp"
    try:
        make_dirs(os.path.dirname(final), 0o700)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            Writer(tree.root, devices, uuid).write(temporary)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, final)
        sync_dir(os.path.dirname(final))
    except OSError as e:
        raise store_error(e, "write the index", final) from e
    finally:
        remove_file(temporary)
