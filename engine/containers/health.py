"""Health checks: a command run in the container now and then, and what its exit code says (moby, daemon/health.go).

    starting ──0──▶ healthy ◀──0── unhealthy
        ╰── other than 0, `Retries` times in a row ──▶ ╯

Failures in the start period do not count. The container's monitor runs the probes, in its one loop; `ps` and `inspect`
show what it wrote into the state. `--health-on-failure` says what follows from unhealthy: none, kill, restart or stop.
"""

from __future__ import annotations

import os
import select
import time

from engine.errors import MiniError, UsageError
from engine.lean import signal
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from engine.containers.options import CreateOptions
    from engine.runtime.loop import Loop
    from engine.runtime.process.launch import InitProcess

INTERVAL = TIMEOUT = 30_000_000_000
RETRIES = 3
KEPT_PROBES, KEPT_OUTPUT = 5, 4096
ACTIONS = ("none", "kill", "restart", "stop")
_FIELDS = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
_SHORTEST = 1_000_000


def config(options: CreateOptions, image: Mapping[str, Any]) -> dict[str, Any] | None:
    """Docker's Healthcheck object: what was asked for over the image's HEALTHCHECK, field by field. Times in nanoseconds."""
    given = {
        "Interval": options.health_interval,
        "Timeout": options.health_timeout,
        "StartPeriod": options.health_start_period,
        "StartInterval": options.health_start_interval,
        "Retries": options.health_retries,
    }
    if options.no_healthcheck:
        if options.health_cmd is not None or any(given.values()):
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for name, value in given.items():
        if value is not None and value < 0:
            raise UsageError(f"{_option(name)} cannot be negative")
        if value and value < _SHORTEST and name != "Retries":
            raise UsageError(f"{name} in Healthcheck cannot be less than 1ms")
    if options.health_on_failure not in ACTIONS:
        raise UsageError(
            f"invalid --health-on-failure: {options.health_on_failure}", f"it is one of {', '.join(ACTIONS)}"
        )
    check = {key: value for key, value in (image.get("Healthcheck") or {}).items() if value}
    check |= {key: value for key, value in given.items() if value}
    if options.health_cmd is not None:
        check["Test"] = ["CMD-SHELL", options.health_cmd] if options.health_cmd else []
    return check or None


def _option(field: str) -> str:
    """`--health-start-period` of StartPeriod."""
    return "--health" + "".join(f"-{c.lower()}" if c.isupper() else c for c in field)


def command(check: Mapping[str, Any] | None) -> list[str]:
    """The argument vector of a probe, empty where there is no health check."""
    kind, *words = (check or {}).get("Test") or ["NONE"]
    if kind == "CMD-SHELL" and words:
        return ["/bin/sh", "-c", words[0]]
    return words if kind == "CMD" else []


def unknown() -> dict[str, Any]:
    """Docker's Health object before the first probe."""
    return {"Status": "starting", "FailingStreak": 0, "Log": []}


