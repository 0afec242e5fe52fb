"""runc(8), crun(1): what callers of their command lines rely on, beyond the specification (containerd's shim, conmon, people)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.conformance import PROBE, Container, Containers, Done, Runtime, is_alive, processes, reported, until

# run


@pytest.mark.differs(crun="has no --keep")
def test_run_keep(container: Container) -> None:
    """--keep: what has ended is there until it is deleted, and so is its cgroup."""
    container.process["args"] = ["true"]
    container.must("run", "--keep")
    assert container.state()["status"] == "stopped"
    assert container.cgroups()
    container.must("delete")
    assert not container.exists() and container.cgroups() == []


@pytest.mark.differs(crun="has no --keep")
def test_run_keep_holds_the_id(container: Container) -> None:
    container.process["args"] = ["true"]
    container.must("run", "--keep")
    assert container.attempt("run").code != 0
    assert container.state()["status"] == "stopped"


def test_run_twice(container: Container) -> None:
    """Without --keep the ID is free when `run` returns."""
    assert [container.run("echo", "hi").out for _ in range(2)] == ["hi\n", "hi\n"]


BUNDLES = pytest.mark.differs(crun="is relative to the bundle")


@pytest.mark.parametrize("command", [pytest.param("create", marks=BUNDLES), pytest.param("run", marks=BUNDLES), "exec"])
def test_a_relative_pid_file(container: Container, command: str) -> None:
    """It is relative to the caller's directory, not to the bundle."""
    place = container.directory("place")
    if command == "exec":
        container.started()
        container.exec("true", options=("--pid-file", "pid"), cwd=place)
    else:
        container.process["args"] = ["true"]
        container.must(command, "--pid-file", "pid", cwd=place)
    assert Path(f"{place}/pid").read_text().isdigit()
    assert not os.path.exists(f"{container.bundle}/pid")


def test_run_without_pivot_root(container: Container) -> None:
    """--no-pivot, for a host whose root is an initramfs: the root is the container's all the same."""
    Path(f"{container.upper}/here").write_text("")
    container.process["args"] = [PROBE]
    found = reported(container.must("run", "--no-pivot").out)
    assert "/here" in found["root"]
    assert not [mount for mount in found["mounts"] if mount["target"].startswith(container.runtime.directory)]


@pytest.mark.differs(runc="has no --pidfd-socket, before 1.2", crun="has no --pidfd-socket")
@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_a_pidfd(container: Container, command: str) -> None:
    """--pidfd-socket: a descriptor of the process, which no other process can have by mistake."""
    path = f"{container.bundle}/pidfd"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)
        options = ("--pidfd-socket", path, *(() if command == "create" else ("--detach",)))
        container.process["args"] = ["sleep", "60"]
        if command == "exec":
            container.started()
            done = container.exec("sleep", "61", options=(*options, "--pid-file", f"{container.bundle}/pid"))
        else:
            done = container.attempt(command, "--pid-file", f"{container.bundle}/pid", *options)
        assert done.code == 0, done
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
    pid = int(Path(f"{container.bundle}/pid").read_text())
    signal.pidfd_send_signal(descriptors[0], signal.SIGKILL)
    os.close(descriptors[0])
    until(lambda: not is_alive(pid))


# The environment of systemd: socket activation, readiness


