"""A monitor's work, life after life: start the container, carry it, and when it has ended clean up or start it again.

    start ──▶ running ──exit──▶ clean up ──policy──▶ restarting ──delay──▶ start …
                │ health checks    │
                ╰ SIGTERM: the policy ends (`stop`, `kill`; the host's shutdown)

The monitor alone writes the container's state while it lives. `stopped` in the container's directory says that a user ended it, for
`mini system start` (restart.py).

A container dies with its monitor. So nothing but the container's own end ends a life: what fails beside it (a probe, a client, a
file that cannot be written) is told where one looks for it, or else in `monitor.log`. A step of the clean-up that fails keeps none
of the others from being made, the last of which tell the exit code; what is left is for `release` at the next start, or fsck.
"""

from __future__ import annotations

import os
import select
import time

from engine import events, files
from engine.containers import health, logoptions, networking, records, restart, sharing
from engine.containers.lifecycle import Life, cgroup_of, delete, release, release_cgroup, release_volumes
from engine.errors import MiniError
from engine.lean import signal
from engine.runtime import attach
from engine.runtime.logs import drivers, writer
from engine.runtime.loop import Loop
from engine.runtime.monitor import Monitor, note_failure
from engine.runtime.process.launch import exit_code
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.runtime.network.dns import Resolver
    from engine.runtime.process.launch import InitProcess

STOP_TIMEOUT = 10


def supervise(
    ctx: Context, record: Record, client: int, stdin: bool, output: bool, size: tuple[int, int] | None
) -> None:
    """The work of a monitor process; `client` is the socket of whoever started it. Raises why it did not start."""
    # before the start, so that whoever hears of it can connect
    files.make_dirs(ctx.paths.container_run(record.id), 0o700)
    for left in (f"{record.directory}/stopped", f"{record.directory}/kept", record.monitor_log):
        files.remove_file(left)
    supervisor = Supervisor(ctx, record)
    if ctx.log:
        ctx.log = lambda text: attach.tell(client, attach.frame(attach.STEP, text.encode()))
    try:
        process = supervisor.start(size)
    except (MiniError, OSError) as e:
        supervisor.not_started(e)
        raise
    ctx.log = None
    attach.tell(client, attach.json_frame(attach.STARTED, {"Pid": process.pid}))
    try:
        supervisor.run(process, client, stdin, output)
    except Exception:
        # no error of the start any more, for which there is a client: whoever finds the container without a monitor says it
        # (views.refresh)
        supervisor.failed()


