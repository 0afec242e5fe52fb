"""The files of an image archive, by name: of a tar, compressed or not, from a file or a pipe; or of a directory.

    a tar in a file        read where it lies
    compressed, or a pipe  first unpacked into a file of the data root that has no name (its readers jump about)
    a directory            opened name by name

An archive is somebody else's (CVE-2014-9356, CVE-2017-14992). Nothing is extracted: a name in a tar is only a key to look
up, a link leads to another key, and what names neither is not found. In a directory no symlink is followed but within it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from engine.errors import ArchiveError, LayerError, UsageError
from engine.files import make_dirs, remove_file, store_error
from engine.images.compression import CHUNK, MAX_EXPANDED, MAX_RATIO, Stream, decompressed, is_compressed
from engine.storage.tar import Entry, read_entries

MAX_MEMBERS = 1 << 16
MAX_LINKS = 8  # of a link that leads to a link


class ArchiveFile:
    """A file of the archive, `size` bytes, read from its start to its end."""

    def __init__(self, fd: int, offset: int, size: int, owned: bool = False) -> None:
        self.size = size
        self._fd = fd
        self._position = offset
        self._end = offset + size
        self._owned = owned

    def read(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes, b"" at the end. ArchiveError where the file is shorter than it was."""
        wanted = min(size, self._end - self._position)
        data = os.pread(self._fd, wanted, self._position) if wanted else b""
        if len(data) < wanted and not data:
            raise ArchiveError("the archive was cut off while it was read")
        self._position += len(data)
        return data

    def __enter__(self) -> ArchiveFile:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._owned:
            os.close(self._fd)


class Archive:
    """The part that tars and directories share: names, and links between them."""

    def has(self, name: str) -> bool:
        return self._find(_normal(name)) is not None

    def open(self, name: str) -> ArchiveFile:
        """The file of that name, through links. ArchiveError where there is none, or a link that leads out of the archive."""
        path = _normal(name)
        for _ in range(MAX_LINKS + 1):
            found = self._find(path)
            if found is None:
                raise ArchiveError(
                    f"the archive lacks {path!r}" + (f", to which {name!r} leads" if path != name else "")
                )
            if isinstance(found, ArchiveFile):
                return found
            path = found
        raise ArchiveError(f"{name!r} in the archive is a link that leads to no file")

    def read(self, name: str, limit: int) -> bytes:
        """The whole of a file that has at most `limit` bytes."""
        with self.open(name) as file:
            if file.size > limit:
                raise ArchiveError(f"{name!r} in the archive has {file.size} bytes; the limit is {limit}")
            parts = []
            while data := file.read():
                parts.append(data)
            return b"".join(parts)

    def _find(self, path: str) -> ArchiveFile | str | None:
        """The file, the normal name that a link leads to, or None."""
        raise NotImplementedError

    def close(self) -> None:
        pass


