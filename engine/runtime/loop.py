"""One poll(2) for everything that a monitor waits for: descriptors, and moments in time. Single-threaded."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Ready = Callable[[int, int], None]

READ = select.POLLIN | select.POLLHUP | select.POLLERR
WRITE = select.POLLOUT | select.POLLHUP | select.POLLERR


class Loop:
    """Callbacks for descriptors, as (descriptor, events of poll(2)), and for moments of the monotonic clock."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._ready: dict[int, Ready] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def watch(self, fd: int, events: int, ready: Ready) -> None:
        """Replaces what was wanted of `fd`. With no events nothing is watched: a hang-up would be reported for ever."""
        if not events:
            return self.forget(fd)
        self._poll.register(fd, events)
        self._ready[fd] = ready

    def forget(self, fd: int) -> None:
        """Before `fd` is closed. No error where it is not watched."""
        if self._ready.pop(fd, None):
            self._poll.unregister(fd)

    def at(self, moment: float, due: Callable[[], None]) -> None:
        """Calls `due` once, in the first step at or after `moment` (time.monotonic, in seconds)."""
        self._timers.append((moment, due))

    def cancel(self, due: Callable[[], None]) -> None:
        """Forgets every moment at which `due` was to be called."""
        self._timers = [t for t in self._timers if t[1] != due]

    def step(self) -> None:
        """Waits until something is ready or due, and calls what is. What a callback forgets is not called any more."""
        timeout = None
        if self._timers:
            timeout = max(0.0, min(moment for moment, _ in self._timers) - time.monotonic()) * 1000
        for fd, events in self._poll.poll(timeout):
            if ready := self._ready.get(fd):
                ready(fd, events)
        now = time.monotonic()
        for timer in [t for t in self._timers if t[0] <= now]:
            # another one may have cancelled it
            if timer in self._timers:
                self._timers.remove(timer)
                timer[1]()
