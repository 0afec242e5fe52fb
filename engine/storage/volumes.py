"""Volumes: directories that outlive containers.

    volumes/NAME/volume.json   labels, the driver's options, the time of creation
    volumes/NAME/_data/        what a container sees; its owner and mode are the volume's
    volumes/NAME/staged/       only while copy-up or import is under way: engine/storage/staging.py

A volume appears complete and vanishes at once: it is made under a name that begins with a dot, which no volume has, and
renamed; removal does the reverse. Each is done under a lock, so that whatever has such a name while the lock is held is
rubbish of a process that was killed. Only root passes `volumes/`: no user of the host reaches a set-uid file in one
(CVE-2021-41091).
"""

from __future__ import annotations

import os
import time

from engine import events, files
from engine.errors import Conflict, MiniError, NotFound, StoreError, UsageError
from engine.paths import Paths
from engine.storage import staging, volume_driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_REST = _NAME_FIRST + "_.-"
_LONGEST_NAME = 255
_NEW, _REMOVED = ".new-", ".removed-"


class Volume:
    """One volume. `directory` holds its record and `path`, the directory that containers see."""

    __slots__ = ("created", "directory", "driver", "labels", "name", "options", "path", "project")

    def __init__(self, name: str, directory: str, record: dict[str, Any]) -> None:
        self.name = name
        self.directory = directory
        self.path = f"{directory}/_data"
        self.driver = volume_driver.LOCAL
        # sorted, as Go prints a map
        self.labels: dict[str, str] = dict(sorted((record.get("labels") or {}).items()))
        self.options: dict[str, str] = dict(sorted((record.get("options") or {}).items()))
        self.project: int = record.get("project") or 0
        self.created: str = record.get("created") or ""

    @property
    def anonymous(self) -> bool:
        """Made without a name: `--rm` and `rm -v` take it away with its container."""
        return ANONYMOUS_LABEL in self.labels

    @property
    def needs_mount(self) -> bool:
        """Whether something is mounted at `path` while a container has the volume: engine/containers/volumemounts.py."""
        return volume_driver.needs_mount(self.options)

    def inspect(self) -> dict[str, Any]:
        """As `docker volume inspect` has it."""
        return {
            "CreatedAt": self.created,
            "Driver": self.driver,
            "Labels": self.labels or None,
            "Mountpoint": self.path,
            "Name": self.name,
            "Options": self.options or None,
            "Scope": "local",
        }


class Volumes:
    """The volumes under one data root."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def create(
        self,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        driver: str = volume_driver.LOCAL,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """Makes a volume, or returns the one of that name as it is; without a name an anonymous one. Atomic.

        Raises UsageError in Docker's words for a bad name or bad options, NotFound for another driver.
        """
        labels, options = dict(labels or {}), dict(options or {})
        if name and is_name(name) and (known := self._load(name)) and driver in ("", known.driver):
            return known
        if not name:
            name = os.urandom(32).hex()
            labels[ANONYMOUS_LABEL] = ""
        volume_driver.check_driver(driver, name)
        check_name(name)
        volume_driver.check(options, name)
        record = {"labels": labels, "options": options, "created": _utc(time.time())}
        with self._lock():
            if known := self._load(name):
                return known
            volume = self._make(name, record)
        events.emit(self.paths, "volume", "create", name, {"driver": volume.driver})
        return volume

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        _check_given(name)
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
        _check_given(name)
        with self._lock():
            volume = self._load(name) if is_name(name) else None
            if not volume:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            if ids := list(users):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(ids)}]")
            if volume.needs_mount and volume_driver.is_mounted(volume.path):
                # what is deleted must be the volume's, not what was mounted over it
                raise Conflict(f"remove {name}: something is mounted at {volume.path}", f"umount {volume.path}")
            try:
                with staging.removing(volume.directory):
                    os.rename(volume.directory, f"{self.paths.volumes}/{_REMOVED}{os.urandom(8).hex()}")
            except BlockingIOError:
                raise Conflict(f"remove {name}: volume is in use", "it is being exported, imported or filled") from None
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
                record = {"labels": {}, "options": {}, "created": _utc(os.stat(directory).st_mtime)}
                files.write_json(f"{directory}/volume.json", record, 0o600)
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
            self._limit(name, temporary, record)
            os.mkdir(f"{temporary}/_data", 0o755)
            os.chmod(f"{temporary}/_data", 0o755)
            # An anonymous volume is of no use after a power failure: no time is spent on making its name durable.
            durable = ANONYMOUS_LABEL not in record["labels"]
            files.write_json(f"{temporary}/volume.json", record, 0o600, sync=durable)
            os.rename(temporary, directory)
            if durable:
                files.sync_dir(self.paths.volumes)
        except (OSError, MiniError) as e:
            files.remove_tree(temporary)
            if isinstance(e, MiniError):
                raise
            raise files.store_error(e, "create the volume", directory) from e
        return Volume(name, directory, record)

    def _limit(self, name: str, directory: str, record: dict[str, Any]) -> None:
        """The quota of `size`, on a project ID that no other volume has. UsageError where the file system has no quotas."""
        size = volume_driver.quota(record["options"])
        if not size:
            return
        from engine.storage import quota

        record["project"] = max([quota.FIRST_PROJECT, *(v.project for v in self.list_())]) + 1
        try:
            quota.limit(directory, record["project"], size)
        except OSError as e:
            raise UsageError(
                f"create {name}: quota size requested but no quota support",
                "it takes xfs, or ext4 with the feature project, mounted with prjquota: "
                f"{os.strerror(e.errno or 0).lower()}",
            ) from e

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


def _check_given(name: str) -> None:
    if not name:
        raise MiniError("invalid volume name or ID: value is empty")


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


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
