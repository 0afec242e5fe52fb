"""The use cases: what a user does with containers, joining images, storage and the runtime.

The command line calls these and prints; nothing here prints or exits. Each takes the Context and a name as the user
gave it, and raises the errors of `errors.py` in Docker's words.
"""

from __future__ import annotations

import os
import select
import time

from engine import events, files, host, names
from engine.containers import bundle, config, lifecycle, limits, mountpoints, networking, pausing, records, sharing
from engine.containers.supervision import STOP_TIMEOUT, kept_by, supervise
from engine.containers.terminal import DETACH_KEYS, Session, Streams, check_terminal, wait_started
from engine.containers.views import refresh
from engine.errors import Conflict, Interrupted, MiniError, NotFound, UsageError
from engine.lean import signal
from engine.runtime import attach
from engine.runtime import monitor as monitors
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from engine.containers.options import CreateOptions
    from engine.containers.records import Record
    from engine.context import Context
    from engine.storage.images import Image

# --- create and start --------------------------------------------------------------------------------------------


def create(ctx: Context, options: CreateOptions) -> str:
    """Makes a container of an image that is in the store; returns its ID. NotFound where the image is not there."""
    from engine.storage import drivers
    from engine.storage.images import ImageStore

    host.require_container_host()
    limits.check(options)
    container_id = os.urandom(32).hex()
    store = ImageStore(ctx.paths)
    with store.reading():
        image = store.resolve(options.image)
        store.touch(image.id)
        driver = drivers.choose(ctx.paths, ctx.storage_driver)
        inspect = _inspect_object(ctx, options, container_id, image, driver.name)
        bundle.seccomp_choice(inspect["HostConfig"])
        bundle.capabilities(inspect["HostConfig"])
        if options.stop_signal:
            bundle.signal_number(options.stop_signal)
        if name := options.name:
            inspect["Name"] = f"/{config.check_name(name)}"
        record = records.Record(ctx.paths, container_id, inspect)
        _write_cidfile(options.cidfile, container_id)
        try:
            with records.using_volumes(ctx.paths, shared=True):
                mounts = inspect["HostConfig"].get("Mounts") or []
                inspect["Mounts"] = mountpoints.points(ctx, options, mounts, image.config.get("config") or {})
                _create_record(
                    ctx, record, bool(options.name), lambda: driver.create_root(container_id, image.diff_ids)
                )
        except BaseException:
            lifecycle.delete(ctx, record, volumes=True)
            if options.cidfile:
                files.remove_file(options.cidfile)
            raise
    events.container(record, "create")
    return container_id


def _inspect_object(
    ctx: Context, options: CreateOptions, container_id: str, image: Image, driver: str
) -> dict[str, Any]:
    """Docker's inspect object without State: see `config`."""
    settings = config.container_config(options, image.config.get("config") or {}, container_id, ctx.environ)
    argv: list[str] = (settings["Entrypoint"] or []) + (settings["Cmd"] or [])
    modes = sharing.modes(ctx, options)
    return {
        "Id": container_id,
        "Created": timestamp(),
        "Path": argv[0],
        "Args": argv[1:],
        "Image": image.id,
        "Name": "",
        "Driver": driver,
        "Platform": "linux",
        "GraphDriver": {"Name": driver, "Data": {"DiffIDs": image.diff_ids}},
        "Mounts": [],
        "Config": settings,
        "HostConfig": config.host_config(options, modes, mountpoints.parse_mounts(options)),
        "NetworkSettings": {"Networks": networking.asked(ctx, options)},
    }


def _create_record(ctx: Context, record: Record, named: bool, fill: Callable[[], object]) -> None:
    """With the name given, or with a generated one that is free."""
    while True:
        if not named:
            record.config["Name"] = f"/{names.generate()}"
        try:
            return records.create(ctx.paths, record, fill)
        except Conflict:
            if named:
                raise


def _write_cidfile(path: str | None, container_id: str) -> None:
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as e:
        raise UsageError(
            f"failed to create the container ID file: open {path}: {os.strerror(e.errno or 0).lower()}"
        ) from e
    os.write(fd, container_id.encode())
    os.close(fd)


