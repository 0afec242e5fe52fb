"""Pushes under way at a registry server: files that grow, and get the name of a blob once they are whole.

Bytes are hashed as they come, so that the end of an upload costs nothing; an upload that another process began (the
server before this one) is hashed at its end. One request writes at a time: that is what the lock on the file is for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedRandom

from engine.files import make_dirs, remove_file
from engine.images.registry_error import ApiError

_ID = re.compile(r"[0-9a-f]{32}$")


class Uploads:
    """The directory of unfinished uploads, one file each."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._hashes: dict[str, tuple[hashlib._Hash, int]] = {}

    def path(self, upload: str) -> str:
        if not _ID.match(upload):
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
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
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown") from None

    def append(self, upload: str, pieces: Iterable[bytes], start: int | None) -> None:
        """Adds bytes at the end, which must be at `start` where that is given. What came before a break stays."""
        with self._open(upload) as file:
            position = file.seek(0, os.SEEK_END)
            if start is not None and start != position:
                raise ApiError(416, "BLOB_UPLOAD_INVALID", f"the upload has {position} bytes")
            found, hashed = self._hashes.pop(upload, (hashlib.sha256(), 0))
            for piece in pieces:
                file.write(piece)
                if hashed == position:
                    found.update(piece)
                    hashed += len(piece)
                    self._hashes[upload] = found, hashed
                position += len(piece)

    def finish(self, upload: str, digest: str, target: str) -> None:
        """Verifies the content, syncs it, and gives it its name. What has another digest is thrown away."""
        with self._open(upload) as file:
            found, hashed = self._hashes.pop(upload, (hashlib.sha256(), 0))
            if hashed != os.fstat(file.fileno()).st_size:
                file.seek(0)
                found = hashlib.file_digest(file, "sha256")
            if f"sha256:{found.hexdigest()}" != digest:
                remove_file(self.path(upload))
                raise ApiError(400, "DIGEST_INVALID", f"the uploaded content is sha256:{found.hexdigest()}")
            os.fsync(file.fileno())
            make_dirs(os.path.dirname(target))
            os.replace(self.path(upload), target)

    def cancel(self, upload: str) -> None:
        try:
            os.unlink(self.path(upload))
        except FileNotFoundError:
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown") from None
        self._hashes.pop(upload, None)

    def sweep(self, age: float) -> None:
        """Removes what nobody has written to for `age` seconds: whoever began it is gone."""
        make_dirs(self._directory)
        for name in os.listdir(self._directory):
            try:
                if os.stat(f"{self._directory}/{name}").st_mtime < time.time() - age:
                    remove_file(f"{self._directory}/{name}")
                    self._hashes.pop(name, None)
            except FileNotFoundError:
                continue

    @contextmanager
    def _open(self, upload: str) -> Iterator[BufferedRandom]:
        try:
            file = open(self.path(upload), "r+b")
        except FileNotFoundError:
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ApiError(409, "BLOB_UPLOAD_INVALID", "another request is writing to this upload") from None
            yield file
