"""Storage drivers: how the layers of an image become one root file system.

Both keep each layer as its verbatim tar (`storage.layers`); they differ in what `prepare` derives from the tars:

    erofs       one EROFS index over all layers, data left in the tars: one file an image     (Linux 6.12)
    directory   one directory a layer, unpacked: the lower directories of an overlay          (any Linux, root)

What is derived is a cache, keyed by chain ID: it can be removed at any time and is made again by whoever needs it. Drivers
return mounts as data (`RootMounts`) and never mount. This module is on the path of every `run`: the readers and writers are
imported where they are used.
"""

from __future__ import annotations

import os

from engine import host
from engine.errors import Unsupported, UsageError
from engine.files import FileLock, make_dirs, remove_file, store_error, write_atomic
from engine.storage.layers import LayerSink, chain_id, chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Mount
    from engine.paths import Paths

# Mount options of overlayfs: docs.kernel.org/filesystems/overlayfs.html, "Multiple lower layers"
_MAX_LOWERS = 500  # OVL_MAX_STACK
_LOWERDIR_APPEND = (6, 8)  # "lowerdir+"


class RootMounts:
    """The mounts of a container's root, as data.

    `image`: the one mount on the host, shared by all containers of the image, or None. Whoever needs it makes it, under a
    lock, where `destination` is not a mount point yet. `root`: mounts in the container's own mount namespace, in order, on
    top of its root directory; their `destination` is empty, for the caller to fill in.
    """

    __slots__ = ("image", "root")

    def __init__(self, image: Mount | None, root: list[Mount]) -> None:
        self.image = image
        self.root = root


class Driver:
    """What the drivers share: layers as tars, and a container's upper and work directories."""

    name = ""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    # layers

    def has_layer(self, diff_id: str) -> bool:
        return os.path.exists(self.paths.layer(diff_id))

    def layer_size(self, diff_id: str) -> int:
        """Bytes of the layer's uncompressed tar. Raises StoreError where the store does not have it."""
        path = self.paths.layer(diff_id)
        try:
            return os.stat(path).st_size
        except OSError as e:
            raise store_error(e, "read the layer", path) from e

    def layer_sink(self, diff_id: str) -> LayerSink:
        """Where to write the layer's uncompressed tar; several may be open at once. In any order of the layers."""
        return LayerSink(self.paths, diff_id)

    def remove_layer(self, diff_id: str) -> None:
        """Removes the tar; no error where there is none. The caller knows that no image has this layer."""
        remove_file(self.paths.layer(diff_id))

    # images

    def is_prepared(self, diff_ids: list[str]) -> bool:
        raise NotImplementedError

    def prepare(self, diff_ids: list[str]) -> None:
        """Derives from the layers, lowest first, what `root_mounts` names; nothing where it is there already.

        Atomic and idempotent; holds the lock `prepare`. Raises LayerError for a malformed or hostile layer, StoreError for a
        store that is full or lacks a layer, Unsupported where this driver needs more of the host.
        """
        if self.is_prepared(diff_ids):
            return
        with FileLock(self.paths.lock("prepare")):
            if not self.is_prepared(diff_ids):
                self._derive(diff_ids)
                _record(self.paths, self.name)

    def _derive(self, diff_ids: list[str]) -> None:
        raise NotImplementedError

    def remove_index(self, chain: str) -> None:
        """Removes what was derived for this chain ID; no error where there is nothing. No container may be using it."""
        raise NotImplementedError

    def root_mounts(self, container_id: str, diff_ids: list[str]) -> RootMounts:
        """The mounts of a container's root on these layers, lowest first; prepares them where that was not done yet."""
        raise NotImplementedError

    def root_attributes(self, diff_ids: list[str]) -> tuple[int, int, int, int]:
        """(permission bits, uid, gid, mtime in ns) of the image's root directory; prepares the image where needed."""
        raise NotImplementedError

    def image_root(self, diff_ids: list[str]) -> Mount:
        """The image's root alone, read-only; with the driver erofs, once `RootMounts.image` is mounted."""
        raise NotImplementedError

    # containers

    def create_root(self, container_id: str, diff_ids: list[str]) -> None:
        """Makes the container's upper and work directories.

        overlayfs shows the attributes of the upper directory as those of `/`, so they are copied from the image's.
        """
        mode, uid, gid, mtime = self.root_attributes(diff_ids)
        upper, work = self._upper(container_id)
        make_dirs(upper, 0o755)
        make_dirs(work, 0o755)
        try:
            if host.is_root():
                os.chown(upper, uid, gid)
            os.chmod(upper, mode)
            os.utime(upper, ns=(mtime, mtime))
        except OSError as e:
            raise store_error(e, "prepare", upper) from e

    def _upper(self, container_id: str) -> tuple[str, str]:
        container = self.paths.container(container_id)
        return f"{container}/upper", f"{container}/work"

    def _overlay(self, container_id: str, lowers: list[str]) -> Mount:
        """The overlay of a container's root; `lowers` has the topmost first, as overlayfs wants them."""
        upper, work = self._upper(container_id)
        options = _lower_options(lowers)
        # `storage.upper` reads the upper directory by itself: whatever is in it must be whole there
        options += [f"upperdir={upper}", f"workdir={work}", "redirect_dir=off", "metacopy=off"]
        return {"destination": "", "type": "overlay", "source": "overlay", "options": options}


