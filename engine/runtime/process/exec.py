"""A further process in a running container (`exec`).

    caller                      joiner: in the caller's PID namespace                the process
      │── fork ───────────────────> │ enters the cgroup
      │                             │ joins all namespaces
      │                             │ becomes the user; descriptors, filter, capabilities
      │ <── forked ──────────────── │── clone(CLONE_PARENT) ─────────────────────────> │ in the container's PID namespace,
      │     reaps the joiner        ╳                                                  │ and the caller's own child
      │── adopted ───────────────────────────────────────────────────────────────────> │ leads a session
      │ <── ready ──────────────────────────────────────────────────────────────────── │
      │── start ─────────────────────────────────────────────────────────────────────> │ execve(2)

Joining a hostile container is the dangerous direction: whatever is in its PID namespace can be watched through /proc, and
with CAP_SYS_PTRACE taken over. So nobody is in it who holds a privilege, a descriptor or a directory of the host: the process
is born there when all of that is gone. It is not dumpable either, until it executes its program (CVE-2016-9962).
"""

from __future__ import annotations

import errno
import os

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import namespaces
from engine.runtime.process import console, finish, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from engine.oci.runtime import Process
    from engine.runtime.cgroups.below import Below
    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.process.channel import Channel
    from engine.runtime.process.finish import Step
    from engine.runtime.process.launch import InitProcess


