"""What a spec says of scheduling, processors and personality, of the ids of mounts, and of system calls that an agent answers."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import linux
from engine.errors import RuntimeFault, Unsupported
from engine.runtime.seccomp import compile as seccomp
from engine.runtime.seccomp import listener
from tests.support.process import Box

pytestmark = pytest.mark.requires("linux", "root")

POLICY = "import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getparam(0).sched_priority)"


# --- scheduling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheduler, expected",
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, f"{os.SCHED_BATCH} 5 0"),
        ({"policy": "SCHED_IDLE"}, f"{os.SCHED_IDLE} 0 0"),
        (
            {"policy": "SCHED_OTHER", "nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            f"{os.SCHED_RESET_ON_FORK} 19 0",
        ),
        ({"policy": "SCHED_FIFO", "priority": 7}, f"{os.SCHED_FIFO} 0 7"),
        ({"policy": "SCHED_RR", "priority": 3}, f"{os.SCHED_RR} 0 3"),
        ({"policy": "SCHED_DEADLINE", "runtime": 10**7, "deadline": 10**9, "period": 10**9}, "6 0 0"),
    ],
)
def test_scheduler(box: Box, scheduler: dict[str, Any], expected: str) -> None:
    box.process["scheduler"] = scheduler
    assert box.python(POLICY) == f"{expected}\n"
    del box.process["scheduler"]
    first = box.start("sleep", "60")
    assert box.exec(first, "python3", "-c", POLICY, scheduler=scheduler).out == f"{expected}\n"


@pytest.mark.parametrize(
    "scheduler, message",
    [
        ({"policy": "SCHED_FIFO"}, "cannot set the scheduling policy SCHED_FIFO: invalid argument"),
        ({"policy": "SCHED_ISO"}, "cannot set the scheduling policy SCHED_ISO: invalid argument"),
        ({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 8, "period": 7}, "SCHED_DEADLINE: invalid argument"),
    ],
)
def test_a_scheduler_that_cannot_be(box: Box, scheduler: dict[str, Any], message: str) -> None:
    box.process["scheduler"] = scheduler
    with pytest.raises(RuntimeFault, match=message):
        box.create("true")


@pytest.mark.parametrize("name, number", [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)])
def test_io_priority(box: Box, name: str, number: int) -> None:
    box.process["ioPriority"] = {"class": name, "priority": 5}
    first = box.start("sleep", "60")
    get = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(get, 1, first.pid) == number << 13 | 5


def test_processors_of_an_exec(box: Box) -> None:
    first = box.start("sleep", "60")
    script = "import os; print(sorted(os.sched_getaffinity(0)))"
    every = sorted(os.sched_getaffinity(0))
    for affinity, expected in (
        ({"initial": str(every[0]), "final": f"{every[-1]}"}, every[-1:]),
        ({"initial": str(every[0])}, every),
        ({"final": str(every[0])}, every[:1]),
    ):
        out = box.exec(first, "python3", "-c", script, execCPUAffinity=affinity).out
        assert out == f"{expected}\n"
    # config.md: "This setting is not applicable to the container's init process"
    box.process["execCPUAffinity"] = {"initial": str(every[0]), "final": str(every[0])}
    assert os.sched_getaffinity(box.start("sleep", "60").pid) == set(every)


def test_a_processor_that_there_is_not(box: Box) -> None:
    first = box.start("sleep", "60")
    with pytest.raises(RuntimeFault, match="cannot run on the processors .1000.: invalid argument"):
        box.spawn(first, "true", execCPUAffinity={"initial": "1000"})


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="LINUX32 is told by the name of the machine")
def test_personality(box: Box) -> None:
    box.linux["personality"] = {"domain": "LINUX32"}
    assert box.sh("uname -m") == "i686\n"
    box.linux["personality"] = {"domain": "LINUX"}
    assert box.sh("uname -m") == "x86_64\n"


def test_umask_and_domain(box: Box) -> None:
    box.process["user"]["umask"] = 0o027
    box.spec["domainname"] = "example.org"
    assert box.sh("umask; cat /proc/sys/kernel/domainname").split() == ["0027", "example.org"]


# --- id-mapped mounts ------------------------------------------------------------------------------------------------


def test_ids_of_a_mount(box: Box, tmp_path: Path) -> None:
    """On disk 0, seen as 3000; and what is made through the mount as 3000 is 0 on disk."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").touch()
    ranges = [{"containerID": 0, "hostID": 3000, "size": 10}]
    box.mount("/data", "bind", str(data), "bind", "idmap")
    box.spec["mounts"][-1] |= {"uidMappings": ranges, "gidMappings": ranges}
    box.process["user"] = {"uid": 3000, "gid": 3005}
    assert box.sh("stat -c %u:%g /data/file; touch /data/new; stat -c %u:%g /data/new").split() == [
        "3000:3000",
        "3000:3005",
    ]
    info = (data / "new").stat()
    assert (info.st_uid, info.st_gid) == (0, 5)