class ErofsDriver(Driver):
    """One EROFS index an image, whose file data lie in the layers' tars (`storage.erofs`)."""

    name = "erofs"

    def is_prepared(self, diff_ids: list[str]) -> bool:
        return os.path.exists(self.paths.index(chain_id(diff_ids)))

    def _derive(self, diff_ids: list[str]) -> None:
        from engine.storage.erofs.build import build_index

        build_index(self.paths, diff_ids)

    def remove_index(self, chain: str) -> None:
        remove_file(self.paths.index(chain))

    def root_mounts(self, container_id: str, diff_ids: list[str]) -> RootMounts:
        self.prepare(diff_ids)
        chain = chain_id(diff_ids)
        # nosuid and nodev for the host's sake: in a container, the flags of its overlay count, not those of the lower mount
        options = ["ro", "nosuid", "nodev", *(f"device={self.paths.layer(diff_id)}" for diff_id in diff_ids)]
        image: Mount = {
            "destination": self.paths.image_mount(chain),
            "type": "erofs",
            "source": self.paths.index(chain),
            "options": options,
        }
        return RootMounts(image, [self._overlay(container_id, [image["destination"]])])

    def image_root(self, diff_ids: list[str]) -> Mount:
        return _read_only(self.paths.image_mount(chain_id(diff_ids)))

    def root_attributes(self, diff_ids: list[str]) -> tuple[int, int, int, int]:
        from engine.storage.erofs.format import read_root

        self.prepare(diff_ids)
        return read_root(self.paths.index(chain_id(diff_ids)))


