"""Whether the store is as it must be: docs/storage.md, "Invariants".

Checking changes nothing. One shared lock is held while names are listed, none while content is read: every object is put
in its place by rename(2), and what vanishes before it is read was removed by somebody. So it runs beside pulls and
containers. What is found is data (`findings.Finding`); `storage.repair` acts on it.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest, sha256

from engine import files, lean
from engine.errors import Conflict, MiniError, StoreError
from engine.images.reference import Reference
from engine.storage import orphans
from engine.storage.findings import DAMAGED, MISSING, RUBBISH, Finding
from engine.storage.images import RECORD, REMOVING, ImageStore, file_name, new_record
from engine.storage.layers import chain_ids, leftover_downloads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    from engine.paths import Paths

# Why a lock file cannot be made on a store that is to be checked all the same.
_NO_LOCK = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_NOUNS = {"indexes": "index", "trees": "directory", "layers": "layer", "blobs": "document"}


class StoreCheck:
    """One check of the images under a data root: `run`, then read the rest.

    `records`: of the images, by ID, those that can be written again among them; `removing`: of those being removed; `names`:
    (image ID, reference) of each name.
    """

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.store = ImageStore(paths)
        self.findings: list[Finding] = []
        self.records: dict[str, dict[str, Any]] = {}
        self.names: list[tuple[str, str]] = []
        self.layers: dict[str, str] = {}
        self.documents: dict[str, str] = {}
        self.bytes_read = 0
        self.removing: list[dict[str, Any]] = []
        self._manifests: dict[
            str, list[bytes]
        ] = {}  # by image ID, those that are unharmed, in the order of their coming
        self._unknown = False  # a record is lost: what it needed cannot be told from what nobody needs

    def run(self, content: bool = True, resumable: bool = False) -> None:
        """Without `content` only what names tell: no layer is read. `resumable`: downloads that a pull may go on with count
        as rubbish, too.
        """
        quiet = Attempt(self.store.nobody_adding)
        with quiet, Attempt(self.store.reading):
            self._list(quiet.held)
        self._find_half_made()
        for name in leftover_downloads(self.paths, resumable):
            self._found(RUBBISH, f"downloads/{name}", "left by a pull that was killed", "remove_download", name)
        if content:
            sound = self._check_content()
            for image_id, record in self.records.items():
                self._check_image(image_id, record, sound)

    def needs_pull(self) -> dict[str, str]:
        """Image ID → what to pull, for each image that has lost something."""
        lost = {f.lost for f in self.findings if f.lost}
        found = {}
        for image_id in {i for i, _ in self.names} | set(self.records):
            record = self.records.get(image_id, {"diff_ids": [], "manifests": []})
            if lost & {d[7:] for d in (image_id, *record["diff_ids"], *record["manifests"])}:
                names = sorted((r for i, r in self.names if i == image_id), key=lambda r: "@" not in r)
                found[image_id] = Reference.parse(names[0]).familiar() if names else ""
        return found

    def shown(self, image_id: str) -> str:
        """A name of the image, or its short ID."""
        names = sorted((r for i, r in self.names if i == image_id), key=lambda r: "@" in r)
        return Reference.parse(names[0]).familiar() if names else short(image_id)

    def _found(self, kind: str, what: str, why: str, action: str, *arguments: Any, lost: str = "") -> None:
        self.findings.append(Finding(kind, what, why, action, *arguments, lost=lost))

    # --- names, in a moment in which no image comes or goes ------------------------------------------------------------

    def _list(self, quiet: bool) -> None:
        self._list_names()
        self._read_manifests()
        for image_id in self.store.ids(RECORD):
            self._read_record(image_id)
        for image_id in self.store.ids(REMOVING):
            self._read_removal(image_id)
        for image_id in {i for i, _ in self.names}.difference(self.records, (r["id"] for r in self.removing)):
            if not os.path.exists(self.paths.image(image_id)):
                self._recover(image_id, "its record is lost")
        for directory in (self.paths.images, self.paths.tags, self.paths.blobs):
            # whoever writes here holds the lock that excludes ours
            for name in files.names_in(directory):
                if name.startswith("."):
                    self._found(RUBBISH, self._below(directory, name), "half-written", "remove", f"{directory}/{name}")
        needed = orphans.Needed([*self.records.values(), *self.removing])
        if quiet and not self._unknown:
            for kind, hex_, path in orphans.orphans(self.paths, needed):
                self._found(
                    RUBBISH, f"{_NOUNS[kind]} {short(hex_)}", "no image has it", "remove_orphan", kind, hex_, path
                )
        self.layers = {h: p for h, p in orphans.objects(self.paths, "layers").items() if h in needed.layers}
        self.documents = {h: p for h, p in orphans.objects(self.paths, "blobs").items() if h in needed.blobs}

    def _list_names(self) -> None:
        for name in files.names_in(self.paths.tags):
            path = f"{self.paths.tags}/{name}"
            try:
                image_id, reference = self.store.read_name(path)
            except StoreError:
                image_id = reference = ""
            if reference and file_name(reference) == name:
                self.names.append((image_id, reference))
            elif not name.startswith("."):
                self._found(DAMAGED, f"name {name.replace('%2F', '/')}", "its file cannot be read", "quarantine", path)

    def _read_record(self, image_id: str) -> None:
        path = self.paths.image(image_id)
        try:
            record = files.read_json(path)
        except FileNotFoundError:
            return
        except StoreError:
            record = None
        if not _is_record(record, image_id):
            self._recover(image_id, "its record is damaged")
            return
        fresh = self._record_of_documents(image_id) or record
        if any(fresh[key] != record[key] for key in fresh if key != "manifests"):
            fresh["manifests"] = record["manifests"]
            why = "its record is not what its config says"
            self._found(DAMAGED, f"image {self.shown(image_id)}", why, "write_record", path, fresh)
        self.records[image_id] = fresh

    def _recover(self, image_id: str, why: str) -> None:
        """A record says nothing that documents and layers do not say: it can be written again from them."""
        record, path = self._record_of_documents(image_id), self.paths.image(image_id)
        what = f"image {self.shown(image_id)}"
        if record:
            self.records[image_id] = record
            self._found(DAMAGED, what, why, "write_record", path, record)
        else:
            self._unknown = True
            why += ", and there is nothing to make it again from"
            self._found(DAMAGED, what, why, "forget_image", image_id, lost=image_id[7:])

    def _record_of_documents(self, image_id: str) -> dict[str, Any] | None:
        """What an image's record must say; None where documents or layers of it are missing or damaged."""
        manifests = self._manifests.get(image_id)
        if not manifests:
            return None
        try:
            config = files.read_bytes(self.paths.blob(image_id))
            if sha256(config).hexdigest() != image_id[7:]:
                return None
            record = new_record(manifests[-1], config, 0)
            record["size"] = sum(os.stat(self.paths.layer(d)).st_size for d in record["diff_ids"])
        except (OSError, MiniError):
            return None
        return record | {"manifests": [f"sha256:{sha256(m).hexdigest()}" for m in manifests]}

    def _read_manifests(self) -> None:
        found = self._manifests
        blobs = orphans.objects(self.paths, "blobs")
        for hex_ in sorted(blobs, key=lambda h: os.stat(blobs[h]).st_mtime_ns):
            try:
                data = files.read_bytes(blobs[hex_])
                image_id = lean.loads(data)["config"]["digest"]
            except (OSError, ValueError, TypeError, KeyError):
                continue  # unreadable, or no manifest
            if isinstance(image_id, str) and sha256(data).hexdigest() == hex_:
                found.setdefault(image_id, []).append(data)

    def _read_removal(self, image_id: str) -> None:
        path = self.paths.image(image_id).removesuffix(RECORD) + REMOVING
        try:
            record = files.read_json(path)
        except FileNotFoundError:
            return
        except StoreError:
            record = None
        if _is_record(record, image_id):
            self.removing.append(record)
            return
        self._unknown = True
        self._found(DAMAGED, f"image {short(image_id)}", "the record of its removal is damaged", "quarantine", path)

    def _find_half_made(self) -> None:
        """What a driver was deriving when it was killed: nobody derives anything while its lock is held."""
        with Attempt(lambda: files.FileLock(self.paths.lock("prepare"), wait=False)) as lock:
            if not lock.held:
                return
            for directory, endings in ((self.paths.indexes, (".tmp",)), (self.paths.trees, (".new", ".gone", ".tmp"))):
                for name in files.names_in(directory):
                    if name.endswith(endings):
                        path = f"{directory}/{name}"
                        self._found(RUBBISH, self._below(directory, name), "half-made", "remove_derived", path)

    def _below(self, directory: str, name: str) -> str:
        return os.path.relpath(f"{directory}/{name}", self.paths.root)

    # --- content -----------------------------------------------------------------------------------------------------

    def _check_content(self) -> set[str]:
        """Hashes every layer and document that an image has, side by side. Returns the hex digits of those that are right."""
        sound = set()
        work = [*self.layers.items(), *self.documents.items()]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for (hex_, path), (size, digest, error) in zip(
                work, pool.map(digest_of, (path for _, path in work)), strict=True
            ):
                self.bytes_read += size
                if digest in (hex_, None) and not error:
                    sound.add(hex_)
                    continue
                kind = "layers" if hex_ in self.layers else "blobs"
                why = error or f"its content is sha256:{digest}"
                self._found(
                    DAMAGED, f"{_NOUNS[kind]} {short(hex_)}", why, "quarantine_object", kind, hex_, path, lost=hex_
                )
        return sound

    def _check_image(self, image_id: str, record: dict[str, Any], sound: set[str]) -> None:
        needed = [("layer", d[7:]) for d in record["diff_ids"]]
        needed += [("config", image_id[7:]), *(("manifest", d[7:]) for d in record["manifests"])]
        what = f"image {self.shown(image_id)}"
        for noun, hex_ in needed:
            if hex_ not in self.layers and hex_ not in self.documents and self._is_there(image_id):
                self._found(DAMAGED, what, f"{noun} {short(hex_)} is missing", "", lost=hex_)
        if {hex_ for _, hex_ in needed} <= sound:
            self._check_derived(record, what)

    def _is_there(self, image_id: str) -> bool:
        """Whether the image was not removed since it was listed."""
        return os.path.exists(self.paths.image(image_id))

    def _check_derived(self, record: dict[str, Any], what: str) -> None:
        """An index byte by byte, of directories that they are there and say rightly what they are of; one of both suffices."""
        from engine.storage.drivers import DRIVERS

        diff_ids, chain = record["diff_ids"], record["chain_id"]
        try:
            wrong = _index_differs(self.paths, diff_ids, self.paths.index(chain))
        except MiniError as e:
            # the layers have the right bytes, and still cannot be read: whoever made the image is to blame
            self._found(DAMAGED, what, e.message, "")
            return
        if wrong and self._is_there(record["id"]):
            why = f"it is not what the layers of {self.shown(record['id'])} give"
            self._found(DAMAGED, f"index {short(chain)}", why, "derive", diff_ids, chain)
        chains = chain_ids(diff_ids)
        for tree, layer, below in zip(chains, diff_ids, ["", *chains], strict=False):
            if os.path.isdir(self.paths.tree(tree)) and not _is_noted(self.paths.tree(tree), layer, below):
                why = f"it does not say that it is of layer {short(layer)}"
                self._found(DAMAGED, f"directory {short(tree)}", why, "note_tree", tree, layer, below)
        prepared = any(driver(self.paths).is_prepared(diff_ids) for driver in DRIVERS.values())
        if not prepared and not wrong and self._is_there(record["id"]):
            self._found(MISSING, what, "nothing is derived of its layers", "derive", diff_ids, "")


