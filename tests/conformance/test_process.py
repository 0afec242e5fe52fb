"""config.md, "Process", "POSIX process", "User" and "Linux Process": what the program is started with."""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any

import pytest

from tests.support.conformance import CAPABILITIES, PRELUDE, PROBE, PYTHON, Container

BEST_EFFORT, IDLE = 2 << 13, 3 << 13
PR_CAPBSET_DROP, CAP_MKNOD = 24, 27


# args


def test_args_are_passed(container: Container) -> None:
    """Process: "`args` (array of strings, OPTIONAL) with similar semantics to … execvp's argv"."""
    assert container.report("one", "", "th ree", "$four", "ü")["args"][1:] == ["one", "", "th ree", "$four", "ü"]


def test_args_wants_an_entry(container: Container) -> None:
    """Process: "at least one entry is REQUIRED"."""
    container.process["args"] = []
    assert container.attempt("run").code != 0


def test_args_may_not_be_missing(container: Container) -> None:
    del container.process["args"]
    assert container.attempt("run").code != 0


def test_a_program_is_searched_in_the_containers_path(container: Container) -> None:
    """Process: "that entry is used with the same semantics as execvp's file"."""
    container.process["env"] = ["PATH=/nowhere:/own"]
    os.mkdir(f"{container.upper}/own")
    with open(f"{container.upper}/own/program", "w") as file:
        os.fchmod(file.fileno(), 0o755)
        file.write("#!/bin/sh\necho found\n")
    assert container.run("program").out == "found\n"


def test_a_relative_program_is_relative_to_cwd(container: Container) -> None:
    """The same: a name with a slash is not searched for."""
    container.process["cwd"] = "/usr/local"
    assert container.report()["cwd"] == "/usr/local" and container.run("bin/probe").out


# cwd


@pytest.mark.parametrize("path", ["/", "/usr/bin", "/tmp/../usr"])
def test_cwd(container: Container, path: str) -> None:
    """Process: "`cwd` (string, REQUIRED) is the working directory that will be set for the executable"."""
    container.process["cwd"] = path
    assert container.report()["cwd"] == os.path.normpath(path)


def test_cwd_is_made(container: Container) -> None:
    """What callers rely on since runc and crun do so: one that is missing is made."""
    container.process["cwd"] = "/new/directory"
    assert container.report()["cwd"] == "/new/directory"


@pytest.mark.differs(crun="is relative to the root")
def test_cwd_is_absolute(container: Container) -> None:
    """Process: "This value MUST be an absolute path"."""
    container.process["cwd"] = "usr"
    assert container.attempt("run").code != 0


def test_cwd_of_another_user(container: Container) -> None:
    """A directory that only its owner enters, and the owner is who runs."""
    os.mkdir(f"{container.upper}/private", 0o700)
    os.chown(f"{container.upper}/private", 1000, 1000)
    container.process["cwd"] = "/private"
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.process["capabilities"] = {"bounding": CAPABILITIES}
    assert container.report()["cwd"] == "/private"


@pytest.mark.differs(crun="follows it")
def test_cwd_that_leads_out_of_the_container(container: Container) -> None:
    """CVE-2024-21626: a descriptor of the host's, the runtime's or one that its caller left open, that is the working
    directory: getcwd(2) knows no path to it, then."""
    left = os.open(container.bundle, os.O_RDONLY | os.O_DIRECTORY)
    container.process["args"] = [*PYTHON, f"{PRELUDE}attempt(os.getcwd)"]
    for number in (*range(3, 12), left):
        container.process["cwd"] = f"/proc/self/fd/{number}"
        done = container.attempt("run", pass_fds=(left,))
        assert not done.out or json.loads(done.out) == "ok", (number, done)
    os.close(left)


# user


@pytest.mark.parametrize("ids", [(0, 0), (1000, 1000), (1000, 0), (0, 5), (2147483647, 2147483647), (12345, 54321)])
def test_user(container: Container, ids: tuple[int, int]) -> None:
    """User: "`uid`, `gid` (int, REQUIRED) specifies the user ID, group ID in the container namespace"."""
    container.process["user"] = {"uid": ids[0], "gid": ids[1]}
    assert container.report()["user"] == [*ids]


def test_user_has_all_its_ids(container: Container) -> None:
    """Real, effective, saved and file system ids alike (credentials(7))."""
    container.process["user"] = {"uid": 1000, "gid": 50}
    status = container.report()["status"]
    assert (status["Uid"].split(), status["Gid"].split()) == (["1000"] * 4, ["50"] * 4)


def test_additional_groups(container: Container) -> None:
    """User: "`additionalGids` (array of ints, OPTIONAL) specifies additional group IDs … to be added to the process"."""
    container.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 29, 70000]}
    assert {5, 29, 70000} <= {*container.report()["groups"]} <= {5, 29, 70000, 1000}


