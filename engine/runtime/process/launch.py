"""Making a container's first process, from the outside.

    create()   fork init into its PID namespace, give it its network while it mounts, until it is ready
    start()    let it execute its program
    wait()     its exit status

The parent is single-threaded and stays in its own namespaces. init is its own child, whose exit it alone can wait for.
"""

from __future__ import annotations

import os

from engine import linux
from engine.errors import MiniError, RuntimeFault
from engine.lean import signal
from engine.runtime import namespaces
from engine.runtime.process import channel, init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from engine.oci.runtime import Mount, Process, Spec
    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.hooks import Hooks
    from engine.runtime.namespaces import ChildNamespaces
    from engine.runtime.process.channel import Channel


_PF_EXITING = 0x4  # include/linux/sched.h


class InitProcess:
    """A container's process from its fork to its end.

    `pid` in the caller's PID namespace; `pidfd` becomes readable when it ends; `console` is the pty's master or -1. The
    caller closes the console itself, or by `close`. `notify` is given the process and a seccomp filter's listener.
    """

    __slots__ = ("_channel", "_listener", "console", "notify", "pid", "pidfd")

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.console = -1
        self.notify: Callable[[int, int], None] | None = None
        self._channel = channel
        self._listener = -1

    def start(self) -> None:
        """Lets it execute its program; returns when execve(2) succeeded, or it was killed before: `wait` tells.

        Raises CommandNotFound, CommandNotExecutable or RuntimeFault; the process is reaped and everything closed then.
        """
        try:
            self.tell("start")
            answer = self._channel.receive()
            if answer is not None:
                raise channel.fault(answer[0])
        except BaseException:
            self.abandon()
            raise
        self._channel.close()

    def leave(self, listener: int) -> None:
        """Lets it wait for `channel.start_created` without its parent; the listening socket stays the caller's. `close` follows."""
        self._channel.send("created", fd=listener)

    def kill(self, sig: int) -> None:
        """Sends a signal, to this process and never to another that got its number. One that has ended is left alone."""
        try:
            signal.pidfd_send_signal(self.pidfd, sig)
        except ProcessLookupError:
            pass

    def is_ending(self) -> bool:
        """Whether every thread of it is in exit(2): the kernel kills all that is in its PID namespace, and waits for it, before
        `pidfd` says so (proc_pid_stat(5), `flags`; zap_pid_ns_processes). Not to be asked after `wait`.
        """
        tasks = f"/proc/{self.pid}/task"
        for thread in os.listdir(tasks):
            try:
                with open(f"{tasks}/{thread}/stat") as file:
                    flags = int(file.read().rpartition(")")[2].split()[6])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if not flags & _PF_EXITING:
                return False
        return True

    def wait(self) -> int:
        """Blocks until it ends; its status as waitpid(2) has it. Once only."""
        return os.waitpid(self.pid, 0)[1]

    def close(self) -> None:
        """Closes the descriptors; the process goes on."""
        self._channel.close()
        for fd in (self.pidfd, self.console, self._listener):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.console = self._listener = -1

    def abandon(self) -> int:
        """Kills it, with a PID namespace all that is in it, reaps it and closes everything; its status."""
        self.kill(signal.SIGKILL)
        status = self.wait()
        self.close()
        return status

    def tell(self, kind: str) -> None:
        """Sends a message without fields; one that nobody reads is no error here, the next `expect` tells why."""
        try:
            self._channel.send(kind)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def expect(self, kind: str) -> None:
        """Reads messages until `kind`. Raises the fault that it reports; if it dies, a RuntimeFault that says how."""
        while True:
            answer = self._channel.receive()
            if answer is None:
                status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                raise channel.died("init", _wait_status(status))
            message, fd = answer
            if message["type"] == "fault":
                raise channel.fault(message)
            if message["type"] == "forked":
                self._adopt(message["pid"])
            self._pass_on()
            if message["type"] == "listener":
                self._keep(fd)
            elif fd >= 0:
                self.console = fd
            if message["type"] == kind:
                return

    def _keep(self, listener: int) -> None:
        """Until the next message, which may tell of the process that it is for (`_adopt`); or until the filter asks, since the
        process waits for the agent's answer then."""
        import select

        self._listener = listener
        ready, _, _ = select.select([self._channel.fileno(), listener], [], [])
        if listener in ready:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._listener < 0:
            return
        listener, self._listener = self._listener, -1
        try:
            if self.notify is None:
                raise RuntimeFault("seccomp", "the seccomp filter wants an agent, and there is no way to it")
            self.notify(self.pid, listener)
        finally:
            os.close(listener)

    def _adopt(self, pid: int) -> None:
        """Its child by clone(CLONE_PARENT) takes its place (exec.py); the one before has ended, if the agent lets it."""
        former, self.pid = self.pid, pid
        os.close(self.pidfd)
        self.pidfd = os.pidfd_open(pid)
        try:
            self._pass_on()
        finally:
            os.waitpid(former, 0)


