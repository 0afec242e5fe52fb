"""Namespaces: which to make, which to join, and who has to do it. docs/namespaces.md explains each.

    by the parent, for the child it forks next       pid, time (unshare(2) and setns(2) never move the caller itself)
    by the child                                      mount, network, uts, ipc
    by the child, when it is in its cgroup            cgroup (its root is the cgroup that the caller is in at that moment)
    before all of these, by a process that goes ahead user (process/userns.py: it owns those that are made from within it)

namespaces(7), pid_namespaces(7), cgroup_namespaces(7); OCI runtime spec, config-linux.md "Namespaces".
"""

from __future__ import annotations

import _socket
import fcntl
import os
import sys

from engine import linux
from engine.errors import RuntimeFault, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Spec

# OCI's name: (clone flag, name below /proc/PID/ns). User first: it owns those that are made after it.
KINDS = {
    "user": (linux.CLONE_NEWUSER, "user"),
    "mount": (linux.CLONE_NEWNS, "mnt"),
    "network": (linux.CLONE_NEWNET, "net"),
    "uts": (linux.CLONE_NEWUTS, "uts"),
    "ipc": (linux.CLONE_NEWIPC, "ipc"),
    "cgroup": (linux.CLONE_NEWCGROUP, "cgroup"),
    "pid": (linux.CLONE_NEWPID, "pid"),
    "time": (linux.CLONE_NEWTIME, "time"),
}
FOR_CHILDREN = ("pid", "time")
PROCESSORS = range(1024)  # CPU_SETSIZE; the kernel takes those of the cpuset (sched_setaffinity(2))
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)


class Namespaces:
    """What a spec asks for: `new` names, and `join` {name: path}. A name in neither is shared with the caller."""

    __slots__ = ("join", "new")

    def __init__(self, new: list[str], join: dict[str, str]) -> None:
        self.new = new
        self.join = join

    @property
    def user(self) -> bool:
        """Whether there is a user namespace to make or to join."""
        return "user" in self.new or "user" in self.join

    def flags(self, *names: str) -> int:
        """The CLONE_NEW* flags of those among `names` that are to be made."""
        return sum(KINDS[name][0] for name in names if name in self.new)

    def open_for_children(self) -> list[tuple[int, int]]:
        """(descriptor, flag) of each pid or time namespace to be joined; the caller closes them. Raises RuntimeFault."""
        return [(open_file(name, self.join[name]), KINDS[name][0]) for name in FOR_CHILDREN if name in self.join]

    def enter(self) -> None:
        """Joins all but those for children and the user's. All are opened first: in a mount namespace that is joined, the
        paths may lead elsewhere. Raises RuntimeFault."""
        opened = {name: open_file(name, path) for name, path in self.join.items() if name not in FOR_CHILDREN}
        for name, fd in opened.items():
            join_opened(name, self.join[name], fd)
            os.close(fd)


def of(spec: Spec) -> Namespaces:
    """Reads `linux.namespaces`. Raises RuntimeFault for a name that is unknown or given twice."""
    new: list[str] = []
    join: dict[str, str] = {}
    for entry in spec.get("linux", {}).get("namespaces", ()):
        name, path = entry["type"], entry.get("path")
        if name not in KINDS or name in new or name in join:
            raise RuntimeFault("namespaces", f"unknown or repeated namespace: {name}")
        if path:
            join[name] = path
        else:
            new.append(name)
    if "mount" not in new and "mount" not in join:
        raise RuntimeFault("namespaces", "a container needs a mount namespace, new or another's")
    return Namespaces(new, join)


def join_opened(name: str, path: str, fd: int) -> None:
    """setns(2) by descriptor; `path` only names it. Raises RuntimeFault."""
    try:
        linux.setns(fd, KINDS[name][0])
    except OSError as e:
        raise _fault(name, path, e) from e


