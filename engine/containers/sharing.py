"""Namespaces that a container shares, with the host or with another container: `--pid`, `--ipc`, `--uts`, `--network` …

A mode is checked, and a container's name in it resolved to its ID, when the container is created; the namespace itself is
found when it starts, in the process that the other one then has.
"""

from __future__ import annotations

import os

from engine.containers import netoptions, records
from engine.containers.views import refresh
from engine.errors import Conflict, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.options import CreateOptions
    from engine.context import Context

HOST, CONTAINER = "host", "container:"
# the spec's name of each namespace, and the key of HostConfig that says whose it is
_MODES = {
    "pid": "PidMode",
    "ipc": "IpcMode",
    "uts": "UTSMode",
    "network": "NetworkMode",
    "cgroup": "CgroupnsMode",
}
_FILES = {"network": "net"}  # below /proc/PID/ns, where it is called otherwise
SHM = "shm"


def check(options: CreateOptions) -> None:
    """Modes that Docker's client refuses, and options that exclude each other; UsageError in Docker's words."""
    if options.pid not in ("", HOST) and not _is_container(options.pid):
        raise UsageError("--pid: invalid PID mode")
    if options.uts not in ("", HOST):
        raise UsageError("--uts: invalid UTS mode")
    if options.userns not in ("", HOST):
        raise UsageError(
            "--userns: invalid USER mode", "containers share the host's user namespace; host asks for just that"
        )
    if options.cgroupns not in ("", HOST, "private"):
        raise UsageError("--cgroupns: invalid CGROUP mode")
    if options.ipc not in ("", HOST, "private", "shareable", "none") and not _is_container(options.ipc):
        raise UsageError(f"Invalid IPC mode: {options.ipc}")
    network = netoptions.mode(options)
    if network == CONTAINER:
        raise UsageError("Invalid network mode: invalid container format container:<name|id>")
    if options.uts == HOST and options.hostname:
        raise UsageError("conflicting options: hostname and the UTS mode")
    if options.links and (network == HOST or _is_container(network)):
        kind = "host type networking" if network == HOST else "container type network"
        raise UsageError(
            f"conflicting options: {kind} can't be used with links. This would result in undefined behavior"
        )
    if _is_container(network):
        others = {
            "hostname and the": options.hostname,
            "dns and the": options.dns or options.dns_search or options.dns_options,
            "custom host-to-IP mapping and the": options.extra_hosts,
            "port publishing and the container type": options.publish or options.publish_all,
            "port exposing and the container type": options.expose,
        }
        for what, given in others.items():
            if given:
                raise UsageError(f"conflicting options: {what} network mode")


def _is_container(mode: str) -> bool:
    return mode.startswith(CONTAINER) and mode != CONTAINER


def modes(ctx: Context, options: CreateOptions) -> dict[str, str]:
    """The keys of HostConfig, containers by their IDs. NotFound for one that does not exist."""

    def resolved(mode: str) -> str:
        if not _is_container(mode):
            return mode
        return CONTAINER + records.find(ctx.paths, mode.removeprefix(CONTAINER)).id

    return {
        "NetworkMode": resolved(netoptions.mode(options)),
        "IpcMode": resolved(options.ipc or "private"),
        "PidMode": resolved(options.pid),
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "CgroupnsMode": options.cgroupns or "private",
    }


class Shared:
    """What a container that starts now shares.

    `namespaces` are the spec's. `shm` is what is bound at /dev/shm: a directory of the host, "" for nothing, None for a tmpfs
    of its own. `files` is the directory with its hosts, hostname and resolv.conf, `hostname` its name where another's.
    """

    __slots__ = ("files", "hostname", "namespaces", "shm")

    def __init__(self, directory: str) -> None:
        self.namespaces: list[dict[str, str]] = [{"type": "mount"}]
        self.shm: str | None = None
        self.files = directory
        self.hostname: str | None = None


def at_start(ctx: Context, container_id: str, host: dict[str, Any]) -> Shared:
    """Looks up the processes whose namespaces are joined. NotFound, or Conflict where one does not run, in Docker's words."""
    shared = Shared(ctx.paths.container(container_id))
    for name, key in _MODES.items():
        mode: str = host[key]
        if mode.startswith(CONTAINER):
            other = records.find(ctx.paths, mode.removeprefix(CONTAINER))
            shared.namespaces.append(
                {"type": name, "path": f"/proc/{_pid(ctx, other, name)}/ns/{_FILES.get(name, name)}"}
            )
            if name == "network":
                shared.files, shared.hostname = other.directory, other.config["Config"]["Hostname"]
        elif mode != HOST:
            shared.namespaces.append({"type": name})
    shared.shm = _shm(ctx, container_id, host["IpcMode"])
    return shared


_NOT_RUNNING = {
    "network": "cannot join network of a non running container: {id}",
    "ipc": "can't join IPC of container {id}: container {id} is not running",
    "pid": "container {id} is not running",
}


def _pid(ctx: Context, other: records.Record, name: str) -> int:
    state = refresh(ctx, other)
    if not state["Running"] or not state["Pid"]:
        raise Conflict(_NOT_RUNNING[name].format(id=other.id))
    if name == "ipc" and other.config["HostConfig"]["IpcMode"] not in ("shareable", HOST):
        hint = "use IpcMode:shareable for the donor container"
        raise Conflict(f"can't join IPC of container {other.id}: non-shareable IPC (hint: {hint})")
    return int(state["Pid"])


def _shm(ctx: Context, container_id: str, mode: str) -> str | None:
    if mode == HOST:
        return "/dev/shm"
    if mode == "none":
        return ""
    if mode == "shareable":
        return f"{ctx.paths.container_run(container_id)}/{SHM}"
    if mode.startswith(CONTAINER):
        other = records.Record(ctx.paths, mode.removeprefix(CONTAINER))
        return _shm(ctx, other.id, other.config["HostConfig"]["IpcMode"])
    return None


def mount_shm(ctx: Context, container_id: str, host: dict[str, Any]) -> None:
    """For `--ipc shareable`: the container's /dev/shm on the host, from where others can have it as well."""
    if host["IpcMode"] != "shareable":
        return
    from engine import files
    from engine.runtime import mounts

    path = f"{ctx.paths.container_run(container_id)}/{SHM}"
    unmount_shm(ctx, container_id)  # of a life before, whose monitor was killed
    files.make_dirs(path, 0o700)
    words = ["nosuid", "noexec", "nodev", "mode=1777", f"size={host['ShmSize']}"]
    mounts.mount_host({"destination": path, "type": "tmpfs", "source": "shm", "options": words})


def unmount_shm(ctx: Context, container_id: str) -> None:
    """Idempotent; nothing for a container that has none. Whoever has it still mounted keeps it."""
    path = f"{ctx.paths.container_run(container_id)}/{SHM}"
    if not os.path.isdir(path):
        return
    from engine.runtime import mounts

    while mounts.unmount(path):
        continue
