"""Unpacks layers into directories, for the storage driver `directory`.

Each layer becomes a directory with what it changed, as overlayfs wants a lower directory: files, the directories on the
way to them, a character device 0:0 for a name that it removed, `trusted.overlay.opaque` on a directory that hides the
lower one. All of it is taken from the merged tree (`storage.tree`): every name is created in a directory that this module
has just made itself, without following anything, so that there is no path that a hostile layer could lead astray.
"""

from __future__ import annotations

import os
import stat

from engine import linux
from engine.files import make_dirs, remove_file, remove_tree, store_error, sync_dir, write_atomic
from engine.storage.layers import chain_id, chain_ids
from engine.storage.tree import Node, Tree, apply_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.paths import Paths

_RECORD = ".layer"
_OPAQUE = "trusted.overlay.opaque"


def unpack_layers(paths: Paths, diff_ids: list[str]) -> None:
    """Makes `paths.tree(chain ID)` for each layer that has none, lowest first: synced, then renamed into place.

    Beside it lies HEX.layer with the layer's DiffID and the chain ID below it, for removal. The caller holds the lock
    `prepare`. Raises LayerError, StoreError; no half-made directory gets its name.
    """
    make_dirs(paths.trees, 0o700)
    _sweep(paths)
    tree = Tree()
    tars = [paths.layer(diff_id) for diff_id in diff_ids]
    below = ""
    for diff_id, chain, tar in zip(diff_ids, chain_ids(diff_ids), tars, strict=True):
        apply_layer(tree, tar)
        if not os.path.isdir(paths.tree(chain)):
            write_atomic(paths.tree(chain) + _RECORD, f"{diff_id} {below}\n".encode())
            try:
                _unpack(tree, tars, paths.tree(chain))
            except BaseException:
                remove_file(paths.tree(chain) + _RECORD)
                raise
        below = chain
    if not diff_ids:
        _unpack(tree, tars, paths.tree(chain_id([])))


def remove_tree_of(paths: Paths, chain: str) -> None:
    """Removes the directory of a chain ID, unless another stands on it; it goes with its layer then."""
    if all(below != chain for _, _, below in _records(paths)):
        remove_unpacked(paths, chain)


def remove_trees_of_layer(paths: Paths, diff_id: str) -> None:
    """Removes every directory that was unpacked of this layer, whatever stack it was on."""
    for chain, layer, _ in _records(paths):
        if layer == diff_id:
            remove_unpacked(paths, chain)


def _records(paths: Paths) -> list[tuple[str, str, str]]:
    """(chain ID, DiffID, chain ID below or "") of each directory."""
    try:
        names = os.listdir(paths.trees)
    except FileNotFoundError:
        return []
    records = []
    for name in names:
        if name.endswith(_RECORD):
            with open(f"{paths.trees}/{name}") as file:
                layer, _, below = file.read().strip().partition(" ")
            records.append(("sha256:" + name.removesuffix(_RECORD), layer, below))
    return records


def remove_unpacked(paths: Paths, chain: str) -> None:
    """Removes a directory, whatever stands on it; no error where there is none. The caller holds the lock `prepare`."""
    tree = paths.tree(chain)
    try:
        os.rename(tree, f"{tree}.gone")  # in one step: half a directory must not pass for a whole one
    except FileNotFoundError:
        pass
    remove_tree(f"{tree}.gone")
    remove_file(tree + _RECORD)


def _sweep(paths: Paths) -> None:
    """Removes what a mini that was killed left half-made or half-removed."""
    for name in os.listdir(paths.trees):
        path = f"{paths.trees}/{name}"
        if name.endswith((".new", ".gone")):
            remove_tree(path)
        elif name.endswith(_RECORD) and not os.path.isdir(path.removesuffix(_RECORD)):
            remove_file(path)


def _unpack(tree: Tree, tars: list[str], final: str) -> None:
    tree.mark_relinked()
    temporary = f"{final}.new"
    try:
        os.mkdir(temporary, 0o700)
        root = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _Renderer(tree, tars, root) as renderer:
                renderer.render()
            linux.syncfs(root)
        finally:
            os.close(root)
        os.rename(temporary, final)
        sync_dir(os.path.dirname(final))
    except BaseException as e:
        remove_tree(temporary)
        if isinstance(e, OSError):
            raise store_error(e, f"unpack {os.fsdecode(e.filename or 'a layer')!r} to", final) from e
        raise


