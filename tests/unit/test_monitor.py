"""The monitor's loop and the client's session, on real processes, pipes and terminals: no byte lost, no stand-still."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import sys
import termios
import threading
import tty
from pathlib import Path
from typing import Any

import pytest

from engine.containers.terminal import Session, Streams, parse_detach_keys, wait_started
from engine.errors import CommandNotFound, MiniError, UsageError
from engine.runtime import attach
from engine.runtime.attach import connect, listen
from engine.runtime.logs import drivers
from engine.runtime.logs.writer import Entry
from engine.runtime.monitor import Monitor, Stdio
from tests.support.conformance import until

pytestmark = pytest.mark.requires("linux")


class Child:
    """A process with the face of an InitProcess: what a monitor needs of one, without a container around it."""

    def __init__(self, argv: list[str], stdio: Stdio, terminal: bool = False) -> None:
        self.console = -1
        if terminal:
            self.pid, self.console = pty.fork()
        else:
            self.pid = os.fork()
        if self.pid == 0:
            for target, fd in enumerate(stdio.inner or ()):
                os.dup2(fd, target)
            os.execvp(argv[0], argv)
        self.pidfd = os.pidfd_open(self.pid)
        stdio.close_inner()

    def kill(self, number: int) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def wait(self) -> int:
        return os.waitpid(self.pid, 0)[1]


def read(directory: Path) -> list[Entry]:
    return list(drivers.read("json-file", "", f"{directory}/log"))


def monitored(
    argv: list[str], tmp_path: Path, *, terminal: bool = False, stdin: bool = False, listening: bool = False
) -> Any:
    """Forks a monitor of `argv`; returns (client's socket, monitor's pid). It exits by itself."""
    ours, theirs = socket.socketpair()
    listener = listen(str(tmp_path)) if listening else None
    if (pid := os.fork()) == 0:
        try:
            ours.close()
            stdio = Stdio(terminal, stdin)
            child = Child(argv, stdio, terminal)
            log = drivers.open_writer(drivers.Plan("json-file", 10_000_000, 3, False, None), f"{tmp_path}/log")
            monitor = Monitor(child, stdio, log, listener, stdin_once=True)  # type: ignore[arg-type]
            monitor.add_client(theirs.detach(), stdin, True)
            status = monitor.run()
            code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            monitor.finish(attach.frame(attach.EXIT, str(code).encode()))
        finally:
            os._exit(0)
    theirs.close()
    return ours.detach(), pid


def collect(fd: int, data: bytes | None = None, **session: Any) -> tuple[int | None, bytes, bytes]:
    """Runs a client's session to its end with `data` on stdin: (exit code, stdout, stderr)."""
    files = [os.memfd_create(n) for n in ("in", "out", "err")]
    attach.send_all(files[0], data or b"")
    os.lseek(files[0], 0, os.SEEK_SET)
    code = Session(fd, Streams(*files), tty=False, stdin=data is not None, sig_proxy=False, **session).relay()
    found = [os.pread(out, os.fstat(out).st_size, 0) for out in files[1:]]
    for out in files:
        os.close(out)
    return code, found[0], found[1]


def test_streams_are_kept_apart_and_the_exit_code_comes_last(tmp_path: Path) -> None:
    fd, pid = monitored(["sh", "-c", "echo out; echo err >&2; exit 3"], tmp_path)
    assert collect(fd) == (3, b"out\n", b"err\n")
    os.waitpid(pid, 0)
    assert {(e.stream, e.data) for e in read(tmp_path)} == {
        ("stdout", b"out\n"),
        ("stderr", b"err\n"),
    }


def test_a_signal_is_128_plus_n(tmp_path: Path) -> None:
    fd, pid = monitored(["sh", "-c", "kill -9 $$"], tmp_path)
    assert collect(fd)[0] == 137
    os.waitpid(pid, 0)


def test_large_output_of_a_process_that_ends_at_once_is_whole(tmp_path: Path) -> None:
    fd, pid = monitored(["head", "-c", "20000000", "/dev/zero"], tmp_path)
    code, out, _ = collect(fd)
    assert (code, len(out)) == (0, 20_000_000)
    os.waitpid(pid, 0)


