"""A log in files, appended to by one writer, the container's monitor (moby, daemon/logger/loggerutils/logfile.go):

    container.log ── full ──▶ container.log.1 ── compressed ──▶ container.log.1.gz ──▶ container.log.2.gz ──▶ … the oldest goes

Not synced: a log line is not worth a disk flush. SIGKILL may leave a last record that is cut: a reader leaves it out, and the
next writer takes it away. What cannot be written (full disk) is lost; the container goes on.
"""

from __future__ import annotations

import os
import struct
import time

from engine import files, lean
from engine.runtime.subprocesses import fork
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from engine.runtime.logs.writer import Entry

    class Format(Protocol):
        """How records are written, and found again."""

        def encode(self, piece: bytes, stream: str, time: int) -> bytes: ...
        def record_end(self, data: bytes, start: int, at: int) -> int: ...
        def decode(self, data: bytes) -> tuple[list[Entry], int]: ...
        def tail(self, fd: int, size: int, count: int) -> tuple[int, int]: ...
        def whole(self, fd: int, size: int) -> int: ...


_BLOCK = 1 << 18


class LogFile:
    """Rotated before the record that would be the first beyond `max_size` bytes; `max_files` with the current one.

    What somebody takes away below it is not put back but for the current file, by the next rotation.
    """

    def __init__(self, path: str, format: Format, max_size: int, max_files: int, compress: bool) -> None:
        self.path, self._format = path, format
        self._max_size, self._max_files, self._compress = max_size, max_files, compress
        self._compressor = 0
        self._last = 0
        # O_RDWR: what is cut is looked for in it
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        status = os.fstat(self._fd)
        self._size = format.whole(self._fd, status.st_size)
        if self._size < status.st_size:
            os.ftruncate(self._fd, self._size)
        if status.st_nlink > 1:
            # a rotation that was cut short: see _rotate
            files.remove_file(f"{path}.1")

    def append(self, piece: bytes, stream: str) -> None:
        """Writes a piece of output (logs.cut)."""
        self._last = time.time_ns()
        data = self._format.encode(piece, stream, self._last)
        start = 0
        while start < len(data):
            if self._size >= self._max_size:
                self._rotate()
            end = len(data)
            room = max(self._max_size - self._size, 1)
            if end - start > room:
                end = self._format.record_end(data, start, start + room - 1)
            self._write(data[start:end])
            start = end

    def close(self) -> None:
        os.close(self._fd)
        self._wait()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # half a record would spoil the next one
            if len(view) < len(data):
                os.ftruncate(self._fd, self._size)
            return
        self._size += len(data)

    def _rotate(self) -> None:
        """The name `path` is there at any moment. Where there is no room for a new file, the old one is written on."""
        self._wait()
        new = f"{self.path}.new"
        try:
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError:
            return
        try:
            for number in range(self._max_files - 1, 0, -1):
                self._shift(number)
            if self._max_files > 1 and os.path.exists(self.path):
                os.link(self.path, f"{self.path}.1")
            os.rename(new, self.path)
        except OSError:
            os.close(fd)
            return
        os.close(self._fd)
        self._fd, self._size = fd, 0
        if self._compress and self._max_files > 1:
            name, last = f"{self.path}.1", self._last
            try:
                self._compressor = fork(lambda: compress(name, last))
            except OSError:
                # it stays as it is
                return

    def _shift(self, number: int) -> None:
        """Makes room for the file of this number's predecessor. Of two that are the same one, the compressed is the copy."""
        for ending in ("", ".gz"):
            files.remove_file(f"{self.path}.{number}{ending}")
        if number == 1:
            return
        older = f"{self.path}.{number - 1}"
        for ending in ("", ".gz"):
            if os.path.exists(older + ending):
                os.rename(older + ending, f"{self.path}.{number}{ending}")
                return

    def _wait(self) -> None:
        if self._compressor:
            os.waitpid(self._compressor, 0)
            self._compressor = 0


def compress(name: str, last: int) -> None:
    """Makes NAME.gz of a file that is written no more, and removes it. `last`: when its last record was written.

    As in Docker, that time is in the header's extra field (RFC 1952), as JSON, so that `logs --since` need not read
    the file; and which file it was, for a reader that had it open.
    """
    import zlib

    temporary = f"{name}.gz.new"
    source = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        was = os.fstat(source)
        extra = lean.dumps({"lastTime": timestamp(last), "inode": was.st_ino, "mtime": was.st_mtime_ns})
        with open(target, "wb") as out:
            # magic, deflate, FEXTRA, no time, no hint, unknown system
            out.write(b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + struct.pack("<H", len(extra)) + extra)
            # the fastest: the next rotation waits for it, and with that the container
            deflate, crc, size = zlib.compressobj(level=1, wbits=-15), 0, 0
            while data := os.read(source, _BLOCK):
                crc, size = zlib.crc32(data, crc), size + len(data)
                out.write(deflate.compress(data))
            out.write(deflate.flush() + struct.pack("<II", crc, size & 0xFFFFFFFF))
        os.rename(temporary, f"{name}.gz")
        os.unlink(name)
    except OSError:
        # it stays as it is, which can be read as well
        files.remove_file(temporary)
        raise
    finally:
        os.close(source)
