"""config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle", for what a hook's failure does."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from tests.support.conformance import Container, until

CREATE = ("prestart", "createRuntime", "createContainer")
START = ("startContainer", "poststart")
EVERY = (*CREATE, *START, "poststop")


def hook(script: str, *args: str, **more: Any) -> dict[str, Any]:
    """A shell's. It takes the state from its stdin: crun 1.8.1 dies of SIGPIPE where a hook ends without."""
    if not script.startswith("cat >") and "stdin" not in script:
        script = f"cat > /dev/null; {script}"
    return {"path": "/bin/sh", "args": ["sh", "-ec", script, *args], "env": ["PATH=/usr/bin:/bin"]} | more


def log(container: Container, name: str) -> dict[str, Any]:
    """A hook that notes its name. The container's own file of that name is what startContainer writes."""
    path = "/log" if name == "startContainer" else f"{container.upper}/log"
    return hook(f"echo {name} >> {path}")


def logged(container: Container) -> list[str]:
    path = f"{container.upper}/log"
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().split()


def through(container: Container) -> None:
    """A whole life: create, start, end, delete."""
    container.create()
    container.start()
    container.wait("stopped")
    container.must("delete")


# When, where, in which order


@pytest.mark.differs(runc="calls poststart in create")
def test_the_order(container: Container) -> None:
    """Hooks: the six kinds, around create, start and delete."""
    container.spec["hooks"] = {name: [log(container, name)] for name in EVERY}
    container.process["args"] = ["sh", "-c", "echo program >> /log; exec sleep 60"]
    container.create()
    assert logged(container) == [*CREATE]
    container.start()
    until(lambda: "program" in logged(container))
    assert sorted(logged(container)) == sorted([*CREATE, "startContainer", "program", "poststart"])
    container.stopped()
    assert "poststop" not in logged(container)
    container.must("delete")
    assert logged(container)[-1] == "poststop"


@pytest.mark.parametrize("name", EVERY)
def test_hooks_of_a_kind_are_called_in_order(container: Container, name: str) -> None:
    """Hooks: "Hooks MUST be called in the listed order"."""
    path = "/order" if name == "startContainer" else f"{container.upper}/order"
    container.spec["hooks"] = {name: [hook(f"echo {number} >> {path}") for number in (1, 2, 3)]}
    through(container)
    with open(f"{container.upper}/order") as file:
        assert file.read().split() == ["1", "2", "3"]


@pytest.mark.parametrize("name", CREATE)
def test_hooks_of_create(container: Container, name: str) -> None:
    """Hooks: "MUST be called as part of the `create` operation"."""
    container.spec["hooks"] = {name: [log(container, name)]}
    container.create()
    assert logged(container) == [name]


def test_start_container_is_called_before_the_program(container: Container) -> None:
    """StartContainer: "MUST be called before the user-specified process is executed as part of the `start` operation"."""
    container.spec["hooks"] = {"startContainer": [log(container, "startContainer")]}
    container.process["args"] = ["sh", "-c", "echo program >> /log"]
    container.create()
    assert logged(container) == []
    container.start()
    container.wait("stopped")
    assert logged(container) == ["startContainer", "program"]


@pytest.mark.differs(runc="calls poststart in create")
def test_poststart_is_called_before_start_returns(container: Container) -> None:
    """Poststart: "MUST be called after the user-specified process is executed but before the `start` operation returns"."""
    container.spec["hooks"] = {"poststart": [log(container, "poststart")]}
    container.process["args"] = ["sleep", "60"]
    container.create()
    assert logged(container) == []
    container.start()
    assert logged(container) == ["poststart"]


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_poststop_is_called_before_delete_returns(container: Container, options: tuple[str, ...]) -> None:
    """Poststop: "MUST be called after the container is deleted but before the `delete` operation returns"."""
    container.spec["hooks"] = {"poststop": [log(container, "poststop")]}
    container.started()
    if not options:
        container.stopped()
    container.must("delete", *options)
    assert logged(container) == ["poststop"]


