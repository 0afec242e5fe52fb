"""A container's /dev: the nodes and links that every Linux program expects, and those that the spec adds.

OCI runtime spec, config-linux.md "Default Devices" and runtime-linux.md "Dev symbolic links".
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import defaults, inside, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Mount, Spec

LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_NULL = os.makedev(1, 3)


def is_at_dev(m: Mount) -> bool:
    return os.path.normpath(m["destination"]) == "/dev"


def is_own(spec: Spec) -> bool:
    """Whether /dev is the container's to fill; one that is bound from elsewhere is its owner's."""
    return not any(is_at_dev(m) and mounts.parse(m).bind for m in spec.get("mounts", ()))


def without_ro(m: Mount) -> Mount:
    """A read-only /dev becomes that when all its nodes are in it (init.py); every other mount as it is."""
    if not is_at_dev(m) or mounts.parse(m).bind:
        return m
    return {**m, "options": [word for word in m.get("options", ()) if word != "ro"]}


def populate(spec: Spec, root: int) -> None:
    """Makes the nodes and links below `root`; expects umask 0 and the host's /proc. Raises RuntimeFault, OSError."""
    if not is_own(spec):
        return
    wanted = {node["path"]: node for node in defaults.DEFAULT_DEVICES}
    wanted |= {node["path"]: node for node in spec.get("linux", {}).get("devices", ())}
    wanted.pop("/dev/ptmx", None)  # one of all the host's devices; a container's is a link (config-linux.md)
    for node in wanted.values():
        _make(node, root)
    _make_links(root)


def _make_links(root: int) -> None:
    dev = inside.make_dir(root, "/dev")
    try:
        for name, target in LINKS:
            if name == "core" and not os.path.exists(target):  # the kernel may be built without
                continue
            try:
                os.symlink(target, name, dir_fd=dev)
            except FileExistsError:
                pass
    finally:
        os.close(dev)


def _make(node: dict[str, Any], root: int) -> None:
    path = os.path.normpath(node["path"])
    try:
        kind = _KINDS[node["type"]]
        number = os.makedev(node["major"], node["minor"]) if kind != stat.S_IFIFO else 0
        directory, name = os.path.split(path)
        parent = inside.make_dir(root, directory)
        try:
            os.mknod(name, kind | node.get("fileMode", 0o666), number, dir_fd=parent)
            uid, gid = node.get("uid") or 0, node.get("gid") or 0
            if uid or gid:
                os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            _expect(name, kind, number, parent)
        except PermissionError:
            _bind(path, kind, number, root, node.get("fd", -1))
        finally:
            os.close(parent)
    except OSError as e:
        text = f"cannot make the device {path}: {mounts.reason(e)}"
        raise RuntimeFault("device", text, e.errno or 0, path) from e


def _expect(name: str, kind: int, number: int, parent: int) -> None:
    """An image may ship a /dev; what stands at a device's name in it must be that device."""
    if not _is(os.stat(name, dir_fd=parent, follow_symlinks=False), kind, number):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _is(info: os.stat_result, kind: int, number: int) -> bool:
    return stat.S_IFMT(info.st_mode) == kind and (not number or info.st_rdev == number)


def make_detached(node: dict[str, Any], owner: tuple[int, int]) -> int:
    """The node as a mount that is attached nowhere yet, for who may not make one; `owner` as the host has it. Raises OSError."""
    m: Mount = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "nosuid", "noexec"]}
    directory = mounts.detached(m, mounts.parse(m))
    try:
        kind = _KINDS[node["type"]]
        number = os.makedev(node["major"], node["minor"]) if kind != stat.S_IFIFO else 0
        os.mknod("node", kind, number, dir_fd=directory)
        os.chown("node", *owner, dir_fd=directory, follow_symlinks=False)
        os.chmod("node", node.get("fileMode", 0o666), dir_fd=directory)  # whatever the caller's umask
        return linux.open_tree(directory, "node", linux.OPEN_TREE_CLONE)
    finally:
        os.close(directory)


def _bind(path: str, kind: int, number: int, root: int, made: int) -> None:
    """Where mknod(2) is not permitted (a user namespace, an outer container): what was `made` outside, or else the host's own."""
    target = inside.make_file(root, path)
    try:
        fd = os.dup(made) if made >= 0 else linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE)
        try:
            if not _is(os.fstat(fd), kind, number):
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), path)
            mounts.attach(fd, target)
        finally:
            os.close(fd)
    finally:
        os.close(target)


def open_null(root: int, flags: int = linux.O_PATH) -> int:
    """The /dev/null below `root`, proven to be it: a link in its place would be bound over what is to be hidden, and so
    expose it, or be written to (CVE-2025-31133). Raises OSError, ENODEV where it is something else."""
    if flags != linux.O_PATH:
        flags |= os.O_NONBLOCK | os.O_NOCTTY  # whatever it turns out to be, opening it must not wait for anybody
    fd = inside.open_in(root, "/dev/null", flags)
    if is_null(fd):
        return fd
    os.close(fd)
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), "/dev/null")


def is_null(fd: int) -> bool:
    """Whether the descriptor is a null device, of the host's or of a container's /dev."""
    info = os.fstat(fd)
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == _NULL