class DirectoryDriver(Driver):
    """One directory a layer, as the classic overlayfs stores have it (`storage.directory`).

    What a layer means depends on the layers below it (parents that no entry names, hard links into them), so a directory is
    keyed by the chain ID of the stack that ends with its layer.
    """

    name = "directory"

    def is_prepared(self, diff_ids: list[str]) -> bool:
        # the highest is made last, but a lower one may have been removed with another image
        return all(os.path.isdir(self.paths.tree(chain)) for chain in self._chains(diff_ids))

    def _chains(self, diff_ids: list[str]) -> list[str]:
        return chain_ids(diff_ids) or [chain_id([])]

    def _derive(self, diff_ids: list[str]) -> None:
        if not (host.is_linux() and host.is_root()):
            raise Unsupported(
                "the storage driver `directory` unpacks layers with their owners and devices, which needs root on Linux",
                "use --storage-driver erofs, which stores and reads layers as any user on any system",
            )
        from engine.storage.directory import unpack_layers

        unpack_layers(self.paths, diff_ids)

    def remove_index(self, chain: str) -> None:
        from engine.storage.directory import remove_tree_of

        if not os.path.isdir(self.paths.trees):
            return
        with FileLock(self.paths.lock("prepare")):
            remove_tree_of(self.paths, chain)

    def remove_layer(self, diff_id: str) -> None:
        from engine.storage.directory import remove_trees_of_layer

        super().remove_layer(diff_id)
        if not os.path.isdir(self.paths.trees):
            return
        with FileLock(self.paths.lock("prepare")):
            remove_trees_of_layer(self.paths, diff_id)

    def root_mounts(self, container_id: str, diff_ids: list[str]) -> RootMounts:
        self.prepare(diff_ids)
        lowers = [self.paths.tree(chain) for chain in reversed(self._chains(diff_ids))]
        if len(lowers) > _MAX_LOWERS:
            raise Unsupported(
                f"an image of {len(lowers)} layers: overlayfs stacks at most {_MAX_LOWERS} directories",
                "use --storage-driver erofs, which merges any number of layers",
            )
        return RootMounts(None, [self._overlay(container_id, lowers)])

    def image_root(self, diff_ids: list[str]) -> Mount:
        lowers = [self.paths.tree(chain) for chain in reversed(self._chains(diff_ids))]
        if len(lowers) == 1:
            return _read_only(lowers[0])  # an overlay without an upper directory needs two lower ones
        return {"destination": "", "type": "overlay", "source": "overlay", "options": ["ro", *_lower_options(lowers)]}

    def root_attributes(self, diff_ids: list[str]) -> tuple[int, int, int, int]:
        self.prepare(diff_ids)
        status = os.stat(self.paths.tree(self._chains(diff_ids)[-1]))
        return status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns


DRIVERS: dict[str, type[Driver]] = {driver.name: driver for driver in (ErofsDriver, DirectoryDriver)}


def choose(paths: Paths, name: str | None) -> Driver:
    """The driver called `name`; None: the one that this data root was first used with, or the best for this host.

    Raises UsageError for an unknown name.
    """
    chosen = name or _recorded(paths) or _best(paths)
    try:
        return DRIVERS[chosen](paths)
    except KeyError:
        raise UsageError(f"no such storage driver: {chosen}", f"the drivers are {' and '.join(DRIVERS)}") from None


def _best(paths: Paths) -> str:
    """`erofs`, unless this is a host where containers would run and its kernel cannot mount EROFS from this data root.

    Storing and indexing need no kernel at all, so that an unprivileged user or another system can pull.
    """
    if not (host.is_linux() and host.is_root()):
        return "erofs"
    from engine.storage.erofs.probe import can_mount

    return "erofs" if can_mount(paths) else "directory"


def _recorded(paths: Paths) -> str:
    try:
        with open(paths.driver) as file:
            return file.read().strip()
    except OSError:
        return ""


def _record(paths: Paths, name: str) -> None:
    """Notes the driver that a data root was first used with: a new kernel is no reason to derive everything again."""
    if not _recorded(paths):
        write_atomic(paths.driver, name.encode() + b"\n")


def _lower_options(lowers: list[str]) -> list[str]:
    if len(lowers) > 1 and host.kernel_version() >= _LOWERDIR_APPEND:
        return [f"lowerdir+={lower}" for lower in lowers]
    return ["lowerdir=" + ":".join(_escape(lower) for lower in lowers)]


def _read_only(directory: str) -> Mount:
    return {"destination": "", "type": "bind", "source": directory, "options": ["bind", "ro"]}


def _escape(path: str) -> str:
    """A path in overlayfs' colon-separated `lowerdir`."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
