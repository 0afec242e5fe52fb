"""start, kill, delete: what is done to a container that making.py made. Without what makes one, which takes long to import.

start       a message to init, which waits for it; poststart hooks
delete      kills what is left → cgroup → state → poststop hooks
"""

from __future__ import annotations

import os

from engine.errors import Conflict, MiniError, NotFound, RuntimeFault, Unsupported, UsageError
from engine.lean import signal
from engine.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Spec
    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.hooks import Hooks
    from engine.runtime.oci_cli.context import Context
    from engine.runtime.oci_cli.notify import Readiness
    from engine.runtime.state import Container

_PATIENCE = 10  # seconds for a killed process to end


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
    from engine.runtime.process import channel

    readiness = listen(ctx, container, container.pid)
    pidfd = container.pidfd() if readiness else -1
    channel.start_created(container.socket)
    ctx.log.debug(f"{container.id}: process {container.pid} has executed its program")
    poststart(ctx, container, hooks_of(container.spec(), container))
    if readiness:
        container.unlock()
        readiness.wait(pidfd)
    return 0


def kill(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = state.find(ctx.root, arguments[0])
    number = signal_number((arguments[1:] or [""])[0] or "TERM")
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
    if cgroup and pidfd < 0 and cgroup.delete_empty():
        cgroup = None
    if cgroup and cgroup.exists():
        cgroup.kill()
    if pidfd >= 0:
        _await_end(pidfd, container.id)
    if cgroup:
        cgroup.delete(parent=False)
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


def listen(ctx: Context, container: Container, pid: int) -> Readiness | None:
    """For what the program tells $NOTIFY_SOCKET, with this process as the main one. Mostly none is asked for, nor imported."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    from engine.runtime.oci_cli import notify

    return notify.listen(container, pid, ctx.log)


def poststart(ctx: Context, container: Container, hooks: Hooks | None) -> None:
    if hooks:
        hooks.run_all("poststart", "running", container.data["pid"], ctx.log.warning)