class TarArchive(Archive):
    """A tar at `fd`, which stays the caller's. Of two members of one name the later counts, as when a tar is extracted."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members: dict[str, Entry] = {}
        try:
            for count, entry in enumerate(read_entries(fd)):
                if count == MAX_MEMBERS:
                    raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members")
                self._add(entry)
        except LayerError as e:
            raise ArchiveError(f"not an image archive: {e.message}") from e

    def _add(self, entry: Entry) -> None:
        try:
            self._members[_normal(os.fsdecode(entry.name))] = entry
        except ArchiveError:
            # a name that leads out of the archive names nothing in it
            return

    def _find(self, path: str) -> ArchiveFile | str | None:
        entry = self._members.get(path)
        if entry is None:
            return None
        link = os.fsdecode(entry.link)
        if stat.S_ISLNK(entry.mode):
            return _normal(link, os.path.dirname(path))
        if not stat.S_IFMT(entry.mode):
            return _normal(link)
        if not stat.S_ISREG(entry.mode) or entry.segments is not None:
            raise ArchiveError(f"{path!r} in the archive is not a plain file")
        return ArchiveFile(self._fd, entry.offset, entry.size)


class DirectoryArchive(Archive):
    """A directory, opened one component at a time, so that no symlink of it is ever followed by the kernel."""

    def __init__(self, path: str) -> None:
        self._top = open_input(path)

    def _find(self, path: str) -> ArchiveFile | str | None:
        *parents, name = path.split("/")
        directory = self._top
        try:
            for parent in parents:
                below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                self._close(directory)
                directory = below
            if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                return _normal(os.readlink(name, dir_fd=directory), "/".join(parents))
            # without O_NONBLOCK, a FIFO would wait for its writer
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise store_error(e, "read", path) from e
        finally:
            self._close(directory)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise ArchiveError(f"{path!r} in the archive is not a plain file")
        return ArchiveFile(fd, 0, status.st_size, owned=True)

    def has(self, name: str) -> bool:
        found = self._find(_normal(name))
        if isinstance(found, ArchiveFile):
            found.__exit__()
        return found is not None

    def _close(self, directory: int) -> None:
        if directory != self._top:
            os.close(directory)

    def close(self) -> None:
        os.close(self._top)


@contextmanager
def open_archive(source: str | int, downloads: str) -> Iterator[Archive]:
    """The archive at a path, or at a descriptor that need not seek. `downloads` is where it is unpacked if it must be.

    Raises UsageError where there is nothing at the path, ArchiveError and LayerError for what is no archive.
    """
    if isinstance(source, str) and os.path.isdir(source):
        directory = DirectoryArchive(source)
        try:
            yield directory
        finally:
            directory.close()
        return
    fd = open_input(source)
    spool = -1
    try:
        if not _is_plain_tar(fd):
            spool = spooled(fd, downloads)
        yield TarArchive(fd if spool < 0 else spool)
    finally:
        for opened in (spool, fd if isinstance(source, str) else -1):
            if opened >= 0:
                os.close(opened)


def open_input(source: str | int) -> int:
    """The descriptor itself, or one of the file at the path, which the caller closes. UsageError where it cannot be read."""
    if isinstance(source, int):
        return source
    try:
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise UsageError(f"open {source}: {os.strerror(e.errno or 0).lower()}") from e


class FdStream:
    """What is left at a descriptor. `taken`: how much of it was read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.taken = 0

    def read(self, size: int = CHUNK) -> bytes:
        data = os.read(self._fd, size)
        self.taken += len(data)
        return data


class Counted(Stream, Protocol):
    """A stream that knows how much of it was read."""

    taken: int


def expanded(stream: Counted, what: str) -> Iterator[bytes]:
    """What is in the stream, decompressed; LayerError as soon as it is a bomb."""
    total = 0
    for chunk in decompressed(stream, what):
        total += len(chunk)
        if total > max(MAX_EXPANDED, MAX_RATIO * stream.taken):
            raise LayerError(f"{what} expands to more than {MAX_RATIO} times its size, and {MAX_EXPANDED} bytes")
        yield chunk


def _is_plain_tar(fd: int) -> bool:
    """Whether it can be read where it lies: a file, at its start, not compressed."""
    if not stat.S_ISREG(os.fstat(fd).st_mode) or os.lseek(fd, 0, os.SEEK_CUR) != 0:
        return False
    return not is_compressed(os.pread(fd, 4, 0))


def spooled(fd: int, downloads: str) -> int:
    """The archive unpacked into a file that lost its name at once: it goes with its last descriptor, also after SIGKILL."""
    make_dirs(downloads, 0o700)
    path = f"{downloads}/{os.urandom(16).hex()}.archive"
    try:
        spool = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        remove_file(path)
    except OSError as e:
        raise store_error(e, "write", path) from e
    try:
        for chunk in expanded(FdStream(fd), "the archive"):
            view = memoryview(chunk)
            while view:
                view = view[_write(spool, view, downloads) :]
        return spool
    except BaseException:
        os.close(spool)
        raise


def _write(fd: int, data: memoryview, where: str) -> int:
    try:
        return os.write(fd, data)
    except OSError as e:
        raise store_error(e, "unpack the archive into", where) from e


def _normal(name: str, base: str = "") -> str:
    """The name without `.`, `..` and doubled slashes, seen from `base`. ArchiveError where it leads out of the archive."""
    parts: list[str] = []
    for part in f"{base}/{name}".split("/") if not name.startswith("/") else ("..",):
        if part == "..":
            if not parts:
                raise ArchiveError(f"{name!r} in the archive leads out of it")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    path = "/".join(parts)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        path = ""
    if not path or "\0" in path:
        raise ArchiveError(f"{name!r} in the archive is not a file name")
    return path
