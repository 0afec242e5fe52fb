"""Mounts: data first (OCI's `destination`, `type`, `source`, `options`), then executed through descriptors.

    options ──parse──> Plan ──┬─ bind         open_tree(2) clone
                              └─ file system  fsopen(2), fsconfig(2) …, fsmount(2)
                                   └─> a detached mount ──mount_setattr(2)──> move_mount(2) onto a descriptor

A detached mount is invisible until it is complete: there is no moment at which a read-only bind is writable, and its place
is a descriptor that was resolved once, not a path that somebody may change. Needs Linux 5.12 (mount_setattr).
"""

from __future__ import annotations

import errno
import os

from engine import host, linux
from engine.errors import RuntimeFault, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Mount

_ATIME = linux.MOUNT_ATTR__ATIME
# option: (attributes to set, attributes to clear). OCI runtime spec, config.md "Linux mount options"; mount(8).
_ATTRIBUTES = {
    "ro": (linux.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, linux.MOUNT_ATTR_RDONLY),
    "nosuid": (linux.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, linux.MOUNT_ATTR_NOSUID),
    "nodev": (linux.MOUNT_ATTR_NODEV, 0),
    "dev": (0, linux.MOUNT_ATTR_NODEV),
    "noexec": (linux.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, linux.MOUNT_ATTR_NOEXEC),
    "nodiratime": (linux.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, linux.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (linux.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, linux.MOUNT_ATTR_NOSYMFOLLOW),
    # mount_setattr(2): the access time modes are one field, which must be cleared as a whole when it is set
    "relatime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
    "noatime": (linux.MOUNT_ATTR_NOATIME, _ATIME),
    "strictatime": (linux.MOUNT_ATTR_STRICTATIME, _ATIME),
    "atime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (linux.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
}
_PROPAGATION = {
    "shared": linux.MS_SHARED,
    "slave": linux.MS_SLAVE,
    "private": linux.MS_PRIVATE,
    "unbindable": linux.MS_UNBINDABLE,
}
# Flags of the super block, which fsconfig(2) takes by these names.
_SUPERBLOCK = frozenset(["ro", "rw", "sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"])
_IGNORED = frozenset(("", "defaults", "silent", "loud"))
# Flags of mount(2), which a file system that counts no versions takes and forgets there, and refuses in fsconfig(2).
_UNCOUNTED = frozenset(("iversion", "noiversion"))
# What fsconfig(2) copies is cut at 256 bytes with the terminator; these values are paths and can be shortened.
_LONGEST_VALUE = 255
_LOWERDIR_APPEND = (6, 5)  # Linux with overlayfs's `lowerdir+`
_PATH_KEYS = frozenset(("source", "device", "lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"))


class Plan:
    """What a mount's options ask for. Pure data, made by `parse`.

    `set`/`clear` act on the mount, `set_all`/`clear_all` on it and all below it (options such as `rro`); `propagation` is
    a list of (MS_*, recursive) in the order given; `idmap` is "idmap" or "ridmap" where ids are mapped; `data` the file
    system's own (key, value or None for a flag).
    """

    __slots__ = (
        "bind", "clear", "clear_all", "copy_up", "data", "idmap", "propagation", "recursive", "remount", "set", "set_all",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bind = False
        self.recursive = False
        self.remount = False
        self.copy_up = False
        self.idmap = ""
        self.set = self.clear = self.set_all = self.clear_all = 0
        self.propagation: list[tuple[int, bool]] = []
        self.data: list[tuple[str, str | None]] = []

    def unknown_to_mounts(self) -> list[str]:
        """The options that a file system would have to know, and a bind mount mounts none."""
        return [key for key, _ in self.data if key not in _SUPERBLOCK and key not in _UNCOUNTED]


def parse(m: Mount) -> Plan:
    """Reads mount(8)'s words. Later ones win; what is no word of ours belongs to the file system, as it stands."""
    plan = Plan()
    plan.bind = m.get("type") == "bind"
    if m.get("uidMappings"):
        plan.idmap = "idmap"
    for word in m.get("options", ()):
        bare = word[1:] if word.startswith("r") else ""
        if word in ("bind", "rbind"):
            plan.bind, plan.recursive = True, word == "rbind"
        elif word in _ATTRIBUTES:
            plan.set, plan.clear = _merge(plan.set, plan.clear, _ATTRIBUTES[word])
            if word in _SUPERBLOCK:
                plan.data.append((word, None))
        elif word in _PROPAGATION:
            plan.propagation.append((_PROPAGATION[word], False))
        elif bare in _PROPAGATION:
            plan.propagation.append((_PROPAGATION[bare], True))
        elif bare in _ATTRIBUTES:
            plan.set_all, plan.clear_all = _merge(plan.set_all, plan.clear_all, _ATTRIBUTES[bare])
        elif word == "remount":
            plan.remount = True
        elif word == "tmpcopyup":
            plan.copy_up = True
        elif word in ("idmap", "ridmap"):
            plan.idmap = word
        elif word not in _IGNORED:
            key, separator, value = word.partition("=")
            plan.data.append((key, value if separator else None))
    return plan


def option_words() -> list[str]:
    """Every option that `parse` knows itself (`mini-runtime features` tells them); others are the file system's."""
    both = [*_ATTRIBUTES, *_PROPAGATION]
    recursive = [f"r{word}" for word in both]
    more = ("bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap")
    words = {*both, *recursive, *_SUPERBLOCK, *_IGNORED, *_UNCOUNTED, *more}
    return sorted(words - {""})


def _merge(set_: int, clear: int, change: tuple[int, int]) -> tuple[int, int]:
    """`change` after what was said before: a bit that it sets is cleared no longer, and the reverse."""
    more, less = change
    field = _ATIME if less & _ATIME else 0
    set_ = set_ & ~less | more
    clear = (clear & ~more | less) if not field else clear | field
    return set_, clear


def describe(m: Mount) -> str:
    """The mount in a message: `proc at /proc`, `/srv at /data`."""
    kind = m.get("type", "")
    what = m.get("source", kind) if kind in ("bind", "") else kind
    return f"{what} at {m['destination']}"


def fault(m: Mount, e: OSError) -> RuntimeFault:
    return RuntimeFault(
        "mount", f"cannot mount {describe(m)}: {reason(e)}", e.errno or 0, m["destination"], hint_for(e)
    )


def hint_for(e: OSError) -> str | None:
    return f"this kernel is {os.uname().release}; mini needs Linux 5.12 or later" if e.errno == errno.ENOSYS else None


def reason(e: OSError) -> str:
    """The kernel's error in lower case, with what it logged into a file system context where there is something."""
    text = os.strerror(e.errno).lower() if e.errno else str(e)
    _, bracket, detail = (e.strerror or "").partition(" (")
    return text + bracket + detail


# --- execution -----------------------------------------------------------------------------------------------------


def detached(m: Mount, plan: Plan) -> int:
    """The mount, complete but attached nowhere yet; the caller closes the descriptor. Raises OSError."""
    if "fd" in m:
        fd = os.dup(m["fd"])
    elif plan.bind:
        fd = linux.open_tree(
            linux.AT_FDCWD, m["source"], linux.OPEN_TREE_CLONE | (linux.AT_RECURSIVE if plan.recursive else 0)
        )
    else:
        fd = _new_filesystem(m["type"], m.get("source", ""), plan)
    try:
        if plan.idmap and "fd" not in m:  # that is mapped already
            _map_ids(fd, m, plan)
        if plan.bind and (plan.set or plan.clear):
            _set_attributes(fd, plan.set, plan.clear, recursive=False)
        if plan.set_all or plan.clear_all:
            _set_attributes(fd, plan.set_all, plan.clear_all, recursive=True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _map_ids(fd: int, m: Mount, plan: Plan) -> None:
    """The spec's mappings are read as those of a user namespace: `containerID` is on disk, `hostID` what the host sees through
    the mount (mount_setattr(2), MOUNT_ATTR_IDMAP)."""
    from engine.runtime import idmap

    uids = [(r["containerID"], r["hostID"], r["size"]) for r in m.get("uidMappings", ())]
    gids = [(r["containerID"], r["hostID"], r["size"]) for r in m.get("gidMappings", ())]
    idmap.apply(fd, uids, gids, plan.idmap == "ridmap", describe(m))


def _set_attributes(fd: int, set_: int, clear: int, recursive: bool) -> None:
    """mount_setattr(2). What a mount brings into a user namespace is locked there (mount_namespaces(7)): its access time mode
    stays then, its protection may grow, and taking any away fails."""
    try:
        linux.mount_setattr(fd, "", set_, clear, recursive=recursive)
    except PermissionError:
        if not clear & _ATIME:
            raise
        linux.mount_setattr(fd, "", set_ & ~_ATIME, clear & ~_ATIME, recursive=recursive)


def _new_filesystem(fstype: str, source: str, plan: Plan) -> int:
    try:
        return _make_filesystem(fstype, source, plan)
    except PermissionError:
        if fstype != "sysfs":
            raise
    # In a user namespace that does not own the network namespace: what is there is shown instead, as crun does
    fd = linux.open_tree(linux.AT_FDCWD, "/sys", linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE)
    try:
        _set_attributes(fd, plan.set, plan.clear, recursive=True)
    except OSError:
        os.close(fd)
        raise
    return fd


def _make_filesystem(fstype: str, source: str, plan: Plan) -> int:
    context = linux.fsopen(fstype)
    opened = [context]
    try:
        if source:
            linux.fsconfig(context, linux.FSCONFIG_SET_STRING, "source", _short("source", source, opened))
        with _ShortLists(plan.data, opened) as data:
            configure(context, data, opened)
            linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        return linux.fsmount(context, plan.set)
    finally:
        for fd in opened:
            os.close(fd)


def configure(context: int, data: list[tuple[str, str | None]], opened: list[int]) -> None:
    for key, value in data:
        try:
            if value is None:
                linux.fsconfig(context, linux.FSCONFIG_SET_FLAG, key)
            else:
                linux.fsconfig(context, linux.FSCONFIG_SET_STRING, key, _short(key, value, opened))
        except OSError as e:
            if e.errno != errno.EINVAL or key not in _UNCOUNTED:
                raise


class _ShortLists:
    """overlayfs's `lowerdir=A:B:C`, where too long for one value, in the way that this kernel takes it.

    Since Linux 6.5 as one `lowerdir+` each. Before, as the names of descriptors, "12:13:14", looked up in the working
    directory, /proc/self/fd meanwhile: that is room for some seventy.
    """

    def __init__(self, data: list[tuple[str, str | None]], opened: list[int]) -> None:
        self._data, self._opened, self._before = data, opened, -1

    def __enter__(self) -> list[tuple[str, str | None]]:
        result: list[tuple[str, str | None]] = []
        for key, value in self._data:
            if key != "lowerdir" or not value or ":" not in value or len(os.fsencode(value)) <= _LONGEST_VALUE:
                result.append((key, value))
            elif host.kernel_version() >= _LOWERDIR_APPEND:
                result += [("lowerdir+", part) for part in value.split(":")]
            else:
                result.append((key, self._descriptors(value.split(":"))))
        return result

    def _descriptors(self, paths: list[str]) -> str:
        first = len(self._opened)
        self._opened += [os.open(path, linux.O_PATH | os.O_CLOEXEC) for path in paths]
        names = ":".join(str(fd) for fd in self._opened[first:])
        if len(names) > _LONGEST_VALUE:
            raise Unsupported(f"this kernel does not take an overlay of {len(paths)} directories", "Linux 6.5 does")
        self._before = os.open(".", linux.O_PATH | os.O_CLOEXEC)
        os.chdir("/proc/self/fd")
        return names

    def __exit__(self, *_: object) -> None:
        if self._before >= 0:
            os.fchdir(self._before)
            os.close(self._before)


def _short(key: str, value: str, opened: list[int]) -> str:
    """`value`, or a short name for the same path where fsconfig(2) would refuse its length."""
    if key not in _PATH_KEYS or len(os.fsencode(value)) <= _LONGEST_VALUE:
        return value
    opened.append(os.open(value, linux.O_PATH | os.O_CLOEXEC))
    return f"/proc/self/fd/{opened[-1]}"


def attach(fd: int, target: int, plan: Plan | None = None) -> None:
    """Puts the detached mount `fd` onto what the descriptor `target` is. Raises OSError."""
    linux.move_mount(fd, "", target, "")
    for propagation, recursive in plan.propagation if plan else ():
        linux.mount_setattr(fd, "", propagation=propagation, recursive=recursive)


def mount(m: Mount, target: int) -> None:
    """Mounts `m` onto the descriptor `target`; its `destination` only names it in errors. Raises RuntimeFault."""
    try:
        plan = parse(m)
        fd = detached(m, plan)
        try:
            attach(fd, target, plan)
        finally:
            os.close(fd)
    except OSError as e:
        raise fault(m, e) from e


def mount_host(m: Mount) -> None:
    """Mounts `m` at its `destination` in this mount namespace; the directory exists. Raises RuntimeFault."""
    try:
        target = os.open(m["destination"], linux.O_PATH | os.O_CLOEXEC)
    except OSError as e:
        raise fault(m, e) from e
    try:
        mount(m, target)
    finally:
        os.close(target)


def unmount(path: str) -> bool:
    """Detaches what is mounted at `path` (MNT_DETACH: it goes when its last user does); False where nothing was.

    Never follows a symlink in the last component. Raises RuntimeFault.
    """
    try:
        linux.umount2(path, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
        return True
    except OSError as e:
        if e.errno in (errno.EINVAL, errno.ENOENT):
            return False
        raise RuntimeFault("unmount", f"cannot unmount {path}: {reason(e)}", e.errno or 0, path) from e