def open_file(name: str, path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise _fault(name, path, e) from e


def _fault(name: str, path: str, e: OSError) -> RuntimeFault:
    text = f"cannot join the {name} namespace {path}: {os.strerror(e.errno or 0).lower()}"
    return RuntimeFault("namespaces", text, e.errno or 0, path)


def check_kind(path: str, name: str, where: str) -> None:
    """Raises UsageError where `path` is no namespace of this type. One that cannot be opened is left to whoever joins it."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        is_it = fcntl.ioctl(fd, _NS_GET_NSTYPE) == KINDS[name][0]
    except OSError:
        is_it = False
    finally:
        os.close(fd)
    if not is_it:
        raise UsageError(f"{where}: {path} is not a {name} namespace")


def is_ours(path: str, name: str) -> bool:
    """Whether `path` is the namespace of this type that the caller is in."""
    try:
        return os.path.samestat(os.stat(path), os.stat(f"/proc/self/ns/{KINDS[name][1]}"))
    except OSError:
        return False


def time_offsets(spec: Spec) -> str:
    """`linux.timeOffsets` as /proc/PID/timens_offsets takes it (time_namespaces(7)), empty where there are none."""
    offsets = spec.get("linux", {}).get("timeOffsets", {})
    return "".join(f"{clock} {o.get('secs', 0)} {o.get('nanosecs', 0)}\n" for clock, o in offsets.items())


class VisitNetwork:
    """The calling thread is in another network namespace; a socket made there stays there. A context manager.

    `path` is a namespace file, for instance /proc/PID/ns/net. Raises OSError.
    """

    __slots__ = ("_own", "_path")

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            theirs = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                linux.setns(theirs, linux.CLONE_NEWNET)
            finally:
                os.close(theirs)
        except OSError:
            os.close(self._own)
            raise

    def __exit__(self, *exc: object) -> None:
        try:
            linux.setns(self._own, linux.CLONE_NEWNET)
        finally:
            os.close(self._own)


class ChildNamespaces:
    """The pid and time namespaces that this process's next children are born into, put back on leaving.

    A context manager. `new` flags are unshared; `join` is a list of (descriptor, flags) for setns(2). The caller stays
    where it is, and its later children are born there again, hence it can wait for the one between as its own child.
    """

    __slots__ = ("_join", "_kept", "_new", "_offsets")

    def __init__(self, new: int = 0, join: list[tuple[int, int]] | None = None, offsets: str = "") -> None:
        self._new = new
        self._join = join or []
        self._offsets = offsets
        self._kept: list[tuple[int, int]] = []

    def __enter__(self) -> None:
        flags = self._new
        for _, joined in self._join:
            flags |= joined
        for name in FOR_CHILDREN:
            flag, file = KINDS[name]
            if flags & flag:
                self._kept.append((os.open(f"/proc/self/ns/{file}", os.O_RDONLY | os.O_CLOEXEC), flag))
        try:
            if self._new:
                linux.unshare(self._new)
            for fd, flag in self._join:
                linux.setns(fd, flag)
            if self._offsets:
                # time_namespaces(7): only before the first process is in it
                with open("/proc/self/timens_offsets", "w") as offsets:
                    offsets.write(self._offsets)
        except OSError:
            self.__exit__()
            raise

    def __exit__(self, *exc: object) -> None:
        kept, self._kept = self._kept, []
        try:
            for fd, flag in kept:
                linux.setns(fd, flag)
        finally:
            for fd, _ in kept:
                os.close(fd)


def different_from_ours(pid: int) -> list[str]:
    """The names of the namespaces in which process `pid` is and the caller is not. Raises OSError."""
    names = []
    for name, (_, file) in KINDS.items():
        try:
            if not os.path.samestat(os.stat(f"/proc/{pid}/ns/{file}"), os.stat(f"/proc/self/ns/{file}")):
                names.append(name)
        except FileNotFoundError:
            if not os.path.exists(f"/proc/{pid}"):
                raise
    return names


_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def set_loopback_up() -> None:
    """In a network namespace that this process has just made; netdevice(7). Raises OSError."""
    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        flags = int.from_bytes(
            fcntl.ioctl(control.fileno(), _SIOCGIFFLAGS, b"lo".ljust(40, b"\0"))[16:18], sys.byteorder
        )
        request = b"lo".ljust(16, b"\0") + (flags | _IFF_UP).to_bytes(2, sys.byteorder) + bytes(22)
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, request)
    finally:
        control.close()


# --- kernel parameters that belong to a namespace --------------------------------------------------------------------

_IPC_KEYS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def set_sysctl(key: str, value: str, namespaces: Namespaces, proc_sys: int) -> None:
    """Sets a kernel parameter where that changes the container only. Raises RuntimeFault, OSError.

    Anything else is the host's: `kernel.core_pattern` would be executed there. `proc_sys` is a descriptor of a /proc/sys that
    can be trusted (CVE-2025-52881); the kernel shows in it the namespaces of whoever opens, whoever mounted it.
    """
    fd = os.open(_sysctl_path(key, namespaces), os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_sys)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def sysctl_owner(key: str) -> str:
    """The type of the namespace that has the key, "" where all of the host shares it."""
    parts = key.split("/") if "/" in key else key.split(".")
    dotted = ".".join(parts)
    if ".." in parts or "" in parts:
        return ""
    if parts[0] == "net":
        return "network"
    if dotted in _IPC_KEYS or dotted.startswith("fs.mqueue."):
        return "ipc"
    return "uts" if dotted == "kernel.domainname" else ""


def _sysctl_path(key: str, namespaces: Namespaces) -> str:
    parts = key.split("/") if "/" in key else key.split(".")
    owner = sysctl_owner(key)
    if not owner:
        raise RuntimeFault("sysctl", f'sysctl "{key}" is not in a separate kernel namespace')
    if owner not in namespaces.new and owner not in namespaces.join:
        raise RuntimeFault("sysctl", f'sysctl "{key}" needs a {owner} namespace of the container\'s own')
    return "/".join(parts)