def test_what_a_slow_client_has_held_back_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one reading of it is in the pipe when the process ends, and nobody has any patience with what is there."""
    monkeypatch.setattr("engine.runtime.monitor._PATIENCE", 0.0)
    program = "import fcntl, os; fcntl.fcntl(1, 1031, 1 << 20); os.write(1, b'x' * (2 << 20))"  # F_SETPIPE_SZ
    fd, pid = monitored([sys.executable, "-I", "-S", "-c", program], tmp_path)
    # the monitor waits for nobody: a client that has not read a byte until then gets all of it
    os.waitpid(pid, 0)
    code, out, _ = collect(fd)
    assert (code, len(out)) == (0, 2 << 20)
    assert sum(len(entry.data) for entry in read(tmp_path)) == 2 << 20


def test_both_ways_at_once_do_not_stand_still(tmp_path: Path) -> None:
    """More than all buffers hold, through `cat`: a client that only wrote, or a monitor that only wrote, would hang."""
    data = os.urandom(1 << 20) * 12
    fd, pid = monitored(["cat"], tmp_path, stdin=True)
    code, out, _ = collect(fd, data)
    assert code == 0
    assert out == data
    os.waitpid(pid, 0)


def test_closed_stdin_is_the_end_of_input(tmp_path: Path) -> None:
    fd, pid = monitored(["cat"], tmp_path, stdin=True)
    assert collect(fd, b"x")[:2] == (0, b"x")
    os.waitpid(pid, 0)


def test_input_for_a_process_that_does_not_read_it(tmp_path: Path) -> None:
    fd, pid = monitored(["true"], tmp_path, stdin=True)
    assert collect(fd, b"x" * (4 << 20))[0] == 0
    os.waitpid(pid, 0)


def test_the_container_outlives_its_client(tmp_path: Path) -> None:
    fd, pid = monitored(["sh", "-c", "sleep 0.3; echo late"], tmp_path)
    os.close(fd)
    os.waitpid(pid, 0)
    assert [e.data for e in read(tmp_path)] == [b"late\n"]


def test_several_clients_by_the_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    fd, pid = monitored(["sh", "-c", "read x; echo got $x"], deep, stdin=True, listening=True)
    second = connect(str(deep))
    second.send(attach.frame(attach.HELLO, b"\x00\x01"))
    until(lambda: fcntl.ioctl(second, termios.TIOCOUTQ, bytes(4)) == bytes(4))  # unix(7): the monitor has read it
    assert collect(fd, b"word\n")[:2] == (0, b"got word\n")
    buffer = bytearray()
    while data := second.recv(4096):
        buffer += data
    assert list(attach.take_frames(buffer)) == [(attach.STDOUT, b"got word\n"), (attach.EXIT, b"0")]
    second.close()
    os.waitpid(pid, 0)


def test_a_client_that_sends_rubbish_is_dropped(tmp_path: Path) -> None:
    fd, pid = monitored(["sh", "-c", "read x; echo fine"], tmp_path, stdin=True, listening=True)
    for rubbish in (b"\xff" * 64, attach.frame(attach.HELLO, b"x"), attach.frame(attach.RESIZE, b"12345")):
        client = connect(str(tmp_path))
        client.send(rubbish)
        client.close()
    assert collect(fd, b"go\n")[:2] == (0, b"fine\n")
    os.waitpid(pid, 0)


def test_a_terminal_its_size_and_its_end(tmp_path: Path) -> None:
    fd, pid = monitored(["sh", "-c", "read x; stty size; tty -s && echo yes"], tmp_path, terminal=True, stdin=True)
    attach.send_all(fd, attach.resize_frame(33, 99) + attach.frame(attach.STDIN, b"go\n"))
    buffer, out = bytearray(), b""
    while data := os.read(fd, 4096):
        buffer += data
        for kind, payload in attach.take_frames(buffer):
            out += payload if kind == attach.STDOUT else b"|" + payload
    assert out == b"go\r\n33 99\r\nyes\r\n|0"
    os.waitpid(pid, 0)


def test_detach_keys_leave_the_container_alone(tmp_path: Path) -> None:
    fd, pid = monitored(["sh", "-c", "read x; echo got $x"], tmp_path, terminal=True, stdin=True, listening=True)
    master, slave = os.openpty()
    tty.setraw(slave)  # now, so that no line discipline takes ^Q before the session sets its own
    os.write(master, b"ab\x10c\x10\x11")
    assert Session(fd, Streams(slave, slave, slave), tty=True, stdin=True, sig_proxy=False).relay() is None
    second = connect(str(tmp_path))
    second.send(attach.frame(attach.HELLO, b"\x01\x01") + attach.frame(attach.STDIN, b"d\n"))
    buffer = bytearray()
    while data := second.recv(4096):
        buffer += data
    out = b"".join(p for k, p in attach.take_frames(buffer) if k == attach.STDOUT)
    # what was held back while it might have been the keys has arrived, in order
    assert b"got ab\x10cd" in out.replace(b"^P", b"\x10")
    for end in (master, slave):
        os.close(end)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("text", "keys"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-@,x", b"\x00x"), ("", b"")]
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


def test_bad_detach_keys() -> None:
    with pytest.raises(UsageError, match="invalid detach keys"):
        parse_detach_keys("ctrl-p,nosuch")


def test_errors_cross_the_process_boundary_whole() -> None:
    ours, theirs = socket.socketpair()
    error = CommandNotFound("exec", 'exec: "x": executable file not found in $PATH', 2, "x", "try another")
    theirs.send(attach.json_frame(attach.ERROR, attach.error_payload(error)))
    with pytest.raises(CommandNotFound) as caught:
        wait_started(os.dup(ours.fileno()))
    found = caught.value
    assert (found.step, found.errno, found.path, found.hint, found.exit_code) == ("exec", 2, "x", "try another", 127)
    theirs.close()
    with pytest.raises(MiniError, match="monitor ended"):
        wait_started(ours.detach())


def test_one_frame_is_read_and_no_more() -> None:
    ours, theirs = socket.socketpair()
    document = b"x" * (attach.MAX_PAYLOAD + 1)
    writer = threading.Thread(target=theirs.sendall, args=(attach.frame(attach.EXEC, document) + b"more",))
    writer.start()
    assert attach.read_frame(ours.fileno()) == (attach.EXEC, document)
    writer.join()
    assert ours.recv(10) == b"more"
    theirs.send(attach.frame(attach.EXEC, b"cut")[:-1])
    theirs.close()
    assert attach.read_frame(ours.fileno()) is None
    assert attach.read_frame(ours.fileno()) is None
    ours.close()


def test_a_frame_longer_than_any_is_refused() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(attach.HEADER.pack(attach.EXEC, attach.MAX_DOCUMENT + 1))
    with pytest.raises(ValueError, match="a frame of"):
        attach.read_frame(ours.fileno())
    ours.close()
    theirs.close()


def test_started_leaves_what_follows_to_the_session() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(attach.json_frame(attach.STARTED, {"Pid": 1}) + attach.frame(attach.STDOUT, b"early"))
    assert wait_started(ours.fileno()) == {"Pid": 1}
    theirs.send(attach.frame(attach.EXIT, b"7"))
    assert collect(ours.detach())[:2] == (7, b"early")
    theirs.close()