class Supervisor:
    """One container, as many lives as its restart policy gives it."""

    def __init__(self, ctx: Context, record: Record) -> None:
        self.ctx, self.record = ctx, record
        self.host: dict[str, Any] = record.config["HostConfig"]
        self.loop = Loop(self.failed)
        self.listener = attach.listen(ctx.paths.container_run(record.id))
        self.execs = attach.listen(ctx.paths.container_run(record.id), attach.EXEC_SOCKET)
        self.stopping = False
        self._forced = False
        self._restarts = 0
        self._delay = 0.0
        self._checker: health.Checker | None = None
        self._resolver: Resolver | None = None
        self._log: writer.LogWriter | None = None
        self._listen_to_sigterm()

    def _listen_to_sigterm(self) -> None:
        """poll(2) goes on after a Python signal handler (PEP 475), so the signal comes as a byte, too."""
        wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        self.loop.watch(wake, select.POLLIN, lambda fd, _: os.read(fd, 512))

    def _stop(self) -> None:
        self.stopping = True

    def failed(self) -> None:
        """In an `except` clause."""
        note_failure(self.record.monitor_log)

    def _attempt(self, step: Callable[..., object], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception:
            self.failed()

    # --- one life

    def start(self, size: tuple[int, int] | None) -> InitProcess:
        """A process that runs, or the reason raised, with nothing of this life left."""
        self.life = life = Life(self.ctx, self.record)
        life.state["RestartCount"] = self._restarts
        records.mark_process(life.state, "MonitorPid", os.getpid())
        self.record.save_state(life.state)
        self._log = None
        try:
            self._log = drivers.open_writer(logoptions.plan(self.record.config), self.record.log_path)
            process = life.start(size)
        except (MiniError, OSError):
            for opened in (self._log, life.published):
                if opened:
                    self._attempt(opened.close)
            raise
        events.container(self.record, "start")
        return process

    def not_started(self, e: MiniError | OSError) -> None:
        self._attempt(self.record.save_state, self._why(records.new_state(), e))
        self._attempt(release, self.ctx, self.record)

    def _why(self, state: dict[str, Any], e: MiniError | OSError) -> dict[str, Any]:
        """The state of one that could not be started, as Docker has it: its last exit code, unless the error has one."""
        code, text = (e.exit_code, e.message) if isinstance(e, MiniError) else (None, str(e))
        return state | {"ExitCode": code or state["ExitCode"] or 128, "Error": text}

    def run(self, process: InitProcess, client: int, stdin: bool, output: bool) -> None:
        """Until the last life is over and cleaned up."""
        # not before, since a client waits for the start; not in each exec, where it would cost, and might be another version's
        from engine.containers import execsession

        execsession.attend(self.ctx, self.record, self.execs, self.loop)
        first: tuple[int, bool, bool] | None = (client, stdin, output)
        while True:
            began = time.monotonic()
            state = self._carry(process, first)
            first = None
            if not self._again(state["ExitCode"]):
                return self._end(state)
            self._between(state, time.monotonic() - began)
            if self.stopping:
                return self._end(state)
            try:
                process = self.start(None)
            except (MiniError, OSError) as e:
                self._attempt(release, self.ctx, self.record)
                return self._end(self._why(state, e))

    def _carry(self, process: InitProcess, client: tuple[int, bool, bool] | None) -> dict[str, Any]:
        """Watches one life to its end; the state then, not yet saved."""
        stdin_once = self.life.inspect["Config"]["StdinOnce"]
        self.monitor = Monitor(process, self.life.stdio, self._log, self.listener, stdin_once, self.loop)
        if client:
            self.monitor.add_client(*client)
        self.monitor.follow = self._follow
        if self.host.get("PidMode"):
            # no PID namespace ends with it
            self.monitor.ended = lambda: self._attempt(cgroup_of(self.ctx, self.record).kill)
        self._checker = self._resolver = None
        for serve in (self._check_health, self._serve_names, self._serve_ports):
            self._attempt(serve, process)
        status = self.monitor.run()
        for served in (self._resolver, self.life.published, self._checker):
            if served:
                self._attempt(served.close)
        process.close()
        state = self.life.state
        for what in ("Endpoints", "Ports"):
            state.pop(what, None)
        state |= {"Pid": 0, "ExitCode": exit_code(status), "FinishedAt": timestamp()}
        self._attempt(self._note_oom, state)
        self._tell_end(state)
        return state

    def _note_oom(self, state: dict[str, Any]) -> None:
        state["OOMKilled"] = cgroup_of(self.ctx, self.record).oom_kill_count() > 0

    def _serve_names(self, process: InitProcess) -> None:
        self._resolver = self.life.networking.serve_names(self.loop, process.pid)

    def _serve_ports(self, _process: InitProcess) -> None:
        if self.life.published:
            self.life.published.serve(self.loop)

    def _follow(self) -> None:
        """`update` and `network connect` have changed what the container's ports are."""
        self.record.reload()
        self.life.publish()
        if self.life.published:
            self.life.published.serve(self.loop)

    def _tell_end(self, state: dict[str, Any]) -> None:
        self.record.reload()
        self.host = self.record.config["HostConfig"]
        if state["OOMKilled"]:
            events.container(self.record, "oom")
        events.container(self.record, "die", exitCode=str(state["ExitCode"]))
        self._attempt(networking.detach, self.ctx, self.record)
        self._attempt(release_volumes, self.ctx, self.record.id)

    def _again(self, code: int) -> bool:
        forced, self._forced = self._forced, False
        return not self.stopping and (forced or restart.again(self.host["RestartPolicy"], code, self._restarts))

    def _between(self, state: dict[str, Any], lived: float) -> None:
        """Clients are told of the exit; then the delay, which SIGTERM ends. The address is kept for the next life."""
        self._attempt(release_cgroup, self.ctx, self.record)
        self._restarts += 1
        self._attempt(self.record.save_state, state | {"Status": "restarting", "RestartCount": self._restarts})
        self._attempt(self.monitor.finish, attach.frame(attach.EXIT, str(state["ExitCode"]).encode()))
        self._delay = restart.next_delay(self._delay, lived)
        due = False

        def ring() -> None:
            nonlocal due
            due = True

        self.loop.at(time.monotonic() + self._delay, ring)
        while not due and not self.stopping:
            self.loop.step()
        self.loop.cancel(ring)

    def _end(self, state: dict[str, Any]) -> None:
        record = self.record
        self._attempt(release_cgroup, self.ctx, record)
        self.listener.close()
        self.execs.close()
        self._attempt(sharing.unmount_shm, self.ctx, record.id)
        self._attempt(files.remove_tree, self.ctx.paths.container_run(record.id))
        self._attempt(record.save_state, state | {"Status": "exited"})
        self._attempt(self._remove)
        self._attempt(self.monitor.finish, attach.frame(attach.EXIT, str(state["ExitCode"]).encode()))
        # last: nobody can reach the container any more, and the client need not wait for the kernel
        self._attempt(networking.release, self.ctx, record)

    def _remove(self) -> None:
        if self.host["AutoRemove"] and not self._is_kept():
            delete(self.ctx, self.record, volumes=True)

    # --- health

    def _check_health(self, process: InitProcess) -> None:
        check = self.life.inspect["Config"].get("Healthcheck")
        if not health.command(check):
            return
        from engine.containers import execsession

        def spawn(argv: list[str], stdio: tuple[int, int, int]) -> InitProcess:
            return execsession.spawn_inside(self.ctx, self.record, self.life.state, argv, stdio)

        def changed(found: dict[str, Any]) -> None:
            before = (self.life.state.get("Health") or {}).get("Status")
            self.life.state["Health"] = dict(found)
            # the next one has this result, too
            self._attempt(self.record.save_state, self.life.state)
            if found["Status"] != before:
                events.container(self.record, f"health_status: {found['Status']}")
            if found["Status"] == "unhealthy" != before:
                self._unhealthy(process)

        self._checker = health.Checker(check, self.loop, spawn, changed, self._is_paused, process.is_ending)

    def _is_kept(self) -> bool:
        """Whether a `mini restart` that is still there is about to start it again: `--rm` does not hold then."""
        try:
            keeper: dict[str, Any] = files.read_json(f"{self.record.directory}/kept")
        except FileNotFoundError:
            return False
        return records.is_alive(keeper, "Pid")

    def _is_paused(self) -> bool:
        return os.path.exists(self.record.paused_mark)

    def _unhealthy(self, process: InitProcess) -> None:
        """`--health-on-failure`: kill leaves the rest to the policy, restart starts it again, stop does not."""
        action = self.host.get("HealthOnFailure", "none")
        if action == "kill":
            process.kill(signal.SIGKILL)
        elif action in ("restart", "stop"):
            self._forced = action == "restart"
            self.stopping = self.stopping or action == "stop"
            from engine.containers.bundle import stop_signal

            config = self.life.inspect["Config"]
            process.kill(stop_signal(config))
            timeout = config.get("StopTimeout", STOP_TIMEOUT)

            def kill() -> None:
                if process.pidfd >= 0:
                    process.kill(signal.SIGKILL)

            if timeout >= 0:
                self.loop.at(time.monotonic() + timeout, kill)


def kept_by(pid: int) -> dict[str, Any]:
    """What `kept` in the container's directory says: who is about to start it again."""
    keeper: dict[str, Any] = {}
    records.mark_process(keeper, "Pid", pid)
    return keeper
