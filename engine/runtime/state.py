"""A container of mini-runtime on disk, and what state it is in.

    ROOT/ID/              made exclusively: who made it has the name. A flock(2) on it is held by who changes the container
            state.json    replaced atomically; what `mini-runtime state` tells and more
            config.json   the spec as it was when the container was created
            start.sock    while it is created: init listens here for who will start it (channel.start_created)
            notify/       where the runtime was given a $NOTIFY_SOCKET (oci_cli/notify.py)

`creating` → `created` → `running` ⇄ `paused` → `stopped`. Nothing says so on the disk: the process, the socket and the freezer do,
so a runtime that was killed leaves nothing that lies. What the container took from the host is named in state.json before it is
taken, so `delete --force` finds it.
"""

from __future__ import annotations

import fcntl
import os

from engine import files
from engine.errors import Conflict, NotFound, StoreError, UsageError
from engine.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from engine.oci.runtime import Spec
    from engine.runtime.cgroups.manager import Cgroup

_SOCKET = "start.sock"
_ALWAYS = {"ociVersion", "bundle", "rootfs", "created", "owner", "annotations", "cgroup", "creator", "creatorStartTime"}
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+,-.")


class Container:
    """One container's directory, opened; `data` is its state.json."""

    __slots__ = ("data", "directory", "_fd")

    def __init__(self, directory: str, data: dict[str, Any], fd: int) -> None:
        self.directory = directory
        self.data = data
        self._fd = fd

    @property
    def id(self) -> str:
        return os.path.basename(self.directory)

    @property
    def pid(self) -> int:
        """Its first process while that lives, or 0."""
        pid: int = self.data.get("pid", 0)
        return pid if pid and start_time(pid) == self.data["startTime"] else 0

    @property
    def place(self) -> str:
        """The directory by its descriptor: a socket's name has 107 bytes at most, whatever the directory's (unix(7))."""
        return f"/proc/self/fd/{self._fd}"

    @property
    def socket(self) -> str:
        return f"{self.place}/{_SOCKET}"

    @property
    def cgroup(self) -> Cgroup | None:
        from engine.runtime.cgroups import locate

        name = self.data.get("cgroup")
        return locate.cgroup(name) if name else None

    def status(self) -> str:
        if not self.data.get("pid"):
            return (
                "creating"
                if start_time(self.data.get("creator", 0)) == self.data.get("creatorStartTime")
                else "stopped"
            )
        if not self.pid:
            return "stopped"
        cgroup = self.cgroup
        if cgroup and cgroup.is_frozen():
            return "paused"
        return "created" if os.path.exists(f"{self.directory}/{_SOCKET}") else "running"

    def state(self) -> dict[str, Any]:
        """The state as OCI's runtime.md and runc have it."""
        status = self.status()
        state = {"ociVersion": self.data["ociVersion"], "id": self.id, "pid": 0 if status == "stopped" else self.pid}
        state |= {"status": status, "bundle": self.data["bundle"], "rootfs": self.data["rootfs"]}
        state["created"] = self.data["created"]
        if self.data["annotations"]:
            state["annotations"] = self.data["annotations"]
        return state

    def facts(self) -> dict[str, Any]:
        """What of OCI's state never changes, for hooks."""
        names = ("ociVersion", "id", "bundle", "rootfs", "annotations")
        return {name: self.id if name == "id" else self.data[name] for name in names}

    def pidfd(self) -> int:
        """A descriptor of its first process, proven to be it and no other with its number; -1 where it has ended."""
        try:
            fd = os.pidfd_open(self.data.get("pid", 0))
        except OSError:  # ESRCH; EINVAL for 0
            return -1
        if self.pid:
            return fd
        os.close(fd)
        return -1

    def signal(self, number: int) -> None:
        """Sends it to the first process. Conflict where that has ended."""
        fd = self.pidfd()
        if fd < 0:
            raise Conflict("container not running")
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            raise Conflict("container not running") from None
        finally:
            os.close(fd)

    def lock(self) -> None:
        """Waits until nobody else changes the container, and reads its state again. NotFound where it was deleted meanwhile.

        Held until this process and the children that it forks meanwhile end, or `close`.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.data = _read(self.directory)

    def unlock(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def save(self) -> None:
        files.write_json(f"{self.directory}/state.json", self.data, 0o600, sync=False)

    def save_process(self, pid: int) -> None:
        self.data["pid"], self.data["startTime"] = pid, start_time(pid)
        self.save()

    def save_spec(self, raw: bytes) -> None:
        files.write_atomic(f"{self.directory}/config.json", raw, 0o600, sync=False)

    def spec(self) -> Spec:
        spec: Spec = files.read_json(f"{self.directory}/config.json")
        return spec

    def remove(self) -> None:
        """Its name is free then."""
        files.remove_tree(self.directory)

    def close(self) -> None:
        os.close(self._fd)


def reserve(root: str, container_id: str, data: dict[str, Any]) -> Container:
    """Makes the container's directory, locked, with this state. Conflict where there is one, UsageError for what is no ID."""
    check_id(container_id)
    directory = f"{root}/{container_id}"
    try:
        files.make_dirs(root, 0o700)
        os.mkdir(directory, 0o711)
    except FileExistsError:
        raise Conflict("container with given ID already exists") from None
    except OSError as e:
        raise files.store_error(e, "create the directory", directory) from e
    made = Container(directory, data, _open(directory))
    fcntl.flock(made._fd, fcntl.LOCK_EX)
    data["creator"], data["creatorStartTime"] = os.getpid(), start_time(os.getpid())
    made.save()
    return made


def check_free(root: str, container_id: str) -> None:
    """Conflict where the ID is taken: for what is looked at before `reserve`, which alone is sure."""
    if os.path.lexists(f"{root}/{container_id}"):
        raise Conflict("container with given ID already exists")


def find(root: str, container_id: str) -> Container:
    """Raises NotFound, StoreError where its state is damaged."""
    check_id(container_id)
    directory = f"{root}/{container_id}"
    return Container(directory, _read(directory), _open(directory))


def remove_reserved(root: str, container_id: str) -> bool:
    """Removes what is left of a name whose owner was killed before it had a state; False where it has one."""
    check_id(container_id)
    directory = f"{root}/{container_id}"
    if os.path.exists(f"{directory}/state.json"):
        return False
    files.remove_tree(directory)
    return True


def find_all(root: str, damaged: Callable[[str], None]) -> list[Container]:
    """Every container there is, by ID. `damaged` is told of a state that cannot be read."""
    found = []
    for name in files.names_in(root):
        try:
            if os.path.isdir(f"{root}/{name}"):
                found.append(find(root, name))
        except (NotFound, UsageError):
            continue
        except StoreError as e:
            damaged(e.message)
    return found


def _read(directory: str) -> dict[str, Any]:
    path = f"{directory}/state.json"
    try:
        data: dict[str, Any] = files.read_json(path)
    except FileNotFoundError:
        raise NotFound("container does not exist") from None
    if not isinstance(data, dict) or not data.keys() >= _ALWAYS:
        raise StoreError(f"{path} is damaged: no container's state")
    return data


def _open(directory: str) -> int:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("container does not exist") from None


def check_id(container_id: str) -> None:
    """runc's rule: the ID is a directory's name."""
    if container_id in ("", ".", "..") or not _ID_CHARACTERS.issuperset(container_id):
        raise UsageError("invalid container ID format")


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot (proc_pid_stat(5)): with the pid, it names one process only.

    0 where there is none, or it is dead and not reaped yet.
    """
    try:
        # the name, in parentheses, may hold anything
        fields = files.read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
