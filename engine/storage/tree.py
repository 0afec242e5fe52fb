"""The layers of an image merged into one tree, in memory.

    tree = Tree()
    for entries in layers:                  # lowest first
        tree.apply(read_entries(fd))
    tree.root.children[b"etc"].mode …

Both storage drivers render this tree: one as an EROFS index, the other as directories (of what each layer changed). What
a layer means is therefore decided here once, and nothing is ever looked up on a disk by a name that a layer chose.

The rules are the OCI image spec's (layer.md), and Docker's and containerd's where it is silent:

- Whiteouts (`.wh.NAME`, `.wh..wh..opq`) hide what lower layers have, never what their own layer has, wherever in the layer
  they stand. A character device 0:0 is what overlayfs has for a whiteout, and is taken as one.
- A name is cleaned as a path is; an absolute one starts at the image's root. One that leads above the root is refused.
- A directory that no entry names keeps what a lower layer says of it; there being none, it is 0755, root's, of 1970.
- A directory on a directory replaces its attributes and keeps its content. Anything else on anything replaces it whole.
- Below a symlink *of the same layer*, an entry lands where the symlink leads inside the image, as when unpacking. A symlink
  (or file) of a lower layer is replaced by a directory, since each layer is unpacked by itself.
- A hard link may name a file of a lower layer. `nlink` counts the names that are left in the merged tree.
- `trusted.overlay.*` and `user.overlay.*` are dropped: overlayfs would obey them. So is what EROFS cannot say or Linux not
  keep: namespaces other than user, trusted, security and the two ACLs, and `user.*` on what is neither file nor directory.
"""

from __future__ import annotations

import os
import stat

from engine.errors import LayerError, StoreError
from engine.files import store_error
from engine.storage.tar import MAX_NAME, Entry, read_entries, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_WHITEOUT, _META, _OPAQUE = b".wh.", b".wh..wh.", b".wh..wh..opq"
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
MAX_ENTRIES = 2 << 20  # in all layers of an image
MAX_LINKS = 40  # symlinks in one path, as the kernel's MAXSYMLINKS
MAX_COMPONENT = 255
MAX_XATTRS = 1 << 16  # bytes of names and values of one file, XATTR_SIZE_MAX


class Node:
    """A file of whatever type. `mode` is st_mode; `source` the number of the layer that has its data, at `offset`.

    `children`: a directory's, by name; None for anything else. `target`: a symlink's. `layer`: the last layer that had an
    entry for it. `seen`: the last layer that had entries at or below a directory. `nid`: for the writer of EROFS.
    """

    __slots__ = (
        "children", "gid", "layer", "mode", "mtime_ns", "nid", "nlink", "offset", "rdev", "seen", "segments", "size",
        "source", "target", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, mode: int, layer: int) -> None:
        self.mode = mode
        self.layer = self.seen = self.source = layer
        self.uid = self.gid = self.mtime_ns = self.size = self.offset = self.rdev = 0
        self.nlink = 1
        self.nid = 0
        self.children: dict[bytes, Node] | None = {} if stat.S_ISDIR(mode) else None
        self.target = b""
        self.xattrs: dict[bytes, bytes] | None = None
        self.segments: list[tuple[int, int, int]] | None = None


