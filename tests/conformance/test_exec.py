"""exec: another process in a container, by runc's command line; what it is started with is config.md's `process`."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.conformance import PATH, PRELUDE, PROBE, PYTHON, Container, processes, reported, until


@pytest.fixture
def running(container: Container) -> Container:
    return container.started()


# What it is started with


def test_args(running: Container) -> None:
    assert running.exec("echo", "one", "two words", "-n").out == "one two words -n\n"


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code(running: Container, code: int) -> None:
    assert running.exec("sh", "-c", f"exit {code}").code == code


def test_the_exit_code_of_a_signal(running: Container) -> None:
    assert running.exec("sh", "-c", "kill -9 $$").code == 137


def test_streams(running: Container) -> None:
    done = running.exec("sh", "-c", "cat; echo err >&2", stdin="in\n")
    assert (done.out, done.err) == ("in\n", "err\n")


@pytest.mark.differs(crun="starts as root, in /")
def test_it_starts_as_the_container_did(container: Container) -> None:
    """Without options: the container's own environment, user, directory, groups, umask."""
    container.process["env"] = [PATH, "OF=the container"]
    container.process["user"] = {"uid": 1000, "gid": 50, "additionalGids": [5, 29]}
    container.process["cwd"] = "/usr"
    container.started()
    found = reported(container.exec(PROBE).out)
    assert (found["user"], found["cwd"]) == ([1000, 50], "/usr")
    assert {5, 29} <= {*found["groups"]}
    assert "OF=the container" in found["env"]


def test_cwd(running: Container) -> None:
    assert running.exec("pwd", options=("--cwd", "/tmp")).out == "/tmp\n"


@pytest.mark.differs(crun="takes them for the whole environment")
def test_env(running: Container) -> None:
    done = running.exec("env", options=("--env", "ONE=1", "--env", "TWO=a b"))
    assert {"ONE=1", "TWO=a b"} <= {*done.out.splitlines()}


@pytest.mark.parametrize(("given", "expected"), [("1000", [1000, 0]), ("1000:50", [1000, 50]), ("0:5", [0, 5])])
def test_user(running: Container, given: str, expected: list[int]) -> None:
    assert reported(running.exec(PROBE, options=("--user", given)).out)["user"] == expected


def test_a_capability(running: Container) -> None:
    found = reported(running.exec(PROBE, options=("--cap", "CAP_NET_ADMIN")).out)
    assert int(found["status"]["CapEff"], 16) & 1 << 12


def test_no_new_privileges(running: Container) -> None:
    found = reported(running.exec(PROBE, options=("--no-new-privs",)).out)
    assert found["status"]["NoNewPrivs"] == "1"


# --process


def test_a_process_document(running: Container) -> None:
    """A file with a `process` object: everything in it counts."""
    done = running.exec_process(
        {
            "args": [PROBE, "argument"],
            "cwd": "/usr/bin",
            "env": [PATH, "KEY=value"],
            "user": {"uid": 1000, "gid": 50, "additionalGids": [29]},
            # not RLIMIT_NOFILE: in runc, Go raises that at its start, now and then after it was set
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 50, "hard": 60}],
            "capabilities": {"bounding": ["CAP_KILL"]},
            "noNewPrivileges": True,
            "oomScoreAdj": 300,
        }
    )
    found = reported(done.out)
    assert (found["args"][1:], found["cwd"], found["user"]) == (["argument"], "/usr/bin", [1000, 50])
    assert found["rlimits"]["RLIMIT_CORE"] == [50, 60]
    assert (found["status"]["CapBnd"], found["status"]["NoNewPrivs"]) == (f"{1 << 5:016x}", "1")
    assert "KEY=value" in found["env"]
    assert 29 in found["groups"]


@pytest.mark.differs(runc="ignores it in exec")
def test_umask(running: Container) -> None:
    """User: "`umask` (int, OPTIONAL) specifies the umask of the user"."""
    user = {"uid": 1000, "gid": 50, "umask": 0o027}
    assert reported(running.exec_process({"args": [PROBE], "user": user}).out)["umask"] == 0o027


@pytest.mark.differs(runc="ignores it in exec", crun="ignores it in exec")
def test_oom_score(running: Container) -> None:
    """Linux Process: "If `oomScoreAdj` is set, the runtime MUST set `oom_score_adj` to the given value"."""
    assert reported(running.exec_process({"args": [PROBE], "oomScoreAdj": 300}).out)["oom_score_adj"] == "300"