@pytest.mark.parametrize("option, below", [("idmap", "0:0"), ("ridmap", "3000:3000")])
def test_ids_of_what_is_mounted_below(box: Box, tmp_path: Path, option: str, below: str) -> None:
    """Below is the same file system again: a tmpfs can be mapped from Linux 6.3 only."""
    (tmp_path / "data" / "below").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    linux.mount(str(tmp_path / "other"), str(tmp_path / "data" / "below"), "", linux.MS_BIND)
    try:
        ranges = [{"containerID": 0, "hostID": 3000, "size": 10}]
        box.mount("/data", "bind", str(tmp_path / "data"), "rbind", option)
        box.spec["mounts"][-1] |= {"uidMappings": ranges, "gidMappings": ranges}
        assert box.sh("stat -c %u:%g /data /data/below").split() == ["3000:3000", below]
    finally:
        linux.umount2(str(tmp_path / "data" / "below"))


def test_ids_of_a_file_system_that_cannot(box: Box) -> None:
    ranges = [{"containerID": 0, "hostID": 3000, "size": 10}]
    box.mount("/data", "bind", "/proc/sys", "bind")
    box.spec["mounts"][-1] |= {"uidMappings": ranges, "gidMappings": ranges}
    with pytest.raises(Unsupported, match="cannot map the ids of /proc/sys at /data: invalid argument"):
        box.create("true")


def test_without_mappings_they_are_the_containers(box: Box) -> None:
    box.mount("/data", "bind", "/srv", "bind", "idmap")
    with pytest.raises(RuntimeFault, match="neither it nor a new user namespace has mappings"):
        box.create("true")


# --- SCMP_ACT_NOTIFY --------------------------------------------------------------------------------------------------

# struct seccomp_notif, and its answer; ioctls of linux/seccomp.h
NOTIFICATION, ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
RECEIVE, SEND = 0xC0502100, 0xC0182101


class Agent:
    """A process that notes each container process state in a file, and answers the system calls that it is asked about."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "agent")
        self.notes = directory / "states"
        self.notes.touch()
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.path)
        server.listen()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._serve(server)
            finally:
                os._exit(1)
        server.close()

    @property
    def states(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _serve(self, server: socket.socket) -> None:
        listeners: list[int] = []
        while True:
            for ready in select.select([server.fileno(), *listeners], [], [])[0]:
                if ready == server.fileno():
                    listeners += self._take(server)
                else:
                    try:
                        identity = NOTIFICATION.unpack(fcntl.ioctl(ready, RECEIVE, bytes(NOTIFICATION.size)))[0]
                        fcntl.ioctl(ready, SEND, ANSWER.pack(identity, 4242, 0, 0))
                    except OSError:  # whoever asked is gone
                        listeners.remove(ready)

    def _take(self, server: socket.socket) -> list[int]:
        peer, _ = server.accept()
        data, fds, _, _ = socket.recv_fds(peer, 65536, 4)
        while more := peer.recv(65536):
            data += more
        peer.close()
        with self.notes.open("a") as file:
            file.write(json.dumps(json.loads(data)) + "\n")
        return fds


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.close()


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_an_agent_answers(agent: Agent, box: Box, no_new_privileges: bool) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": agent.path,
        "listenerMetadata": "some text",
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}],
    }
    box.process["noNewPrivileges"] = no_new_privileges
    box.options["seccomp"] = seccomp.compile_filter(profile, None)
    state = {"ociVersion": "1.2.0", "id": "x", "status": "creating", "bundle": "/b"}
    box.options["notify"] = listener.sender(profile, state)
    script = "import os, time; os.write(1, b'%d' % os.getppid()); time.sleep(60)"
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    first = box.create("python3", "-uc", script, stdio=(null, writer, writer))
    first.start()
    assert os.read(reader, 100) == b"4242"
    expected = {"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": first.pid, "metadata": "some text"}
    assert agent.states == [{**expected, "state": {**state, "pid": first.pid}}]
    second = box.spawn(first, "python3", "-uc", script, stdio=(null, writer, writer))
    second.start()
    assert os.read(reader, 100) == b"4242"
    assert agent.states[1] == {**expected, "pid": second.pid, "state": {**state, "pid": second.pid}}
    for fd in (reader, writer, null):
        os.close(fd)
    second.abandon()
    first.abandon()


def test_an_agent_allows_what_a_joiner_does_on_its_way(agent: Agent, box: Box) -> None:
    """It is asked before there is the process that it is told of in the end; nobody waits for ever."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": agent.path,
        "syscalls": [{"names": ["prctl"], "action": "SCMP_ACT_NOTIFY"}],
    }
    first = box.start("sleep", "60")
    box.options["seccomp"] = seccomp.compile_filter(profile, None)
    box.options["notify"] = listener.sender(profile, {"ociVersion": "1.2.0"})
    second = box.spawn(first, "sleep", "60")
    second.start()
    assert len(agent.states) == 1 and agent.states[0]["pid"] not in (first.pid, second.pid)
    second.abandon()
    first.abandon()


def test_no_agent(box: Box, tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(tmp_path / "nobody"),
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}],
    }
    box.options["seccomp"] = seccomp.compile_filter(profile, None)
    with pytest.raises(RuntimeFault, match="cannot give the seccomp agent at .*/nobody its descriptor: no such file"):
        box.create("true", notify=listener.sender(profile, {"ociVersion": "1.2.0"}))
    with pytest.raises(RuntimeFault, match="wants an agent, and there is no way to it"):
        box.create("true")