def test_run_calls_them_all(container: Container) -> None:
    container.spec["hooks"] = {name: [log(container, name)] for name in EVERY}
    assert container.run("true").code == 0
    assert sorted(logged(container)) == sorted(EVERY)


NAMESPACES = {"prestart": True, "createRuntime": True, "createContainer": False, "poststart": True, "poststop": True}


@pytest.mark.parametrize("name", NAMESPACES)
def test_the_namespace(container: Container, name: str) -> None:
    """Hooks: "MUST be executed in the runtime namespace", createContainer's "in the container namespace"."""
    container.spec["hooks"] = {name: [hook(f"readlink /proc/self/ns/mnt > {container.bundle}/seen")]}
    through(container)
    with open(f"{container.bundle}/seen") as file:
        is_runtimes = file.read().strip() == os.readlink("/proc/self/ns/mnt")
    assert is_runtimes == NAMESPACES[name]


def test_the_path_of_create_container_is_the_hosts(container: Container) -> None:
    """CreateContainer: "path MUST resolve in the runtime namespace"."""
    path = f"{container.bundle}/program"
    with open(path, "w") as file:
        os.fchmod(file.fileno(), 0o755)
        file.write(f"#!/bin/sh\ncat > /dev/null; echo ran > {container.bundle}/ran\n")
    container.spec["hooks"] = {"createContainer": [{"path": path}]}
    container.create()
    assert os.path.exists(f"{container.bundle}/ran")


def test_create_container_sees_the_mounts(container: Container) -> None:
    """CreateContainer: "before the `pivot_root` … but after the mount namespace was created and setup"."""
    container.mount("/mnt", "tmpfs", "tmpfs")
    container.spec["hooks"] = {"createContainer": [hook(f"cat /proc/self/mounts > {container.bundle}/seen")]}
    container.create()
    with open(f"{container.bundle}/seen") as file:
        assert f" {container.rootfs}/mnt tmpfs " in file.read()


def test_start_container_runs_inside(container: Container) -> None:
    """StartContainer: "path MUST resolve in the container namespace"; "MUST be executed in the container namespace"."""
    os.makedirs(f"{container.upper}/only")
    with open(f"{container.upper}/only/inside", "w") as file:
        os.fchmod(file.fileno(), 0o755)
        file.write("#!/bin/sh\ncat > /dev/null; readlink /proc/self/ns/mnt /proc/self/ns/pid > /seen\n")
    container.spec["hooks"] = {"startContainer": [{"path": "/only/inside"}]}
    container.process["args"] = ["sh", "-c", "readlink /proc/self/ns/mnt /proc/self/ns/pid | cmp - /seen"]
    container.create()
    assert not os.path.exists(f"{container.upper}/seen")
    container.start()
    container.wait("stopped")
    with open(f"{container.upper}/seen") as file:
        assert file.read() != "".join(os.readlink(f"/proc/self/ns/{kind}") + "\n" for kind in ("mnt", "pid"))


def test_create_runtime_can_reach_the_network_namespace(container: Container) -> None:
    """CreateRuntime: "called after the container namespaces are created": what CNI plugins do, by the state's pid."""
    container.spec["hooks"] = {
        "createRuntime": [
            hook(
                "pid=$(python3 -c \"import json, sys; print(json.load(sys.stdin)['pid'])\");"
                f" readlink /proc/$pid/ns/net > {container.bundle}/seen"
            )
        ]
    }
    container.create()
    with open(f"{container.bundle}/seen") as file:
        assert (
            file.read().strip()
            == os.readlink(f"/proc/{container.state()['pid']}/ns/net")
            != os.readlink("/proc/self/ns/net")
        )


# What they are given

STATUS = {
    "prestart": {"creating", "created"},
    "createRuntime": {"creating", "created"},
    "createContainer": {"creating", "created"},
    "startContainer": {"created"},
    "poststart": {"running"},
    "poststop": {"stopped"},
}