@pytest.mark.differs(runc="ignores it, of specification 1.2.1", crun="ignores it, of specification 1.2.1")
def test_cpu_affinity(running: Container) -> None:
    """Linux Process: "`execCPUAffinity` … `final` … is a list of CPUs the process will be run on"."""
    last = sorted(os.sched_getaffinity(0))[-1]
    process = {"args": [PROBE], "execCPUAffinity": {"initial": "0", "final": str(last)}}
    assert reported(running.exec_process(process).out)["affinity"] == [last]


@pytest.mark.differs(runc="ignores `ioPriority`, of specification 1.1", crun="ignores `ioPriority`")
def test_io_priority(container: Container) -> None:
    """Without --process it is the container's own."""
    container.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 4}
    container.started()
    assert reported(container.exec(PROBE).out)["ioprio"] == 2 << 13 | 4


@pytest.mark.differs(runc="ignores `scheduler`, of specification 1.1", crun="ignores `scheduler`")
def test_scheduler(container: Container) -> None:
    container.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    container.started()
    assert reported(container.exec(PROBE).out)["scheduler"] == [3, 0, 5]


@pytest.mark.differs(runc="ignores it in exec", crun="ignores it in exec")
def test_the_umask_of_the_container(container: Container) -> None:
    """User: `umask`, of whoever is executed without another user."""
    container.process["user"]["umask"] = 0o077
    container.started()
    assert reported(container.exec(PROBE).out)["umask"] == 0o077


@pytest.mark.differs(runc="leaves it pinned", crun="leaves it pinned")
@pytest.mark.parametrize("command", ["run", "exec"])
def test_it_may_run_on_every_processor(container: Container, command: str) -> None:
    """What its caller is pinned to is not the container's: its cpuset is."""
    pinned: Any = {"preexec_fn": lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])}
    if command == "exec":
        container.started()
        done = container.exec(PROBE, **pinned)
    else:
        container.process["args"] = [PROBE]
        done = container.attempt("run", **pinned)
    assert reported(done.out)["affinity"] == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"args": [], "cwd": "/"}', '{"args": ["true"], "cwd": "relative"}']
)
def test_a_process_document_that_is_none(running: Container, content: str) -> None:
    path = f"{running.bundle}/process.json"
    with open(path, "w") as file:
        file.write(content)
    assert running.runtime.call("exec", "--process", path, running.id).code != 0


# Where it is


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "pid", "uts"])
def test_it_is_in_the_containers_namespaces(running: Container, kind: str) -> None:
    found = reported(running.exec(PROBE).out)["namespaces"][kind]
    assert found == os.readlink(f"/proc/{running.state()['pid']}/ns/{kind}")


def test_it_is_in_the_containers_user_namespace(container: Container) -> None:
    container.user_namespace()
    container.started()
    found = reported(container.exec(PROBE).out)
    assert found["namespaces"]["user"] == os.readlink(f"/proc/{container.state()['pid']}/ns/user")
    assert found["user"] == [0, 0]


@pytest.fixture
def below(running: Container) -> Iterator[str]:
    """The path of a cgroup below the container's in every hierarchy that it is in."""
    made = [f"{path}/below" for path in running.cgroups()]
    for path in made:
        os.mkdir(path)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{path}/{name}"):
                Path(f"{path}/{name}").write_text(Path(f"{os.path.dirname(path)}/{name}").read_text())
    yield "/below"
    for path in made:
        os.rmdir(path)


def cgroups_of(container: Container, *options: str) -> dict[str, str]:
    """By hierarchy, the path of an exec's cgroup, as its cgroup namespace has it (the container's own is /)."""
    done = container.exec("cat", "/proc/self/cgroup", options=options)
    assert done.code == 0, done
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in done.out.splitlines()}


def test_a_cgroup_below(running: Container, below: str) -> None:
    for path in (below, "/"):
        found = cgroups_of(running, "--cgroup", path)
        assert found.get("memory", found.get("")) == path


@pytest.mark.requires("cgroup-v1")
@pytest.mark.differs(crun="knows no controllers there")
def test_a_cgroup_below_of_a_controller(running: Container, below: str) -> None:
    """`CONTROLLER:PATH`, which is of cgroup v1; where nothing is said it is in the container's."""
    found = cgroups_of(running, "--cgroup", f"memory,pids:{below}")
    assert (found["memory"], found["pids"], found["freezer"]) == (below, below, "/")