class Checker:
    """Probes one container's life. `spawn(argv, stdio)` starts a process in it; `changed` is called after every result.

    While `paused()`, no probe begins and none is too late: it would be frozen with the others. Then it has its time anew.
    Once `ending()`, the kernel kills a probe with the others, or lets none begin: that says nothing of the container's health.
    """

    def __init__(
        self,
        check: Mapping[str, Any],
        loop: Loop,
        spawn: Callable[[list[str], tuple[int, int, int]], InitProcess],
        changed: Callable[[dict[str, Any]], None],
        paused: Callable[[], bool],
        ending: Callable[[], bool],
    ) -> None:
        self._check = {field: check.get(field) or 0 for field in _FIELDS}
        self._command = command(check)
        self._loop, self._spawn, self._changed, self._paused, self._ending = loop, spawn, changed, paused, ending
        self._started = time.monotonic()
        self._probe: InitProcess | None = None
        self._timeout = (self._check["Timeout"] or TIMEOUT) / 1e9
        self._was_paused = self._is_late = False
        self._output, self._said, self._begin = -1, b"", ""
        self.health = unknown()
        self._schedule()

    def _schedule(self) -> None:
        interval = self._check["Interval"] or INTERVAL
        if self.health["Status"] == "starting" and self._in_start_period() and self._check["StartInterval"]:
            interval = self._check["StartInterval"]
        self._loop.at(time.monotonic() + interval / 1e9, self._begin_probe)

    def _in_start_period(self) -> bool:
        return time.monotonic() - self._started < self._check["StartPeriod"] / 1e9

    def _begin_probe(self) -> None:
        if self._paused():
            return self._schedule()
        self._begin, self._said = timestamp(), b""
        self._is_late = self._was_paused = False
        try:
            self._probe = self._start()
        except (MiniError, OSError) as e:
            return self._record(-1, e.message if isinstance(e, MiniError) else str(e))
        probe = self._probe
        self._loop.watch(probe.pidfd, select.POLLIN, self._ended)
        self._loop.watch(self._output, select.POLLIN, self._read)
        self._loop.at(time.monotonic() + self._timeout, self._too_long)

    def _start(self) -> InitProcess:
        """A probe that runs, with what it says coming from `_output`."""
        self._output, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        opened = [write]
        try:
            opened.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            os.set_blocking(write, True)
            probe = self._spawn(self._command, (opened[1], write, write))
            probe.start()
            return probe
        finally:
            for fd in opened:
                os.close(fd)

    def _read(self, fd: int, _events: int) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        if data:
            self._said = (self._said + data)[:KEPT_OUTPUT]
        else:
            self._loop.forget(fd)

    def _ended(self, _fd: int, _events: int) -> None:
        assert self._probe
        self._read(self._output, 0)
        code, text = self._reap(), self._said.decode(errors="replace")
        if self._is_late:
            code, text = -1, f"Health check exceeded timeout ({self._timeout:g}s)"
        self._record(code, text)

    def _too_long(self) -> None:
        is_paused = self._paused()
        if self._probe and (is_paused or self._was_paused):
            self._was_paused = is_paused
            self._loop.at(time.monotonic() + self._timeout, self._too_long)
        elif self._probe:
            # its end may take its time: one that waits for a disk cannot be killed
            self._is_late = True
            self._probe.kill(signal.SIGKILL)

    def _reap(self) -> int:
        # who makes a container reads this module as well
        from engine.runtime.process.launch import exit_code

        assert self._probe
        self._loop.cancel(self._too_long)
        self._loop.forget(self._probe.pidfd)
        status = self._probe.wait()
        self._probe.close()
        self._probe = None
        return exit_code(status)

    def _record(self, code: int, output: str) -> None:
        self._close_output()
        if code and self._is_ending():
            return
        health = self.health
        entry = {"Start": self._begin, "End": timestamp(), "ExitCode": code, "Output": output}
        health["Log"] = [*health["Log"], entry][-KEPT_PROBES:]
        if code == 0:
            health["FailingStreak"] = 0
            health["Status"] = "healthy"
        elif not (health["Status"] == "starting" and self._in_start_period()):
            health["FailingStreak"] += 1
            if health["FailingStreak"] >= (self._check["Retries"] or RETRIES):
                health["Status"] = "unhealthy"
        self._schedule()
        self._changed(health)

    def _is_ending(self) -> bool:
        try:
            return self._ending()
        except OSError:
            # it cannot be looked at now: without a free descriptor, say
            return False

    def _close_output(self) -> None:
        if self._output >= 0:
            self._loop.forget(self._output)
            os.close(self._output)
            self._output = -1

    def close(self) -> None:
        """At the end of the container's life: no probe is left running or scheduled."""
        self._loop.cancel(self._begin_probe)
        if self._probe:
            self._probe.kill(signal.SIGKILL)
            self._reap()
            self._close_output()
