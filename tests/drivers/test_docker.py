"""`docker run --runtime mini` beside `--runtime runc`, in one dockerd: the same command, and equal answers.

containerd's shim is in between: it calls create, start, exec, kill, delete, update, pause, resume, ps, state.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compare.test_life import EXEC_FAILURES, EXECS
from tests.drivers import seen
from tests.support import leaks
from tests.support.docker import Docker
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker", "docker-registry", "iproute2")

RUNTIMES = ("runc", "mini")
WAITS = "trap 'echo term; exit 7' TERM; trap 'echo hup' HUP; sleep 1000 & echo ready; while :; do wait; done"
# Of cgroup v1 and v2.
LIMITS = (
    "memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes cpu.cfs_quota_us cpu.cfs_period_us cpu.shares"
    " cpuset.cpus pids.max memory.max memory.swap.max memory.low cpu.max cpu.weight devices.list"
).split()

SEEN = {
    "nothing": "",
    "a user": "-u 1234:4321 --group-add 7 -w /tmp -e A=1",
    "read-only": "--read-only --tmpfs /scratch:size=1m,mode=700 -v /opt:/o:ro -v /a",
    "no capabilities": "--cap-drop ALL",
    "some capabilities": "--cap-drop CHOWN --cap-add SYS_ADMIN --cap-add SYS_TIME",
    "no seccomp": "--security-opt seccomp=unconfined",
    "no new privileges": "--security-opt no-new-privileges -u 1000",
    "limits": "--ulimit nofile=100:200 --ulimit core=0 --oom-score-adj 500 --shm-size 5m",
    "devices": "--device /dev/zero:/dev/nought:r --device-cgroup-rule=c\\x2010:*\\x20rwm",
    "the host's namespaces": "--pid host --ipc host --uts host --network host",
    "a cgroup namespace": "--cgroupns private",
    "the host's cgroup namespace": "--cgroupns host",
    "sysctls": "--sysctl net.ipv4.ip_unprivileged_port_start=99 --sysctl kernel.shm_rmid_forced=1",
    "names": "--hostname box --domainname example.org",
    "no network": "--network none",
}
FAILURES = {
    "missing": ("", ["no-such-program"], 127),
    "missing, with a path": ("", ["/no/such/program"], 127),
    "not executable": ("", ["/etc/passwd"], 126),
    "a directory": ("", ["/etc"], 126),
    "a device that is not there": ("--device /dev/no-such-device", ["true"], 127),
    "a sysctl of the host": ("--sysctl kernel.shmmax=x", ["true"], 125),
    "too little memory": ("--memory 6m --memory-reservation 7m", ["true"], 125),
}


@pytest.fixture
def both(docker: Docker) -> Iterator[Docker]:
    """Nothing runs in it; and afterwards neither runtime has left anything."""
    yield docker
    docker.remove_containers()
    docker.remove_volumes()
    wait(lambda: not leaks.cgroups(docker.cgroup_parent))
    assert [path for path, _, files in os.walk(f"{docker.root}/exec/runtime-mini") if "state.json" in files] == []


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def same(tell: Callable[[str], Any]) -> Any:
    """What both runtimes make of it, proven equal."""
    runc, mini = (tell(runtime) for runtime in RUNTIMES)
    assert mini == runc
    return mini


def told(result: Result) -> dict[str, Any]:
    return {"code": result.code, "stdout": result.stdout, "stderr": result.stderr}


def up(docker: Docker, runtime: str, image: str, options: str = "", script: str = WAITS) -> str:
    """A container that has said that it is ready; its ID."""
    command = ["run", "-d", "--runtime", runtime, "--network", "none", *options.split(), image, "sh", "-c", script]
    container = docker.run(*command).out
    wait(lambda: "ready" in docker.run("logs", container).stdout)
    return container


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def inspect(docker: Docker, container: str, field: str) -> Any:
    return json.loads(docker.run("inspect", "-f", f"{{{{json {field}}}}}", container).out)


def limits(docker: Docker, container: str) -> dict[str, list[str]]:
    """Files of the container's cgroups, on the host."""
    found = {}
    for tree in leaks.hierarchies():
        for name in LIMITS:
            path = f"{tree.path}{docker.cgroup_parent}/{container}/{name}"
            if os.path.exists(path):
                with open(path) as file:
                    found[name] = sorted(file.read().splitlines())
    assert found
    return found


