"""init: what makes a process a container, in order, from its fork to execve(2).

Runs in the forked child (launch.py), which is PID 1 of its PID namespace already. Read `_run` from top to bottom: it is the
checklist. Each step is named before it is done, so that a failure reaches the parent as (step, errno, path).
"""

from __future__ import annotations

import os

from engine import linux
from engine.lean import signal
from engine.runtime import devices, inside, mounts, namespaces, rootfs, rootmounts
from engine.runtime.process import console, finish, reaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from engine.oci.runtime import Mount, Spec
    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.hooks import Hooks
    from engine.runtime.namespaces import Namespaces
    from engine.runtime.process.channel import Channel
    from engine.runtime.process.finish import Step


class Task:
    """What init is given besides the spec; `launch.create` explains it. Made before the fork."""

    __slots__ = (
        "cgroup", "cgroup_follows", "hooks", "keyring", "leashed", "namespaces", "pivot", "preserved", "rootfs", "seccomp",
        "stay", "stdio",
    )  # fmt: skip

    def __init__(
        self,
        namespaces: Namespaces,
        rootfs: list[Mount] | int,
        stdio: tuple[int, int, int] | None,
        cgroup: Cgroup | None,
        seccomp: tuple[bytes, int] | None,
        *,
        stay: bool = False,
        leashed: bool = False,
        preserved: int = 0,
        keyring: bool = True,
        pivot: bool = True,
        hooks: Hooks | None = None,
    ) -> None:
        self.namespaces, self.rootfs, self.stdio, self.cgroup, self.seccomp = namespaces, rootfs, stdio, cgroup, seccomp
        self.stay, self.leashed, self.preserved = stay, leashed, preserved
        self.keyring, self.pivot, self.hooks = keyring, pivot, hooks
        self.cgroup_follows = False  # init has to wait until it is made


def main(channel: Channel, spec: Spec, task: Task) -> NoReturn:
    """Becomes the container's program, or reports why not and exits."""
    step = finish.Step()
    try:
        _run(channel, spec, task, step)
    except BaseException as e:
        finish.report(channel, step, e)


def _run(channel: Channel, spec: Spec, task: Task, step: Step) -> NoReturn:
    wanted = task.namespaces
    process = spec["process"]
    settings = spec.get("linux", {})
    path = spec["root"]["path"]

    finish.begin(process, step, task.keyring)
    os.sched_setaffinity(0, namespaces.PROCESSORS)  # what the caller is pinned to is not the container's, its cpuset is
    os.umask(0)

    step("sysctl", "open /proc/sys", "/proc/sys")
    proc_sys = os.open("/proc/sys", linux.O_PATH | os.O_CLOEXEC)  # the host's, which no image can fake
    # where the host's cgroups may not be mounted, or a cgroup outside the namespace's be entered (v2 with nsdelegate: ENOENT)
    elsewhere = "mount" in wanted.join or "cgroup" in wanted.join
    if elsewhere:
        _enter_cgroup(channel, task, step)
    step("namespaces", "join namespaces")
    if not wanted.user:  # userns.py did it, and entered the cgroup
        wanted.enter()
    step("namespaces", "make namespaces")
    linux.unshare(wanted.flags("mount", "network", "uts", "ipc"))
    if "network" in wanted.new:
        step("network", "set the loopback interface up", "lo")
        namespaces.set_loopback_up()
    channel.send("namespaces")

    step("hostname", f"set the host name {spec.get('hostname')}")
    if "uts" in wanted.new or "uts" in wanted.join:
        if spec.get("hostname"):
            linux.sethostname(spec["hostname"])
        if spec.get("domainname"):
            linux.setdomainname(spec["domainname"])

    step("rootfs", "isolate the mounts", path)
    rootfs.isolate(settings.get("rootfsPropagation", ""), path)
    root = rootfs.assemble(task.rootfs, path, settings.get("rootfsPropagation", ""))

    if not elsewhere:
        _enter_cgroup(channel, task, step)
    step("cgroup", "make a cgroup namespace")
    linux.unshare(wanted.flags("cgroup"))  # its root is the cgroup of this moment

    for m in spec.get("mounts", ()):
        step("mount", f"mount {mounts.describe(m)}", m["destination"])
        if m.get("type") in ("cgroup", "cgroup2"):
            rootfs.mount_cgroup(m, root, task.cgroup)
        else:
            rootmounts.mount_inside(devices.without_ro(m), root)
            root = rootfs.topmost(m, root, path)
    step("device", "populate /dev", "/dev")
    devices.populate(spec, root)
    step("cwd", f"make the directory {process['cwd']}", process["cwd"])
    os.close(inside.make_dir(root, process["cwd"]))

    if task.hooks:
        step("hook", "run the createContainer hooks")
        channel.send("mounted")
        finish.await_message(channel, "hooked")
        task.hooks.run("createContainer", "creating", os.getpid())

    step("pivot_root", "change the root", path)
    rootfs.switch(root, task.pivot)
    if word := settings.get("rootfsPropagation"):
        linux.mount_setattr(root, "", propagation=rootfs.propagation_flag(word), recursive=word.startswith("r"))

    step("console", "connect the standard streams")
    finish.connect(process, task.stdio, root, channel, first=True)
    if process.get("terminal"):
        console.control(0)
    step("network", "wait for the network")
    finish.await_message(channel, "network")
    for key, value in settings.get("sysctl", {}).items():
        step("sysctl", f"set {key} to {value}", key)
        namespaces.set_sysctl(key, value, wanted, proc_sys)

    step("restrict", "make paths read-only")
    rootfs.make_readonly(settings.get("readonlyPaths", []), root)
    for m in spec.get("mounts", ()):
        if m != devices.without_ro(m):
            rootfs.remount_readonly("/dev", root)
    step("restrict", "mask paths")
    rootfs.mask(settings.get("maskedPaths", []), root)
    step("restrict", "make the root read-only")
    if spec["root"].get("readonly"):
        rootfs.remount_readonly("/", root)

    finish.set_personality(settings, step)
    program = finish.become_user(process, root, step)
    finish.close_all_but(channel, task.preserved)
    if not wanted.user:  # which has no right to raise one; launch.py has
        finish.set_limits(process, step)
    if task.leashed:
        # now, since a change of credentials clears it; a parent that is gone already is noticed by await_start
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if finish.listens(task.seccomp):  # while there is a parent that passes the descriptor on
        finish.load_filter(task.seccomp, channel, step)
    finish.await_start(channel, step)

    def confine() -> None:
        finish.confine(process, task.seccomp, channel, step)

    if task.hooks:
        step("hook", "run the startContainer hooks")
        task.hooks.run("startContainer", "created", os.getpid(), confine)
    confine()
    if task.stay:
        reaper.run(program, process, channel, step)
    finish.execute(program, process, step)


def _enter_cgroup(channel: Channel, task: Task, step: Step) -> None:
    step("cgroup", "enter the cgroup")
    if task.cgroup_follows and not finish.await_message(channel, "cgroup", "no cgroup"):
        task.cgroup = None
    if task.cgroup and not task.namespaces.user:  # or userns.py did it
        task.cgroup.enter()
