"""A command caught in the middle of what it does, however the scheduler treats it and us."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any


def stopped_while(process: subprocess.Popen[Any], condition: Callable[[], object]) -> bool:
    """Stops the process (SIGSTOP) at a moment at which the condition holds, seen from outside. False: it ended before that.

    A signal that is sent then is there before the process does anything more; SIGCONT lets it go on.
    """
    while process.poll() is None:
        if not condition():
            continue
        process.send_signal(signal.SIGSTOP)
        if _is_stopped(process.pid) and condition():
            return True
        process.send_signal(signal.SIGCONT)
    return False


def _is_stopped(pid: int) -> bool:
    """Once the signal has arrived; False where the process has ended instead (proc_pid_stat(5))."""
    while True:
        with open(f"/proc/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        if state in "TZX":
            return state == "T"