def start(
    ctx: Context,
    name: str,
    attached: bool = False,
    interactive: bool = False,
    streams: Streams | None = None,
    sig_proxy: bool = True,
    detach_keys: bytes = DETACH_KEYS,
) -> int | None:
    """Starts a container that does not run. Attached: its exit code, None where the user detached from it."""
    host.require_container_host()
    record = records.find(ctx.paths, name)
    settings = record.config["Config"]
    streams = streams or Streams()
    stdin = attached and interactive and settings["OpenStdin"]
    if attached:
        check_terminal(streams, stdin, settings["Tty"])
    with record.lock():
        state = refresh(ctx, record)
        if state["Paused"]:
            raise Conflict("cannot start a paused container, try unpause instead")
        if state["Running"]:
            if attached:
                raise Conflict(f"Container {record.id} is already running")
            return None
        size = streams.size() if attached else None
        if attached:
            events.container(record, "attach")
        fd = monitors.fork_monitor(
            lambda client: supervise(ctx, record, client, stdin, attached, size),
            record.monitor_log,
        )
        wait_started(fd, ctx.log)
    if not attached:
        os.close(fd)
        return None
    code = Session(
        fd,
        streams,
        tty=settings["Tty"],
        stdin=stdin,
        sig_proxy=sig_proxy,
        detach_keys=detach_keys,
        signalled=lambda number: events.container(record, "kill", signal=str(number)),
    ).relay()
    if code is None:
        events.container(record, "detach")
    return code


def run(ctx: Context, options: CreateOptions, streams: Streams | None = None, **session: Any) -> tuple[str, int | None]:
    """`create`, then `start`: (ID, exit code); the code is None with `detach`, and where the user detached.

    A start that failed with --rm leaves nothing; without it, the container stays, as Docker leaves it.
    """
    streams = streams or Streams()
    if not options.detach:
        check_terminal(streams, options.interactive, options.tty)
    container_id = create(ctx, options)
    try:
        code = start(ctx, container_id, not options.detach, options.interactive, streams, **session)
    except Interrupted:
        raise
    except MiniError:
        if options.remove:
            remove(ctx, container_id, force=True, volumes=True)
        raise
    return container_id, code


# --- stop, kill, remove, wait ------------------------------------------------------------------------------------


def kill(ctx: Context, name: str, signal_name: str = "KILL") -> None:
    """Sends a signal to the container's PID 1; Conflict where it does not run.

    SIGKILL and the container's stop signal also end its restart policy.
    """
    number = bundle.signal_number(signal_name)
    record = records.find(ctx.paths, name)
    state = refresh(ctx, record)
    stop_signal = bundle.stop_signal(record.config["Config"])
    if state["Running"] and number in (signal.SIGKILL, stop_signal):
        _end_policy(record, state)
    if not state["Running"] or not _signal(state, number):
        raise Conflict(f"Cannot kill container: {name}: Container {record.id} is not running")
    events.container(record, "kill", signal=str(number))
    pausing.thaw_for_signal(ctx, record, state, number)
    if number == signal.SIGKILL:
        _wait_ended(ctx, record, STOP_TIMEOUT)


def stop(ctx: Context, name: str, timeout: int | None = None, signal_name: str | None = None) -> None:
    """The stop signal, then SIGKILL after `timeout` seconds (None: the container's own, or 10; negative: never).

    Nothing where it does not run.
    """
    record = records.find(ctx.paths, name)
    settings = record.config["Config"]
    number = bundle.signal_number(signal_name) if signal_name else bundle.stop_signal(record.config["Config"])
    if timeout is None:
        timeout = settings.get("StopTimeout", STOP_TIMEOUT)
    state = refresh(ctx, record)
    while not state["Running"] and records.is_alive(state, "MonitorPid"):
        # one life has ended and the next one is about to begin, or nothing is left but to clean up
        time.sleep(0.005)
        state = refresh(ctx, record)
    if not state["Running"]:
        return
    _end_policy(record, state)
    if _signal(state, number):
        events.container(record, "kill", signal=str(number))
    if state["Paused"]:
        # the signal is taken when it thaws
        pausing.thaw(ctx, record)
    if not _wait_ended(ctx, record, timeout if timeout >= 0 else None):
        if _signal(state, signal.SIGKILL):
            events.container(record, "kill", signal=str(int(signal.SIGKILL)))
        _wait_ended(ctx, record, STOP_TIMEOUT)
    events.container(record, "stop")


