"""Volumes: directories that outlive containers, and `-v` as Docker reads it.

    volumes/NAME/volume.json   labels and the time of creation
    volumes/NAME/_data/        what a container sees; its owner and mode are the volume's
    volumes/NAME/staged/       only while copy-up is under way: engine/storage/copyup.py

A volume appears complete and vanishes at once: it is made under a name that begins with a dot, which no volume has, and
renamed; removal does the reverse. Each is done under a lock, so that whatever has such a name while the lock is held is
rubbish of a process that was killed. Only root passes `volumes/`: no user of the host reaches a set-uid file in one
(CVE-2021-41091).
"""

from __future__ import annotations

import os
import posixpath
import time

from engine import events, files
from engine.errors import Conflict, NotFound, StoreError, UsageError
from engine.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypedDict

    class MountPoint(TypedDict):
        """A `-v` as data. `source` is a host path (bind), a volume's name, or empty for an anonymous volume.

        `propagation` is of binds only. `relabel` is SELinux's "z", "Z" or "". `create_source`: a missing host directory
        is made, as `-v` does and `--mount` does not.
        """

        type: str
        source: str
        destination: str
        readonly: bool
        nocopy: bool
        propagation: str
        relabel: str
        create_source: bool


ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_REST = _NAME_FIRST + "_.-"
_LONGEST_NAME = 255
_NEW, _REMOVED = ".new-", ".removed-"

_MODES = {
    "access": ("ro", "rw"),
    "relabel": ("z", "Z"),
    "propagation": ("private", "rprivate", "slave", "rslave", "shared", "rshared"),
    "copy": ("nocopy",),
    "consistency": ("consistent", "cached", "delegated"),
}


class Volume:
    """One volume. `directory` holds its record and `path`, the directory that containers see."""

    __slots__ = ("created", "directory", "driver", "labels", "name", "path")

    def __init__(self, name: str, directory: str, record: dict[str, Any]) -> None:
        self.name = name
        self.directory = directory
        self.path = f"{directory}/_data"
        self.driver = "local"
        self.labels: dict[str, str] = record.get("labels") or {}
        self.created: str = record.get("created") or ""

    @property
    def anonymous(self) -> bool:
        """Made without a name: `--rm` and `rm -v` take it away with its container."""
        return ANONYMOUS_LABEL in self.labels

    def inspect(self) -> dict[str, Any]:
        """As `docker volume inspect` has it."""
        return {
            "CreatedAt": self.created,
            "Driver": self.driver,
            "Labels": self.labels or None,
            "Mountpoint": self.path,
            "Name": self.name,
            "Options": None,
            "Scope": "local",
        }