@pytest.mark.parametrize("options", SEEN.values(), ids=SEEN.keys())
def test_what_a_container_sees(both: Docker, image: str, options: str) -> None:
    words = [word.replace("\\x20", " ") for word in options.split()]

    runc, mini = (both.run("run", "--rm", "--runtime", name, *words, image, *seen.COMMAND).stdout for name in RUNTIMES)
    assert seen.difference(runc, mini) == ""


def test_what_a_privileged_container_sees(both: Docker, image: str) -> None:
    """Docker asks for every capability. Where this host has not all of them, runc fails; OCI says that it should not."""
    runc, mini = (
        both.run("run", "--rm", "--runtime", name, "--privileged", image, *seen.COMMAND, check=False)
        for name in RUNTIMES
    )
    sections = seen.sections(mini.stdout)
    assert "Seccomp:\t0" in sections["status"] and "/proc/sys" not in str(sections["mounts"])
    assert "unable to apply caps" in runc.stderr or seen.difference(runc.stdout, mini.stdout) == ""


def test_propagation_of_mounts(both: Docker, image: str, runtime: str, tmp_path: Path) -> None:
    def on_the_host(*command: str) -> str:
        """In dockerd's mount namespace."""
        enter = ["nsenter", "--mount", "--target", str(both.pid), "--"]
        return subprocess.run([*enter, *command], check=True, capture_output=True, text=True).stdout

    shared = str(tmp_path)
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    on_the_host("mount", "--bind", shared, shared)
    on_the_host("mount", "--make-shared", shared)
    volumes = [word for how in ("rshared", "rslave", "rprivate") for word in ("-v", f"{shared}:/{how}:{how}")]
    options = ["--cap-add", "SYS_ADMIN", "--runtime", runtime, *volumes]
    container = both.run("run", "-d", *options, image, "sleep", "600").out
    on_the_host("mount", "-t", "tmpfs", "host", f"{shared}/ours")
    both.run("exec", container, "mount", "-t", "tmpfs", "container", "/rshared/theirs")
    table = both.run("exec", container, "cat", "/proc/self/mountinfo").lines
    targets = {line.split()[4] for line in table if " tmpfs host " in line or " tmpfs container " in line}
    assert targets == {"/rshared/ours", "/rslave/ours", "/rshared/theirs", "/rslave/theirs"}
    assert f"{shared}/theirs " in on_the_host("cat", "/proc/self/mountinfo")
    on_the_host("umount", f"{shared}/ours", f"{shared}/theirs", shared)


@pytest.mark.parametrize(("options", "command", "code"), FAILURES.values(), ids=FAILURES.keys())
def test_what_cannot_run(both: Docker, image: str, options: str, command: list[str], code: int) -> None:
    def outcome(runtime: str) -> tuple[int, bool]:
        result = both.run("run", "--rm", "--runtime", runtime, *options.split(), image, *command, check=False)
        return result.code, "Error response from daemon: " in result.stderr

    assert same(outcome) == (code, True)


def test_streams_and_exit_codes(both: Docker, image: str) -> None:
    def outcome(runtime: str, script: str) -> dict[str, Any]:
        command = ["run", "-i", "--rm", "--runtime", runtime, image, "sh", "-c", script]
        return told(both.run(*command, input="in\n", check=False))

    script = "cat; echo out; echo err >&2; exit 3"
    assert same(lambda runtime: outcome(runtime, script)) == {"code": 3, "stdout": "in\nout\n", "stderr": "err\n"}
    assert same(lambda runtime: outcome(runtime, "sh -c 'kill -9 $$'"))["code"] == 137


def test_a_terminal(both: Docker, image: str, runtime: str) -> None:
    command = ["run", "-it", "--rm", "--runtime", runtime, image, "sh", "-c"]
    script = "stty -echo; tty; echo ready; while read a; do stty size; done; exit 3"
    with both.terminal(*command, script, rows=33, columns=111) as terminal:
        assert "/dev/pts/0" in terminal.expect("ready")
        terminal.await_raw()
        _press_until(terminal, "33 111")
        terminal.resize(22, 99)
        _press_until(terminal, "22 99")
        terminal.write("\x04")
        assert terminal.wait() == 3


