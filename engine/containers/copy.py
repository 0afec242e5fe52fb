"""`cp`: files and directories between a container, a volume, the host, and tars on stdin and stdout.

source                          rules                        sink
walk of a tree (tree_tar) ─┐   (copyrules)   ┌─▶ below a directory (tree_write)
tar on stdin, spooled    ──┴──── entries ────┴─▶ tar on stdout
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

from engine import events, linux
from engine.containers import copyroots, copyrules
from engine.containers.copyroots import Root
from engine.context import Context
from engine.errors import MiniError, NotFound, Unsupported, UsageError
from engine.storage import tree_tar
from engine.storage.tar import Entry, read_entries
from engine.storage.tar_write import TarWriter
from engine.storage.tree_write import TreeWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM = "-"
_MAX_LINKS = 40  # path_resolution(7)
_SYSFS_MAGIC = 0x62656572


class Copied:
    """How many bytes a tar of what was copied has, and where it went, as Docker tells it."""

    __slots__ = ("size", "where")

    def __init__(self, size: int, where: str) -> None:
        self.size = size
        self.where = where


def copy(
    ctx: Context, source: str, destination: str, *, archive: bool, follow: bool, stdin: int, stdout: int
) -> Copied:
    """Copies `source` to `destination`, each as the command line has it. `archive` keeps owners on the host, `follow` copies
    what a symbolic link points to.

    Raises UsageError, NotFound, Conflict and Unsupported in Docker's words; MiniError for what the kernel refuses.
    """
    from_name, from_path = copyrules.split_argument(source)
    to_name, to_path = copyrules.split_argument(destination)
    if from_name and to_name:
        raise UsageError("copying between containers is not supported", "copy to the host first, or pipe: cp A:X - | …")
    if not from_name and not to_name:
        raise UsageError("must specify at least one container source")
    for name, path in ((from_name, from_path), (to_name, to_path)):
        if name and not path:
            raise UsageError("no such directory", f"the root of the container is {name}:/")
    with ExitStack() as stack:
        try:
            if from_name:
                if to_path != STREAM:
                    to_path = copyrules.absolute(to_path, os.getcwd())
                    _check_output(to_path)
                root, from_path = copyroots.open_named(ctx, stack, from_name, from_path)
                thing = _Source(stack, root, copyrules.absolute(from_path, "/"), follow)
                if to_path == STREAM:
                    copied = _to_stream(thing, stdout)
                else:
                    copied = _to_tree(thing, stack, copyroots.open_host(stack), to_path, archive, to_path)
                return _told(root, "archive-path", copied)
            if from_path == STREAM:
                root, to_path = copyroots.open_named(ctx, stack, to_name, to_path)
                copied = _from_stream(ctx, stack, stdin, root, copyrules.absolute(to_path, "/"), destination)
                return _told(root, "extract-to-dir", copied)
            path = copyrules.absolute(from_path, os.getcwd())
            thing = _Source(stack, copyroots.open_host(stack), path, follow)
            root, to_path = copyroots.open_named(ctx, stack, to_name, to_path)
            copied = _to_tree(thing, stack, root, copyrules.absolute(to_path, "/"), True, destination)
            return _told(root, "extract-to-dir", copied)
        except BrokenPipeError:
            raise
        except OSError as e:
            raise _failure(e) from e


def _told(root: Root, action: str, copied: Copied) -> Copied:
    """Puts Docker's event of it into the log."""
    if root.record:
        events.container(root.record, action)
    return copied


def _failure(e: OSError) -> MiniError:
    mapped = "its ids are mapped, and not those of root (idmap=…): copy to that directory on the host"
    hint = mapped if e.errno == errno.EOVERFLOW else None
    text = (e.strerror or str(e)).lower() if e.errno != errno.EBUSY else str(e.strerror)
    return MiniError(f"{text}: {os.fsdecode(e.filename)}" if e.filename is not None else text, hint)


