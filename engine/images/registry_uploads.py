"""Pushes under way at a registry server: files that grow, and get the name of a blob once they are whole.

Bytes are hashed as they come, so that the end of an upload costs nothing; an upload that another process began (the
server before this one) is hashed at its end. One request writes at a time, the latest: the one before it may hang on a
connection that broke long ago, and is cut off.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO

from engine.files import make_dirs, remove_file
from engine.images.registry_error import ApiError

_ID = re.compile(r"[0-9a-f]{32}$")


class _State:
    """Of an upload that this process has written to: what its first `hashed` bytes hash to, and who may write now.

    `done`: it is verified, and nothing may be written any more through a descriptor that somebody still has.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hash = hashlib.sha256()
        self.hashed = 0
        self.writer: object = None
        self.done = False


class Uploads:
    """The directory of unfinished uploads, one file each. Thread-safe; of one process only."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._states: dict[str, _State] = {}
        # Held where a file and its state come or go together.
        self._lock = threading.Lock()

    def path(self, upload: str) -> str:
        if not _ID.match(upload):
            raise _unknown()
        return f"{self._directory}/{upload}"

    def new(self) -> str:
        """Begins an upload; its ID."""
        upload = secrets.token_hex(16)
        make_dirs(self._directory)
        with open(self.path(upload), "xb"):
            return upload

    def size(self, upload: str) -> int:
        """Bytes that have arrived."""
        try:
            return os.stat(self.path(upload)).st_size
        except FileNotFoundError:
            raise _unknown() from None

    def append(self, upload: str, pieces: Iterable[bytes], start: int | None) -> None:
        """Adds bytes at the end, which must be at `start` where that is given. What came before a break stays.

        Raises ConnectionResetError where another request has begun to write meanwhile.
        """
        me = object()
        with self._open(upload) as (file, state):
            with state.lock:
                if state.done:
                    raise _unknown()
                state.writer = me
                position = os.fstat(file.fileno()).st_size
            if start is not None and start != position:
                raise ApiError(416, "BLOB_UPLOAD_INVALID", f"the upload has {position} bytes")
            for piece in pieces:
                with state.lock:
                    if state.writer is not me:
                        raise ConnectionResetError("another request writes to this upload")
                    position = _write(file, piece)
                    if state.hashed == position - len(piece):
                        state.hash.update(piece)
                        state.hashed = position

    def finish(self, upload: str, digest: str, target: str) -> None:
        """Verifies the content, syncs it, and gives it its name. What has another digest is thrown away."""
        with self._open(upload) as (file, state), state.lock:
            if state.done:
                raise _unknown()
            state.writer, state.done = None, True
            found = state.hash
            if state.hashed != os.fstat(file.fileno()).st_size:
                found = hashlib.file_digest(file, "sha256")
            if f"sha256:{found.hexdigest()}" != digest:
                self.cancel(upload)
                raise ApiError(400, "DIGEST_INVALID", f"the uploaded content is sha256:{found.hexdigest()}")
            os.fsync(file.fileno())
            make_dirs(os.path.dirname(target))
            with self._lock:
                os.replace(self.path(upload), target)
                self._states.pop(upload, None)

    def cancel(self, upload: str) -> None:
        try:
            with self._lock:
                os.unlink(self.path(upload))
                self._states.pop(upload, None)
        except FileNotFoundError:
            raise _unknown() from None

    def sweep(self, age: float) -> None:
        """Removes what nobody has written to for `age` seconds: whoever began it is gone."""
        make_dirs(self._directory)
        for name in os.listdir(self._directory):
            try:
                if os.stat(f"{self._directory}/{name}").st_mtime < time.time() - age:
                    remove_file(f"{self._directory}/{name}")
                    self._states.pop(name, None)
            except FileNotFoundError:
                continue

    @contextmanager
    def _open(self, upload: str) -> Iterator[tuple[FileIO, _State]]:
        try:
            with self._lock:
                file = open(self.path(upload), "r+b", buffering=0)
                state = self._states.setdefault(upload, _State())
        except FileNotFoundError:
            raise _unknown() from None
        with file:
            yield file, state


def _write(file: FileIO, data: bytes) -> int:
    """Writes at the end of the file, all of it; where that is then."""
    position = file.seek(0, os.SEEK_END)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return position + len(data)


def _unknown() -> ApiError:
    return ApiError(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
