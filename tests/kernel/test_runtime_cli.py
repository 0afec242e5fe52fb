"""mini-runtime killed, failing, attacked: what is left on the host. What it does for containers: tests/conformance."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.process import protect
from tests.kernel.test_process_escape import OVERWRITE
from tests.support import checkout
from tests.support.conformance import Container, Runtime, is_alive, processes, until
from tests.support.killer import Killer, points
from tests.support.leaks import hierarchies
from tests.support.requirements import CHECKOUT

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay")


@pytest.fixture(scope="module")
def runtime(template: str) -> Iterator[Runtime]:
    directory = tempfile.mkdtemp(prefix="mini-runtime-")
    runtime = Runtime("mini", [f"{CHECKOUT}/mini-runtime"], os.path.realpath(directory), template, hierarchies())
    yield runtime
    runtime.close()
    shutil.rmtree(directory)


@pytest.fixture
def container(runtime: Runtime) -> Iterator[Container]:
    container = runtime.container()
    yield container
    container.close()


def put(container: Container, name: str, text: str) -> None:
    """A program of the image, so to speak."""
    path = Path(container.upper, name)
    path.write_text(text)
    path.chmod(0o755)


def left(container: Container) -> list[str]:
    """What of the container is still on the host: its state, cgroups, mounts, and processes in its bundle."""
    found = (
        [f"state {container.runtime.root}/{container.id}"]
        if os.path.exists(f"{container.runtime.root}/{container.id}")
        else []
    )
    found += [f"cgroup {path}" for path in container.cgroups()]
    found += [f"mount {path}" for path in container.mounts()]
    return found + [f"process {pid}" for pid in _processes(container.bundle)]


def _processes(bundle: str) -> list[int]:
    """Those whose root or directory is the bundle's or below it."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            places = {os.readlink(f"/proc/{name}/{link}") for link in ("root", "cwd")}
        except OSError:
            continue
        if any(f"{place}/".startswith(f"{bundle}/") for place in places) and is_alive(int(name)):
            found.append(int(name))
    return found


def until_nothing_is_left(container: Container) -> list[str]:
    """A process that was killed takes its time to be gone."""
    deadline = time.monotonic() + 60
    while left(container) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left(container)


# --- a create that fails -----------------------------------------------------------------------------------------------


def _fail(container: Container, step: str) -> tuple[str, ...]:
    """Makes the container one whose creation fails at the step; further options of `create`."""
    spec = container.spec
    if step == "cgroup":
        container.linux["resources"] = {"memory": {"limit": 1 << 20, "swap": 1 << 10}}
    elif step == "namespaces":
        container.namespace("network", f"{container.bundle}/no-such-namespace")
    elif step == "rootfs":
        spec["root"]["path"] = "no-such-root"
    elif step == "mount":
        container.mount("/data", "bind", "/no/such/source", "bind")
    elif step == "device":
        container.linux["devices"] = [{"path": "/proc/1/x", "type": "c", "major": 1, "minor": 3}]
    elif step == "sysctl":
        container.linux["sysctl"] = {"kernel.msgmax": "not a number"}
    elif step == "cwd":
        put(container, "file", "")
        container.process["cwd"] = "/file"
    elif step == "rlimit":
        container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]
    elif step == "exec":
        container.process["args"] = ["no-such-program"]
    elif step == "hook":
        spec["hooks"] = {"createContainer": [{"path": "/bin/false"}]}
    elif step == "console":
        container.process["terminal"] = True
        return "--console-socket", f"{container.bundle}/no-such-socket"
    elif step == "pid-file":
        return "--pid-file", "/no/such/directory/pid"
    return ()


STEPS = (
    "cgroup",
    "namespaces",
    "rootfs",
    "mount",
    "device",
    "sysctl",
    "cwd",
    "rlimit",
    "exec",
    "hook",
    "console",
    "pid-file",
)


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("step", STEPS)
def test_a_create_that_fails_leaves_nothing(container: Container, step: str, command: str) -> None:
    options = _fail(container, step)
    if command == "run" and step == "console":
        options = ("--detach", *options)
    container.runtime.command[1:] = ["--log", f"{container.bundle}/log", "--log-format", "json"]
    try:
        done = container.attempt(command, *options)
    finally:
        del container.runtime.command[1:]
    assert done.code == 1
    assert left(container) == []
    error = last_error(f"{container.bundle}/log")
    assert error["level"] == "error" and error["msg"].startswith(f"{command} failed: ")
    assert done.err.strip() == error["msg"], "standard error has it as well, without the frame"
    if step not in ("cgroup", "pid-file", "rlimit"):
        assert error["step"] == step


