"""create, start, run, kill, delete.

    create      reserve the ID → cgroup → init, until all is done but its program → state → init is left alone
    start       a message to it; poststart hooks
    run         both at once; unless detached, waits, passes signals on, and deletes
    delete      kills what is left → cgroup → state → poststop hooks

A create that fails goes the way of delete, whatever it had come to.
"""

from __future__ import annotations

import os
import time

from engine import files
from engine.errors import Conflict, MiniError, NotFound, RuntimeFault, Unsupported, UsageError
from engine.lean import signal
from engine.runtime import state
from engine.runtime.oci_cli import bundle, context
from engine.runtime.process import channel, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Spec
    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.hooks import Hooks
    from engine.runtime.oci_cli.context import Context
    from engine.runtime.process.launch import InitProcess
    from engine.runtime.state import Container

_PATIENCE = 10  # seconds for a killed process to end


def create(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    making = Making(ctx, arguments[0], options, detach=True)
    process = making.create()
    listener = -1
    try:
        listener = channel.listen(making.container.socket)
        process.leave(listener)
    except BaseException:
        process.abandon()
        making.undo()
        raise
    process.close()
    os.close(listener)
    return 0


def run(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    detach = options.get("detach", False)
    making = Making(ctx, arguments[0], options, detach)
    process = making.create()
    container = making.container
    if detach:
        making.start(process)
        process.close()
        return 0
    from engine.runtime.oci_cli.relay import Relay

    with Relay(process) as relay:
        making.start(process)
        container.unlock()
        code = relay.wait()
    if not options.get("keep"):
        try:
            container.lock()
        except NotFound:
            return code  # somebody else deleted it, and so ended it
        making.undo()
    return code


def start(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = state.find(ctx.root, arguments[0])
    container.lock()
    status = container.status()
    if status == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if status != "created":
        raise Conflict(
            f"cannot start a container in the {status} state"
            if status != "running"
            else "cannot start an already running container"
        )
    launch.start_created(container.socket)
    ctx.log.debug(f"{container.id}: process {container.pid} has executed its program")
    poststart(ctx, container, hooks_of(container.spec(), container))
    return 0


def kill(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = state.find(ctx.root, arguments[0])
    number = signal_number(arguments[1] if len(arguments) > 1 else "TERM")
    status = container.status()
    everybody = options.get("all", False) or (number == signal.SIGKILL and _is_left(container))
    if status in ("stopped", "creating") and not everybody:
        raise Conflict("container not running")
    cgroup = container.cgroup
    if everybody and cgroup:
        if number == signal.SIGKILL:
            cgroup.kill()
            return 0
        _signal_all(cgroup, number, frozen=status == "paused")
        return 0
    container.signal(number)
    if status == "paused" and number == signal.SIGKILL and cgroup:
        cgroup.thaw()  # on v1 a frozen process does not even die
    return 0


def _is_left(container: Container) -> bool:
    """Whether there is somebody whom the kernel would not end with the first process: no PID namespace is the container's own."""
    spaces = (container.spec().get("linux") or {}).get("namespaces") or ()
    cgroup = container.cgroup
    return bool(cgroup and {"type": "pid"} not in spaces and cgroup.pids())


def delete(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    force = options.get("force", False)
    try:
        container = state.find(ctx.root, arguments[0])
        container.lock()
    except NotFound:
        if not force:
            raise
        state.remove_reserved(ctx.root, arguments[0])
        return 0
    status = container.status()
    if not force and status not in ("stopped", "created"):
        raise Conflict(f"cannot delete container {container.id} that is not stopped: {status}")
    hooks = None
    try:
        hooks = hooks_of(container.spec(), container)
    except (FileNotFoundError, MiniError):
        pass  # killed before the spec was written: no hook had run
    destroy(ctx, container, container.cgroup, hooks)
    return 0


def destroy(ctx: Context, container: Container, cgroup: Cgroup | None, hooks: Hooks | None) -> None:
    """Kills what is left of the container and gives everything back. Its lock is held. Raises RuntimeFault."""
    pidfd = container.pidfd()
    if pidfd >= 0:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    if cgroup and (pidfd >= 0 or not cgroup.delete_empty()):
        if cgroup.exists():
            cgroup.kill()
        if pidfd >= 0:
            _await_end(pidfd, container.id)
        cgroup.delete(parent=False)
    elif pidfd >= 0:
        _await_end(pidfd, container.id)
    container.remove()
    ctx.log.debug(f"{container.id}: its processes, cgroup and state are gone")
    if hooks:
        hooks.run_all("poststop", "stopped", 0, ctx.log.warning)


def _await_end(pidfd: int, container_id: str) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_PATIENCE * 1000):
        raise RuntimeFault("delete", f"the first process of container {container_id} does not end")


def _signal_all(cgroup: Cgroup, number: int, frozen: bool) -> None:
    """Frozen meanwhile, where the host can, so that none is forked unseen."""
    try:
        if not frozen:
            cgroup.freeze()
    except (RuntimeFault, Unsupported):
        frozen = True
    try:
        for pid in cgroup.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
    finally:
        if not frozen:
            cgroup.thaw()


def signal_number(word: str) -> int:
    """ "TERM", "sigterm" or "15". Raises UsageError."""
    name = word.upper()
    if name.isdigit() and 0 <= int(name) <= 64:
        return int(name)
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name.startswith("SIGRTMIN+") and name[9:].isdigit():
        return signal.SIGRTMIN + int(name[9:])
    number = getattr(signal, name, None)
    if not isinstance(number, int) or name.startswith("SIG_"):
        raise UsageError(f'unknown signal "{word}"')
    return number


def hooks_of(spec: Spec, container: Container) -> Hooks | None:
    """Of most containers none, and then nothing is imported."""
    if not any((spec.get("hooks") or {}).values()):
        return None
    from engine.runtime.hooks import Hooks

    return Hooks(spec["hooks"], container.facts())


def poststart(ctx: Context, container: Container, hooks: Hooks | None) -> None:
    if hooks:
        hooks.run_all("poststart", "running", container.data["pid"], ctx.log.warning)


class Making:
    """A container on its way from a bundle to a process that is ready."""

    def __init__(self, ctx: Context, container_id: str, options: dict[str, Any], detach: bool) -> None:
        self.ctx = ctx
        self.id = container_id
        state.check_id(container_id)
        self.pid_file = options.get("pid-file") and os.path.abspath(options["pid-file"])
        self.console_socket = options.get("console-socket") and os.path.abspath(options["console-socket"])
        self.pidfd_socket = options.get("pidfd-socket") and os.path.abspath(options["pidfd-socket"])
        self.bundle = bundle.Bundle(options.get("bundle") or ".")
        self.spec = self.bundle.spec
        for text in self.bundle.warnings:
            ctx.log.warning(text)
        self.options = options
        self.detach = detach
        self.cgroup: Cgroup | None = None
        self.hooks: Hooks | None = None
        bundle.check_terminal(self.spec["process"], detach, self.console_socket)

    def create(self) -> InitProcess:
        """Up to the execution of its program. On failure nothing is left."""
        path = self.ctx.cgroup_path(self.spec, self.id)
        self.cgroup = context.cgroup_at(path, self.spec.get("annotations"))
        inhabitants = len(self.cgroup.pids())
        if inhabitants:
            # they would be killed with the container
            raise Conflict(f"container's cgroup is not empty: {inhabitants} process(es) found")
        self.container = state.reserve(
            self.ctx.root,
            self.id,
            {
                "ociVersion": self.spec["ociVersion"],
                "bundle": self.bundle.path,
                "rootfs": self.spec["root"]["path"],
                "created": _now(),
                "owner": os.geteuid(),
                "annotations": self.spec.get("annotations") or {},
                "cgroup": path,
            },
        )
        process = None
        try:
            self.hooks = hooks_of(self.spec, self.container)
            self.ctx.log.debug(f"{self.id}: reserved in {self.container.directory}, its cgroup is {path}")
            process = self._launch()
            self.container.save_process(process.pid)
            self.ctx.log.debug(
                f"{self.id}: process {process.pid} is ready to execute {self.spec['process']['args'][0]}"
            )
            if self.console_socket:
                bundle.send_console(self.console_socket, process)
            if self.pidfd_socket:
                bundle.send_pidfd(self.pidfd_socket, process, "standard")
            if self.pid_file:
                files.write_atomic(self.pid_file, str(process.pid).encode(), sync=False)
            return process
        except BaseException:
            if process:
                process.abandon()
            self.undo()
            raise

    def start(self, process: InitProcess) -> None:
        try:
            process.start()
        except BaseException:
            self.undo()
            raise
        poststart(self.ctx, self.container, self.hooks)

    def undo(self) -> None:
        """What was taken is given back; a failure of that is a warning, since the reason for it is told next."""
        try:
            destroy(self.ctx, self.container, self.cgroup, self.hooks)
        except (MiniError, OSError) as e:
            self.ctx.log.warning(f"cannot remove what is left of {self.id}: {e}")

    def _launch(self) -> InitProcess:
        settings = self.spec.get("linux") or {}
        preserved = bundle.preserve(self.options, self.spec["process"])
        if self.ctx.systemd:  # init inherits what it enters that by
            self._make_cgroup()
        return launch.create(
            self.spec,
            rootfs=[],
            stdio=None,
            cgroup=self.cgroup,
            make_cgroup=None if self.ctx.systemd else self._make_cgroup,
            seccomp=bundle.seccomp(settings, self.ctx.seccomp_cache),
            hooks=self.hooks,
            network=None if self.detach else _prepare_the_end,
            notify=bundle.notifier(settings, {**self.container.facts(), "status": "creating"}),
            preserved=preserved,
            keyring=not self.options.get("no-new-keyring"),
            pivot=not self.options.get("no-pivot"),
        )

    def _make_cgroup(self) -> bool:
        """And what else can be done while init makes its namespaces. False where a rootless caller may have no cgroup, and wants
        no limit."""
        from engine.runtime.cgroups import limits, locate

        assert self.cgroup
        self.container.save_spec(self.bundle.raw)
        resources = (self.spec.get("linux") or {}).get("resources") or {}
        try:
            self.cgroup.create()
            self.cgroup.apply(resources)
            self.cgroup.give_to(locate.owner(self.spec))
        except (RuntimeFault, Unsupported):
            if not self.ctx.rootless or limits.wanted(resources) or resources.get("unified"):
                raise
            self.cgroup = None
            self.container.data["cgroup"] = ""
            self.container.save()
        return self.cgroup is not None


def _prepare_the_end(_: int) -> None:
    """While init mounts, this process is idle: what a container in the foreground needs then is imported now."""
    from engine.runtime.cgroups import freezer  # noqa: F401
    from engine.runtime.oci_cli import relay  # noqa: F401


def _now() -> str:
    """RFC 3339 with nanoseconds, as Go's time package has it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"
