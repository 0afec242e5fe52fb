"""The container's root: put together in a mount namespace that nobody else sees, then made the only one there is.

    isolate     nothing mounted from here on reaches the host
    assemble    the root's own mounts (an overlay, say) at `root.path`
    …           the spec's mounts, devices and links (mounts.py, devices.py)
    switch      pivot_root(2); the host's tree is detached
    restrict    masked and read-only paths, a read-only root

mount_namespaces(7), pivot_root(2), Documentation/filesystems/sharedsubtree.rst.
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import devices, inside, mounts, rootmounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Mount
    from engine.runtime.cgroups.manager import Cgroup

PROPAGATION = {
    "shared": linux.MS_SHARED,
    "slave": linux.MS_SLAVE,
    "private": linux.MS_PRIVATE,
    "unbindable": linux.MS_UNBINDABLE,
}


def propagation_flag(word: str) -> int:
    """MS_* of a `rootfsPropagation` such as "rslave". Raises RuntimeFault."""
    flag = PROPAGATION.get(word.removeprefix("r"))
    if flag is None:
        raise RuntimeFault("rootfs", f"unknown root file system propagation: {word}")
    return flag


def isolate(propagation: str, path: str) -> None:
    """Sets the propagation of everything in the new mount namespace: slaves, unless the spec wants the root shared.

    A slave sees what the host mounts later (a bind with `rslave` relies on it), the host never sees ours. Shared, it
    would, so then the mount that holds `path` is made private (runc: rootfsParentMountPrivate); pivot_root(2) refuses a
    shared parent anyway.
    """
    shared = propagation_flag(propagation or "rslave") == linux.MS_SHARED
    flag, recursive = (linux.MS_SHARED, propagation.startswith("r")) if shared else (linux.MS_SLAVE, True)
    try:
        linux.mount_setattr(linux.AT_FDCWD, "/", propagation=flag, recursive=recursive)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        raise RuntimeFault(
            "rootfs",
            "cannot isolate the mounts: / is not a mount point",
            errno.EINVAL,
            "/",
            "mini runs in a chroot: bind its directory onto itself (mount --bind DIR DIR) before entering it",
        ) from e
    if shared:
        _make_private(os.path.realpath(path))


def _make_private(path: str) -> None:
    """The mount that `path` is on: the nearest name above it that the kernel takes for a mount point."""
    while True:
        try:
            linux.mount_setattr(linux.AT_FDCWD, path, propagation=linux.MS_PRIVATE)
            return
        except OSError as e:
            if e.errno != errno.EINVAL or path == "/":
                raise
        path = os.path.dirname(path)


def bind_of(path: str, propagation: str) -> Mount:
    """A directory as a root: bound onto itself, since a root must be a mount point. A slave still sees the host's mounts in it."""
    slave = propagation.endswith("slave")
    return {"destination": "/", "type": "bind", "source": path, "options": ["rbind", "rslave" if slave else "rprivate"]}


def assemble(wanted: list[Mount] | int, path: str, propagation: str = "") -> int:
    """Mounts the root at `path` and returns a descriptor of it. Destinations are relative to `path`; the first is `/`.

    A descriptor instead of mounts is the root already, as a detached mount, and is attached. Without mounts the directory
    itself is the root. Raises RuntimeFault.
    """
    if isinstance(wanted, int):
        return _attach(wanted, path)
    if not wanted:
        wanted = [bind_of(path, propagation)]
    try:
        root = os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for m in wanted:
            rootmounts.mount_inside(m, root)
            root = topmost(m, root, path)
        return root
    except OSError as e:
        text = f"cannot use {path} as a root file system: {mounts.reason(e)}"
        raise RuntimeFault("rootfs", text, e.errno or 0, path) from e


def topmost(m: Mount, root: int, path: str) -> int:
    """The root after `m` was mounted in it: what covers `root`, which is closed then, if that was mounted over `/`."""
    if os.path.normpath(f"/{m['destination']}").strip("/"):
        return root
    os.close(root)
    return os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _attach(detached: int, path: str) -> int:
    try:
        linux.move_mount(detached, "", linux.AT_FDCWD, path)
        return os.dup(detached)
    except OSError as e:
        text = f"cannot mount the root file system at {path}: {mounts.reason(e)}"
        raise RuntimeFault("rootfs", text, e.errno or 0, path) from e


def mount_cgroup(m: Mount, root: int, cgroup: Cgroup | None) -> None:
    """Shows the container its own cgroup at `destination`.

    On a v2 host the tree itself: its root is the cgroup that the cgroup namespace was made in. On v1 and hybrid hosts what
    Docker shows: a tmpfs with one directory a hierarchy, bound from the container's own cgroup, and links for controllers
    that share one. Without a cgroup of its own the tmpfs stays empty.
    """
    if m.get("type") == "cgroup2" or (cgroup and not cgroup.layout.v1):
        _mount_v2(m, root, cgroup)
        return
    words = m.get("options", [])
    options = ["nosuid", "nodev", "noexec", "mode=755"]
    rootmounts.mount_inside({**m, "type": "tmpfs", "source": "tmpfs", "options": options}, root)
    top = inside.open_in(root, m["destination"], linux.O_PATH | os.O_DIRECTORY)
    try:
        if cgroup:
            _bind_hierarchies(cgroup, words, top)
        if "ro" in words:
            linux.mount_setattr(top, "", linux.MOUNT_ATTR_RDONLY)
    finally:
        os.close(top)


