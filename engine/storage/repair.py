"""Mends what `storage.fsck` found: nothing that may hold content is deleted, it goes to ROOT/quarantine/TIME/.

Everything is looked at again under the lock of those who write it: what was rubbish or damaged when it was found may have
been mended since, or be in use.
"""

from __future__ import annotations

import os
import time

from engine import files
from engine.errors import Conflict, MiniError
from engine.storage import orphans
from engine.storage.drivers import ErofsDriver, choose
from engine.storage.fsck import Attempt, StoreCheck, digest_of
from engine.storage.images import file_name
from engine.storage.layers import layer_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engine.paths import Paths
    from engine.storage.findings import Finding
    from engine.storage.images import Unmount


class Quarantine:
    """Where damaged things go, each at its path below the data root. The directory is made when the first comes."""

    def __init__(self, paths: Paths) -> None:
        self._root = paths.root
        stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        self.directory = f"{paths.quarantine}/{stamp}"

    def take(self, path: str) -> bool:
        """Moves a file or a directory; False where there is none (any more). Raises StoreError."""
        target = f"{self.directory}/{os.path.relpath(path, self._root)}"
        while os.path.lexists(target):
            target += "~"
        files.make_dirs(self.directory, 0o700)
        files.make_dirs(os.path.dirname(target), 0o700)
        try:
            os.rename(path, target)
            files.sync_dir(os.path.dirname(path))
            return True
        except FileNotFoundError:
            return False
        except OSError as e:
            raise files.store_error(e, "quarantine", path) from e


class StoreRepair:
    """Has a method for each `Finding.action`; each says in a few words what was done."""

    # Content first, then what refers to it; removals; last what can be derived of all that.
    ORDER: tuple[str, ...] = (
        "quarantine", "quarantine_object", "write_record", "forget_image", "note_tree", "remove", "remove_orphan",
        "remove_derived", "remove_download", "derive",
    )  # fmt: skip

    def __init__(self, check: StoreCheck, unmount: Unmount) -> None:
        self.check = check
        self.paths = check.paths
        self.store = check.store
        self.quarantined = Quarantine(check.paths)
        self._unmount = unmount
        self._nobody_adds = False

    def run(self, findings: Sequence[Finding]) -> dict[Finding, str]:
        """What was done about each. An error is said and stops nothing else."""
        done = {}
        with Attempt(self.store.nobody_adding) as quiet:
            self._nobody_adds = quiet.held
            for action in self.ORDER:
                for finding in findings:
                    if finding.action == action:
                        done[finding] = self._mend(finding)
        return done

    def _mend(self, finding: Finding) -> str:
        try:
            text: str = getattr(self, finding.action)(*finding.arguments)
            return text
        except MiniError as e:
            return f"not mended: {e.message}"
        except OSError as e:
            return f"not mended: {e}"

    # --- damaged -----------------------------------------------------------------------------------------------------

    def quarantine(self, path: str) -> str:
        with self.store.writing():
            return "quarantined" if self.quarantined.take(path) else "gone meanwhile"

    def quarantine_object(self, kind: str, hex_: str, path: str) -> str:
        """A layer or a document with the wrong bytes; of a layer, the indexes over it go, so that nobody reads it by them."""
        with self.store.writing():
            _, digest, error = digest_of(path)
            if not error and digest in (hex_, None):
                return "right meanwhile"
            if kind == "layers":
                for record in self.store.records():
                    if f"sha256:{hex_}" in record["diff_ids"]:
                        self._unmount(record["chain_id"])
                        ErofsDriver(self.paths).remove_index(record["chain_id"])
            self.quarantined.take(path)
            return "quarantined"

    def write_record(self, path: str, record: dict[str, Any]) -> str:
        with self.store.writing():
            self.quarantined.take(path)
            files.write_json(path, record)
            return "made again from its documents"

    def forget_image(self, image_id: str) -> str:
        """An image of which nothing is known any more: its record and its names."""
        with self.store.writing():
            taken = [self.quarantined.take(self.paths.image(image_id))]
            for named, reference in self.check.names:
                if named == image_id:
                    taken.append(self.quarantined.take(f"{self.paths.tags}/{file_name(reference)}"))
            return "quarantined" if any(taken) else "gone meanwhile"

    def note_tree(self, tree: str, layer: str, below: str) -> str:
        with files.FileLock(self.paths.lock("prepare")):
            if os.path.isdir(self.paths.tree(tree)):
                files.write_atomic(f"{self.paths.tree(tree)}.layer", f"{layer} {below}\n".encode())
            return "made again"

    def derive(self, diff_ids: list[str], chain: str) -> str:
        """The index, or whatever this data root's driver derives. A wrong one is put away first."""
        driver = ErofsDriver(self.paths) if chain else choose(self.paths, None)
        if chain:
            with self.store.writing(), files.FileLock(self.paths.lock("prepare")):
                self._unmount(chain)
                self.quarantined.take(self.paths.index(chain))
        driver.prepare(diff_ids)
        return "made again"

    # --- rubbish -----------------------------------------------------------------------------------------------------

    def remove(self, path: str) -> str:
        with self.store.writing():
            files.remove_file(path)
            return "removed"

    def remove_orphan(self, kind: str, hex_: str, path: str) -> str:
        if not self._nobody_adds:
            return "left alone: an image is being pulled or loaded"
        with self.store.writing():
            needed = orphans.Needed(self.store.records())
            if hex_ in getattr(needed, kind):
                return "an image has it meanwhile"
            orphans.remove(self.paths, kind, hex_, path, self._unmount)
            return "removed"

    def remove_derived(self, path: str) -> str:
        with files.FileLock(self.paths.lock("prepare")):
            if os.path.isdir(path):
                files.remove_tree(path)
            else:
                files.remove_file(path)
            return "removed"

    def remove_download(self, name: str) -> str:
        try:
            with layer_lock(self.paths, name, wait=False):
                files.remove_file(f"{self.paths.downloads}/{name}")
                return "removed"
        except Conflict:
            return "left alone: it is being written"
