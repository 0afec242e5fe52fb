"""Every system call that Python's `os` does not offer, typed, with the kernel's own names.

All of mini's ctypes is here, and only its C module: the Python around that takes 3 ms to import. Each wrapper raises OSError with
errno, the call's name and the path it was about; EINTR is retried once, here. Numbers from 424 on are the same on every
architecture (Linux 5.1 unified the tables); older ones are listed for x86_64 and aarch64. Nothing is looked up before it is
called, so that the module imports on any system.
"""

from __future__ import annotations

import _ctypes
import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MACHINE = os.uname().machine
_OLD_NUMBERS = {
    # name: (x86_64, aarch64)
    "capget": (125, 90),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "mount": (165, 40),
    "umount2": (166, 39),
    "setxattr": (188, 5),
    "keyctl": (250, 219),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "personality": (135, 92),
    "unshare": (272, 97),
    "setns": (308, 268),
    "seccomp": (317, 277),
    "execveat": (322, 281),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "fstatfs": (138, 44),
    "syncfs": (306, 267),
    "bpf": (321, 280),
    "clone": (56, 220),
}
_NUMBERS = {name: pair[_MACHINE == "aarch64"] for name, pair in _OLD_NUMBERS.items()} | {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}

# namespaces: clone(2), setns(2)
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00000080, 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_CLONE_PARENT, _SIGCHLD = 0x00008000, 17

# mount(2), umount2(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_REMOUNT = 1, 2, 4, 8, 16, 32
MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_BIND = 64, 128, 256, 1024, 2048, 4096
MS_MOVE, MS_REC, MS_SILENT, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE = 8192, 16384, 32768, 1 << 17, 1 << 18, 1 << 19
MS_SHARED, MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 20, 1 << 21, 1 << 24, 1 << 25
MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8

# the descriptor-based mount calls: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2)
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE = 0, 1, 5, 6, 7
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME = 0x70, 0, 0x10, 0x20
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT = -100, 0x1000, 0x8000, 0x100, 0x800

# openat2(2): how a path may be resolved
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
O_PATH = getattr(os, "O_PATH", 0o10000000)

# prctl(2)
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 3, 4, 8, 15
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 23, 24, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
KEYCTL_JOIN_SESSION_KEYRING = 1
IOPRIO_WHO_PROCESS = 1
PER_LINUX, PER_LINUX32 = 0, 8

# bpf(2)
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI = 15, 6, 2

# statfs(2) f_type
PROC_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, CGROUP_SUPER_MAGIC = 0x9FA0, 0x63677270, 0x27E0EB
OVERLAYFS_SUPER_MAGIC, EROFS_SUPER_MAGIC, TMPFS_MAGIC = 0x794C7630, 0xE0F5E1E2, 0x01021994
DEVPTS_SUPER_MAGIC, PIPEFS_MAGIC = 0x1CD1, 0x50495045


def _type(letter: str) -> Any:
    """A C type, by its letter in `struct`; "z" is a pointer to a string."""
    return type(letter, (_ctypes._SimpleCData,), {"_type_": letter})


_Char, _Int, _Long, _U8, _U16, _U32, _U64, _String = map(_type, "cilBHIQz")


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_syscall = _Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall"))  # type: ignore[arg-type]


def _bytes(path: str | bytes | None) -> bytes | None:
    return os.fsencode(path) if path is not None else None


def _call(name: str, *args: Any, path: str | bytes | None = None) -> int:
    """Makes the system call; every int goes as a long, as the kernel's ABI has it (ctypes alone would pass an int)."""
    plain = [_Long(a) if isinstance(a, int) else a for a in args]
    number = _NUMBERS[name]
    while True:
        result: int = _syscall(_Long(number), *plain)
        if result >= 0:
            return result
        code = _ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, f"{name}: {os.strerror(code)}", path)


# --- namespaces ----------------------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """unshare(2). CLONE_NEWPID acts on the next child only."""
    _call("unshare", flags)


def setns(fd: int, nstype: int = 0) -> None:
    """setns(2). `fd` is a namespace file, or a pidfd with the CLONE_NEW* flags of the namespaces to join (Linux 5.8)."""
    _call("setns", fd, nstype)


