"""The loop of a monitor: descriptors whose numbers are used again, callbacks that raise, and what cannot be served now."""

from __future__ import annotations

import os
import resource
import select
import socket
import time

import pytest

from engine.runtime.loop import Loop

pytestmark = pytest.mark.requires("linux")


def pipe_with_data() -> tuple[int, int]:
    read, write = os.pipe()
    os.write(write, b"x")
    return read, write


def test_a_number_that_is_used_again_in_the_same_step() -> None:
    """The event was the former descriptor's: whoever has the number now is called when it is ready itself."""
    loop, called = Loop(), []
    first, second = pipe_with_data(), pipe_with_data()
    third: list[int] = []

    def replace(fd: int, _events: int) -> None:
        loop.forget(fd)
        loop.forget(second[0])
        os.close(second[0])
        third.extend(os.pipe())
        assert third[0] == second[0]
        loop.watch(third[0], select.POLLIN, lambda fd, _: called.append(os.read(fd, 1)))

    loop.watch(first[0], select.POLLIN, replace)
    loop.watch(second[0], select.POLLIN, lambda fd, _: called.append(b"stale"))
    loop.step()
    assert called == []
    os.write(third[1], b"y")
    loop.step()
    assert called == [b"y"]
    for fd in (*first, second[1], *third):
        os.close(fd)


def test_a_callback_that_raises_stops_neither_the_others_nor_time() -> None:
    failures: list[str] = []

    def failed() -> None:
        import sys

        failures.append(str(sys.exc_info()[1]))

    def fail(*_: object) -> None:
        raise KeyError("unforeseen")

    loop, read = Loop(failed), []
    first, second = pipe_with_data(), pipe_with_data()
    loop.watch(first[0], select.POLLIN, fail)
    loop.watch(second[0], select.POLLIN, lambda fd, _: read.append(os.read(fd, 1)))
    loop.at(0, fail)
    loop.step()
    assert (failures, read) == (["'unforeseen'"] * 2, [b"x"])
    # still ready: it is asked again after a rest, not at once
    due: list[int] = []
    loop.at(time.monotonic() + 0.1, lambda: due.append(1))
    loop.step()
    assert due and len(failures) == 2
    loop.step()
    loop.step()
    assert len(failures) == 3
    # and forgotten while it rests, it is not watched again
    loop.forget(first[0])
    loop.at(time.monotonic() + 1.1, lambda: due.append(2))
    loop.step()
    assert due == [1, 2]
    for fd in (*first, *second):
        os.close(fd)


def test_without_a_guard_it_goes_up() -> None:
    loop = Loop()
    loop.at(0, lambda: os.environ["NO_SUCH_VARIABLE"])
    with pytest.raises(KeyError):
        loop.step()


def test_who_connects_waits_for_a_descriptor() -> None:
    """And the loop does not turn meanwhile."""
    loop = Loop()
    accepted: list[socket.socket] = []
    refused: list[OSError] = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")
        listener.listen()
        client.connect(listener.getsockname())

        def accept(fd: int, _events: int) -> None:
            try:
                accepted.append(listener.accept()[0])
            except OSError as e:
                refused.append(e)
                loop.refused(fd, e)

        loop.watch(listener.fileno(), select.POLLIN, accept)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        probe = os.dup(0)
        os.close(probe)
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe, limits[1]))
        try:
            due: list[int] = []
            loop.at(time.monotonic() + 0.2, lambda: due.append(1))
            while not due:
                loop.step()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(refused) == 1 and not accepted
        while not accepted:
            loop.step()
        accepted[0].close()
