"""Some jobs at a time, each in a thread; given up together at the first failure, and at Ctrl-C."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from engine.images.transport import Interrupted, Transport

T = TypeVar("T")
# How long work that is given up waits for its threads to remove what they have begun.
_LAST_WORDS = 3.0


def side_by_side(work: Callable[[T], None], jobs: Sequence[T], limit: int, transport: Transport) -> None:
    """Does `work` for every job, at most `limit` at once, in their order. Raises what the first one to fail raised.

    Then, or where the caller is interrupted, the transport's requests are broken off, and no further job is begun.
    """
    pending: queue.SimpleQueue[T | None] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        while (job := pending.get()) is not None:
            try:
                if transport.stop.is_set():
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
        for thread in threads:
            thread.start()
        for _ in jobs:
            failure = outcomes.get()
            if failure is not None:
                raise failure
    except BaseException:
        transport.interrupt()
        deadline = time.monotonic() + _LAST_WORDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