def _check_output(path: str) -> None:
    """Docker's ValidateOutputPath."""
    directory = os.path.dirname(os.path.normpath(path))
    if not os.path.exists(directory):
        raise UsageError(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


# --- sources ---------------------------------------------------------------------------------------------------------


class _Source:
    """What `path` is in `root`: an O_PATH descriptor of it, which `stack` closes, and the name that it goes by."""

    __slots__ = ("fd", "is_directory", "name")

    def __init__(self, stack: ExitStack, root: Root, path: str, follow: bool) -> None:
        self.name = copyrules.last_name(path)
        directory, name = copyrules.split(path)
        try:
            if follow or not name:
                self.fd = _open(stack, root, path)
            else:
                parent = _open(stack, root, directory, os.O_DIRECTORY)
                self.fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                stack.callback(os.close, self.fd)
        except OSError as e:
            raise _no_source(e, root, path) from e
        mode = os.fstat(self.fd).st_mode
        if stat.S_ISSOCK(mode):
            raise UsageError(f"{path} is a socket, which no archive can hold")
        self.is_directory = stat.S_ISDIR(mode)
        if not self.is_directory and linux.fstatfs_type(self.fd) in (linux.PROC_SUPER_MAGIC, _SYSFS_MAGIC):
            raise Unsupported(
                f"{path} is made up by the kernel while it is read", "mini exec CONTAINER cat PATH > DEST"
            )

    def entries(self, name: str) -> Iterator[tuple[Entry, int]]:
        """The thing itself, called `name`, and all below it: as `tree_tar.walk`."""
        entry = tree_tar.describe(os.fsencode(name), self.fd)
        yield entry, self.fd if stat.S_ISREG(entry.mode) else -1
        if self.is_directory:
            yield from tree_tar.walk(self.fd, os.fsencode(name.rstrip("/")) + b"/", across_mounts=True)


def _open(stack: ExitStack, root: Root, path: str, flags: int = 0) -> int:
    fd = linux.openat2(root.fd, path, linux.O_PATH | flags, 0, root.resolve)
    stack.callback(os.close, fd)
    return fd


def _no_source(e: OSError, root: Root, path: str) -> MiniError:
    if root.name and e.errno == errno.ENOENT:
        return NotFound(f"Could not find the file {path} in {_container(root)}")
    if not root.name and e.errno == errno.ENOTDIR:
        return UsageError("not a directory")
    return NotFound(f"lstat {path}: {os.strerror(e.errno or 0).lower()}")


def _container(root: Root) -> str:
    return root.name if root.name.startswith(f"{copyroots.VOLUME} ") else f"container {root.name}"


# --- destinations ----------------------------------------------------------------------------------------------------


def _find(root: Root, path: str) -> tuple[str, str]:
    """(path with the links of its last name followed, "directory" | "file" | "device" | "missing"). Raises OSError.

    A dangling link is followed as well: what it points to is made.
    """
    for _ in range(_MAX_LINKS):
        directory, name = copyrules.split(path)
        with ExitStack() as stack:
            try:
                parent = _open(stack, root, directory, os.O_DIRECTORY)
                info = os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return path, "missing"
            if not stat.S_ISLNK(info.st_mode):
                return path, _kind(info.st_mode)
            link = os.readlink(name, dir_fd=parent)
        path = link if link.startswith("/") else f"{directory.rstrip('/')}/{link}"
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    return "device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "file"


def _to_tree(thing: _Source, stack: ExitStack, root: Root, path: str, owners: bool, shown: str) -> Copied:
    found, kind = _find(root, path)
    if kind == "device":
        raise UsageError(f'destination "{shown}" must be a directory or a regular file: got a device')
    directory, name = copyrules.target(thing.name, thing.is_directory, found, kind)
    with _writer(root, directory, owners) as tree:
        for entry, looked_at in thing.entries(name):
            _add(tree, root, entry, looked_at)
        tree.finish()
    return Copied(tree.written + 1024, shown)


def _writer(root: Root, directory: str, owners: bool) -> TreeWriter:
    """Checks that there is such a directory. On the host it is held open, since nothing below it may lead out of it."""
    try:
        fd = linux.openat2(root.fd, directory, linux.O_PATH, 0, root.resolve)
    except FileNotFoundError:
        where = f" in {_container(root)}" if root.name else ""
        raise NotFound(f"Could not find the file {directory}{where}") from None
    except NotADirectoryError:
        raise UsageError("extraction point is not a directory") from None
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise UsageError("extraction point is not a directory" if root.name else "not a directory")
        if root.name:
            return TreeWriter(root.fd, os.fsencode(directory), root.below, owners)
        stack.pop_all()
    return TreeWriter(fd, b"", root.below, owners)


def _add(tree: TreeWriter, root: Root, entry: Entry, looked_at: int = -1, data: int = -1) -> None:
    try:
        tree.add(entry, looked_at, data)
    except OSError as e:
        if e.errno == errno.EROFS and root.name:
            what = "mounted volume" if tree.is_mounted() else "container rootfs"
            raise UsageError(f"{what} is marked read-only") from e
        raise


# --- streams ---------------------------------------------------------------------------------------------------------


def _to_stream(thing: _Source, stdout: int) -> Copied:
    tar = TarWriter(stdout)
    for entry, looked_at in thing.entries(thing.name):
        tree_tar.add(tar, entry, looked_at)
    tar.close()
    return Copied(0, STREAM)


def _from_stream(ctx: Context, stack: ExitStack, stdin: int, root: Root, path: str, shown: str) -> Copied:
    """Extracts a tar, plain or compressed, which is spooled to a file without a name: it is read in two passes, and a killed
    copy leaves nothing."""
    from engine.images.archive import spooled

    found, kind = _find(root, path)
    if kind != "directory":
        raise UsageError(f'destination "{shown}" must be a directory')
    spool = spooled(stdin, ctx.paths.downloads)
    stack.callback(os.close, spool)
    with _writer(root, found, True) as tree:
        for entry in read_entries(spool):
            _add(tree, root, entry, data=spool)
        tree.finish()
    return Copied(tree.written + 1024, shown)
