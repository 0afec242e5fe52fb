"""Puts entries of a tar, or of a tree that is walked, into a directory that exists: the other half of `cp`.

Both ends may be hostile and alive. A name is never more than a way below the top: each parent directory is opened anew by
openat2(2), on the host beneath the destination without following a link (so that no link that was there before, or came
with the copy, leads out of it), in a container's root with RESOLVE_IN_ROOT (CVE-2018-15664: a link that is swapped in for a
directory while `cp` runs leads somewhere else in the container at worst). What is made is made in that directory with
O_EXCL or its like, and described by its descriptor. A directory of the host's that is there already keeps its attributes
(CVE-2021-41089: `cp` changed those of the host's files).
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import ArchiveError, Conflict
from engine.storage.tar import Entry, show
from engine.storage.tree_tar import open_content

IN_ROOT = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
_PATH = linux.O_PATH | os.O_DIRECTORY
_SET_IDS = stat.S_ISUID | stat.S_ISGID


class TreeWriter:
    """Writes below the directory `base` of `root`; paths are resolved by `resolve`: IN_ROOT, or `tree_tar.BENEATH`.

    `owners`: entries keep their owners, set-id bits, devices' modes and security attributes. Without, all belongs to the
    caller, and whatever would turn a container's word into a privilege on the host is left out: set-id bits, file
    capabilities, access to device nodes for anybody but root. A context manager: the umask is 0 within it.
    """

    def __init__(self, root: int, base: bytes, resolve: int, owners: bool) -> None:
        self._root = root
        self._base = base
        self._resolve = resolve
        self._owners = owners
        self._directories: list[tuple[bytes, Entry]] = []
        self.written = 0

    def __enter__(self) -> TreeWriter:
        self._umask = os.umask(0)
        return self

    def __exit__(self, *_: object) -> None:
        os.umask(self._umask)

    def add(self, entry: Entry, looked_at: int = -1, data: int = -1) -> None:
        """Makes one entry. Its content is that of the file `looked_at` (O_PATH, see `tree_tar.walk`), or in `data` where the
        entry's offset says. Raises Conflict for a directory and a non-directory of one name, ArchiveError for a name that
        leads out, OSError."""
        self.written += 512 + entry.size + -entry.size % 512
        parts = _parts(entry.name)
        if not parts:
            return  # the destination itself
        path = b"/".join(parts)
        parent = self._parent(parts[:-1])
        try:
            if stat.S_ISDIR(entry.mode):
                self._directory(parent, parts[-1], path, entry)
                return
            self._make_way(parent, parts[-1], path)
            if not stat.S_IFMT(entry.mode):
                self._link(parent, parts[-1], entry)
            elif stat.S_ISREG(entry.mode):
                self._file(parent, parts[-1], entry, looked_at, data)
            else:
                self._special(parent, parts[-1], entry)
        finally:
            os.close(parent)

    def describe_top(self, entry: Entry) -> None:
        """Gives the destination itself the attributes of the entry, which `add` leaves alone."""
        fd = self._open(b"", os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._describe(fd, entry)
        finally:
            os.close(fd)
        self._directories.insert(0, (b"", entry))

    def finish(self) -> None:
        """Sets the times of the directories, last, since whatever is made in one changes them."""
        for path, entry in reversed(self._directories):
            try:
                fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError as e:
                if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # the container took it away
                raise
            try:
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(fd)

    def is_mounted(self) -> bool:
        """Whether the directory is on another mount than the root: on a volume."""
        base = self._open(b"", _PATH)
        try:
            return _mount_id(base) != _mount_id(self._root)
        finally:
            os.close(base)

    # --- ways

    def _open(self, path: bytes, flags: int) -> int:
        joined = b"/".join(part for part in (self._base, path) if part)
        return linux.openat2(self._root, joined, flags, 0, self._resolve)

    def _parent(self, parts: list[bytes]) -> int:
        """The directory, made with its own parents where an archive does not name them."""
        try:
            return self._open(b"/".join(parts), _PATH)
        except FileNotFoundError:
            if not parts:
                raise
        for depth, name in enumerate(parts):
            above = self._open(b"/".join(parts[:depth]), _PATH)
            try:
                os.mkdir(name, 0o755, dir_fd=above)
            except FileExistsError:
                pass
            finally:
                os.close(above)
        return self._open(b"/".join(parts), _PATH)

    def _make_way(self, parent: int, name: bytes, path: bytes) -> None:
        """Removes what a file is going to replace. A mount point is not replaced: unlink(2) would take away what another
        mount namespace has mounted there, be it a volume."""
        try:
            fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise Conflict(
                    f'cannot overwrite directory "{self._shown(path)}" with non-directory "{self._shown(b"")}"'
                )
            busy = _mount_id(fd) != _mount_id(parent)
        finally:
            os.close(fd)
        if busy:
            raise OSError(errno.EBUSY, f"unlinkat {self._shown(path)}: {os.strerror(errno.EBUSY).lower()}")
        os.unlink(name, dir_fd=parent)

    def _shown(self, path: bytes) -> str:
        return os.fsdecode(b"/" + b"/".join(filter(None, (self._base.strip(b"/"), path))))

    # --- what is made

    def _directory(self, parent: int, name: bytes, path: bytes, entry: Entry) -> None:
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            made = False
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except NotADirectoryError:
            raise Conflict(
                f'cannot overwrite non-directory "{self._shown(path)}" with directory "{self._shown(b"")}"'
            ) from None
        try:
            if made or self._owners:
                self._describe(fd, entry)
                self._directories.append((path, entry))
        finally:
            os.close(fd)

    def _file(self, parent: int, name: bytes, entry: Entry, looked_at: int, data: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if looked_at >= 0:
                source = open_content(looked_at)
                try:
                    _copy_file(source, entry.size, fd)
                finally:
                    os.close(source)
            else:
                _copy_member(data, entry, fd)
            self._describe(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _describe(self, fd: int, entry: Entry) -> None:
        """Owner, mode, extended attributes, in this order: chown(2) clears set-id bits and capabilities."""
        if self._owners:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, self._mode(entry))
        self._set_xattrs(f"/proc/self/fd/{fd}", entry, True)

    def _mode(self, entry: Entry) -> int:
        mode = entry.mode & 0o7777
        if self._owners:
            return mode
        if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode):
            return 0o600
        return mode & ~_SET_IDS

    def _link(self, parent: int, name: bytes, entry: Entry) -> None:
        target = _parts(entry.link)
        if not target:
            raise ArchiveError(f"{show(entry.name)} is a hard link to nothing")
        directory = self._open(b"/".join(target[:-1]), _PATH)
        try:
            os.link(target[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _special(self, parent: int, name: bytes, entry: Entry) -> None:
        """A symbolic link, as it is; a device; a FIFO."""
        if stat.S_ISLNK(entry.mode):
            os.symlink(entry.link, name, dir_fd=parent)
        else:
            os.mknod(name, stat.S_IFMT(entry.mode) | self._mode(entry), entry.rdev, dir_fd=parent)
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        self._set_xattrs(f"/proc/self/fd/{parent}/{os.fsdecode(name)}", entry, False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, path: str, entry: Entry, follow: bool) -> None:
        for name, value in (entry.xattrs or {}).items():
            if name.startswith(b"trusted.") or (name.startswith(b"security.") and not self._owners):
                continue
            try:
                os.setxattr(path, name, value, follow_symlinks=follow)
            except OSError as e:
                if e.errno != errno.ENOTSUP:
                    raise


def _parts(name: bytes) -> list[bytes]:
    """The components of a name in an archive, which a leading slash does not make absolute. ArchiveError for `..`."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ArchiveError(f"{show(name)} leads out of the destination")
    return parts


def _mount_id(fd: int) -> bytes:
    """Which mount a descriptor is on: proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        return next(line for line in file if line.startswith(b"mnt_id:"))


def _copy_file(source: int, size: int, target: int) -> None:
    """The first `size` bytes of a file, within the kernel (sendfile(2)); holes stay holes."""
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
            end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        except OSError as e:
            if e.errno == errno.ENXIO:  # a hole up to the end, or it has become shorter
                return
            raise
        os.lseek(target, start, os.SEEK_SET)
        _send(source, start, target, end - start)
        offset = end


def _copy_member(archive: int, entry: Entry, target: int) -> None:
    """The data of a tar's member, a sparse one's with its holes."""
    os.ftruncate(target, entry.size)
    segments = entry.segments if entry.segments is not None else [(0, entry.size, entry.offset)]
    for start, length, offset in segments:
        os.lseek(target, start, os.SEEK_SET)
        _send(archive, offset, target, length)


def _send(source: int, offset: int, target: int, length: int) -> None:
    while length > 0 and (count := os.sendfile(target, source, offset, min(length, 1 << 30))):
        offset += count
        length -= count
