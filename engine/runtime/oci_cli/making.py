"""create and run: a container on its way from a bundle to a process that is ready.

    create      reserve the ID → init; its cgroup, while that makes namespaces → it is ready → state → init is left alone
    run         create and start at once; unless detached, waits, passes signals on, and deletes

A create that fails goes the way of delete, whatever it had come to.
"""

from __future__ import annotations

import os
import time

from engine import files
from engine.errors import Conflict, MiniError, NotFound, RuntimeFault, Unsupported
from engine.runtime import state
from engine.runtime.oci_cli import bundle, context
from engine.runtime.oci_cli.lifecycle import destroy, hooks_of, listen, poststart
from engine.runtime.process import channel, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.hooks import Hooks
    from engine.runtime.oci_cli.context import Context
    from engine.runtime.oci_cli.notify import Readiness
    from engine.runtime.process.launch import InitProcess


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
        if making.readiness:
            container.unlock()
            making.readiness.wait(process.pidfd)
        process.close()
        return 0
    from engine.runtime.oci_cli.relay import Relay

    with Relay(process) as relay:
        making.start(process)
        container.unlock()
        code = relay.wait(making.readiness)
    if not options.get("keep"):
        try:
            container.lock()
        except NotFound:
            return code  # somebody else deleted it, and so ended it
        making.undo()
    return code


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
        self.readiness: Readiness | None = None
        bundle.check_terminal(self.spec["process"], detach, self.console_socket)

    def create(self) -> InitProcess:
        """Up to the execution of its program. On failure nothing is left."""
        path = self.ctx.cgroup_path(self.spec, self.id)
        self.cgroup = context.cgroup_at(path, self.spec.get("annotations"))
        inhabitants = len(self.cgroup.pids())
        if inhabitants:
            state.check_free(self.ctx.root, self.id)
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
            if os.environ.get("NOTIFY_SOCKET"):
                from engine.runtime.oci_cli import notify

                notify.mount(self.spec, self.container)
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
            self.readiness = listen(self.ctx, self.container, process.pid if self.detach else os.getpid())
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
    from engine.runtime.oci_cli import relay  # noqa: F401


def _now() -> str:
    """RFC 3339 with nanoseconds, as Go's time package has it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"