def test_no_group_of_the_callers(container: Container) -> None:
    """Without additionalGids the process has none but its own."""
    container.process["user"] = {"uid": 1000, "gid": 1000}
    assert container.report()["groups"] in ([], [1000])


@pytest.mark.parametrize("umask", [0o77, 0o027, 0o002, 0])
def test_umask(container: Container, umask: int) -> None:
    """User: "`umask` (int, OPTIONAL) specifies the umask of the user"."""
    container.process["user"] = {"uid": 0, "gid": 0, "umask": umask}
    assert container.report()["umask"] == umask


# capabilities


def mask(*names: str) -> str:
    numbers = {
        "CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10, "NET_ADMIN": 12,
        "SYS_ADMIN": 21, "MKNOD": 27,
    }  # fmt: skip
    return f"{sum(1 << numbers[name] for name in names):016x}"


SETS = {
    "bounding": ("CHOWN", "KILL", "SETUID", "SETGID", "NET_BIND_SERVICE", "MKNOD"),
    "permitted": ("KILL", "NET_BIND_SERVICE", "CHOWN"),
    "effective": ("KILL",),
    "inheritable": ("NET_BIND_SERVICE", "KILL"),
    "ambient": ("NET_BIND_SERVICE",),
}


def _names(*names: str) -> list[str]:
    return [f"CAP_{name}" for name in names]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("bounding", "CapBnd"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("inheritable", "CapInh"),
        ("ambient", "CapAmb"),
    ],
)
def test_the_five_sets(container: Container, kind: str, field: str) -> None:
    """Linux Process: "`effective`, `bounding`, `inheritable`, `permitted`, `ambient` … kept for the process".

    Of a user that is not root, whom execve(2) gives no more than the ambient ones.
    """
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.process["capabilities"] = {name: _names(*names) for name, names in SETS.items()}
    found = container.report()["status"][field]
    expected = {"permitted": SETS["ambient"], "effective": SETS["ambient"]}.get(kind, SETS[kind])
    assert found == mask(*expected)


def test_roots_capabilities_are_the_bounding_ones(container: Container) -> None:
    """capabilities(7): execve by root gives all of the bounding set."""
    names = _names("CHOWN", "KILL")
    container.process["capabilities"] = {"bounding": names, "permitted": names, "effective": names}
    status = container.report()["status"]
    assert {status[field] for field in ("CapBnd", "CapPrm", "CapEff")} == {mask("CHOWN", "KILL")}
    assert status["CapInh"] == status["CapAmb"] == mask()


