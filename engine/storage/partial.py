"""What has arrived of a layer, in the form in which it is sent: so that a pull goes on where another one stopped.

    downloads/DIFFID.DIGEST.part     the first bytes of the blob DIGEST, from which the layer DIFFID is made

The uncompressed tar that a pull writes cannot be continued by another process: where it ends, the state of the decompressor
is gone. So the bytes are kept as they came, besides; a pull that begins reads them again before it asks for the rest. They
are written as they come, since nobody can do anything after SIGKILL, and not synced: what a power cut takes of them, or
damages, is fetched again (docs/decisions/0011). A partial belongs to whoever holds its layer's lock.
"""

from __future__ import annotations

import os
import time

from engine.errors import IntegrityError, LayerError, StoreError
from engine.files import make_dirs, remove_file, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from engine.paths import Paths

SUFFIX = ".part"
# Seconds after which nobody is expected to go on with a pull.
KEPT = 7 * 24 * 3600.0


class Partial:
    """The first bytes of one blob, on disk. A context manager, under the layer's lock.

    At its end they are kept where the pull was interrupted or the registry failed, and removed where they are of no use
    any more: the layer is in the store, the bytes are wrong, or the disk is full.
    """

    def __init__(self, paths: Paths, diff_id: str, digest: str, limit: int) -> None:
        """`limit` is the blob's size in bytes. Raises StoreError where nothing can be written."""
        make_dirs(paths.downloads, 0o700)
        layer = os.path.basename(paths.layer(diff_id)).partition(".")[0]
        self._path = f"{paths.downloads}/{layer}.{os.path.basename(paths.blob(digest))}{SUFFIX}"
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self._fd).st_size
            if self.size > limit:
                os.ftruncate(self._fd, 0)
                self.size = 0
        except OSError as e:
            raise store_error(e, "write", self._path) from e
        self.resumed = self.size > 0
        self._usable = True

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position` on, which is below `self.size`. Raises StoreError."""
        try:
            return os.pread(self._fd, size, position)
        except OSError as e:
            raise store_error(e, "read", self._path) from e

    def append(self, data: bytes) -> None:
        """Keeps the next bytes. A full disk ends that without an error: the layer itself needs the place more."""
        if not self._usable:
            return
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            self.size += len(data)
        except OSError:
            self.restart()
            self._usable = False

    def restart(self) -> None:
        """Forgets all bytes."""
        try:
            os.ftruncate(self._fd, 0)
        except OSError as e:
            raise store_error(e, "write", self._path) from e
        self.size = 0
        self.resumed = False

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, (IntegrityError, LayerError, StoreError)) or not self.size:
            remove_file(self._path)
        os.close(self._fd)


def is_resumable(paths: Paths, name: str) -> bool:
    """Whether a name in `downloads/` is a partial that a pull may still go on with: not too old, its layer not there."""
    if not name.endswith(SUFFIX):
        return False
    try:
        age = time.time() - os.stat(f"{paths.downloads}/{name}").st_mtime
        return age < KEPT and not os.path.exists(paths.layer(name.partition(".")[0]))
    except (OSError, ValueError):
        return False