class Tree:
    """The merge of the layers applied so far.

    Of the last layer applied: `removed`, the names that it took away from a directory; `opaque`, the directories that hide
    what lower layers have at their place; `relinked`, the files of lower layers that gained or lost a name.
    """

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755, 0)
        self.layer = -1
        self.entries = 0
        self.removed: dict[Node, set[bytes]] = {}
        self.opaque: set[Node] = set()
        self.relinked: set[Node] = set()
        self._parents: dict[bytes, Node] = {}

    def apply(self, entries: Iterable[Entry]) -> None:
        """Merges one layer on top. Raises LayerError; the tree is of no use then."""
        self.layer += 1
        self.removed, self.opaque, self.relinked, self._parents = {}, set(), set(), {}
        self.root.seen = self.layer
        whiteouts: list[tuple[bytes, bytes]] = []
        additions: list[tuple[bytes, bytes, Entry]] = []
        for entry in entries:
            parent, _, name = _clean(entry.name).rpartition(b"/")
            if b".wh." in entry.name and (name.startswith(_WHITEOUT) or b"/" + _META in b"/" + parent):
                if hidden := _hidden(parent, name, entry):
                    whiteouts.append((parent, hidden))
            elif not entry.rdev and stat.S_ISCHR(entry.mode) and name:
                whiteouts.append((parent, name))
            else:
                additions.append((parent, name, entry))
        self.entries += len(additions)
        if self.entries > MAX_ENTRIES:
            raise LayerError(f"the image has more than {MAX_ENTRIES} files")
        self._hide(whiteouts)
        for parent, name, entry in additions:
            self._add(parent, name, entry)

    # whiteouts

    def _hide(self, whiteouts: list[tuple[bytes, bytes]]) -> None:
        """Takes away what the whiteouts hide, before anything is added: their place in the layer makes no difference."""
        for path, name in whiteouts:
            parent: Node | None = self.root
            for part in path.split(b"/") if path else ():
                parent = parent.children.get(part) if parent and parent.children is not None else None
            if parent is None or parent.children is None:
                continue
            if name == _OPAQUE:
                if parent is self.root:  # overlayfs knows no opaque root: each name has to be hidden
                    self.removed.setdefault(parent, set()).update(parent.children)
                else:
                    self.opaque.add(parent)
                for child in parent.children.values():
                    self._unlink(child)
                parent.children.clear()
            elif name in parent.children:
                self._unlink(parent.children.pop(name))
                self.removed.setdefault(parent, set()).add(name)
        for path, _ in whiteouts:
            self._parent(path)

    def _unlink(self, node: Node) -> None:
        """One name of `node` is gone, or of a directory: all names below it."""
        pending = [node]
        while pending:
            node = pending.pop()
            if node.children is not None:
                pending.extend(node.children.values())
                continue
            node.nlink -= 1
            if node.nlink:
                self.relinked.add(node)

    # additions

    def _add(self, path: bytes, name: bytes, entry: Entry) -> None:
        if not name:
            if stat.S_ISDIR(entry.mode):
                self._describe(self.root, entry)
            return  # Docker and containerd skip whatever else is named like the root
        parent = self._parent(path)
        assert parent.children is not None
        old = parent.children.get(name)
        if not stat.S_IFMT(entry.mode):
            node = self._link_target(entry)
            if node is old:
                return
            node.nlink += 1
            self.relinked.add(node)
        elif old is not None and old.children is not None and stat.S_ISDIR(entry.mode):
            self._describe(old, entry)
            return
        else:
            node = Node(entry.mode, self.layer)
            self._describe(node, entry)
        if old is not None:
            self._replace(old, node)
        elif len(name) > MAX_COMPONENT:
            raise LayerError(f"the name {show(name)} has {len(name)} bytes; a file system allows {MAX_COMPONENT}")
        parent.children[name] = node

    def _describe(self, node: Node, entry: Entry) -> None:
        node.mode = entry.mode
        node.uid = entry.uid
        node.gid = entry.gid
        node.mtime_ns = entry.mtime_ns
        node.size = entry.size
        node.offset = entry.offset
        node.rdev = entry.rdev
        node.segments = entry.segments
        node.layer = node.seen = self.layer
        node.xattrs = _kept_xattrs(entry) if entry.xattrs else None
        if stat.S_ISLNK(entry.mode):
            node.target = entry.link
            if not 0 < len(entry.link) <= MAX_NAME:
                raise LayerError(f"the symlink {show(entry.name)} has a target of {len(entry.link)} bytes")

    def _replace(self, old: Node, new: Node) -> None:
        self._unlink(old)
        if new.children is not None:
            self.opaque.add(new)
        if new.children is not None or old.children is not None or new.target or old.target:
            self._parents.clear()  # some of them may have led through here

    def _link_target(self, entry: Entry) -> Node:
        path, _, name = _clean(entry.link).rpartition(b"/")
        parent = self._walk(path, create=False)
        node = parent.children.get(name) if parent and parent.children is not None else None
        if node is None or node.children is not None:
            what = "which does not exist" if node is None else "which is a directory"
            raise LayerError(f"the hard link {show(entry.name)} names {show(entry.link)}, {what}")
        return node

    # paths

    def _parent(self, path: bytes) -> Node:
        """The directory of a cleaned path, made where it is missing, as the unpacking of this layer would find it."""
        node = self._parents.get(path)
        if node is None:
            node = self._walk(path, create=True)
            assert node is not None
            self._parents[path] = node
        return node

    def _walk(self, path: bytes, create: bool) -> Node | None:
        """Walks to a directory, `..` in a symlink's target never leading above the root.

        With `create`, missing directories are made, and files and symlinks of lower layers replaced by them. Without, any
        symlink is followed, and None is the answer for what is missing or no directory.
        """
        stack, names = [self.root], [b""]
        pending = path.split(b"/")[::-1]
        links = 0
        while pending:
            part = pending.pop()
            if part == b".." and len(stack) > 1:
                stack.pop()
                names.pop()
            if part in (b"", b".", b".."):
                continue
            here = stack[-1]
            assert here.children is not None
            child = here.children.get(part)
            if child is not None and child.target and not (create and child.layer < self.layer):
                links += 1
                if links > MAX_LINKS:
                    raise LayerError(f"too many symlinks on the way to {show(path)}")
                if child.target.startswith(b"/"):
                    del stack[1:], names[1:]
                pending += child.target.split(b"/")[::-1]
                continue
            if child is None or child.children is None:
                if not create:
                    return None
                child = self._imply(here, part, child, path)
            if create:
                child.seen = self.layer
            stack.append(child)
            names.append(part)
        if links and len(b"/".join(names)) > MAX_NAME - MAX_COMPONENT:
            raise LayerError(f"{show(path)} leads to a path too long for a kernel: {show(b'/'.join(names))}")
        return stack[-1]

    def mark_relinked(self) -> None:
        """Has every file of a lower layer that gained or lost a name count as this layer's, under each of its names.

        For a renderer whose layers are apart: a link across two of them is not possible, so the file is written anew.
        """
        wanted = {node for node in self.relinked if node.nlink and node.layer < self.layer}
        if not wanted:
            return
        parents: dict[Node, Node | None] = {self.root: None}
        for directory in (pending := [self.root]):
            for child in (directory.children or {}).values():
                if child.children is not None:
                    parents[child] = directory
                    pending.append(child)
                elif child in wanted:
                    child.layer = self.layer
                    above: Node | None = directory
                    while above is not None and above.seen < self.layer:
                        above.seen = self.layer
                        above = parents[above]

    def _imply(self, here: Node, name: bytes, old: Node | None, path: bytes) -> Node:
        """A directory that no entry has named (yet), in the place of nothing or of a lower layer's file."""
        if old is not None and old.layer == self.layer:
            raise LayerError(f"the layer has an entry below {show(name)}, on the way to {show(path)}, which is a file")
        if len(name) > MAX_COMPONENT:
            raise LayerError(f"the name {show(name)} has {len(name)} bytes; a file system allows {MAX_COMPONENT}")
        node = Node(stat.S_IFDIR | 0o755, self.layer)
        if old is not None:
            self._replace(old, node)
        assert here.children is not None
        here.children[name] = node
        return node