def fork_sibling() -> int:
    """clone(2) with CLONE_PARENT: fork(2), but the child is the caller's parent's. 0 in the child, else its process id.

    Python's own bookkeeping after a fork is not done: for a process of one thread, whose child soon executes a program.
    """
    return _call("clone", _CLONE_PARENT | _SIGCHLD, 0, 0, 0, 0)


def sethostname(name: str) -> None:
    raw = os.fsencode(name)
    _call("sethostname", raw, len(raw), path=name)


def setdomainname(name: str) -> None:
    raw = os.fsencode(name)
    _call("setdomainname", raw, len(raw), path=name)


# --- mounts --------------------------------------------------------------------------------------------------------


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). `data` is limited to one page; use fsopen for longer options."""
    _call("mount", _bytes(source), _bytes(target), _bytes(fstype), flags, _bytes(data), path=target)


def umount2(target: str, flags: int = 0) -> None:
    _call("umount2", _bytes(target), flags, path=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). With `.` for both, the old root is stacked under the new one, ready for umount2(".", MNT_DETACH)."""
    _call("pivot_root", _bytes(new_root), _bytes(put_old), path=new_root)


def fsopen(fstype: str) -> int:
    """fsopen(2), Linux 5.2: a descriptor of a file system that is yet to be configured. The caller closes it."""
    return _call("fsopen", _bytes(fstype), FSOPEN_CLOEXEC, path=fstype)


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None, aux: int = 0) -> None:
    """fsconfig(2). A string value is limited to 255 bytes by the kernel: shorten paths by /proc/self/fd/N."""
    try:
        _call("fsconfig", fd, command, _bytes(key), _bytes(value), aux, path=value or key)
    except OSError as e:
        if detail := fs_message(fd):
            raise OSError(e.errno, f"{e.strerror} ({detail})", e.filename) from None
        raise


def fs_message(fd: int) -> str:
    """What the kernel logged into a file system context (read(2) on the descriptor of fsopen), or an empty string."""
    lines = []
    while True:
        try:
            line = os.read(fd, 512).decode(errors="replace").strip()
            lines.append(line.removeprefix("e ").removeprefix("w ").removeprefix("i "))  # its level
        except OSError:
            return "; ".join(lines)