@pytest.mark.parametrize(
    "name",
    [
        *CREATE,
        pytest.param("startContainer", marks=pytest.mark.differs(crun="says that the bundle is /")),
        pytest.param("poststart", marks=pytest.mark.differs(runc="calls poststart in create")),
        "poststop",
    ],
)
def test_the_state_over_stdin(container: Container, name: str) -> None:
    """Hooks: "The state of the container MUST be passed to hooks over stdin"."""
    path = "/state" if name == "startContainer" else f"{container.upper}/state"
    container.spec["hooks"] = {name: [hook(f"cat > {path}")]}
    container.spec["annotations"] = {"com.example.key": "value"}
    container.process["args"] = ["sleep", "60"]
    container.create()
    pid = container.state()["pid"]
    container.start()
    container.stopped()
    container.must("delete")
    with open(f"{container.upper}/state") as file:
        state = json.load(file)
    assert (state["id"], state["bundle"]) == (container.id, container.bundle)
    assert state["status"] in STATUS[name]
    assert state["annotations"]["com.example.key"] == "value"
    assert "ociVersion" in state
    if name in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == pid


def test_args(container: Container) -> None:
    """Hooks: "`args` (array of strings, OPTIONAL) with the same semantics as … execv's argv"."""
    script = f'echo "$0" "$@" > {container.bundle}/seen'
    container.spec["hooks"] = {"createRuntime": [hook(script, "zero", "one", "two words")]}
    container.create()
    with open(f"{container.bundle}/seen") as file:
        assert file.read() == "zero one two words\n"


def test_without_args(container: Container) -> None:
    """argv[0], at least, there is."""
    path = f"{container.bundle}/program"
    with open(path, "w") as file:
        os.fchmod(file.fileno(), 0o755)
        file.write(f"#!/bin/sh\ncat > /dev/null; echo $# > {container.bundle}/seen\n")
    container.spec["hooks"] = {"createRuntime": [{"path": path}]}
    container.create()
    with open(f"{container.bundle}/seen") as file:
        assert file.read() == "0\n"


def test_env(container: Container) -> None:
    """Hooks: "`env` (array of strings, OPTIONAL) with the same semantics as … environ": these alone."""
    script = f"tr '\\0' '\\n' < /proc/$$/environ | sort > {container.bundle}/seen"
    container.spec["hooks"] = {"createRuntime": [hook(script, env=["PATH=/usr/bin:/bin", "ONE=1"])]}
    container.create()
    with open(f"{container.bundle}/seen") as file:
        assert file.read().split() == ["ONE=1", "PATH=/usr/bin:/bin"]


def test_the_working_directory(container: Container) -> None:
    """runc's hooks run in the bundle; "bundle" in the state says the same."""
    container.spec["hooks"] = {"createRuntime": [hook(f"pwd > {container.bundle}/seen")]}
    container.create()
    with open(f"{container.bundle}/seen") as file:
        assert os.path.isdir(file.read().strip())


# Failure


@pytest.mark.parametrize("name", CREATE)
def test_a_failing_hook_of_create(container: Container, name: str) -> None:
    """Lifecycle: "If any … hook fails, the runtime MUST generate an error, stop the container, and continue … at step 12"."""
    container.spec["hooks"] = {name: [hook("echo reason >&2; exit 3"), log(container, "second")]}
    container.refused()
    assert logged(container) == []


@pytest.mark.differs(runc="start has returned by then", crun="start has returned by then")
def test_a_failing_start_container(container: Container) -> None:
    """Lifecycle, step 7: the same of startContainer: "MUST generate an error, stop the container"."""
    container.spec["hooks"] = {"startContainer": [hook("exit 3"), log(container, "startContainer")]}
    container.process["args"] = ["sh", "-c", "echo program >> /log"]
    container.create()
    assert container.attempt("start").code != 0
    assert logged(container) == []
    assert not container.exists() or container.state()["status"] == "stopped"