def last_error(log: str) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(Path(log).read_text().splitlines()[-1])
    return error


def test_a_start_that_fails_tells_why(container: Container) -> None:
    """execve(2) itself: a file that is no program is found only there. The container is stopped then."""
    put(container, "program", "\x7fELF nonsense")
    container.process["args"] = ["/program"]
    container.create()
    done = container.attempt("start")
    assert done.code == 1 and "exec format error" in done.err
    container.wait("stopped")
    container.must("delete")
    assert left(container) == []


def test_debug_tells_the_steps(container: Container) -> None:
    container.runtime.command[1:] = ["--debug"]
    try:
        done = container.run("true")
    finally:
        del container.runtime.command[1:]
    steps = [line.partition("msg=")[2] for line in done.err.splitlines()]
    assert len(steps) == 3 and all(step.startswith(f'"{container.id}: ') for step in steps), done.err
    assert "level=debug" in done.err and "ready to execute true" in steps[1]


def test_a_container_that_is_kept(container: Container) -> None:
    assert container.run("true").code == 0 and not container.exists()
    container.process["args"] = ["sh", "-c", "exit 3"]
    assert container.attempt("run", "--keep").code == 3
    state = container.state()
    assert (state["status"], state["pid"]) == ("stopped", 0)
    container.must("delete")
    assert left(container) == []


def test_streams_that_are_closed(container: Container) -> None:
    """Nothing that the runtime opens takes their place: the container gets its own /dev/null."""
    container.process["args"] = ["sh", "-c", "stat -L -c %t:%T /proc/self/fd/0 > /seen"]
    container.save()
    script = 'exec "$@" <&- >&-'
    line = [*container.runtime.command, "--root", container.runtime.root, "run", "-b", container.bundle, container.id]
    assert subprocess.run(["sh", "-c", script, "sh", *line], stderr=subprocess.PIPE).stderr == b""
    assert Path(container.upper, "seen").read_text() == "1:3\n"


# --- killed ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def killer() -> Iterator[Killer]:
    kept = protect.kept_path(protect.KEPT, sys.executable)
    interpreter = kept if os.path.exists(kept) and os.path.samefile(kept, sys.executable) else sys.executable
    with Killer(name="mini-runtime", entry="engine.runtime.oci_cli.start", interpreter=interpreter) as killer:
        yield killer


@pytest.mark.parametrize("command", ["create", "run", "start", "delete"])
def test_killed_at_any_step(runtime: Runtime, container: Container, killer: Killer, command: str) -> None:
    """`delete --force` mends whatever SIGKILL has left; nothing else is needed, and nothing waits for ever."""
    container.process["args"] = ["sleep", "60"] if command != "run" else ["true"]

    def run(at: int) -> int:
        container.save()
        if command in ("start", "delete"):
            container.create()
        bundle = ("--bundle", container.bundle) if command in ("create", "run") else ()
        steps = killer.run(at, "--root", runtime.root, command, *bundle, container.id)
        container.must("delete", "--force")
        return steps

    total = run(0)
    assert total > 1
    for at in points(total, 12):
        run(at)
        assert until_nothing_is_left(container) == [], f"killed at step {at} of {total}"


# --- attacked ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "checkout"
    checkout.make(root)
    yield root
    checkout.remove_kept(root)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("start", ["first", "next"])
@pytest.mark.parametrize("way", ["script", "link"])
def test_the_interpreter_as_entrypoint(
    runtime: Runtime, container: Container, root: Path, way: str, start: str
) -> None:
    """CVE-2019-5736, by mini-runtime itself; test_process_escape.py shows that the attack works where nothing protects.

    With a first start, which executes itself again, and a next one, which the launcher starts from the mount that was kept.
    """
    python = checkout.python(root)
    before = digest(python)
    command, runtime.command = runtime.command, [str(root / "mini-runtime")]
    try:
        if start == "next":
            assert container.run("true").code == 0
            kept = checkout.kept(root)
            assert os.path.samefile(kept, python) and os.statvfs(kept).f_flag & os.ST_RDONLY
        if way == "script":
            put(container, "attack", f"#!/proc/self/exe\n{OVERWRITE}")
            arguments = ["/attack"]
        else:
            os.symlink("/proc/self/exe", f"{container.upper}/attack")
            arguments = ["/attack", "-c", OVERWRITE]
        # not in the foreground: as long as mini-runtime itself runs, the file is busy
        container.started(*arguments)
    finally:
        runtime.command = command
    container.wait("stopped")
    assert Path(container.upper, "answer").read_text() == "EROFS"
    assert digest(python) == before