class Volumes:
    """The volumes under one data root."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def create(self, name: str | None = None, labels: Mapping[str, str] | None = None, driver: str = "local") -> Volume:
        """Makes a volume, or returns the one of that name as it is; without a name an anonymous one. Atomic.

        Raises UsageError in Docker's words for a bad name, Unsupported driver as NotFound.
        """
        if driver != "local":
            raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
        labels = dict(labels or {})
        if name:
            check_name(name)
            known = self._load(name)
            if known:
                return known
        else:
            name = os.urandom(32).hex()
            labels[ANONYMOUS_LABEL] = ""
        record = {"labels": labels, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with self._lock():
            if known := self._load(name):
                return known
            volume = self._make(name, record)
        events.emit(self.paths, "volume", "create", name, {"driver": driver})
        return volume

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        volume = self._load(name) if is_name(name) else None
        if not volume:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list_(self) -> list[Volume]:
        """Every volume, by name."""
        return [v for n in files.names_in(self.paths.volumes) if is_name(n) and (v := self._load(n))]

    def inspect(self, name: str) -> dict[str, Any]:
        return self.get(name).inspect()

    def remove(self, name: str, users: Iterable[str] = (), force: bool = False) -> None:
        """Removes the volume and what is in it. `users` are the IDs of the containers that have it, in whatever state.

        Raises Conflict while there are any, also with `force`, which only forgives that there is no such volume.
        """
        with self._lock():
            if not (is_name(name) and self._load(name)):
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            if ids := list(users):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(ids)}]")
            os.rename(self.paths.volume(name), f"{self.paths.volumes}/{_REMOVED}{os.urandom(8).hex()}")
        events.emit(self.paths, "volume", "destroy", name, {"driver": "local"})
        self.sweep()

    def sweep(self) -> None:
        """Deletes what was removed, and what killed processes left half-made. Idempotent.

        Deleting may take long, so it has a lock of its own: making a volume does not wait for it.
        """
        with self._lock():
            self._delete(_NEW)
        with files.FileLock(self.paths.lock("volumes-removed")):
            self._delete(_REMOVED)

    def leftovers(self) -> list[str]:
        """What `sweep` would delete: nobody makes or removes a volume of those names now."""
        if not os.path.isdir(self.paths.volumes):
            return []
        with self._lock():
            found = [name for name in os.listdir(self.paths.volumes) if name.startswith(_NEW)]
        try:
            with files.FileLock(self.paths.lock("volumes-removed"), wait=False):
                return found + [name for name in os.listdir(self.paths.volumes) if name.startswith(_REMOVED)]
        except Conflict:
            return found

    def restore(self, name: str) -> None:
        """Makes again what of a volume is lost, record or directory; the rest stays as it is. Raises StoreError."""
        with self._lock():
            directory = self.paths.volume(name)
            try:
                known = self._load(name)
            except StoreError:
                known = None
            if not known:
                created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(os.stat(directory).st_mtime))
                files.write_json(f"{directory}/volume.json", {"labels": {}, "created": created}, 0o600)
            files.make_dirs(f"{directory}/_data", 0o755)

    def _delete(self, prefix: str) -> None:
        for entry in os.listdir(self.paths.volumes):
            if entry.startswith(prefix):
                files.remove_tree(f"{self.paths.volumes}/{entry}")

    def _make(self, name: str, record: dict[str, Any]) -> Volume:
        directory = self.paths.volume(name)
        temporary = f"{self.paths.volumes}/{_NEW}{os.urandom(8).hex()}"
        try:
            os.mkdir(temporary, 0o700)
            os.mkdir(f"{temporary}/_data", 0o755)
            os.chmod(f"{temporary}/_data", 0o755)
            # An anonymous volume is of no use after a power failure: no time is spent on making its name durable.
            durable = ANONYMOUS_LABEL not in record["labels"]
            files.write_json(f"{temporary}/volume.json", record, 0o600, sync=durable)
            os.rename(temporary, directory)
            if durable:
                files.sync_dir(self.paths.volumes)
        except (OSError, StoreError) as e:
            files.remove_tree(temporary)
            if isinstance(e, StoreError):
                raise
            raise files.store_error(e, "create the volume", directory) from e
        return Volume(name, directory, record)

    def _load(self, name: str) -> Volume | None:
        directory = self.paths.volume(name)
        try:
            return Volume(name, directory, files.read_json(f"{directory}/volume.json"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _lock(self) -> files.FileLock:
        files.make_dirs(self.paths.root, 0o711)
        files.make_dirs(self.paths.volumes, 0o700)
        return files.FileLock(self.paths.lock("volumes"))


def check_name(name: str) -> None:
    """Raises UsageError, in Docker's words, where `name` cannot be a volume's."""
    if len(name) == 1:
        raise UsageError(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not is_name(name):
        raise UsageError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def is_name(name: str) -> bool:
    """[a-zA-Z0-9][a-zA-Z0-9_.-]+, and no longer than a file name."""
    return 1 < len(name) <= _LONGEST_NAME and name[0] in _NAME_FIRST and not name.strip(_NAME_REST)


# --- -v --------------------------------------------------------------------------------------------------------------


def parse_volume_option(value: str, cwd: str) -> MountPoint:
    """Reads `-v [SOURCE:]DESTINATION[:MODES]`. Pure; raises UsageError in Docker's words.

    A source with a leading `/` or `.` is a path on the host, a relative one below `cwd`; any other is a volume's name.
    (Docker reads it twice: cli, compose/loader/volume.go, then moby, volume/mounts/linux_parser.go.)
    """
    source, destination, modes = _split(value)
    kind = "bind" if source.startswith((".", "/")) else "volume"
    chosen = _read_modes(modes)
    error = f"invalid volume specification: '{value}': invalid mount config for type \"{kind}\": "
    if not destination.startswith("/"):
        raise UsageError(f"{error}invalid mount path: '{destination}' mount path must be absolute")
    destination = _clean(destination)
    if destination == "/":
        raise UsageError(f"{error}invalid specification: destination can't be '/'")
    if kind == "bind" and "copy" in chosen:
        raise UsageError(f"{error}field VolumeOptions must not be specified")
    if kind == "volume" and "propagation" in chosen:
        raise UsageError(f"{error}field BindOptions must not be specified")
    if kind == "bind":
        source = _clean(os.path.join(cwd, source))
    elif source:
        check_name(source)
    return {
        "type": kind,
        "source": source,
        "destination": destination,
        "readonly": chosen.get("access") == "ro",
        "nocopy": "copy" in chosen,
        "propagation": chosen.get("propagation", "rprivate") if kind == "bind" else "",
        "relabel": chosen.get("relabel", ""),
        "create_source": kind == "bind",
    }


def parse_volume_options(values: Sequence[str], cwd: str) -> list[MountPoint]:
    """Every `-v` in order. Raises UsageError where two have one destination."""
    found = [parse_volume_option(v, cwd) for v in values]
    check_duplicates(m["destination"] for m in found)
    return found


def check_duplicates(destinations: Iterable[str]) -> None:
    """Raises UsageError, in Docker's words, for the first destination that comes twice."""
    seen = set()
    for destination in destinations:
        if destination in seen:
            raise UsageError(f"Duplicate mount point: {destination}")
        seen.add(destination)


def _split(value: str) -> tuple[str, str, str]:
    if not value:
        raise UsageError("invalid empty volume spec")
    parts = value.split(":")
    if not all(parts):
        raise UsageError(f"invalid spec: {value}: empty section between colons")
    if len(parts) > 3:
        raise UsageError(f"invalid spec: {value}: too many colons")
    if len(parts) == 1:
        return "", value, ""
    if len(parts) == 2 and _known_modes(parts[1]):
        raise UsageError(f"invalid volume specification: '{value}'")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def _known_modes(modes: str) -> bool:
    try:
        _read_modes(modes)
    except UsageError:
        return False
    return True


def _read_modes(modes: str) -> dict[str, str]:
    """Kind of mode → the mode given. Each kind at most once."""
    chosen: dict[str, str] = {}
    for mode in modes.split(",") if modes else ():
        kind = next((k for k, words in _MODES.items() if mode in words), None)
        if kind is None or kind in chosen:
            raise UsageError(f"invalid mode: {modes}")
        chosen[kind] = mode
    return chosen


def _clean(path: str) -> str:
    """Go's path.Clean: normpath, without POSIX's special meaning of two leading slashes."""
    return "/" + posixpath.normpath(path).lstrip("/")