class Target:
    """A running process and the descriptors to join its namespaces by. The caller closes it.

    One pidfd stands for all of them (setns(2), Linux 5.8); else one file each is opened at once, so that a number that is
    reused meanwhile cannot lead elsewhere.
    """

    __slots__ = ("_pidfd", "_files", "names", "uid_map")

    def __init__(self, pid: int) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as e:
            text = f"cannot join process {pid}: {os.strerror(e.errno or 0).lower()}"
            raise RuntimeFault("namespaces", text, e.errno or 0) from e
        self._files: dict[str, int] = {}
        self.names: list[str] = []
        try:
            self.names = namespaces.different_from_ours(pid)
            self.uid_map = ""
            if "user" in self.names:
                from engine.runtime.process import userns  # noqa: F401 - the joiner cannot import

                with open(f"/proc/{pid}/uid_map") as file:
                    self.uid_map = file.read()
            for name in self.names:
                path = f"/proc/{pid}/ns/{namespaces.KINDS[name][1]}"
                self._files[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            self.close()
            text = f"cannot join process {pid}: {os.strerror(e.errno or 0).lower()}"
            raise RuntimeFault("namespaces", text, e.errno or 0) from e

    def join(self) -> None:
        """Joins all, at once where the kernel can; pid and time are where the next child is born. In a user namespace the caller
        becomes root. Raises OSError, ESRCH where the process has ended."""
        flags = {name: namespaces.KINDS[name][0] for name in self.names}
        try:
            linux.setns(self._pidfd, sum(flags.values()))
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            for name, flag in flags.items():
                linux.setns(self._files[name], flag)
        if self.mapped:
            from engine.runtime.process import userns

            userns.become_root()

    @property
    def mapped(self) -> bool:
        """Whether it is in a user namespace of its own."""
        return "user" in self.names

    def close(self) -> None:
        for fd in (self._pidfd, *self._files.values()):
            os.close(fd)
        self._files = {}


class _Task:
    """What the joiner is given; `spawn` explains it. Made before the fork."""

    __slots__ = ("cgroup", "preserved", "process", "seccomp", "settings", "stdio", "target")

    def __init__(
        self,
        target: Target,
        process: Process,
        stdio: tuple[int, int, int] | None,
        cgroup: Cgroup | Below | None,
        seccomp: tuple[bytes, int] | None,
        preserved: int,
        settings: dict[str, Any],
    ) -> None:
        self.target, self.process, self.stdio, self.cgroup, self.seccomp = target, process, stdio, cgroup, seccomp
        self.preserved, self.settings = preserved, settings


def spawn(
    pid: int,
    process: Process,
    *,
    stdio: tuple[int, int, int] | None,
    cgroup: Cgroup | Below | None,
    seccomp: tuple[bytes, int] | None,
    preserved: int = 0,
    notify: Callable[[int, int], None] | None = None,
    settings: dict[str, Any] | None = None,
) -> InitProcess:
    """Makes a process in the container whose init is `pid`, up to the execution of its program; `start` lets it go on.

    It is a child of the caller, who must wait for it: the container's init, killed or not, ends only when every process of
    its PID namespace is reaped, this one by the caller (pid_namespaces(7); zap_pid_ns_processes in the kernel). `settings` is
    the `linux` of the container's spec; other arguments and errors as of `launch.create`.
    """
    target = Target(pid)
    task = _Task(target, process, stdio, cgroup, seccomp, preserved, settings or {})
    first, then = _affinity(process)

    def child(channel: Channel) -> NoReturn:
        _main(channel, task, first)

    try:
        joined = launch.fork(namespaces.ChildNamespaces(), child)
    finally:
        target.close()
    joined.notify = notify
    try:
        joined.expect("forked")
        joined.tell("adopted")
        joined.expect("ready")
        launch.settle(joined.pid, process, target.mapped)
        if then:
            os.sched_setaffinity(joined.pid, then)
    except BaseException:
        joined.abandon()
        raise
    return joined


def _affinity(process: Process) -> tuple[set[int], set[int]]:
    """The processors to run on until it is in its cgroup, and from then on: all without `execCPUAffinity`. Empty: no change."""
    wanted = process.get("execCPUAffinity")
    if not wanted:
        return {*namespaces.PROCESSORS}, set()
    from engine.runtime.process.outside import cpus

    first, then = cpus(wanted.get("initial", "")), cpus(wanted.get("final", ""))
    if first and not then:
        then = {*namespaces.PROCESSORS}
    return first, then


def _main(channel: Channel, task: _Task, processors: set[int]) -> NoReturn:
    step = finish.Step()
    try:
        if processors:
            whole = processors == {*namespaces.PROCESSORS}
            step("affinity", "run on all processors" if whole else f"run on the processors {processors}")
            os.sched_setaffinity(0, processors)
        _run(channel, task, step)
    except BaseException as e:
        finish.report(channel, step, e)


def _run(channel: Channel, task: _Task, step: Step) -> NoReturn:
    target, process, seccomp = task.target, task.process, task.seccomp
    finish.begin(process, step)
    step("cgroup", "enter the cgroup")
    if task.cgroup:
        task.cgroup.enter()
    step("namespaces", "join the container's namespaces")
    if target.mapped:
        from engine.runtime.process import userns

        userns.give(task.stdio, userns.read_map(target.uid_map), process)
    target.join()
    root = os.open("/", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    step("console", "connect the standard streams")
    finish.connect(process, task.stdio, root, channel, first=False)

    finish.set_personality(task.settings, step)
    program = finish.become_user(process, root, step)
    finish.close_all_but(channel, task.preserved)
    if not target.mapped:
        finish.set_limits(process, step)
    late = bool(process.get("noNewPrivileges"))  # then no privilege is needed for the filter
    if not late:
        finish.load_filter(seccomp, channel, step)
    finish.drop_capabilities(process, step)

    pid = _fork_into_the_container()
    if pid:
        channel.send("forked", pid=pid)
        os._exit(0)
    finish.await_message(channel, "adopted")
    step("session", "start a session")
    os.setsid()
    if process.get("terminal"):
        console.control(0)
    if late and finish.listens(seccomp):
        finish.load_filter(seccomp, channel, step)
    finish.await_start(channel, step)
    if late and not finish.listens(seccomp):
        finish.load_filter(seccomp, channel, step)
    finish.execute(program, process, step)


def _fork_into_the_container() -> int:
    try:
        return linux.fork_sibling()
    except OSError as e:
        hints = {
            errno.EAGAIN: "is its limit of processes reached (--pids-limit)?",
            errno.ENOMEM: "it may have ended meanwhile",  # what alloc_pid() in the kernel says then
        }
        text = f"cannot start a process in the container: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("fork", text, e.errno or 0, hint=hints.get(e.errno or 0)) from e