@pytest.mark.parametrize("command", ["run", "exec"])
def test_no_descriptor_leaks(container: Container, command: str) -> None:
    """CVE-2024-21626: neither the runtime's own nor one that its caller left open, whatever the program is."""
    held = os.open("/", os.O_RDONLY)
    os.set_inheritable(held, True)
    # before the shell opens anything
    program = [
        "python3",
        "-I",
        "-S",
        "-c",
        "import os; print([fd for fd in range(1000) if os.path.exists(f'/dev/fd/{fd}')])",
    ]
    if command == "run":
        container.process["args"] = program
        done = container.attempt("run", pass_fds=[held])
    else:
        done = container.started().exec(*program, pass_fds=[held])
    os.close(held)
    assert (done.code, done.out) == (0, "[0, 1, 2]\n")


@pytest.mark.parametrize("fd", range(3, 12))
def test_a_directory_by_a_leaked_descriptor(container: Container, fd: int) -> None:
    """The attack of CVE-2024-21626 itself."""
    container.process["cwd"] = f"/proc/self/fd/{fd}"
    done = container.run("cat", "etc/hostname")
    assert done.code == 1 and left(container) == []


# --- the kept interpreter ----------------------------------------------------------------------------------------------


def test_an_interpreter_that_was_replaced(runtime: Runtime, container: Container, root: Path) -> None:
    """An upgrade: the old one is not started again, and its mount makes room."""
    python = checkout.python(root)
    kept = checkout.kept(root)
    command, runtime.command = runtime.command, [str(root / "mini-runtime")]
    try:
        assert container.run("true").code == 0
        assert os.path.samefile(kept, python)
        shutil.copy(python, f"{python}.new")
        os.rename(f"{python}.new", python)
        assert not os.path.samefile(kept, python)
        assert container.run("true").code == 0
        assert os.path.samefile(kept, python)
    finally:
        runtime.command = command
    table = Path("/proc/self/mountinfo").read_text()
    assert table.count(f" {kept} ") == 1


# --- together ----------------------------------------------------------------------------------------------------------


def test_a_cgroup_that_others_live_in(runtime: Runtime, container: Container) -> None:
    """What deletes a container kills all in its cgroup: so it must be its own."""
    container.started()
    other = runtime.container()
    try:
        other.linux["cgroupsPath"] = container.linux["cgroupsPath"]
        assert "container's cgroup is not empty: " in other.refused()
    finally:
        other.close()
    assert container.state()["status"] == "running"


def test_deleted_in_the_foreground(runtime: Runtime, container: Container) -> None:
    """Whoever waits for it learns how it ended, and has nothing more to do."""
    container.process["args"] = ["sleep", "60"]
    container.save()
    running = runtime.start("run", "--bundle", container.bundle, container.id)
    until(lambda: container.exists() and container.state()["status"] == "running")
    container.must("delete", "--force")
    assert (running.wait(60), running.stderr and running.stderr.read()) == (128 + 9, "")


def test_kill_all_reaches_whom_fork_makes(container: Container) -> None:
    """Without a PID namespace, whose end would take them along: they are forked all the time."""
    container.without_namespace("pid")
    container.linux["resources"] = {"pids": {"limit": 200}}
    container.started("sh", "-c", "while :; do (exec sleep 60) & sleep 0.01; done")
    until(lambda: len(processes(container.cgroups()[0])) > 20)
    done = container.runtime.call("kill", "--all", container.id, "KILL")
    assert done.code == 0, done
    until(lambda: not processes(container.cgroups()[0]))


def test_starts_at_once(container: Container) -> None:
    """Five of them: one starts it, the others are told that it was started."""
    container.process["args"] = ["sleep", "60"]
    container.create()
    starts = [container.runtime.start("start", container.id) for _ in range(5)]
    codes = sorted(process.wait(60) for process in starts)
    assert codes == [0, 1, 1, 1, 1]
    assert container.state()["status"] == "running"