def test_no_capabilities_at_all(container: Container) -> None:
    container.process["capabilities"] = {}
    status = container.report()["status"]
    assert {status[field] for field in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {mask()}


def test_an_ordinary_user_has_none(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    status = container.report()["status"]
    assert status["CapEff"] == status["CapPrm"] == mask()
    assert status["CapBnd"] != mask()


def test_an_unknown_capability_is_but_a_warning(container: Container) -> None:
    """Linux Process: "Any value which cannot be mapped to a relevant kernel interface … MUST be logged as a warning"."""
    container.process["capabilities"] = {"bounding": ["CAP_KILL", "CAP_NONSENSE"]}
    assert container.report()["status"]["CapBnd"] == mask("KILL")


@pytest.mark.differs(runc="fails: unable to apply caps", crun="fails: capset")
def test_a_capability_that_the_caller_lacks(container: Container) -> None:
    """Linux Process: "Runtimes SHOULD NOT fail if the container configuration requests capabilities that cannot be granted"."""
    every = _names("KILL", "MKNOD")
    container.process["capabilities"] = {"bounding": every, "permitted": every, "effective": every}
    container.process["args"] = [PROBE]
    done = container.attempt("run", preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_MKNOD))
    assert done.code == 0, done
    assert json.loads(done.out)["status"]["CapEff"] == mask("KILL")


def test_an_ambient_capability_that_is_not_inheritable(container: Container) -> None:
    """capabilities(7): "no capability can ever be ambient if it is not both permitted and inheritable": it is not, or an error."""
    names = _names("KILL")
    container.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted", "ambient"), names)
    container.process["args"] = [PROBE]
    done = container.attempt("run")
    assert done.code != 0 or json.loads(done.out)["status"]["CapAmb"] == mask(), done


def test_a_missing_capability_is_missed(container: Container) -> None:
    """They count: without CAP_CHOWN root cannot give a file away."""
    names = _names("KILL")
    container.process["capabilities"] = {"bounding": names, "permitted": names, "effective": names}
    assert container.python("attempt(os.chown, '/etc/passwd', 5, 5)") == "EPERM"


# rlimits

LIMITS = {
    "RLIMIT_AS": (1 << 33, 1 << 34), "RLIMIT_CORE": (1024, 4096), "RLIMIT_CPU": (1000, 2000),
    "RLIMIT_DATA": (1 << 32, 1 << 33), "RLIMIT_FSIZE": (1 << 20, 1 << 21), "RLIMIT_MEMLOCK": (1024, 2048),
    "RLIMIT_MSGQUEUE": (1024, 2048), "RLIMIT_NICE": (0, 0), "RLIMIT_NOFILE": (100, 200), "RLIMIT_NPROC": (500, 600),
    "RLIMIT_RSS": (1 << 30, 1 << 31), "RLIMIT_RTPRIO": (0, 0), "RLIMIT_SIGPENDING": (20, 30),
    "RLIMIT_STACK": (1 << 22, 1 << 23),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIMITS)
def test_rlimit(container: Container, kind: str) -> None:
    """POSIX process: "`rlim.rlim_cur` MUST match the configured value", and rlim_max."""
    soft, hard = LIMITS[kind]
    container.process["rlimits"] = [{"type": kind, "soft": soft, "hard": hard}]
    assert container.report()["rlimits"][kind] == [soft, hard]


def test_rlimit_infinity(container: Container) -> None:
    """The same: RLIM_INFINITY is 2^64 - 1 in the configuration."""
    container.process["rlimits"] = [{"type": "RLIMIT_CPU", "soft": 1000, "hard": 2**64 - 1}]
    assert container.report()["rlimits"]["RLIMIT_CPU"] == [1000, "infinity"]


def test_rlimit_nonsense(container: Container) -> None:
    """POSIX process: "The runtime MUST generate an error for any values which cannot be mapped to a … kernel interface"."""
    container.process["rlimits"] = [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]
    assert container.attempt("run").code != 0


def test_rlimit_twice(container: Container) -> None:
    """POSIX process: "If `rlimits` contains duplicated entries with same `type`, the runtime MUST generate an error"."""
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": hard} for hard in (100, 200)]
    assert container.attempt("run").code != 0


def test_rlimit_soft_above_hard(container: Container) -> None:
    """setrlimit(2): EINVAL; an error, then."""
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]
    assert container.attempt("run").code != 0


# noNewPrivileges, oomScoreAdj


@pytest.mark.parametrize(("given", "expected"), [(True, "1"), (False, "0"), (None, "0")])
def test_no_new_privileges(container: Container, given: bool | None, expected: str) -> None:
    """Linux Process: "setting `noNewPrivileges` to true prevents the process from gaining additional privileges"."""
    if given is not None:
        container.process["noNewPrivileges"] = given
    assert container.report()["status"]["NoNewPrivs"] == expected


@pytest.mark.parametrize("score", [0, 1, 500, 1000])
def test_oom_score(container: Container, score: int) -> None:
    """Linux Process: "If `oomScoreAdj` is set, the runtime MUST set `oom_score_adj` to the given value"."""
    container.process["oomScoreAdj"] = score
    assert container.report()["oom_score_adj"] == str(score)


def test_oom_score_is_left_alone(container: Container) -> None:
    """Linux Process: "If `oomScoreAdj` is not set, the runtime MUST NOT change the value of `oom_score_adj`"."""
    with open("/proc/self/oom_score_adj") as file:
        assert container.report()["oom_score_adj"] == file.read().strip()


# scheduler, ioPriority

NO_SCHEDULER = pytest.mark.differs(runc="ignores `scheduler`, of specification 1.1", crun="ignores `scheduler`")


@NO_SCHEDULER
@pytest.mark.parametrize(
    ("policy", "number", "nice"), [("SCHED_OTHER", 0, 5), ("SCHED_BATCH", 3, 5), ("SCHED_IDLE", 5, None)]
)
def test_scheduler(container: Container, policy: str, number: int, nice: int) -> None:
    """Linux Process: "`policy` (string, REQUIRED) represents the scheduling policy"."""
    container.process["scheduler"] = {"policy": policy} | ({"nice": nice} if nice else {})
    found = container.report()["scheduler"]
    assert found == [
        number,
        0,
        found[2] if nice is None else nice,
    ]  # sched(7): the nice value has no influence on SCHED_IDLE


