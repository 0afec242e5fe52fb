"""Layers: a tar on its way into the store, and the IDs of stacks of layers.

A layer is stored as its verbatim uncompressed tar, named by its DiffID, which is the tar's sha256: so `sha256sum` verifies
the store, and `push` and `save` have the exact bytes. Both storage drivers keep layers this way.
"""

from __future__ import annotations

import os

from engine.errors import Conflict, IntegrityError
from engine.files import FileLock, make_dirs, remove_file, store_error, sync_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from engine.paths import Paths


def _sha256(data: bytes = b"") -> Any:
    """A sha256 object. Python's own module costs a hot command 0.3 ms of import, hashlib with its OpenSSL 2.4."""
    for module in ("_sha2", "_sha256", "hashlib"):  # Python 3.12 and later; 3.11; any
        try:
            return __import__(module).sha256(data)
        except ImportError:
            pass
    raise AssertionError("unreachable: hashlib has sha256")


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain ID of each stack of layers: of the lowest layer alone, of the lowest two, up to all of them.

    OCI image spec, config.md "Layer ChainID": ChainID(L0) = DiffID(L0), and ChainID(L0|…|Ln) = sha256 of
    `ChainID(L0|…|Ln-1) DiffID(Ln)`.
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        if chains:
            diff_id = "sha256:" + _sha256(f"{chains[-1]} {diff_id}".encode()).hexdigest()
        chains.append(diff_id)
    return chains


def chain_id(diff_ids: list[str]) -> str:
    """The chain ID of the whole stack, lowest layer first. An image without layers has that of nothing: sha256("")."""
    return chain_ids(diff_ids)[-1] if diff_ids else "sha256:" + _sha256().hexdigest()


def layer_lock(paths: Paths, hex_id: str, wait: bool = True) -> FileLock:
    """Who writes a layer into the store holds this. `hex_id` is the DiffID without its `sha256:`.

    256 locks serve all layers: lock files stay for ever, and two layers that share one only wait for each other.
    """
    return FileLock(paths.lock(f"layer-{hex_id[:2]}"), wait=wait)


def sweep_downloads(paths: Paths) -> None:
    """Removes what killed pulls left behind and nobody can use: half-made layers whose lock nobody holds."""
    for name in leftover_downloads(paths):
        try:
            with layer_lock(paths, name, wait=False):
                remove_file(f"{paths.downloads}/{name}")
        except Conflict:
            continue


def leftover_downloads(paths: Paths, resumable: bool = False) -> list[str]:
    """The names in `downloads/` that nobody is writing: their layer's lock is free.

    Those that a pull may go on with (`engine.storage.partial`) are among them only with `resumable`.
    """
    from engine.storage.partial import is_resumable

    try:
        names = sorted(os.listdir(paths.downloads))
    except FileNotFoundError:
        return []
    left = []
    for name in names:
        try:
            with layer_lock(paths, name, wait=False):
                if resumable or not is_resumable(paths, name):
                    left.append(name)
        except Conflict:
            continue
    return left


class LayerSink:
    """Writes one layer's uncompressed tar, and puts it in its place only when it is whole, verified and on disk.

    A context manager: what was not committed is aborted, and leaves nothing. Not thread-safe; several sinks at once are
    (also of the same layer: the last rename wins, and both wrote the same bytes).
    """

    _count = 0

    def __init__(self, paths: Paths, diff_id: str) -> None:
        """Raises StoreError where nothing can be written, ValueError where `diff_id` is not a sha256 digest."""
        self.diff_id = diff_id
        self._begin(paths, os.path.basename(paths.layer(diff_id)))

    def _begin(self, paths: Paths, name: str) -> None:
        import hashlib

        self.size = 0
        self._paths = paths
        make_dirs(paths.downloads, 0o700)
        LayerSink._count += 1
        self._temporary = f"{paths.downloads}/{name}.{os.getpid()}.{LayerSink._count}"
        self._hash = hashlib.sha256()
        try:
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise store_error(e, "write", self._temporary) from e

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Appends; both the hash and the write release the interpreter lock. Raises StoreError, for instance when full."""
        self._hash.update(chunk)
        view = memoryview(chunk)
        self.size += len(view)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as e:
            raise store_error(e, "write", self._temporary) from e

    def commit(self) -> None:
        """Verifies sha256 == DiffID, syncs, and renames into place. Raises IntegrityError or StoreError, having aborted."""
        digest = "sha256:" + self._hash.hexdigest()
        expected = "sha256:" + self.diff_id.removeprefix("sha256:")
        if digest != expected:
            self.abort()
            raise IntegrityError(f"the layer's content has DiffID {digest}, its image says {expected}")
        self._place(self._paths.layer(digest))

    def _place(self, final: str) -> None:
        try:
            os.fsync(self._fd)
            make_dirs(os.path.dirname(final), 0o700)
            os.rename(self._temporary, final)
            sync_dir(os.path.dirname(final))
        except OSError as e:
            self.abort()
            raise store_error(e, "write", final) from e
        self._close()

    def abort(self) -> None:
        """Removes what was written; nothing after a commit or another abort."""
        if self._fd >= 0:
            remove_file(self._temporary)
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> LayerSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class NewLayerSink(LayerSink):
    """A layer whose DiffID nobody knows before its last byte: `diff_id` is empty until `commit`.

    Holds the lock of a name of its own, so that no sweep takes what is being written for a leftover.
    """

    def __init__(self, paths: Paths) -> None:
        self.diff_id = ""
        name = os.urandom(32).hex()
        self._lock = layer_lock(paths, name)
        self._lock.__enter__()
        try:
            self._begin(paths, name)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    def commit(self) -> None:
        """Syncs, renames into place, and says in `diff_id` what it is. Raises StoreError, having aborted."""
        self.diff_id = "sha256:" + self._hash.hexdigest()
        self._place(self._paths.layer(self.diff_id))

    def _close(self) -> None:
        if self._fd >= 0:
            super()._close()
            self._lock.__exit__(None, None, None)