@pytest.mark.differs(crun="takes any path, and makes what is missing")
@pytest.mark.parametrize(
    "options", [["/missing"], [".."], ["memory:/missing"], ["memory:.."], ["nonsense:/"], ["/", "memory:/"]]
)
def test_a_cgroup_that_is_not_below(running: Container, options: list[str]) -> None:
    done = running.exec("true", options=[word for option in options for word in ("--cgroup", option)])
    assert done.code != 0, done


def test_it_is_in_the_containers_cgroup(running: Container) -> None:
    before = set(processes(running.cgroup("memory")))
    done = running.exec("sleep", "60", options=("--detach", "--pid-file", f"{running.bundle}/pid"))
    assert done.code == 0, done
    with open(f"{running.bundle}/pid") as file:
        assert set(processes(running.cgroup("memory"))) >= before | {int(file.read())}


def test_it_sees_the_containers_root(running: Container) -> None:
    running.exec("sh", "-c", "echo > /made")
    assert os.path.exists(f"{running.upper}/made")


def test_it_has_the_three_streams_alone(running: Container) -> None:
    """No descriptor of the runtime's: CVE-2024-21626's kind."""
    assert {*reported(running.exec(PROBE).out)["descriptors"]} == {"0", "1", "2"}


def test_it_has_the_capabilities_of_the_container(running: Container) -> None:
    found = reported(running.exec(PROBE).out)["status"]
    with open(f"/proc/{running.state()['pid']}/status") as file:
        assert f"CapBnd:\t{found['CapBnd']}" in file.read()


# In the background


def test_detached(running: Container) -> None:
    done = running.exec("sh", "-c", "sleep 0.1; echo > /done", options=("--detach",))
    assert done.code == 0
    until(lambda: os.path.exists(f"{running.upper}/done"))


def test_a_pid_file(running: Container) -> None:
    path = f"{running.bundle}/pid"
    running.exec("sleep", "60", options=("--detach", "--pid-file", path))
    with open(path) as file:
        pid = int(file.read())
    until(lambda: Path(f"/proc/{pid}/cmdline").read_text() == "sleep\x0060\x00")


def test_the_container_outlives_it(running: Container) -> None:
    running.exec("false")
    assert running.state()["status"] == "running"


def test_it_ends_with_the_container(running: Container) -> None:
    path = f"{running.bundle}/pid"
    running.exec("sleep", "60", options=("--detach", "--pid-file", path))
    with open(path) as file:
        descriptor = os.pidfd_open(int(file.read()))
    running.stopped()
    assert select.select([descriptor], [], [], 60)[0]
    os.close(descriptor)


# When it cannot be


@pytest.mark.parametrize("status", ["stopped", "missing"])
def test_the_container_must_run(container: Container, status: str) -> None:
    container.started().stopped()
    if status == "missing":
        container.must("delete")
    done = container.exec("true")
    assert done.code != 0 and done.err.strip()


@pytest.mark.parametrize("program", ["no-such-program", "/etc/passwd"])
def test_a_program_that_is_none(running: Container, program: str) -> None:
    done = running.exec(program)
    assert done.code != 0 and done.err.strip()
    assert running.state()["status"] == "running"


def test_a_program_is_required(running: Container) -> None:
    assert running.runtime.call("exec", running.id).code != 0


@pytest.mark.differs(crun="follows it")
def test_a_directory_that_leads_out(running: Container) -> None:
    """CVE-2024-21626, of exec: a descriptor of the runtime's, or one that its caller left open."""
    left = os.open(running.bundle, os.O_RDONLY | os.O_DIRECTORY)
    for number in (*range(3, 12), left):
        options = ("--cwd", f"/proc/self/fd/{number}")
        done = running.exec(*PYTHON, f"{PRELUDE}attempt(os.getcwd)", options=options, pass_fds=(left,))
        assert not done.out or json.loads(done.out) == "ok", (number, done)
    os.close(left)


def test_much_output(running: Container) -> None:
    """All of it, though it is more than a pipe holds."""
    done = running.exec("seq", "1", "50000")
    assert done.out.splitlines() == [str(number) for number in range(1, 50001)]
