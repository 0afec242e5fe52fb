"""Container records: one directory a container, replaced file by file, never seen half-written.

    containers/ID/config.json   what was asked for: Docker's inspect object without its State; changes only by rename and update
    containers/ID/state.json    what became of it: Docker's State object, and what the monitor needs to find again
    containers/ID/lock          flock: whoever changes the container's life holds it
    names/NAME                  reserved by exclusive creation; holds the ID

A container exists when its directory has a config.json *and* its name points to it. Creation writes the directory first
and reserves the name last, removal goes the other way round, so that a SIGKILL at any instant leaves either a whole
container or rubbish that nobody sees and `engine.upkeep` removes.
"""

from __future__ import annotations

import errno
import os

from engine import files, host, lean
from engine.errors import Conflict, MiniError, NotFound, StoreError
from engine.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RUNNING = ("running", "paused", "restarting")


def process_start(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc_pid_stat(5), field 22), 0 where there is none or a zombie.

    A pid is reused; a pid with its start time and boot id is not.
    """
    try:
        fields = files.read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def new_state() -> dict[str, Any]:
    """State of a container that was created and never started, with Docker's field names."""
    return {
        "Status": "created",
        "Running": False,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "0001-01-01T00:00:00Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    }


class Record:
    """A container on disk. `config` is read once; `state` is read when asked for, since its monitor changes it."""

    __slots__ = ("_config", "directory", "id", "paths")

    def __init__(self, paths: Paths, container_id: str, config: dict[str, Any] | None = None) -> None:
        self.paths = paths
        self.id = container_id
        self.directory = paths.container(container_id)
        self._config = config

    @property
    def config(self) -> dict[str, Any]:
        if self._config is None:
            try:
                self._config = files.read_json(f"{self.directory}/config.json")
            except FileNotFoundError:
                raise NotFound(f"No such container: {self.id[:12]}") from None
        return self._config

    @property
    def name(self) -> str:
        name: str = self.config["Name"]
        return name.removeprefix("/")

    def is_called(self, name: str) -> bool:
        """False also where it is gone: of a rename or removal that was cut short, a name may be left over."""
        try:
            return self.name == name
        except NotFound:
            return False

    def reload(self) -> None:
        """For who holds a record for long: `rename` and `update` replace its config. One that is gone or damaged is not taken."""
        try:
            found = files.read_json(f"{self.directory}/config.json")
        except (FileNotFoundError, StoreError):
            return
        if isinstance(found, dict) and found.get("Id") == self.id:
            self._config = found

    def save_config(self) -> None:
        files.write_json(f"{self.directory}/config.json", self.config, sync=False)

    def load_state(self) -> dict[str, Any]:
        """The State as last written: not checked against the kernel (`alive` does that)."""
        try:
            state: dict[str, Any] = files.read_json(f"{self.directory}/state.json")
        except FileNotFoundError:
            return new_state()
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Written without a disk flush: after a power loss no container runs, and an old state says no worse."""
        status = state["Status"]
        state["Running"] = status in RUNNING
        state["Paused"] = status == "paused"
        state["Restarting"] = status == "restarting"
        path = f"{self.directory}/state.json"
        try:
            files.write_json(path, state, sync=False)
        except StoreError as e:
            if not isinstance(e.__cause__, OSError) or e.__cause__.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # how a container ended is not lost for a full disk: the old file's block is there
            try:
                files.overwrite(path, lean.dumps(state) + b"\n")
            except StoreError:
                if "Health" not in state:
                    raise
                brief = state | {"Health": state["Health"] | {"Log": []}}
                files.overwrite(path, lean.dumps(brief) + b"\n")

    def lock(self, wait: bool = True) -> files.FileLock:
        """Held while the container is started, stopped, removed or repaired. NotFound once its directory is gone."""
        if not os.path.isdir(self.directory):
            raise NotFound(f"No such container: {self.id[:12]}")
        return files.FileLock(f"{self.directory}/lock", wait=wait)

    @property
    def paused_mark(self) -> str:
        """A file that is there while the container is paused. Not in the state, which only the monitor writes."""
        return f"{self.paths.container_run(self.id)}/paused"

    @property
    def monitor_log(self) -> str:
        """Why its monitor failed, if it did: a file with a traceback, of its last run only."""
        return f"{self.directory}/monitor.log"

    @property
    def log_path(self) -> str:
        return f"{self.directory}/container.log"


def mark_process(state: dict[str, Any], key: str, pid: int) -> None:
    """Notes a process in the state so that `is_alive` can tell it from a later one with the same pid."""
    state[key] = pid
    state[f"{key}Start"] = process_start(pid)
    state["BootId"] = host.boot_id()


def is_alive(state: dict[str, Any], key: str) -> bool:
    """Whether the process noted under `key` ("Pid", "MonitorPid") still runs."""
    pid = state.get(key) or 0
    started = state.get(f"{key}Start") or 0
    return bool(pid and started and process_start(pid) == started and state.get("BootId") == host.boot_id())


def create(paths: Paths, record: Record, fill: Callable[[], object] | None = None) -> None:
    """Makes the container exist: its directory, config and state, then its name. Conflict where the name is taken.

    `fill` makes what else belongs into the directory, before the name does: what has a name is whole.
    """
    files.make_dirs(paths.containers, 0o700)
    files.make_dirs(paths.names, 0o700)
    try:
        os.mkdir(record.directory, 0o710)
        record.save_config()
        record.save_state(new_state())
        if fill:
            fill()
        _reserve(paths, record.name, record.id)
    except BaseException as e:
        files.remove_tree(record.directory)
        if isinstance(e, OSError):
            raise files.store_error(e, "create the container", record.directory) from e
        raise


def _reserve(paths: Paths, name: str, container_id: str) -> None:
    path = paths.name(name)
    for _ in range(2):
        try:
            return files.create_exclusive(path, container_id.encode())
        except FileExistsError:
            holder = name_holder(paths, name)
            if holder and holder != container_id and _has_name(paths, holder, name):
                break
            # its container was removed or renamed half-way: the name is free, and taken below by one of those who want it
            files.remove_file(path)
    holder = name_holder(paths, name) or "?"
    raise Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def _has_name(paths: Paths, container_id: str, name: str) -> bool:
    """Whether the container has the name, or may be getting it at this moment."""
    record = Record(paths, container_id)
    try:
        with record.lock(wait=False):
            return record.is_called(name)
    except NotFound:
        return False
    except Conflict:
        return True


def rename(record: Record, name: str) -> None:
    """Gives it another name; the caller holds its lock. Conflict where that is taken.

    The new name first, then the config that has it, the old one last: of two names, the one in the config counts.
    """
    old = record.name
    _reserve(record.paths, name, record.id)
    record.config["Name"] = f"/{name}"
    try:
        record.save_config()
    except BaseException:
        record.config["Name"] = f"/{old}"
        files.remove_file(record.paths.name(name))
        raise
    files.remove_file(record.paths.name(old))


def name_holder(paths: Paths, name: str) -> str | None:
    try:
        return files.read_bytes(paths.name(name)).decode()
    except OSError:
        return None


def remove(record: Record) -> None:
    """Makes the container cease to exist; the caller holds its lock and has stopped it. The name goes first."""
    # its name may be another one than when it was read
    record.reload()
    if name_holder(record.paths, record.name) == record.id:
        files.remove_file(record.paths.name(record.name))
    files.remove_tree(record.paths.container_run(record.id))
    files.remove_tree(record.directory)


def list_all(paths: Paths, wanted: Callable[[Record], bool] | None = None) -> list[Record]:
    """Every container, newest first; with `wanted`, those that it says yes to before their config is read."""
    records = []
    for name in files.names_in(paths.names):
        holder = None if name.startswith(".") else name_holder(paths, name)
        if not holder:
            continue
        record = Record(paths, holder)
        try:
            if (wanted is None or wanted(record)) and record.name == name:
                records.append(record)
        except NotFound:
            continue
    records.sort(key=lambda r: r.config["Created"], reverse=True)
    return records


def find(paths: Paths, name: str) -> Record:
    """By full ID, by name, or by a unique prefix of the ID, in Docker's order. NotFound; Conflict if ambiguous."""
    if not name:
        raise MiniError("invalid container name or ID: value is empty")
    plain = name.removeprefix("/")
    if "/" not in plain and plain not in ("", ".", ".."):
        if len(plain) == 64 and os.path.exists(f"{paths.container(plain)}/config.json"):
            return Record(paths, plain)
        holder = name_holder(paths, plain)
        if holder and (named := Record(paths, holder)).is_called(plain):
            return named
        matches = _by_prefix(paths, plain)
        if len(matches) == 1:
            return Record(paths, matches[0])
        if matches:
            raise Conflict(f"multiple IDs found with provided prefix: {plain}", "give more characters of the ID")
    raise NotFound(f"No such container: {name}")


def _by_prefix(paths: Paths, prefix: str) -> list[str]:
    if prefix.strip("0123456789abcdef"):
        return []
    return [
        entry
        for entry in files.names_in(paths.containers)
        if entry.startswith(prefix) and os.path.exists(f"{paths.container(entry)}/config.json")
    ]


def volume_users(paths: Paths, name: str) -> list[str]:
    """IDs of the containers that have the volume in their config, whether they run or not."""
    return [
        record.id
        for record in list_all(paths)
        if any(m["Type"] == "volume" and m["Name"] == name for m in record.config["Mounts"])
    ]


def using_volumes(paths: Paths, shared: bool) -> files.FileLock:
    """Shared: held from the look-up of a container's volumes until its record names them. Exclusive: by who removes one."""
    return files.FileLock(paths.lock("volumes-in-use"), shared)