def listening(container: Container, pid: str) -> Done:
    """run, as systemd starts a service with one socket; `pid` is what $LISTEN_PID is."""
    path = f"{container.bundle}/given"
    Path(path).write_text("given\n")
    container.process["args"] = ["sh", "-c", "cat <&3; echo $LISTEN_FDS $LISTEN_PID"]
    container.save()
    command = [*container.runtime.command, "--root", container.runtime.root, "run", "--bundle", container.bundle]
    script = f'export LISTEN_FDS=1 LISTEN_PID={pid}; exec "$@" 3< {path}'
    done = subprocess.run(["sh", "-c", script, "sh", *command, container.id], capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.differs(crun="sets no $LISTEN_PID")
def test_listen_fds(container: Container) -> None:
    """sd_listen_fds(3): what is meant for the runtime is passed on, for the container's PID 1."""
    assert listening(container, "$$").out == "given\n1 1\n"


@pytest.mark.differs(crun="passes them on")
def test_listen_fds_of_another_process(container: Container) -> None:
    """sd_listen_fds(3): "checks whether the $LISTEN_PID environment variable equals the daemon PID. If not, it returns"."""
    assert listening(container, "1").out == "\n"


# kill, delete, where processes of a container outlive its first one


def outliving(container: Container) -> list[int]:
    """The processes of a container in the host's PID namespace, the first one last."""
    container.without_namespace("pid")
    container.started("sleep", "60")
    for _ in range(3):
        assert container.exec("sleep", "61", options=("--detach",)).code == 0
    first = container.state()["pid"]
    return [*({*processes(container.cgroup("pids"))} - {first}), first]


@pytest.mark.differs(runc="kills the first alone, before 1.2", crun="kills the first alone")
def test_kill_reaches_every_process(container: Container) -> None:
    """KILL means the container; without a PID namespace of its own the kernel does not do it."""
    pids = outliving(container)
    container.kill("KILL")
    until(lambda: not any(is_alive(pid) for pid in pids), 10)


@pytest.mark.differs(runc="is an error, before 1.2", crun="is an error")
def test_kill_reaches_those_that_are_left(container: Container) -> None:
    """The same, where the first one has ended already."""
    pids = outliving(container)
    os.kill(pids[-1], signal.SIGKILL)
    until(lambda: not is_alive(pids[-1]))
    container.kill("KILL")
    until(lambda: not any(is_alive(pid) for pid in pids))


@pytest.mark.parametrize("options", [(), ("--force",)], ids=str)
def test_delete_ends_those_that_are_left(container: Container, options: tuple[str, ...]) -> None:
    pids = outliving(container)
    os.kill(pids[-1], signal.SIGKILL)
    until(lambda: not is_alive(pids[-1]))
    container.must("delete", *options)
    assert not container.exists()
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_kill_of_a_stopped_container(container: Container) -> None:
    """An error, signal 0 as well; none with the obsolete --all, which containerd's shim gives."""
    container.started().stopped()
    assert container.runtime.call("kill", container.id, "0").code != 0
    assert container.runtime.call("kill", "--all", container.id, "KILL").code == 0


def test_signal_0_looks_whether_it_is_there(container: Container) -> None:
    container.started()
    container.kill("0")
    assert container.state()["status"] == "running"


# exec


def test_exec_in_a_created_container(container: Container) -> None:
    """What waits for its start can be entered, to prepare it."""
    container.process["args"] = ["cat", "/prepared"]
    container.create()
    assert container.exec("sh", "-c", "echo yes > /prepared").code == 0
    assert container.state()["status"] == "created"
    container.start()


@pytest.mark.differs(crun="has no --ignore-paused")
def test_exec_ignores_that_it_is_paused(container: Container) -> None:
    """--ignore-paused: it runs when the container goes on."""
    container.started()
    container.must("pause")
    process = container.runtime.start("exec", "--ignore-paused", container.id, "echo", "ok")
    until(lambda: len(processes(container.cgroup("pids"))) > 1)
    container.must("resume")
    assert process.communicate(timeout=60)[0] == "ok\n"


@pytest.mark.differs(crun="has no --additional-gids")
def test_exec_adds_groups(container: Container) -> None:
    """--additional-gids, as often as one likes."""
    container.started()
    done = container.exec(PROBE, options=("--user", "1000:1000", "--additional-gids", "100", "--additional-gids", "99"))
    assert {99, 100} <= {*reported(done.out)["groups"]} <= {99, 100, 1000}


@pytest.mark.parametrize("how", ["option", "document"])
def test_exec_has_the_home_of_its_user(container: Container, how: str) -> None:
    """HOME is that of /etc/passwd, of the user that the process gets."""
    container.started()
    if how == "option":
        done = container.exec(PROBE, options=("--user", "1000:1000"))
    else:
        done = container.exec_process({"args": [PROBE], "user": {"uid": 1000, "gid": 1000}})
    assert "HOME=/home/user" in reported(done.out)["env"]


@pytest.mark.differs(crun="has those of its caller")
def test_exec_has_the_limits_of_the_container(container: Container) -> None:
    container.process["rlimits"] = [{"type": "RLIMIT_MSGQUEUE", "soft": 123, "hard": 456}]
    container.started()
    assert reported(container.exec(PROBE).out)["rlimits"]["RLIMIT_MSGQUEUE"] == [123, 456]


@pytest.mark.differs(crun="starts in /")
def test_exec_where_its_user_may_not_be(container: Container) -> None:
    """The container's directory is its user's alone; root, that is exec's user, may enter it."""
    os.mkdir(f"{container.upper}/private", 0o700)
    os.chown(f"{container.upper}/private", 42, 42)
    container.process["cwd"] = "/private"
    container.process["user"] = {"uid": 42, "gid": 42}
    container.started("sleep", "60")
    assert container.exec("pwd", options=("--user", "0")).out == "/private\n"


@pytest.mark.differs(crun="has none, then")
def test_exec_knows_no_such_capability(container: Container) -> None:
    """Linux Process: one that cannot be mapped is a warning."""
    container.started()
    found = reported(container.exec(PROBE, options=("--cap", "CAP_UNKNOWN")).out)
    with open(f"/proc/{container.state()['pid']}/status") as file:
        assert f"CapBnd:\t{found['status']['CapBnd']}" in file.read()


@pytest.mark.differs(crun="stays in that of its caller")
def test_exec_leads_a_session(container: Container) -> None:
    """Its signals are its own."""
    container.started()
    ids = reported(container.exec(PROBE).out)["ids"]
    assert ids["session"] == ids["group"] == ids["pid"]


# list, ps, state


@pytest.mark.differs(runc="is empty there", crun="is empty there")
def test_list_of_a_root_that_is_missing(runtime: Runtime) -> None:
    """A --root that was mistyped is not an empty one."""
    assert runtime.call("--root", f"{runtime.directory}/mistyped", "list").code != 0


@pytest.mark.differs(crun="has them as the directory does")
def test_list_is_in_order(containers: Containers) -> None:
    made = [containers() for _ in range(3)]
    for container in reversed(made):
        container.create()
    assert made[0].runtime.call("list", "--quiet").out.split() == sorted(container.id for container in made)


def test_list_as_json_has_what_runcs_has(container: Container) -> None:
    container.create()
    (entry,) = json.loads(container.runtime.call("list", "--format", "json").out)
    assert {"id", "pid", "status", "bundle", "created", "owner"} <= {*entry}
    assert entry["owner"] == "root"


@pytest.mark.differs(crun="takes none")
def test_ps_takes_options_of_ps(container: Container) -> None:
    container.started()
    done = container.runtime.call("ps", container.id, "-e", "-x")
    assert done.out.splitlines()[0].split() == ["PID", "TTY", "STAT", "TIME", "COMMAND"]
    assert str(container.state()["pid"]) in [line.split()[0] for line in done.out.splitlines()[1:]]


@pytest.mark.differs(crun="is an error")
def test_ps_of_a_stopped_container(container: Container) -> None:
    """Nothing, and no error."""
    container.started().stopped()
    done = container.runtime.call("ps", "--format", "json", container.id)
    assert done.code == 0 and not json.loads(done.out)


# events


NO_EVENTS = pytest.mark.differs(crun="has no events")


def following(container: Container) -> tuple[subprocess.Popen[str], Path]:
    path = Path(f"{container.bundle}/events")
    with path.open("w") as file:
        process = container.runtime.start("events", "--interval", "100ms", container.id, stdout=file)
    until(lambda: process.poll() is not None or '"stats"' in path.read_text())
    assert process.poll() is None, process.communicate()
    return process, path


def noted(path: Path) -> list[dict[str, Any]]:
    """The events until now. Of the line that is being written there may be a part."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


@NO_EVENTS
def test_events_end_with_the_container(container: Container) -> None:
    """One object a line, every interval."""
    container.started()
    process, path = following(container)
    until(lambda: len(noted(path)) > 2)
    container.must("delete", "--force")
    process.communicate(timeout=60)
    assert {event["type"] for event in noted(path)} == {"stats"}


@NO_EVENTS
def test_events_tell_when_memory_lacks(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
    container.started()
    process, path = following(container)
    container.exec("/usr/bin/python3", "-c", f"held = b'x' * {100 << 20}")
    until(lambda: {"type": "oom", "id": container.id} in noted(path))
    container.must("delete", "--force")
    process.communicate(timeout=60)


# The log


@pytest.mark.differs(crun="has little to tell")
@pytest.mark.parametrize("kind", ["text", "json"])
def test_debug_goes_to_the_log(container: Container, kind: str) -> None:
    """--debug with --log: nothing of it on the streams, which are the container's."""
    path = Path(f"{container.bundle}/log")
    container.process["args"] = ["echo", "hello"]
    container.save()
    done = container.runtime.call(
        "--debug", "--log", str(path), "--log-format", kind, "run", "--bundle", container.bundle, container.id
    )
    assert (done.code, done.out, done.err) == (0, "hello\n", "")
    assert ('"level":"debug"' if kind == "json" else "level=debug") in path.read_text()


def test_a_log_format_that_is_none(runtime: Runtime) -> None:
    assert runtime.call("--log-format", "nonsense", "list").code != 0


def test_a_log_that_cannot_be_written(runtime: Runtime) -> None:
    assert runtime.call("--log", "/no/such/directory/log", "list").code != 0


# spec


@pytest.mark.differs(crun="writes no mappings")
def test_spec_rootless(runtime: Runtime) -> None:
    """spec --rootless: a user namespace that maps the caller to root, no network of its own."""
    directory = f"{runtime.directory}/spec-rootless"
    os.mkdir(directory)
    assert runtime.call("spec", "--rootless", cwd=directory).code == 0
    spec: dict[str, Any] = json.loads(Path(f"{directory}/config.json").read_text())
    assert "user" in {entry["type"] for entry in spec["linux"]["namespaces"]}
    assert spec["linux"]["uidMappings"][0] | {"containerID": 0, "size": 1} == spec["linux"]["uidMappings"][0]


# Many at once


def test_many_at_once(containers: Containers) -> None:
    """Callers do not wait for each other."""
    made = [containers() for _ in range(8)]
    for container in made:
        container.process["args"] = ["sh", "-c", "read line; echo $line"]
        container.save()
    running = [
        container.runtime.start("run", "--bundle", container.bundle, container.id, stdin=subprocess.PIPE)
        for container in made
    ]
    found = [process.communicate(f"{number}\n", timeout=60)[0] for number, process in enumerate(running)]
    assert found == [f"{number}\n" for number in range(8)]


@pytest.mark.parametrize("command", ["start", "delete"])
def test_two_that_do_the_same(container: Container, command: str) -> None:
    """One of them succeeds, and the other one does no harm."""
    container.process["args"] = ["sh", "-c", "exec sleep 60"]
    container.create()
    if command == "delete":
        container.start()
        container.stopped()
    running = [container.runtime.start(command, container.id) for _ in range(2)]
    left = "running"
    if command == "start" and container.runtime.name == "runc":
        # now and then the other one waits for as long as it runs: it opened the FIFO without a writer, before its name was removed
        until(lambda: 0 in [process.poll() for process in running])
        container.stopped()
        left = "stopped"
    codes = sorted(process.wait(timeout=60) for process in running)
    for process in running:
        process.communicate()
    assert codes[0] == 0
    if command == "start":
        assert codes[1] != 0 and container.state()["status"] == left
    else:
        assert not container.exists() and container.cgroups() == []
