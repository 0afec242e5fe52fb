"""A container in a user namespace: its init is born there, by way of a process that goes ahead.

    parent                        usher: the parent's child, in its PID namespace        init
      │ opens the sources of mounts   │
      │── fork ─────────────────────> │ enters the cgroup, joins what is joined: all that takes
      │                               │ the caller's own rights
      │ <── mapping ───────────────── │ unshare(CLONE_NEWUSER): every id is nobody's
      │  uid_map, gid_map             │
      │── mapped ───────────────────> │ becomes its root
      │                               │ unshare(pid, time): owned by the user namespace
      │ <── forked ────────────────── │── clone(CLONE_PARENT) ─────────────────────────> │ PID 1, the parent's own child
      │     reaps the usher           ╳                                                  │
      │── adopted ─────────────────────────────────────────────────────────────────────> │ init.py

A namespace is owned by the user namespace that its maker is in; so this one comes first, and root in it may mount /proc of that
PID namespace and set up that network. What it may not is all that belongs to the host: it could not even reach a rootfs in a
directory of mode 0700. Hence that is opened by the parent (sources.py). user_namespaces(7); OCI runtime spec, config-linux.md "User
namespace mappings".
"""

from __future__ import annotations

import errno
import os

from engine import linux
from engine.errors import RuntimeFault, Unsupported
from engine.runtime import namespaces
from engine.runtime.process import finish, init, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from engine.oci.runtime import Process, Spec
    from engine.runtime.namespaces import Namespaces
    from engine.runtime.process.channel import Channel
    from engine.runtime.process.init import Task
    from engine.runtime.process.launch import InitProcess

_STEP = "userns"


def fork(spec: Spec, task: Task) -> InitProcess:
    """init, in the user namespace that is to be made or joined, and in those of pid and time; arguments as of `init.main`.

    Raises RuntimeFault, Unsupported; no process is left then.
    """

    def usher(channel: Channel) -> NoReturn:
        _main(channel, spec, task)

    process = launch.fork(namespaces.ChildNamespaces(), usher)
    try:
        if "user" in task.namespaces.new:
            process.expect("mapping")
            settings = spec["linux"]
            map_ids(process.pid, settings["uidMappings"], settings["gidMappings"])
            process.tell("mapped")
        process.expect("forked")
        process.tell("adopted")
    except BaseException:
        process.abandon()
        raise
    return process


# --- the parent ----------------------------------------------------------------------------------------------------


def map_ids(pid: int, uids: list[dict[str, int]], gids: list[dict[str, int]]) -> None:
    """Writes the maps of process `pid`'s new user namespace. Raises RuntimeFault, Unsupported.

    Who has CAP_SETUID in its own user namespace may map what that has. Anybody may map one id, its own, and gives up
    setgroups(2) for it (CVE-2014-8989); what /etc/subuid grants beyond is written by newuidmap(1), which is set-user-ID.
    """
    if _may_map_all():
        _write(pid, "uid_map", uids)
        _write(pid, "gid_map", gids)
    elif _is_own(uids, os.geteuid()) and _is_own(gids, os.getegid()):
        _write(pid, "uid_map", uids)
        with open(f"/proc/{pid}/setgroups", "w") as file:
            file.write("deny")
        _write(pid, "gid_map", gids)
    else:
        _helper("newuidmap", pid, uids)
        _helper("newgidmap", pid, gids)


def _may_map_all() -> bool:
    _, permitted, _ = linux.capget()
    both = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID
    return permitted & both == both


def _is_own(ranges: list[dict[str, int]], own: int) -> bool:
    return len(ranges) == 1 and ranges[0]["hostID"] == own and ranges[0]["size"] == 1


def _write(pid: int, name: str, ranges: list[dict[str, int]]) -> None:
    text = "".join(f"{r['containerID']} {r['hostID']} {r['size']}\n" for r in ranges)
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())  # a map is written by one call, or not at all
        finally:
            os.close(fd)
    except OSError as e:
        what = "; ".join(text.splitlines())
        message = f"cannot write the {name} {what}: {os.strerror(e.errno or 0).lower()}"
        hint = "ranges overlap, are too many, or are not in the caller's own map" if e.errno == errno.EINVAL else None
        raise RuntimeFault(_STEP, message, e.errno or 0, name, hint) from e


