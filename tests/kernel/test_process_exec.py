"""A further process in a running container: it is where init is, and no more than init is."""

from __future__ import annotations

import os
import re
import signal

import pytest

from engine.errors import CommandNotExecutable, CommandNotFound, RuntimeFault
from engine.runtime.cgroups.manager import Cgroup, detect
from engine.runtime.process import exec as joined
from tests.support.process import Box

pytestmark = pytest.mark.requires("linux", "root")


def test_it_joins_every_namespace(box: Box) -> None:
    box.linux["namespaces"].append({"type": "time"})
    first = box.start("sleep", "60")
    names = sorted(name for name in os.listdir("/proc/self/ns") if not name.endswith("_for_children"))
    out = box.exec(
        first, "sh", "-c", f"cd /proc/self/ns; readlink {' '.join(names)}; cd /proc/1/ns; readlink {' '.join(names)}"
    )
    links = out.out.split()
    assert links[: len(names)] == links[len(names) :]
    assert len(links) == 2 * len(names)


def test_the_caller_stays_where_it_is(box: Box) -> None:
    def where() -> list[str]:
        return [os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))]

    before = where()
    first = box.start("sleep", "60")
    box.exec(first, "true")
    assert where() == before


def test_it_is_the_callers_child(box: Box) -> None:
    first = box.start("sleep", "60")
    assert box.exec(first, "sh", "-c", "exit 9").code == 9
    process = box.spawn(first, "sleep", "60")
    process.start()
    process.kill(signal.SIGTERM)
    assert os.waitstatus_to_exitcode(process.wait()) == -signal.SIGTERM
    process.close()


def test_it_sees_the_containers_processes(box: Box) -> None:
    first = box.start("sleep", "60")
    out = box.exec(first, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; echo; hostname; echo $PPID").out
    assert out.split() == ["sleep", "60", "box", "0"]


def test_privileges_are_the_same(box: Box) -> None:
    box.process["noNewPrivileges"] = True
    first = box.start("sleep", "60")
    names = "CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|SigIgn"
    found = [
        re.findall(rf"^({names}):\s*(\w+)", box.exec(first, "cat", f"/proc/{pid}/status").out, re.M)
        for pid in (1, "self")
    ]
    assert found[0] == found[1] and len(found[0]) == 8


def test_user_directory_and_environment(box: Box) -> None:
    first = box.start("sleep", "60")
    user = {"uid": 1000, "gid": 50, "additionalGids": [29]}
    out = box.exec(
        first, "sh", "-c", "id -u; id -G; pwd; echo $A", user=user, cwd="/tmp", env=["PATH=/usr/bin:/bin", "A=b"]
    )
    assert out.out.split() == ["1000", "50", "29", "/tmp", "b"]
    with pytest.raises(RuntimeFault, match="cannot change to the directory /nowhere: no such file or directory"):
        box.exec(first, "true", cwd="/nowhere")


def test_terminal(box: Box) -> None:
    first = box.start("sleep", "60")
    process = box.spawn(
        first, "sh", "-c", "tty; stty size; read x; echo got $x", terminal=True, consoleSize={"height": 5, "width": 6}
    )
    process.start()
    out = b""
    while b"5 6\r\n" not in out:
        out += os.read(process.console, 1024)
    os.write(process.console, b"typed\n")
    while b"got typed" not in out:
        out += os.read(process.console, 1024)
    assert out.decode().split("\r\n")[:4] == ["/dev/pts/0", "5 6", "typed", "got typed"]
    assert process.wait() == 0
    process.close()


def test_programs_that_cannot_run(box: Box) -> None:
    first = box.start("sleep", "60")
    with pytest.raises(CommandNotFound):
        box.exec(first, "nosuch")
    with pytest.raises(CommandNotExecutable):
        box.exec(first, "/etc/motd")


def test_a_container_at_its_limit_of_processes(box: Box) -> None:
    cgroup = Cgroup(detect(), f"/mini-test-process/{os.getpid()}")
    cgroup.create()
    try:
        cgroup.apply({"pids": {"limit": 1}})
        box.options["cgroup"] = cgroup
        first = box.start("sleep", "60")
        with pytest.raises(
            RuntimeFault, match="cannot start a process in the container: resource temporarily"
        ) as caught:
            box.exec(first, "true")
        assert caught.value.hint == "is its limit of processes reached (--pids-limit)?"
        assert cgroup.pids() == [first.pid]
    finally:
        box.close()
        cgroup.delete()


def test_a_container_that_has_ended(box: Box) -> None:
    first = box.start("true")
    first.wait()
    with pytest.raises(RuntimeFault, match=f"cannot join process {first.pid}: "):
        box.exec(first, "true")
    first.close()


def test_a_container_that_ends_meanwhile(box: Box) -> None:
    """Its PID namespace takes the new process with it: that is an error, not a hang."""
    first = box.start("sleep", "60")
    process = box.spawn(first, "sleep", "60")
    first.kill(signal.SIGKILL)
    assert (
        os.waitid(os.P_PIDFD, first.pidfd, os.WEXITED | os.WNOHANG) is None
    )  # the kernel waits for the other's parent
    assert os.waitstatus_to_exitcode(process.wait()) == -signal.SIGKILL
    process.close()
    assert os.waitstatus_to_exitcode(first.wait()) == -signal.SIGKILL
    gone = first.pid
    first.close()
    with pytest.raises(RuntimeFault):
        joined.spawn(gone, box.process, stdio=None, cgroup=None, seccomp=None)
