"""A process that does one piece of work beside the monitor, which has to go on."""

from __future__ import annotations

import os

from engine.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def fork(body: Callable[[], None], keep: int = -1) -> int:
    """Runs `body` in a child that has none of this process's descriptors but `keep`; its pid, to be waited for.

    A client's socket or a pipe of the container's that stayed open here would never be seen to end.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.closerange(3, max(keep, 3))
        os.closerange(max(keep + 1, 3), 65536)
        body()
        status = 0
    finally:
        os._exit(status)