class Attempt:
    """A lock that is held if it can be had: not if somebody else has it, nor on a file system that is read-only or full."""

    def __init__(self, make: Callable[[], files.FileLock]) -> None:
        self._make = make
        self._lock: files.FileLock | None = None

    @property
    def held(self) -> bool:
        return self._lock is not None

    def __enter__(self) -> Attempt:
        try:
            self._lock = self._make().__enter__()
        except Conflict:
            pass
        except StoreError as e:
            if not (isinstance(e.__cause__, OSError) and e.__cause__.errno in _NO_LOCK):
                raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._lock:
            self._lock.__exit__(None, None, None)


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _is_record(value: Any, image_id: str) -> bool:
    return (
        isinstance(value, dict)
        and value.get("id") == image_id
        and {"manifests", "diff_ids", "chain_id", "created", "size"} <= value.keys()
        and all(
            isinstance(value[key], list) and value[key] == [*map(str, value[key])] for key in ("manifests", "diff_ids")
        )
        and bool(value["manifests"])
    )


def digest_of(path: str) -> tuple[int, str | None, str]:
    """(bytes, hex digits of the sha256, ""); (0, None, "") for a file that vanished, (0, None, why) for an unreadable one."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size, file_digest(file, "sha256").hexdigest(), ""
    except FileNotFoundError:
        return 0, None, ""
    except OSError as e:
        return 0, None, f"it cannot be read: {os.strerror(e.errno or 0)}"


def _index_differs(paths: Paths, diff_ids: list[str], path: str) -> bool:
    """Whether an index is there and is not what its layers give; the writer is deterministic. Raises LayerError, StoreError."""
    from engine.storage.erofs.build import compose_index

    try:
        file = open(path, "rb")
    except FileNotFoundError:
        return False
    with file, _scratch() as fresh:
        try:
            compose_index(paths, diff_ids, fresh.name)
        except FileNotFoundError:
            return False  # removed meanwhile
        return any(a != b for a, b in _blocks(file, fresh))


def _scratch() -> BinaryIO:
    """An empty file in memory, where there is such a thing: a full disk must not keep anybody from checking it."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("index", os.MFD_CLOEXEC)
        return open(f"/proc/self/fd/{fd}", "rb", opener=lambda _path, _flags: fd)
    import tempfile

    return tempfile.NamedTemporaryFile()  # type: ignore[return-value]


def _blocks(one: BinaryIO, other: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        pair = one.read(1 << 20), other.read(1 << 20)
        if pair == (b"", b""):
            return
        yield pair


def _is_noted(tree: str, layer: str, below: str) -> bool:
    try:
        return files.read_bytes(f"{tree}.layer").decode(errors="replace").split() == [layer, *filter(None, [below])]
    except FileNotFoundError:
        return False
