"""`--init`: PID 1 that stays mini's own, starts the program as its child, passes signals on and reaps what is orphaned.

A kernel ignores signals for a PID 1 without a handler (pid_namespaces(7)), and a program that expects no orphans leaves zombies.
Other engines put a binary into the container for this; here init simply does not execute the program itself. It has given up
every privilege that the program lacks, and like all of mini in a container it is undumpable and runs from a protected interpreter.
"""

from __future__ import annotations

import os

from engine.lean import signal
from engine.runtime.process import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from engine.oci.runtime import Process
    from engine.runtime.process.channel import Channel
    from engine.runtime.process.finish import Step


def run(program: str, process: Process, channel: Channel, step: Step) -> NoReturn:
    """Ends with the program's exit code, 128 + n where signal n ended it."""
    step("init", "start the program below init")
    every = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    child = os.fork()
    if child == 0:
        # SIGTTOU is still blocked: tcsetpgrp(3) from the background would stop us
        os.setpgid(0, 0)
        if process.get("terminal"):
            os.tcsetpgrp(0, os.getpid())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        finish.execute(program, process, step)
    # the parent waits for this end of the channel to close, which tells that the program was executed
    channel.close()
    _name("mini-init")
    while True:
        number = signal.sigwait(every)
        if number == signal.SIGCHLD:
            _reap(child)
        else:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _name(name: str) -> None:
    """What `ps` shows: proc_pid_comm(5)."""
    try:
        fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    os.write(fd, name.encode())
    os.close(fd)