def exit_code(status: int) -> int:
    """A shell's exit code for a wait status: 128 + n for a process that signal n ended."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _wait_status(info: os.waitid_result | None) -> int:
    """waitid(2)'s answer, in waitpid(2)'s form."""
    if info is None:
        return 0
    return info.si_status << 8 if info.si_code == os.CLD_EXITED else info.si_status


def fork(born_in: ChildNamespaces, child: Callable[[Channel], NoReturn]) -> InitProcess:
    """Forks a process that is born in these namespaces and runs `child` with its end of the channel. Raises RuntimeFault.

    It is born undumpable: its /proc/PID is root's of the host, and nobody in its namespaces can ptrace it, reach its
    descriptors, memory or binary (CVE-2016-9962, CVE-2019-5736). execve(2) ends that.
    """
    ours, theirs = channel.pair()
    dumpable = linux.prctl(linux.PR_GET_DUMPABLE)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    pid = 0
    try:
        with born_in:
            pid = os.fork()
            if pid == 0:
                ours.close()
                child(theirs)
    except OSError as e:
        ours.close()
        if pid:
            # it was born, but the way back failed: a time namespace takes a caller with one thread only (EUSERS)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        text = f"cannot fork into the new namespaces: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("fork", text, e.errno or 0) from e
    finally:
        theirs.close()
        if dumpable == 1:
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
    return InitProcess(pid, ours)


def _has_sources(spec: Spec, task: init.Task) -> bool:
    """Whether there may be mounts that init cannot open."""
    mapped = any(
        m.get("uidMappings") or not {"idmap", "ridmap"}.isdisjoint(m.get("options", ())) for m in spec.get("mounts", ())
    )
    return task.namespaces.user or mapped


def _open_sources_and_fork(spec: Spec, task: init.Task) -> InitProcess:
    from engine.runtime.process import sources

    with sources.Opened(spec, task) as opened:
        return _fork_init(opened, task)


def _fork_init(spec: Spec, task: init.Task) -> InitProcess:
    wanted = task.namespaces
    if wanted.user:
        from engine.runtime.process import userns

        return userns.fork(spec, task)

    def child(theirs: Channel) -> NoReturn:
        init.main(theirs, spec, task)

    joined = wanted.open_for_children()
    try:
        new = wanted.flags(*namespaces.FOR_CHILDREN)
        return fork(namespaces.ChildNamespaces(new, joined, namespaces.time_offsets(spec)), child)
    finally:
        for fd, _ in joined:
            os.close(fd)


def create(
    spec: Spec,
    *,
    rootfs: list[Mount] | int,
    stdio: tuple[int, int, int] | None,
    cgroup: Cgroup | None,
    seccomp: tuple[bytes, int] | None,
    make_cgroup: Callable[[], bool] | None = None,
    network: Callable[[int], None] | None = None,
    hooks: Hooks | None = None,
    notify: Callable[[int, int], None] | None = None,
    **options: Any,
) -> InitProcess:
    """Makes the container that `spec` describes, up to the execution of its program.

    `rootfs` is mounted at `spec.root.path`, in the container's mount namespace only: mounts as data, or the descriptor of a
    detached mount, which is used up. Without mounts the path itself is the root. `stdio` becomes 0, 1, 2 (None: the
    caller's own); with `process.terminal` the pty is used instead. init enters `cgroup`, which exists and has its limits, or
    gets them by `make_cgroup` while init makes its namespaces: False where there will be none. `seccomp` is (raw BPF, flags).
    `network(pid)` gives the container its interfaces, while init mounts. `hooks` run where they belong, prestart and
    createRuntime here. All descriptors stay the caller's. Raises RuntimeFault or what `make_cgroup` or `network` raises; no
    process is left then.

    Options: `stay`: init remains PID 1, with the program as its child (reaper.py). `leashed`: the container dies with the
    calling process (PR_SET_PDEATHSIG). `preserved`: so many descriptors from 3 on are the program's as well.
    `keyring=False`: it keeps the caller's session keyring. `pivot=False`: the root is moved over `/`, not exchanged.
    """
    task = init.Task(namespaces.of(spec), rootfs, stdio, cgroup, seccomp, hooks=hooks, **options)
    if make_cgroup and task.namespaces.user:  # which is made within the cgroup
        task.cgroup = cgroup if make_cgroup() else None
        make_cgroup = None
    task.cgroup_follows = make_cgroup is not None
    process = _open_sources_and_fork(spec, task) if _has_sources(spec, task) else _fork_init(spec, task)
    process.notify = notify
    try:
        if make_cgroup:
            process.tell("cgroup" if make_cgroup() else "no cgroup")
        process.expect("namespaces")
        if network:
            try:
                network(process.pid)
            except (OSError, MiniError):
                if process.is_ending():
                    # its network went with it: it has said why
                    process.expect("ready")
                raise
        if hooks:
            process.expect("mounted")
            hooks.run("prestart", "creating", process.pid)
            hooks.run("createRuntime", "creating", process.pid)
            process.tell("hooked")
        process.tell("network")
        process.expect("ready")
        settle(process.pid, spec["process"], task.namespaces.user)
    except BaseException:
        process.abandon()
        raise
    return process


def settle(pid: int, process: Process, mapped: bool) -> None:
    """What its parent has to set on a process that is ready (outside.py); for most there is nothing."""
    if mapped or "scheduler" in process or "ioPriority" in process:
        from engine.runtime.process import outside

        outside.settle(pid, process, mapped)
