"""Network namespaces that a process of the test's own holds, and visits to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from engine import linux
from engine.runtime.namespaces import VisitNetwork
from tests.support import isolation

Result = TypeVar("Result")


def hold() -> int:
    """The pid of a process in a new network namespace, which does nothing else; `end` ends both."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWNET)
            os.write(told, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def inside(pid: int, work: Callable[[], Result]) -> Result:
    """What `work` returns in the network namespace of process `pid`; a socket made there stays there."""
    with VisitNetwork(f"/proc/{pid}/ns/net"):
        return work()


@contextmanager
def another() -> Iterator[None]:
    """This thread is in a new network namespace, whose loopback interface is up."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    linux.unshare(linux.CLONE_NEWNET)
    try:
        isolation.set_up("lo")
        yield
    finally:
        linux.setns(own, linux.CLONE_NEWNET)
        os.close(own)
