"""Some jobs at a time, each in a thread; given up together at the first failure, and at Ctrl-C."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """The work is being given up (Ctrl-C, or another job failed): the thread that sees this cleans up and ends."""


class Stoppable(Protocol):
    """What the jobs have in common: they look at `stop`, and `interrupt` sets it and wakes those that wait."""

    @property
    def stop(self) -> threading.Event: ...

    def interrupt(self) -> None: ...


def side_by_side(
    work: Callable[[T], None], jobs: Sequence[T], limit: int, common: Stoppable, patience: float | None = 3.0
) -> None:
    """Does `work` for every job, at most `limit` at once, in their order. Raises what the first one to fail raised.

    Then, or where the caller is interrupted, the others are interrupted, no further job is begun, and for `patience` seconds
    (None: as long as it takes) those that were begun may remove what they have made.
    """
    pending: queue.SimpleQueue[T | None] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        while (job := pending.get()) is not None:
            try:
                if common.stop.is_set():
                    raise Interrupted
                work(job)
            except BaseException as e:
                outcomes.put(e)
                return
            outcomes.put(None)

    count = min(limit, len(jobs))
    for job in [*jobs, *[None] * count]:
        pending.put(job)
    # Daemon threads: one that hangs in a connect cannot hold up the end of the process after Ctrl-C.
    threads = [threading.Thread(target=run, name=f"layer-{n}", daemon=True) for n in range(count)]
    try:
        _start(threads)
        for _ in jobs:
            failure = outcomes.get()
            if failure is not None:
                raise failure
    except BaseException:
        common.interrupt()
        deadline = None if patience is None else time.monotonic() + patience
        for thread in threads:
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        raise


def _start(threads: list[threading.Thread]) -> None:
    """Ctrl-C waits until all have started: one that came within `Thread.start` would leave a thread that nobody can join."""
    if threading.current_thread() is not threading.main_thread():
        for thread in threads:
            thread.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for thread in threads:
            thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
