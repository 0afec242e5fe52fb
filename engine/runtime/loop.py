"""One poll(2) for everything that a monitor waits for: descriptors, and moments in time. Single-threaded."""

from __future__ import annotations

import errno
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Ready = Callable[[int, int], object]

READ = select.POLLIN | select.POLLHUP | select.POLLERR
WRITE = select.POLLOUT | select.POLLHUP | select.POLLERR
_REST = 1.0  # seconds


class Loop:
    """Callbacks for descriptors, as (descriptor, events of poll(2)), and for moments of the monotonic clock."""

    def __init__(self, failed: Callable[[], object] | None = None) -> None:
        """`failed` is called where a callback has raised, in the `except` clause, and the loop goes on; else the exception goes up.

        It is for a loop that a container's life hangs on (PR_SET_PDEATHSIG): what a callback can expect it catches itself, but an
        error that nobody has thought of, in a probe say, must not end a container that has no part in it.
        """
        self._poll = select.poll()
        self._ready: dict[int, tuple[int, Ready]] = {}
        self._timers: list[tuple[float, Callable[[], object]]] = []
        self._resting: dict[int, Callable[[], object]] = {}
        # in this step: their numbers may be those of other descriptors by now
        self._forgotten: set[int] = set()
        self._failed = failed

    def watch(self, fd: int, events: int, ready: Ready) -> None:
        """Replaces what was wanted of `fd`. With no events nothing is watched: a hang-up would be reported for ever."""
        if not events:
            return self.forget(fd)
        self._wake(fd)
        self._poll.register(fd, events)
        self._ready[fd] = events, ready

    def forget(self, fd: int) -> None:
        """Before `fd` is closed. No error where it is not watched."""
        self._wake(fd)
        self._forgotten.add(fd)
        if self._ready.pop(fd, None):
            self._poll.unregister(fd)

    def rest(self, fd: int) -> None:
        """Watches `fd` again in a second: it is ready, nothing can be done about it now, and poll(2) would say so without end."""
        watched = self._ready[fd]
        self.forget(fd)
        self._resting[fd] = due = lambda: self.watch(fd, *watched)
        self.at(time.monotonic() + _REST, due)

    def refused(self, listener: int, e: OSError) -> None:
        """accept(2) has failed. For want of a descriptor (EMFILE): whoever connects is still there, and waits for one."""
        if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            self.rest(listener)

    def _wake(self, fd: int) -> None:
        if due := self._resting.pop(fd, None):
            self.cancel(due)

    def at(self, moment: float, due: Callable[[], object]) -> None:
        """Calls `due` once, in the first step at or after `moment` (time.monotonic, in seconds)."""
        self._timers.append((moment, due))

    def cancel(self, due: Callable[[], object]) -> None:
        """Forgets every moment at which `due` was to be called."""
        self._timers = [t for t in self._timers if t[1] != due]

    def step(self) -> None:
        """Waits until something is ready or due, and calls what is. What a callback forgets is not called any more."""
        timeout = None
        if self._timers:
            timeout = max(0.0, min(moment for moment, _ in self._timers) - time.monotonic()) * 1000
        self._forgotten.clear()
        for fd, events in self._poll.poll(timeout):
            if fd in self._ready and fd not in self._forgotten:
                try:
                    self._ready[fd][1](fd, events)
                except Exception:
                    self._survive()
                    if fd in self._ready and fd not in self._forgotten:
                        self.rest(fd)
        now = time.monotonic()
        for timer in [t for t in self._timers if t[0] <= now]:
            # another one may have cancelled it
            if timer in self._timers:
                self._timers.remove(timer)
                try:
                    timer[1]()
                except Exception:
                    self._survive()

    def _survive(self) -> None:
        if not self._failed:
            raise
        self._failed()