@pytest.mark.differs(runc="calls poststart in create")
def test_a_failing_poststart(container: Container) -> None:
    """Lifecycle, step 9: a warning up to 1.2.0, an error since: either way it has run, and the program too."""
    container.spec["hooks"] = {"poststart": [hook(f"echo ran > {container.bundle}/ran; exit 3")]}
    container.process["args"] = ["sh", "-c", "echo program >> /log; exec sleep 60"]
    container.create()
    container.attempt("start")
    assert os.path.exists(f"{container.bundle}/ran")
    until(lambda: logged(container) == ["program"])


@pytest.mark.differs(runc="calls no more hooks")
def test_a_failing_poststop(container: Container) -> None:
    """Lifecycle, step 13: "the runtime MUST log a warning, but the remaining hooks and lifecycle continue"."""
    container.spec["hooks"] = {"poststop": [hook("exit 3"), log(container, "second")]}
    container.started().stopped()
    container.must("delete")
    assert logged(container) == ["second"]
    assert not container.exists()


@pytest.mark.parametrize("name", [*CREATE, "poststop"])
def test_a_time_out(container: Container, name: str) -> None:
    """Hooks: "`timeout` (int, OPTIONAL) is the number of seconds before aborting the hook"."""
    container.spec["hooks"] = {name: [hook("exec sleep 600", timeout=1)]}
    if name == "poststop":
        container.started().stopped()
        container.must("delete")
    else:
        container.refused()


@pytest.mark.parametrize("timeout", [pytest.param(0, marks=pytest.mark.differs(crun="takes it for none")), -1])
def test_a_time_out_is_positive(container: Container, timeout: int) -> None:
    """Hooks: "If set, `timeout` MUST be greater than zero"."""
    container.spec["hooks"] = {"createRuntime": [hook("true", timeout=timeout)]}
    container.refused()


@pytest.mark.parametrize("path", ["/no/such/hook", "/etc/passwd"])
def test_a_path_that_is_no_program(container: Container, path: str) -> None:
    container.spec["hooks"] = {"createRuntime": [{"path": path}]}
    container.refused()


@pytest.mark.differs(crun="searches for it")
def test_a_path_is_absolute(container: Container) -> None:
    """Hooks: "`path` MUST be absolute"."""
    container.spec["hooks"] = {"createRuntime": [{"path": "sh", "args": ["sh", "-c", "true"]}]}
    container.refused()


def test_a_hook_killed_by_a_signal(container: Container) -> None:
    container.spec["hooks"] = {"createRuntime": [hook("kill -9 $$")]}
    container.refused()


def test_the_first_of_args_is_the_name(container: Container) -> None:
    """Hooks: "`args` … with the same semantics as execv's argv": what is executed is `path`."""
    script = "import sys; sys.stdin.read(); open(sys.argv[1], 'wb').write(open('/proc/self/cmdline', 'rb').read())"
    path = f"{container.bundle}/seen"
    hooks = {"createRuntime": [{"path": os.path.realpath(sys.executable), "args": ["a name", "-c", script, path]}]}
    container.spec["hooks"] = hooks
    container.create()
    with open(path) as file:
        assert file.read().split("\0")[:2] == ["a name", "-c"]


@pytest.mark.parametrize("name", [*CREATE, "startContainer"])
def test_run_fails_where_a_hook_does(container: Container, name: str) -> None:
    """Lifecycle: an error that names the hook, the program does not run, and nothing is left."""
    container.spec["hooks"] = {name: [hook("true"), hook("exit 3")]}
    done = container.run("echo", "ran")
    assert done.code != 0 and "ran" not in done.out.split(), done
    assert not container.exists() and container.cgroups() == []


@pytest.mark.parametrize("name", EVERY)
def test_a_hook_has_three_descriptors(container: Container, name: str) -> None:
    """None of the runtime's, which are keys to the host."""
    path = "/seen" if name == "startContainer" else f"{container.upper}/seen"
    container.spec["hooks"] = {name: [hook(f"ls /proc/$$/fd > {path}")]}
    through(container)
    with open(f"{container.upper}/seen") as file:
        assert {*file.read().split()} <= {"0", "1", "2", "10", "255"}, name
