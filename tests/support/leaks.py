"""What a data root's containers may have left on the host, and the broom for it when a test has failed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from engine import linux
from engine.runtime.network.model import DRIVERS

if TYPE_CHECKING:
    from tests.support.runner import Mini


class Hierarchy(NamedTuple):
    """A mounted cgroup tree. On version 2 the controllers are those that its root has."""

    path: str
    version: int
    controllers: set[str]


def hierarchies() -> list[Hierarchy]:
    found = []
    for fields, kind, _, options in _mounts():
        if kind == "cgroup":
            found.append(Hierarchy(fields[4], 1, set(options.split(","))))
        elif kind == "cgroup2":
            with open(f"{fields[4]}/cgroup.controllers") as file:
                found.append(Hierarchy(fields[4], 2, set(file.read().split())))
    return found


def directories(top: str) -> list[str]:
    """The directories below `top`, deepest first, without `top` itself."""
    return [path for path, _, _ in os.walk(top, topdown=False) if path != top]


def find(mini: Mini, images_too: bool) -> list[str]:
    """One line for each thing that is left."""
    left = [f"mount {target}" for target in mounts_below(mini.root) if images_too or not _is_image_mount(mini, target)]
    left += [f"link {name}" for name in container_links(mini.bridge)]
    left += [f"cgroup {path}" for path in cgroups(mini.cgroup_parent)]
    left += [f"process {pid} {_command(pid)}" for pid in processes(mini)]
    left += [f"loop device of {path}" for path in _loop_files() if path.startswith(f"{mini.root}/")]
    kept = ["containers", "names", "run/containers", "run/volumes", "downloads"]
    if images_too:
        kept += ["blobs", "images", "tags", "layers", "indexes", "trees", "volumes", "run/images"]
    left += [f"file {path}" for name in kept for path in _files(os.path.join(mini.root, name))]
    networks = os.path.join(mini.root, "networks")
    left += [f"lease or endpoint {path}" for path in _files(networks) if "/leases/" in path or "/endpoints/" in path]
    left += (
        [f"network {name}" for name in os.listdir(networks) if name not in DRIVERS] if os.path.isdir(networks) else []
    )
    return left


def mounts_below(root: str) -> list[str]:
    """Mount points at or below a directory, last mounted first."""
    targets = [_unescape(fields[4]) for fields, _, _, _ in _mounts()]
    return [target for target in reversed(targets) if target == root or target.startswith(f"{root}/")]


def container_links(bridge: str) -> list[str]:
    """Links that are neither loopback nor a bridge: veths, wherever they belong. Each session has its own namespace."""
    out = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^\d+: ([^:@]+)", out, re.MULTILINE)
    master = re.findall(rf"^\d+: ([^:@]+).* master {re.escape(bridge)} ", out, re.MULTILINE)
    return [name for name in names if name.startswith("veth") or name in master]


def processes(mini: Mini) -> list[int]:
    """Those started with this data root in their environment, or in one of its cgroups. No zombies."""
    return [pid for pid in _pids() if _belongs(mini, pid)]


def sweep(mini: Mini) -> None:
    """Removes what `find` finds, the bridge and the cgroup parents, after a failure; and the last two always."""
    for pid in processes(mini):
        with contextlib.suppress(ProcessLookupError):  # it ends just now
            os.kill(pid, signal.SIGKILL)
    for target in mounts_below(mini.root):
        linux.umount2(target, linux.MNT_DETACH)
    for name in [*container_links(mini.bridge), mini.bridge]:
        subprocess.run(["ip", "link", "delete", name], capture_output=True)
    remove_cgroups(mini.cgroup_parent)


def cgroups(parent: str) -> list[str]:
    """The cgroups below one, in every hierarchy."""
    return [path for tree in hierarchies() for path in directories(tree.path + parent)]


def remove_cgroups(parent: str) -> None:
    """Those without processes: all below one, and itself, in every hierarchy."""
    for path in [*cgroups(parent), *(tree.path + parent for tree in hierarchies())]:
        try:
            os.rmdir(path)
        except OSError:
            pass


def _mounts() -> Iterator[tuple[list[str], str, str, str]]:
    """proc_pid_mountinfo(5): the fields before the dash, then type, source and the superblock's options."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, right = line.split(" - ", 1)
            kind, source, options = right.split()
            yield left.split(), kind, source, options


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _is_image_mount(mini: Mini, target: str) -> bool:
    """An image's index stays mounted while the image is there: it is a cache that its containers share."""
    return target.startswith(f"{mini.root}/run/images/")


def _files(top: str) -> list[str]:
    return [
        os.path.join(path, name) for path, names, files in os.walk(top) for name in [*files, *names] if name != "sha256"
    ]


def _loop_files() -> list[str]:
    found = []
    for name in os.listdir("/sys/block") if os.path.isdir("/sys/block") else []:
        try:
            with open(f"/sys/block/{name}/loop/backing_file") as file:
                found.append(file.read().strip())
        except OSError:
            pass
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _belongs(mini: Mini, pid: int) -> bool:
    if re.search(rb"^State:\s+[ZX]", _read(pid, "status"), re.MULTILINE):
        return False
    root = b"MINI_ROOT=" + os.fsencode(mini.root)
    parent = os.fsencode(mini.cgroup_parent) + b"/"
    return root in _read(pid, "environ").split(b"\0") or parent in _read(pid, "cgroup")


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