class _Renderer:
    """Writes what the tree's last layer changed into the empty directory `root`."""

    def __init__(self, tree: Tree, tars: list[str], root: int) -> None:
        self._tree = tree
        self._tars = tars
        self._root = root
        self._sources: dict[int, int] = {}
        self._names: dict[Node, bytes] = {}  # where a file with several names already is

    def __enter__(self) -> _Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._sources.values():
            os.close(fd)

    def render(self) -> None:
        """A directory's own attributes come last: what is made in it would change its times."""
        pending = [(b"", self._tree.root)]
        for path, node in pending:  # grows while it is read
            fd = self._open(path)
            try:
                pending += self._fill(fd, path, node)
            finally:
                os.close(fd)
        for path, node in pending:
            fd = self._open(path)
            try:
                if node in self._tree.opaque:
                    os.setxattr(fd, _OPAQUE, b"y")
                _describe(fd, node)
            finally:
                os.close(fd)

    def _open(self, path: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return linux.openat2(self._root, path, flags, 0, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS)

    def _fill(self, fd: int, path: bytes, node: Node) -> list[tuple[bytes, Node]]:
        """Makes a directory's entries; returns the directories among them, still empty."""
        assert node.children is not None
        layer, removed = self._tree.layer, self._tree.removed.get(node, set())
        directories = []
        for name, child in node.children.items():
            if child.children is not None and child.seen == layer:
                os.mkdir(name, 0o700, dir_fd=fd)
                if name in removed:
                    self._tree.opaque.add(child)
                directories.append((path + b"/" + name if path else name, child))
            elif child.children is None and child.layer == layer:
                self._make(fd, path, name, child)
        if node not in self._tree.opaque:  # in an opaque directory, overlayfs would list a whiteout
            for name in removed - node.children.keys():
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
        return directories

    def _make(self, fd: int, path: bytes, name: bytes, node: Node) -> None:
        if node in self._names:
            os.link(self._names[node], name, src_dir_fd=self._root, dst_dir_fd=fd, follow_symlinks=False)
            return
        if node.nlink > 1:
            self._names[node] = path + b"/" + name if path else name
        if stat.S_ISREG(node.mode):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
            try:
                self._copy(node, file)
                _describe(file, node)
            finally:
                os.close(file)
            return
        if node.target:
            os.symlink(node.target, name, dir_fd=fd)
        else:
            os.mknod(name, node.mode, node.rdev, dir_fd=fd)
        _describe_special(fd, name, node)

    def _copy(self, node: Node, file: int) -> None:
        if node.source not in self._sources:
            self._sources[node.source] = os.open(self._tars[node.source], os.O_RDONLY | os.O_CLOEXEC)
        tar = self._sources[node.source]
        if node.segments is None:
            _copy_range(tar, node.offset, file, node.size)
            return
        os.ftruncate(file, node.size)
        for offset, length, position in node.segments:
            os.lseek(file, offset, os.SEEK_SET)
            _copy_range(tar, position, file, length)


def _copy_range(source: int, offset: int, target: int, length: int) -> None:
    """Appends to where `target` stands, within the kernel (sendfile(2))."""
    while length:
        count = os.sendfile(target, source, offset, min(length, 1 << 30))
        if not count:
            raise OSError(5, "the layer's tar has become shorter")
        offset += count
        length -= count


def _describe(fd: int, node: Node) -> None:
    """Owner, mode, extended attributes, times, in this order: chown(2) clears set-id bits and capabilities."""
    os.fchown(fd, node.uid, node.gid)
    os.fchmod(fd, node.mode & 0o7777)
    for name, value in (node.xattrs or {}).items():
        os.setxattr(fd, name, value)
    os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))


def _describe_special(directory: int, name: bytes, node: Node) -> None:
    """The same for what cannot be opened: a symlink, a device, a FIFO."""
    os.chown(name, node.uid, node.gid, dir_fd=directory, follow_symlinks=False)
    if not node.target:
        os.chmod(name, node.mode & 0o7777, dir_fd=directory)
    for key, value in (node.xattrs or {}).items():
        os.setxattr(b"/proc/self/fd/%d/%s" % (directory, name), key, value, follow_symlinks=False)
    os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=directory, follow_symlinks=False)