@NO_SCHEDULER
def test_scheduler_reset_on_fork(container: Container) -> None:
    """Linux Process: "`flags` … SCHED_FLAG_RESET_ON_FORK"."""
    container.process["scheduler"] = {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    assert container.report()["scheduler"][0] == 3 | 0x40000000


@NO_SCHEDULER
@pytest.mark.parametrize(
    "value",
    [
        {"policy": "SCHED_NONSENSE"},
        {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_NONSENSE"]},
        {"policy": "SCHED_OTHER", "priority": 5},
    ],
)
def test_scheduler_nonsense(container: Container, value: dict[str, Any]) -> None:
    """Valid values: "Runtimes MUST generate an error when invalid or unsupported values are encountered"."""
    container.process["scheduler"] = value
    assert container.attempt("run").code != 0


@NO_SCHEDULER
def test_a_deadline(container: Container) -> None:
    """Linux Process: "`runtime`, `deadline`, `period`" of SCHED_DEADLINE."""
    value = {"policy": "SCHED_DEADLINE", "runtime": 4200000, "deadline": 100000000, "period": 100000000}
    container.process["scheduler"] = value
    assert container.report()["scheduler"][0] == 6


@NO_SCHEDULER
def test_a_deadline_on_some_processors(container: Container) -> None:
    """sched(7): EPERM for a task that may not run on every processor of its root domain; an error, then."""
    value = {"policy": "SCHED_DEADLINE", "runtime": 4200000, "deadline": 100000000, "period": 100000000}
    container.process["scheduler"] = value
    container.linux["resources"] = {"cpu": {"cpus": "0"}}
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this host has one processor")
    assert container.attempt("run").code != 0


NO_IO_PRIORITY = pytest.mark.differs(runc="ignores `ioPriority`, of specification 1.1", crun="ignores `ioPriority`")


@NO_IO_PRIORITY
@pytest.mark.parametrize(
    ("kind", "priority", "expected"),
    [
        ("IOPRIO_CLASS_BE", 6, BEST_EFFORT | 6),
        ("IOPRIO_CLASS_BE", 0, BEST_EFFORT),
        ("IOPRIO_CLASS_IDLE", 7, IDLE | 7),
        ("IOPRIO_CLASS_RT", 3, 1 << 13 | 3),
    ],
)
def test_io_priority(container: Container, kind: str, priority: int, expected: int) -> None:
    """Linux Process: "`ioPriority` (object, OPTIONAL) configures the I/O priority settings for the container's processes"."""
    container.process["ioPriority"] = {"class": kind, "priority": priority}
    found = container.report()["ioprio"]
    assert found == expected


@NO_IO_PRIORITY
@pytest.mark.parametrize("value", [("IOPRIO_CLASS_NONSENSE", 1), ("IOPRIO_CLASS_BE", 8), ("IOPRIO_CLASS_BE", -1)])
def test_io_priority_nonsense(container: Container, value: tuple[str, int]) -> None:
    """Linux Process: "an integer ranging from 0 (highest) to 7 (lowest)"."""
    container.process["ioPriority"] = {"class": value[0], "priority": value[1]}
    assert container.attempt("run").code != 0


# What the process is not given


def test_it_has_the_three_streams_alone(container: Container) -> None:
    """runtime-linux.md, "File descriptors": "only the stdin, stdout and stderr file descriptors are kept open"."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    container.process["args"] = [PROBE]
    done = container.attempt("run", close_fds=False)
    os.close(reader)
    os.close(writer)
    assert {*json.loads(done.out)["descriptors"]} == {"0", "1", "2"}


def test_it_is_the_first_of_its_pid_namespace(container: Container) -> None:
    """The program is the container's init, not a child of one."""
    assert container.report()["ids"]["pid"] == 1


def test_it_leads_a_session(container: Container) -> None:
    """So that no terminal of the caller's is its own."""
    ids = container.report()["ids"]
    assert ids["session"] == ids["group"] == 1


def test_its_signals_are_as_new(container: Container) -> None:
    """Nothing that the runtime blocks or ignores stays so."""
    container.process["args"] = ["sh", "-c", "exec cat /proc/self/status"]
    status = dict(line.split(":\t") for line in container.run().out.splitlines() if line.startswith("Sig"))
    assert {status[name] for name in ("SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}


# --preserve-fds


@pytest.mark.parametrize("command", ["run", "exec"])
def test_preserved_descriptors(container: Container, command: str) -> None:
    """runtime-linux.md: "The runtime MAY pass additional file descriptors to the application": --preserve-fds N."""
    path = f"{container.bundle}/given"
    with open(path, "w") as file:
        file.write("given\n")
    program = ["/usr/bin/python3", "-c", "import os; print(os.read(3, 9), os.read(4, 9))"]
    inherited: Any = {"close_fds": False, "preexec_fn": lambda: _open_at(path, 3, 4)}
    if command == "run":
        container.process["args"] = program
        done = container.attempt("run", "--preserve-fds", "2", **inherited)
    else:
        container.started()
        done = container.exec(*program, options=("--preserve-fds", "2"), **inherited)
    assert done.out == "b'given\\n' b'given\\n'\n", done


def _open_at(path: str, *numbers: int) -> None:
    for number in numbers:
        descriptor = os.open(path, os.O_RDONLY)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.set_inheritable(number, True)