def apply_layer(tree: Tree, path: str) -> None:
    """`tree.apply` of the layer's tar at `path`. Raises LayerError that names the layer, StoreError where it is missing."""
    layer = os.path.basename(path)[:12]
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            tree.apply(read_entries(fd))
        finally:
            os.close(fd)
    except FileNotFoundError as e:
        raise StoreError(f"the store does not have layer {layer}", "pull the image again") from e
    except OSError as e:
        raise store_error(e, "read the layer", path) from e
    except LayerError as e:
        raise LayerError(f"layer {layer}: {e.message}", e.hint) from e


def _clean(name: bytes) -> bytes:
    """A path as the image's root sees it: without `.`, `..` and doubled slashes; empty for the root itself.

    `..` takes its parent away as it is written, without asking what the parent is, as Go's filepath.Clean does. Raises
    LayerError for one that leads above the root (CVE-2014-9356).
    """
    if name.startswith(b"./"):
        name = name[2:]
    name = name.strip(b"/")
    if b"/." not in name and b"//" not in name and not name.startswith(b"."):
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise LayerError(f"the layer has a name that leads out of the image: {show(name)}")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def _hidden(parent: bytes, name: bytes, entry: Entry) -> bytes:
    """What a whiteout hides in `parent`: a name, or all (`_OPAQUE`); empty for AUFS' own files, which mean nothing."""
    if b"/" + _META in b"/" + parent:
        return b""
    if name.startswith(_META):
        return _OPAQUE if name == _OPAQUE else b""
    hidden = name[len(_WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise LayerError(f"the layer has a whiteout of nothing: {show(entry.name)}")
    return hidden


def _kept_xattrs(entry: Entry) -> dict[bytes, bytes] | None:
    """The extended attributes that a file may have, sorted by name. Raises LayerError for what no kernel could hold."""
    assert entry.xattrs
    kept = {}
    for name, value in sorted(entry.xattrs.items()):
        namespace, _, rest = name.partition(b".")
        if rest.startswith(b"overlay.") and namespace in (b"trusted", b"user"):
            continue
        if namespace == b"user" and not (stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode)):
            continue
        if (rest and namespace in (b"user", b"trusted", b"security")) or name in _ACLS:
            kept[name] = value
            if len(name) > MAX_COMPONENT or b"\0" in name:
                raise LayerError(f"{show(entry.name)} has an impossible extended attribute {show(name)}")
    if sum(len(name) + len(value) for name, value in kept.items()) > MAX_XATTRS:
        raise LayerError(f"{show(entry.name)} has more than {MAX_XATTRS} bytes of extended attributes")
    return kept or None