def restart(ctx: Context, name: str, timeout: int | None = None, signal_name: str | None = None) -> None:
    """`stop`, then `start`, also of one that does not run. One with --rm stays for it, and loses nothing."""
    record = records.find(ctx.paths, name)
    if refresh(ctx, record)["Running"]:
        files.write_json(f"{record.directory}/kept", kept_by(os.getpid()), sync=False)
        stop(ctx, record.id, timeout, signal_name)
    start(ctx, record.id)
    events.container(record, "restart")


def _end_policy(record: Record, state: dict[str, Any]) -> None:
    """Before a container is ended on purpose: its monitor does not start it again, nor does the next boot."""
    files.write_atomic(f"{record.directory}/stopped", b"", sync=False)
    _signal(state, signal.SIGTERM, "MonitorPid")


def _signal(state: dict[str, Any], number: int, key: str = "Pid") -> bool:
    """False where the process is gone; never a process that took its pid over."""
    if not records.is_alive(state, key):
        return False
    try:
        pidfd = os.pidfd_open(state[key])
    except ProcessLookupError:
        return False
    try:
        if not records.is_alive(state, key):
            return False
        signal.pidfd_send_signal(pidfd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)


def _wait_ended(ctx: Context, record: Record, timeout: float | None) -> bool:
    """Waits until the container has ended and its monitor has cleaned up. False where the time was not enough."""
    deadline = None if timeout is None else time.monotonic() + timeout
    state = record.load_state()
    for key in ("Pid", "MonitorPid"):
        if not records.is_alive(state, key):
            continue
        try:
            pidfd = os.pidfd_open(state[key])
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if key == "MonitorPid" and deadline is not None:
                # init is gone: what is left is the monitor's clean-up, whatever time the user gave the program
                deadline = max(deadline, time.monotonic() + STOP_TIMEOUT)
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if records.is_alive(state, key) and not poll.poll(left):
                return False
        finally:
            os.close(pidfd)
    if os.path.isdir(record.directory):
        refresh(ctx, record)
    return True


def remove(ctx: Context, name: str, force: bool = False, volumes: bool = False) -> None:
    """Removes a container; a running one only with `force`, which kills it first. `volumes`: its anonymous ones too."""
    record = records.find(ctx.paths, name)
    volumes = volumes or record.config["HostConfig"]["AutoRemove"]
    with record.lock():
        state = refresh(ctx, record)
        if state["Running"]:
            if not force and state["Paused"]:
                raise Conflict(
                    f"You cannot remove a paused container {record.id}. "
                    "Unpause and then stop the container before attempting removal or force remove"
                )
            if not force:
                raise Conflict(
                    f"You cannot remove a running container {record.id}. "
                    "Stop the container before attempting removal or force remove"
                )
            _end_policy(record, state)
            if _signal(state, signal.SIGKILL):
                events.container(record, "kill", signal=str(int(signal.SIGKILL)))
            if state["Paused"]:
                pausing.thaw(ctx, record)
        if not _wait_ended(ctx, record, STOP_TIMEOUT):
            _kill_monitor(record)
        if not os.path.isdir(record.directory):
            return
        lifecycle.release(ctx, record)
        lifecycle.delete(ctx, record, volumes)
    from engine.system import imageuse

    imageuse.finish_removals(ctx)


def _kill_monitor(record: Record) -> None:
    """For a monitor that something holds up after its container's end."""
    state = record.load_state()
    if records.is_alive(state, "MonitorPid"):
        os.kill(state["MonitorPid"], signal.SIGKILL)


def wait(ctx: Context, name: str) -> int:
    """Blocks until the container has ended; its exit code."""
    record = records.find(ctx.paths, name)
    try:
        client = attach.connect(ctx.paths.container_run(record.id))
    except OSError:
        return last_exit_code(ctx, record)
    buffer = bytearray()
    try:
        while data := client.recv(attach.CHUNK):
            buffer += data
            for kind, payload in attach.take_frames(buffer):
                if kind == attach.EXIT:
                    return int(payload)
    except ConnectionResetError:
        # the monitor ended before it had accepted the connection
        pass
    finally:
        client.close()
    return last_exit_code(ctx, record)


def last_exit_code(ctx: Context, record: Record) -> int:
    """Of a container that runs no more, once its monitor has written it down. NotFound where it was removed at its end."""
    _wait_ended(ctx, record, None)
    code = int(refresh(ctx, record)["ExitCode"])
    if not os.path.isdir(record.directory):
        raise NotFound(f"No such container: {record.id[:12]}")
    return code