def _helper(program: str, pid: int, ranges: list[dict[str, int]]) -> None:
    import shutil
    import subprocess

    path = shutil.which(program)
    if path is None:
        raise Unsupported(
            f"mapping more than one's own id needs {program}, which is not installed",
            "apt install uidmap (Debian), shadow-utils (Fedora), shadow-uidmap (Alpine); and see /etc/subuid",
        )
    numbers = [str(r[key]) for r in ranges for key in ("containerID", "hostID", "size")]
    done = subprocess.run([path, str(pid), *numbers], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().removeprefix(f"{program}: ")
        hint = f"/etc/sub{program[3]}id says which ids a user may map"
        raise RuntimeFault(_STEP, f"{program}: {said}", errno.EPERM, hint=hint)


# --- the usher -----------------------------------------------------------------------------------------------------


def _main(channel: Channel, spec: Spec, task: Task) -> NoReturn:
    step = finish.Step()
    try:
        finish.begin(spec["process"], step, task.keyring)
        step("cgroup", "enter the cgroup")
        if task.cgroup:
            task.cgroup.enter()
        step("user", "give the standard streams to the container's user")
        give(task.stdio, spec.get("linux", {}).get("uidMappings", []), spec["process"])
        _enter(channel, spec, task.namespaces, step)
        step("fork", "start a process in the user namespace")
        if isinstance(task.rootfs, int):
            spec = {**spec, "root": {**spec["root"], "path": _reachable(spec["root"]["path"])}}
        pid = linux.fork_sibling()
        if pid:
            channel.send("forked", pid=pid)
            os._exit(0)
        finish.await_message(channel, "adopted")
    except BaseException as e:
        finish.report(channel, step, e)
    init.main(channel, spec, task)


def _enter(channel: Channel, spec: Spec, wanted: Namespaces, step: finish.Step) -> None:
    """The user namespace, with all others that are joined, and those of pid and time, in which the next child is born."""
    step("namespaces", "join namespaces")
    opened = {name: namespaces.open_file(name, path) for name, path in wanted.join.items()}
    later = _join(opened)
    offsets = -1
    if "user" in opened:
        namespaces.join_opened("user", wanted.join["user"], opened["user"])
        _compare_maps(spec["linux"])
    else:
        step(_STEP, "make a user namespace")
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or only root could write the maps; nobody else is in it yet
        if namespaces.time_offsets(spec):
            # what is written counts as written by who opened: the namespace's root may not open it when undumpable
            offsets = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
        linux.unshare(linux.CLONE_NEWUSER)
        channel.send("mapping")
        finish.await_message(channel, "mapped")
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
    step(_STEP, "become root of the user namespace")
    become_root()
    step("namespaces", "join namespaces")
    for name in later:
        namespaces.join_opened(name, wanted.join[name], opened[name])
    for fd in opened.values():
        os.close(fd)
    step("namespaces", "make namespaces")
    linux.unshare(wanted.flags(*namespaces.FOR_CHILDREN))
    if offsets >= 0:
        os.write(offsets, namespaces.time_offsets(spec).encode())
        os.close(offsets)


def _compare_maps(settings: dict[str, Any]) -> None:
    """Callers of runc write down the maps of a namespace that is joined, too: other ones would be ignored. Raises RuntimeFault."""
    for key, name in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        with open(f"/proc/self/{name}") as file:
            found = read_map(file.read())
        if settings.get(key) and sorted(map(_range, settings[key])) != sorted(map(_range, found)):
            raise RuntimeFault(_STEP, f"linux.{key} are not those of the user namespace that is joined: {found}")


def _range(mapping: dict[str, int]) -> tuple[int, int, int]:
    return mapping["containerID"], mapping["hostID"], mapping["size"]


def _join(opened: dict[str, int]) -> list[str]:
    """Joins all but the user namespace with the caller's own rights; returns those for which the user namespace's are needed."""
    later = []
    for name, fd in opened.items():
        if name == "user":
            continue
        try:
            linux.setns(fd, namespaces.KINDS[name][0])
        except PermissionError:
            later.append(name)
    return later


def become_root() -> None:
    """uid and gid 0 of the user namespace that this process has entered, which it has all capabilities in. Raises OSError."""
    try:
        os.setgroups([])
    except PermissionError:  # where setgroups(2) was given up for the map
        pass
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # a change of credentials makes it what fs.suid_dumpable says


def _reachable(path: str) -> str:
    """`path`, or the nearest directory above it that the container's root may look at: good enough to mount a root on that is
    held by a descriptor."""
    while path != "/":
        try:
            os.stat(path)
            return path
        except PermissionError:
            path = os.path.dirname(path)
    return path


def give(stdio: tuple[int, int, int] | None, uids: list[dict[str, int]], process: Process) -> None:
    """Gives pipes to the container's user, so that it can open /dev/stdout: from within, the host's root is nobody.

    A caller without the right leaves them; from within there is another try (`finish.own_stdio`).
    """
    inside = process.get("user", {}).get("uid", 0)
    for r in uids:
        if r["containerID"] <= inside < r["containerID"] + r["size"]:
            finish.own_stdio(r["hostID"] + inside - r["containerID"], stdio or (0, 1, 2))


def read_map(text: str) -> list[dict[str, int]]:
    """/proc/PID/uid_map, as a spec has it."""
    keys = ("containerID", "hostID", "size")
    return [dict(zip(keys, map(int, line.split()), strict=True)) for line in text.splitlines()]