def _mount_v2(m: Mount, root: int, cgroup: Cgroup | None) -> None:
    try:
        rootmounts.mount_inside({**m, "type": "cgroup2", "source": "cgroup"}, root)
    except RuntimeFault as e:
        if e.errno != errno.EPERM or not cgroup or not cgroup.layout.v2:
            raise
        # a user namespace, and the host's cgroup namespace, which it does not own
        source = cgroup.layout.v2 + cgroup.path
        rootmounts.mount_inside(
            {**m, "type": "bind", "source": source, "options": ["bind", *m.get("options", ())]}, root
        )


def _bind_hierarchies(cgroup: Cgroup, words: list[str], top: int) -> None:
    for hierarchy in cgroup.layout.v1_roots:
        name = os.path.basename(hierarchy)
        bind: Mount = {"destination": name, "type": "bind", "source": hierarchy + cgroup.path, "options": words}
        rootmounts.mount_inside(bind, top)
    for controller, hierarchy in cgroup.layout.v1.items():
        name = os.path.basename(hierarchy)
        if controller != name and not controller.startswith("name="):
            os.symlink(name, controller, dir_fd=top)


# --- switching -----------------------------------------------------------------------------------------------------


def switch(root: int, pivot: bool = True) -> None:
    """Makes `root` this process's `/`, and detaches everything else from the mount namespace. Raises OSError.

    pivot_root(".", ".") stacks the old root over the new one, so no directory in the container is needed for it
    (pivot_root(2), NOTES). It cannot replace the initramfs: then, and without `pivot`, `root` is moved over `/`.
    """
    _leave_chroot()
    os.fchdir(root)
    if not pivot:
        _move_over_root()
        return
    old = os.open("/", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        linux.pivot_root(".", ".")
        os.fchdir(old)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        _move_over_root()
        return
    finally:
        os.close(old)
    # A slave first: detaching must not unmount anything on a host whose mounts are shared.
    linux.mount_setattr(linux.AT_FDCWD, ".", propagation=linux.MS_SLAVE, recursive=True)
    linux.umount2(".", linux.MNT_DETACH)
    os.chdir("/")


def _leave_chroot() -> None:
    """Puts `/` at the real root of this process's mount namespace, which entering a namespace does, even one's own.

    Where mini itself runs in a chroot, what lies above that would otherwise stay mounted over the container's root, one
    `chroot x; cd ../..` away (chroot(2)), and is where a later setns(2), `exec`'s, would arrive.
    """
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(fd, linux.CLONE_NEWNS)
    finally:
        os.close(fd)


def _move_over_root() -> None:
    """What switch_root(8) does. The old root stays underneath, so first all that is mounted in it goes: a container with
    CAP_SYS_ADMIN that dug it out would find no /proc, /sys or disk of the host there."""
    here = os.getcwd()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[4] for line in file]
    for point in reversed(points):
        if point != "/" and not f"{here}/".startswith(f"{point}/") and not f"{point}/".startswith(f"{here}/"):
            try:
                linux.umount2(point, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
            except OSError:
                pass
    linux.mount(".", "/", None, linux.MS_MOVE)
    os.chroot(".")
    os.chdir("/")


# --- restricting ---------------------------------------------------------------------------------------------------


def mask(paths: list[str], root: int) -> None:
    """Hides paths: a directory under an empty read-only tmpfs, a file under /dev/null; one that does not exist is fine.

    Raises OSError, ENODEV where the container's /dev/null is not the null device (CVE-2025-31133).
    """
    null = empty = -1
    try:
        for path in paths:
            target = _existing(path, root)
            if target < 0:
                continue
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode):
                    # attached, it can be cloned for the next one; detached, only since Linux 6.15
                    if empty < 0:
                        empty = _empty_directory()
                        mounts.attach(empty, target)
                    else:
                        _bind(empty, target)
                else:
                    null = null if null >= 0 else devices.open_null(root)
                    _bind(null, target)
            finally:
                os.close(target)
    finally:
        for fd in (null, empty):
            if fd >= 0:
                os.close(fd)


def _empty_directory() -> int:
    m: Mount = {"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}
    return mounts.detached(m, mounts.parse(m))


def make_readonly(paths: list[str], root: int) -> None:
    """Binds each path onto itself, read-only with all that is mounted below; one that does not exist is fine."""
    for path in paths:
        target = _existing(path, root)
        if target < 0:
            continue
        try:
            _bind(target, target, linux.MOUNT_ATTR_RDONLY)
        finally:
            os.close(target)


def remount_readonly(path: str, root: int) -> None:
    """The mount at `path` itself, not what is mounted below."""
    target = inside.open_in(root, path)
    try:
        linux.mount_setattr(target, "", linux.MOUNT_ATTR_RDONLY)
    finally:
        os.close(target)


def _existing(path: str, root: int) -> int:
    try:
        return inside.open_in(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _bind(source: int, target: int, attributes: int = 0) -> None:
    recursive = linux.AT_RECURSIVE if attributes else 0
    tree = linux.open_tree(source, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH | recursive)
    try:
        if attributes:
            linux.mount_setattr(tree, "", attributes, recursive=True)
        mounts.attach(tree, target)
    finally:
        os.close(tree)