def fspick(fd: int) -> int:
    """fspick(2): a descriptor to reconfigure the file system with whose mount `fd` is the top of. The caller closes it."""
    return _call("fspick", fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount of the file system configured at `fd`. The caller closes it."""
    return _call("fsmount", fd, FSMOUNT_CLOEXEC, attributes)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2). With OPEN_TREE_CLONE: a detached bind mount, read from the path without putting it anywhere."""
    return _call("open_tree", dirfd, _bytes(path), flags | OPEN_TREE_CLOEXEC, path=path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str) -> None:
    """move_mount(2): attaches a detached mount. Empty paths mean the descriptors themselves."""
    flags = (0 if from_path else MOVE_MOUNT_F_EMPTY_PATH) | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    _call("move_mount", from_fd, _bytes(from_path), to_fd, _bytes(to_path), flags, path=to_path or None)


class _MountAttr(_ctypes.Structure):
    _fields_ = [(n, _U64) for n in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def mount_setattr(
    fd: int, path: str, set_: int = 0, clear: int = 0, propagation: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """mount_setattr(2), Linux 5.12. `set_`/`clear` are MOUNT_ATTR_*, `propagation` one of MS_SHARED/SLAVE/PRIVATE/UNBINDABLE."""
    attr = _MountAttr(set_, clear, propagation, userns_fd)
    flags = (AT_EMPTY_PATH if not path else 0) | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", fd, _bytes(path), flags, _ctypes.byref(attr), _ctypes.sizeof(attr), path=path or None)


def fstatfs_type(fd: int) -> int:
    """f_type of fstatfs(2): which file system `fd` is on (the *_MAGIC constants)."""
    buffer = (_Char * 256)()
    _call("fstatfs", fd, buffer)
    return int.from_bytes(buffer.raw[:8], "little")


def syncfs(fd: int) -> None:
    """syncfs(2): everything on the file system of `fd` is on disk when this returns."""
    _call("syncfs", fd)


class _DiskQuota(_ctypes.Structure):
    """struct fs_disk_quota (linux/dqblk_xfs.h); blocks are of 512 bytes. Fields after the limits stay 0."""

    _fields_ = [
        ("version", _U8),
        ("flags", _U8),
        ("fieldmask", _U16),
        ("id", _U32),
        ("blk_hardlimit", _U64),
        ("blk_softlimit", _U64),
        ("rest", _U8 * 88),
    ]


# QCMD(Q_XSETQLIM, PRJQUOTA), QCMD(Q_XGETQSTAT, PRJQUOTA)
_SET_PROJECT_QUOTA, _GET_QUOTA_STATE = 0x5804 << 8 | 2, 0x5805 << 8 | 2
_PROJECT_LIMITS_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD


def enforces_project_limits(fd: int) -> bool:
    """quotactl_fd(2): whether the file system of `fd` does more than count (`prjquota`). Raises OSError where it has no quotas."""
    state = (_Char * 256)()  # struct fs_quota_stat: version, then from byte 2 the flags
    _call("quotactl_fd", fd, _GET_QUOTA_STATE, 0, state)
    return bool(int.from_bytes(state.raw[2:4], sys.byteorder) & _PROJECT_LIMITS_ENFORCED)


def set_project_limit(fd: int, project: int, size: int) -> None:
    """quotactl_fd(2), Linux 5.14: at most `size` bytes for the project on the file system of `fd`."""
    soft_and_hard = 1 << 2 | 1 << 3
    quota = _DiskQuota(1, 2, soft_and_hard, project, size // 512, size // 512)
    _call("quotactl_fd", fd, _SET_PROJECT_QUOTA, project, _ctypes.byref(quota))


# --- paths ---------------------------------------------------------------------------------------------------------


class _OpenHow(_ctypes.Structure):
    _fields_ = [(n, _U64) for n in ("flags", "mode", "resolve")]


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), Linux 5.6. With RESOLVE_IN_ROOT the path and every symlink in it are resolved as if `dirfd` were `/`.

    EAGAIN (a rename raced with `..`) is retried, as the manual advises. The descriptor is close-on-exec.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(64):
        try:
            return _call("openat2", dirfd, _bytes(path) or b".", _ctypes.byref(how), _ctypes.sizeof(how), path=path)
        except OSError as e:
            if e.errno != errno.EAGAIN or attempt == 63:
                raise
    raise AssertionError("unreachable")


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """close_range(2), Linux 5.9: closes every descriptor from `first` to `last`, inclusive."""
    _call("close_range", first, last, 0)


# --- the process ---------------------------------------------------------------------------------------------------


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    return _call("prctl", option, arg2, arg3, arg4, arg5)


class _CapHeader(_ctypes.Structure):
    _fields_ = [("version", _U32), ("pid", _U32)]


_CAP_VERSION_3 = 0x20080522


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on this thread; each argument is a bit mask of capability numbers."""
    header = _CapHeader(_CAP_VERSION_3, 0)
    words = []
    for shift in (0, 32):
        words += [(s >> shift) & 0xFFFFFFFF for s in (effective, permitted, inheritable)]
    _call("capset", _ctypes.byref(header), (_U32 * 6)(*words))


def capget() -> tuple[int, int, int]:
    """capget(2) of this thread: (effective, permitted, inheritable) as bit masks."""
    header = _CapHeader(_CAP_VERSION_3, 0)
    data = (_U32 * 6)()
    _call("capget", _ctypes.byref(header), data)
    low, high = list(data)[:3], list(data)[3:]
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


class _SockFprog(_ctypes.Structure):
    _fields_ = [("len", _U16), ("filter", _String)]


def seccomp_set_filter(program: bytes, flags: int = 0) -> int:
    """seccomp(2) SECCOMP_SET_MODE_FILTER. `program` is an array of struct sock_filter (8 bytes each).

    Needs no_new_privs or CAP_SYS_ADMIN in the user namespace. Returns 0, or the listener with FILTER_FLAG_NEW_LISTENER.
    """
    return _call("seccomp", SECCOMP_SET_MODE_FILTER, flags, _ctypes.byref(_SockFprog(len(program) // 8, program)))


def keyctl_join_session_keyring(name: str | None = None) -> None:
    """keyctl(2): a new session keyring, so that the container does not hold its caller's keys. None: one without a name."""
    _call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, _bytes(name), path=name)


def execveat(fd: int, path: str, argv: list[str], env: dict[str, str], flags: int = 0) -> None:
    """execveat(2): replaces the program by the file at `fd` (AT_EMPTY_PATH) or below it. Returns only by raising."""
    args = (_String * (len(argv) + 1))(*[os.fsencode(a) for a in argv], None)
    pairs = [os.fsencode(f"{k}={v}") for k, v in env.items()]
    envp = (_String * (len(pairs) + 1))(*pairs, None)
    _call("execveat", fd, _bytes(path), args, envp, flags, path=path or None)


class _SchedAttr(_ctypes.Structure):
    """struct sched_attr, with the two fields of Linux 5.3; an older kernel takes them where they are 0."""

    _fields_ = [
        ("size", _U32),
        ("policy", _U32),
        ("flags", _U64),
        ("nice", _Int),
        ("priority", _U32),
        ("runtime", _U64),
        ("deadline", _U64),
        ("period", _U64),
        ("util_min", _U32),
        ("util_max", _U32),
    ]


def sched_setattr(
    pid: int, *, policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2); the times are nanoseconds."""
    attr = _SchedAttr(_ctypes.sizeof(_SchedAttr), policy, flags, nice, priority, runtime, deadline, period)
    _call("sched_setattr", pid, _ctypes.byref(attr), 0)


def ioprio_set(which: int, who: int, ioprio: int) -> None:
    _call("ioprio_set", which, who, ioprio)


def personality(persona: int) -> int:
    return _call("personality", persona)


# --- bpf -----------------------------------------------------------------------------------------------------------

_BPF_PROG_LOAD, _BPF_PROG_ATTACH, _BPF_PROG_DETACH, _BPF_PROG_GET_FD_BY_ID, _BPF_PROG_QUERY = 5, 8, 9, 13, 16


def _bpf(command: int, *words: int) -> tuple[int, tuple[int, ...]]:
    """bpf(2) with a union bpf_attr of 32-bit `words`; also returns them as the kernel left them."""
    attr = (_U32 * len(words))(*words)
    return _call("bpf", command, _ctypes.byref(attr), _ctypes.sizeof(attr)), tuple(attr)


def _halves(memory: Any) -> tuple[int, int]:
    address = _ctypes.addressof(memory)
    return address & 0xFFFFFFFF, address >> 32


def bpf_prog_load(kind: int, program: bytes) -> int:
    """BPF_PROG_LOAD of `program` (struct bpf_insn, 8 bytes each) as type `kind`. The caller closes the descriptor."""
    code, license_name = (_Char * len(program))(*program), (_Char * 16)(*b"Apache-2.0")
    return _bpf(_BPF_PROG_LOAD, kind, len(program) // 8, *_halves(code), *_halves(license_name))[0]


def bpf_prog_attach(target: int, program: int, kind: int, flags: int) -> None:
    """BPF_PROG_ATTACH of `program` to the cgroup open at `target`."""
    _bpf(_BPF_PROG_ATTACH, target, program, kind, flags)


def bpf_prog_detach(target: int, program: int, kind: int) -> None:
    """BPF_PROG_DETACH of `program` from the cgroup open at `target`."""
    _bpf(_BPF_PROG_DETACH, target, program, kind)


def bpf_prog_query(target: int, kind: int) -> list[int]:
    """BPF_PROG_QUERY: ids of the programs attached to the cgroup open at `target` itself, 64 at most."""
    ids = (_U32 * 64)()
    count = _bpf(_BPF_PROG_QUERY, target, kind, 0, 0, *_halves(ids), len(ids), 0)[1][6]
    return list(ids[:count])


def bpf_prog_get_fd_by_id(identifier: int) -> int:
    """BPF_PROG_GET_FD_BY_ID. The caller closes the descriptor."""
    return _bpf(_BPF_PROG_GET_FD_BY_ID, identifier)[0]