def test_a_terminal_of_exec(both: Docker, image: str, runtime: str) -> None:
    container = up(both, runtime, image)
    script = "stty -echo; tty; echo ready; while read a; do stty size; done; exit 3"
    with both.terminal("exec", "-it", container, "sh", "-c", script, rows=33, columns=111) as terminal:
        assert "/dev/pts/0" in terminal.expect("ready")
        terminal.await_raw()
        _press_until(terminal, "33 111")  # only then does the client take notice of changes
        terminal.resize(22, 99)
        _press_until(terminal, "22 99")
        terminal.write("\x04")
        assert terminal.wait() == 3


def _press_until(terminal: Any, wanted: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        terminal.write("x\n")
        if terminal.expect("\r\n") == wanted:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def sleepers(docker: Docker, image: str) -> Iterator[Docker]:
    """A container of each runtime, called as it is, for all the execs."""
    for name in RUNTIMES:
        docker.run("run", "-d", "--name", name, "--runtime", name, "-e", "A=1", "-w", "/tmp", image, "sleep", "6000")
    yield docker
    docker.run("rm", "-f", *RUNTIMES)


@pytest.mark.parametrize(("options", "command"), [case[1:] for case in EXECS], ids=[case[0] for case in EXECS])
def test_exec(sleepers: Docker, options: list[str], command: list[str]) -> None:
    def outcome(name: str) -> dict[str, Any]:
        result = told(sleepers.run("exec", *options, name, *command, input="in\n", check=False))
        host = sleepers.run("inspect", "-f", "{{.Config.Hostname}}", name).out
        return {
            key: value.replace(host, "<host>") if isinstance(value, str) else value for key, value in result.items()
        }

    same(outcome)


@pytest.mark.parametrize(
    ("options", "command"), [case[1:] for case in EXEC_FAILURES], ids=[case[0] for case in EXEC_FAILURES]
)
def test_exec_failures(sleepers: Docker, options: list[str], command: list[str]) -> None:
    assert same(lambda name: sleepers.run("exec", *options, name, *command, check=False).code) != 0


def test_a_privileged_exec(sleepers: Docker) -> None:
    """Docker 20.10 asks for every capability. Where this host has not all of them, runc fails; OCI says that it should not."""
    command = ["grep", "-E", "^(Cap|Sec)", "/proc/self/status"]
    runc, mini = (sleepers.run("exec", "--privileged", name, *command, check=False) for name in RUNTIMES)
    assert (mini.code, mini.lines[-2]) == (0, "Seccomp:\t2")
    assert runc.code != 0 or runc.lines == mini.lines


def test_a_detached_exec(both: Docker, image: str, runtime: str) -> None:
    container = up(both, runtime, image)
    both.run("exec", "-d", container, "sh", "-c", "echo done >/tmp/done")
    wait(lambda: both.run("exec", container, "cat", "/tmp/done", check=False).out == "done")


def test_a_life(both: Docker, image: str) -> None:
    """One story: what each command says of it."""

    def story(runtime: str) -> list[Any]:
        container = up(both, runtime, image, "--init --name story")

        def state() -> Any:
            return both.run(
                "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", "story"
            ).out.split()[:2]

        says: list[Any] = [state()]
        says.append(sorted(line.split(maxsplit=1)[1] for line in both.run("top", "story", "-eo", "pid,args").lines))
        says += [told(both.run("pause", "story")), state(), told(both.run("exec", "story", "true", check=False))]
        says[-1]["stderr"] = says[-1]["stderr"].replace(container, "<ID>")
        says += [told(both.run("unpause", "story")), state()]
        both.run("kill", "-s", "HUP", "story")
        wait(lambda: "hup" in both.run("logs", "story").stdout)
        says += [told(both.run("stop", "story")), state(), told(both.run("logs", "story"))]
        says += [told(both.run("start", "story")), state(), told(both.run("restart", "-t", "0", "story")), state()]
        both.run("pause", "story")
        both.run("unpause", "story")
        says += [told(both.run("kill", "story")), both.run("wait", "story").out, state()]
        says += [told(both.run("start", "story")), told(both.run("rm", "-f", "story"))]
        return says

    told_by_both = same(story)
    assert ["paused", "0"] in told_by_both and ["exited", "7"] in told_by_both and told_by_both[-3] == ["exited", "137"]


def test_limits_and_their_update(both: Docker, image: str) -> None:
    options = "--memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 50"

    def outcome(runtime: str) -> list[Any]:
        container = up(both, runtime, image, options)
        before = limits(both, container)
        both.run("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "60", container)
        after = limits(both, container)
        both.run("rm", "-f", container)
        return [before, after]

    before, after = same(outcome)
    assert before["pids.max"] == ["50"] and after["pids.max"] == ["60"]
    assert [str(96 << 20)] in after.values()


def test_devices_that_are_denied(both: Docker, image: str) -> None:
    script = "head -c 1 /dev/full | wc -c; mknod /mem c 1 1; echo $?; (: </mem); echo $?"

    def outcome(runtime: str) -> dict[str, Any]:
        options = ["--device", "/dev/full", "--cap-add", "SYS_RAWIO"]
        return told(both.run("run", "--rm", "--runtime", runtime, *options, image, "sh", "-c", script, check=False))

    assert same(outcome)["stdout"].splitlines()[-1] != "0"


def test_stats(both: Docker, image: str) -> None:
    def outcome(runtime: str) -> list[str]:
        container = up(both, runtime, image, "--memory 64m", "echo ready; exec sleep 600")
        (line,) = both.stats("--format", "{{.PIDs}} {{.MemUsage}}", container)
        pids, used, _, most = line.split()
        assert used != "0B"
        return [pids, most]

    assert same(outcome) == ["1", "64MiB"]


def test_memory_that_runs_out(both: Docker, image: str, runtime: str) -> None:
    # more than once: containerd looks for it from some time after the start on
    script = "while :; do tail /dev/zero; echo code $?; sleep 1; done"
    options = ["--memory", "16m", "--memory-swap", "16m"]
    container = both.run("run", "-d", "--runtime", runtime, *options, image, "sh", "-c", script).out
    events = ["events", "--since", "1", "--until", "0s", "--filter", "event=oom", "--filter", f"container={container}"]
    wait(lambda: bool(both.run(*events).out))
    assert set(both.run("logs", container).lines) == {"code 137"}
    both.run("kill", container)
    assert inspect(both, container, ".State.OOMKilled") is True


def test_health(both: Docker, image: str) -> None:
    def outcome(runtime: str) -> tuple[int, bool]:
        container = up(both, runtime, image, "--health-cmd env --health-interval 0.1s -e WELL=yes")
        wait(lambda: bool(inspect(both, container, ".State.Health.Status") == "healthy"))
        check = inspect(both, container, ".State.Health.Log")[-1]
        return check["ExitCode"], "WELL=yes" in check["Output"]

    assert same(outcome) == (0, True)


def test_a_namespace_of_another_container(both: Docker, image: str, runtime: str) -> None:
    first = up(both, runtime, image, "--ipc shareable")
    options = [f"--{kind}=container:{first}" for kind in ("network", "pid", "ipc")]
    command = ["sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/pid /proc/self/ns/ipc"]
    joined = both.run("run", "--rm", "--runtime", runtime, *options, image, *command).lines
    assert joined == both.run("exec", first, *command).lines


def test_a_network(both: Docker, image: str, runtime: str) -> None:
    """Docker's prestart hook gives the network namespace its interfaces."""
    gateway = inspect(both, "bridge", "(index .IPAM.Config 0).Gateway")
    lines = both.run("run", "--rm", "--runtime", runtime, image, "sh", "-c", "ip -o -4 addr show eth0; ip route").lines
    assert f"default via {gateway} dev eth0" in [line.strip() for line in lines]


def test_what_docker_says_of_it(both: Docker, image: str) -> None:
    container = up(both, "mini", image)
    assert inspect(both, container, ".HostConfig.Runtime") == "mini"
    runtimes = json.loads(both.run("info", "-f", "{{json .Runtimes}}").out)
    assert runtimes["mini"]["path"].endswith("/mini-runtime")
