"""runtime.md, "Lifecycle" and "Operations": create, start, kill, delete, and what is not allowed when."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.support.conformance import Container, Containers, Runtime, catches, is_alive, until

# Without an ID, or with one that is not there


@pytest.mark.parametrize("operation", ["state", "create", "start", "kill", "delete", "exec", "pause", "resume", "ps"])
def test_an_operation_wants_an_id(runtime: Runtime, operation: str) -> None:
    """Operations: "This operation MUST generate an error if it is not provided the container ID"."""
    assert runtime.call(operation).code != 0


@pytest.mark.parametrize("operation", ["state", "start", "kill", "delete", "pause", "resume", "ps"])
def test_an_operation_wants_a_container(runtime: Runtime, operation: str) -> None:
    """Operations: "Attempting to … a container that does not exist MUST generate an error"."""
    done = runtime.call(operation, "no-such-container")
    assert done.code != 0
    assert done.err.strip()


def test_delete_force_of_nothing_is_no_error(runtime: Runtime) -> None:
    """What runc's callers rely on to clean up: `delete --force` is idempotent."""
    assert runtime.call("delete", "--force", "no-such-container").code == 0


# create


def test_create_does_not_run_the_program(container: Container) -> None:
    """Create: "`process.args` MUST NOT be applied until triggered by the `start` operation"."""
    container.process["args"] = ["touch", "/ran"]
    container.create()
    assert container.state()["status"] == "created"
    assert not os.path.exists(f"{container.upper}/ran")


def test_create_wants_a_bundle(runtime: Runtime) -> None:
    """Create: "MUST generate an error if it is not provided a path to the bundle"."""
    assert runtime.call("create", "--bundle", f"{runtime.directory}/nowhere", "id").code != 0
    assert runtime.call("state", "id").code != 0


def test_create_wants_a_configuration(container: Container) -> None:
    """bundle.md: "This REQUIRED file MUST reside in the root of the bundle directory and MUST be named config.json"."""
    done = container.runtime.call("create", "--bundle", container.bundle, container.id)
    assert done.code != 0
    assert not container.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ociVersion": 1}', "\0"])
def test_create_wants_a_configuration_that_is_one(container: Container, content: str) -> None:
    """Create: "If the runtime cannot apply a property … it MUST generate an error"."""
    with open(f"{container.bundle}/config.json", "w") as file:
        file.write(content)
    assert container.runtime.call("create", "--bundle", container.bundle, container.id).code != 0
    assert not container.exists()


def test_an_id_is_unique(containers: Containers) -> None:
    """Create: "If the ID provided is not unique … MUST generate an error and a new container MUST NOT be created"."""
    first, second = containers(), containers()
    first.create()
    before = first.state()
    second.save()
    assert second.runtime.call("create", "--bundle", second.bundle, first.id).code != 0
    assert first.state() == before


def test_an_id_is_unique_among_the_stopped(container: Container) -> None:
    """The same of a container that has stopped and is not deleted."""
    container.started().stopped()
    assert container.attempt("create").code != 0
    assert container.state()["status"] == "stopped"


ANY_NAME = pytest.mark.differs(crun="any name does that has no slash")


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", ".", pytest.param("a b", marks=ANY_NAME), pytest.param("a\nb", marks=ANY_NAME)]
)
def test_an_id_must_be_valid(container: Container, name: str) -> None:
    """Create: "or is not valid in any other way, the implementation MUST generate an error"."""
    container.id = name
    assert container.attempt("create").code != 0


def test_an_id_is_free_after_delete(container: Container) -> None:
    """Delete: "Once a container is deleted its ID MAY be used by a subsequent container"."""
    container.started().stopped()
    container.must("delete")
    container.create()
    assert container.state()["status"] == "created"


def test_config_json_does_not_matter_after_create(container: Container) -> None:
    """Create: "Any changes made to the config.json file after this operation will not have an effect on the container"."""
    container.process["args"] = ["sh", "-c", "echo first > /which"]
    container.create()
    container.process["args"] = ["sh", "-c", "echo second > /which"]
    container.save()
    container.start()
    container.wait("stopped")
    with open(f"{container.upper}/which") as file:
        assert file.read() == "first\n"


def test_config_json_may_vanish_after_create(container: Container) -> None:
    """The same: what the runtime needs later, it has kept."""
    container.create()
    os.unlink(f"{container.bundle}/config.json")
    container.start()
    container.wait("stopped")
    container.must("delete")


# start


def test_start_runs_the_program(container: Container) -> None:
    """Start: "This operation MUST run the user-specified program as specified by `process`"."""
    container.process["args"] = ["sh", "-c", "echo here > /ran; exec sleep 60"]
    container.create()
    container.start()
    assert container.state()["status"] == "running"


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_start_is_for_created_ones(container: Container, status: str) -> None:
    """Start: "Attempting to start a container that is not `created` MUST have no effect … and MUST generate an error"."""
    container.started()
    if status == "stopped":
        container.stopped()
    before = container.state()
    done = container.attempt("start")
    assert done.code != 0 and done.err.strip()
    assert container.state() == before


def test_start_wants_a_process(container: Container) -> None:
    """Start: "This operation MUST generate an error if `process` was not set"; create may have said so already."""
    del container.spec["process"]
    if container.attempt("create").code == 0:
        assert container.attempt("start").code != 0


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_program_that_is_not_there(container: Container, command: str) -> None:
    """Start: an error, not a container that seems to run."""
    container.process["args"] = ["no-such-program"]
    done = container.attempt(command)
    if command == "create" and done.code == 0:
        done = container.attempt("start")
    assert done.code != 0
    assert "no-such-program" in done.err
    if command == "run":
        assert not container.exists()


def test_a_program_that_is_no_program(container: Container) -> None:
    """The same, of a file that cannot be executed."""
    container.process["args"] = ["/etc/passwd"]
    done = container.attempt("run")
    assert done.code != 0 and done.err.strip()


# kill


def test_kill_sends_the_signal(container: Container) -> None:
    """Kill: "This operation MUST send the specified signal to the process in the container"."""
    container.started("sh", "-c", "trap 'echo got > /got; exit' USR1; touch /ready; while :; do sleep 0.01; done")
    until(lambda: os.path.exists(f"{container.upper}/ready"))
    container.kill("USR1")
    container.wait("stopped")
    assert os.path.exists(f"{container.upper}/got")


@pytest.mark.parametrize("name", ["KILL", "SIGKILL", "9"])
def test_kill_knows_signals_by_name_and_number(container: Container, name: str) -> None:
    container.started()
    container.kill(name)
    container.wait("stopped")


def test_kill_sends_sigterm_unless_told_otherwise(container: Container) -> None:
    container.started("sh", "-c", "trap 'exit 0' TERM; touch /ready; while :; do sleep 0.01; done")
    until(lambda: os.path.exists(f"{container.upper}/ready"))
    container.must("kill")
    container.wait("stopped")


@pytest.mark.differs(crun="the name of a signal that is none is taken for signal 0")
def test_kill_knows_no_such_signal(container: Container) -> None:
    """Valid values: "Runtimes MUST generate an error when invalid or unsupported values are encountered"."""
    container.started()
    assert container.runtime.call("kill", container.id, "SIGNONSENSE").code != 0
    assert container.state()["status"] == "running"


def test_kill_a_created_container(container: Container) -> None:
    """Kill: it is an error for one "neither `created` nor `running`": a created one can be killed."""
    container.create()
    container.kill("KILL")
    container.wait("stopped")


def test_kill_is_not_for_stopped_ones(container: Container) -> None:
    """Kill: "neither `created` nor `running` MUST have no effect on the container and MUST generate an error"."""
    container.started().stopped()
    assert container.attempt("kill").code != 0
    assert container.state()["status"] == "stopped"


def test_a_signal_without_effect(container: Container) -> None:
    """Kill: the container decides: init ignores what it has no handler for (pid_namespaces(7))."""
    container.started("sleep", "60")
    container.kill("USR2")
    assert container.state()["status"] == "running"


# delete


def test_delete_ends_created_ones(container: Container) -> None:
    """The specification has it refused ("not `stopped` MUST have no effect"); runtimes kill it, as containerd's shim needs."""
    container.create()
    pid = container.state()["pid"]
    container.must("delete")
    assert not container.exists() and not is_alive(pid)


def test_delete_is_not_for_running_ones(container: Container) -> None:
    """Delete: "Attempting to delete a container that is not `stopped` MUST have no effect … and MUST generate an error"."""
    before = container.started().state()
    done = container.attempt("delete")
    assert done.code != 0 and done.err.strip()
    assert container.state() == before


def test_a_deleted_container_is_gone(container: Container) -> None:
    """Delete: "Deleting a container MUST delete the resources that were created during the `create` step"."""
    container.started().stopped()
    container.must("delete")
    assert not container.exists()
    assert container.attempt("delete").code != 0


@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_delete_force(container: Container, status: str) -> None:
    """runc's command line: --force deletes a container whatever its status, killing it."""
    container.create()
    pid = container.state()["pid"]
    if status != "created":
        container.start()
    if status == "stopped":
        container.wait("stopped")
    container.must("delete", "--force")
    assert not container.exists()
    until(lambda: not is_alive(pid))


def test_delete_keeps_what_it_did_not_make(container: Container) -> None:
    """Delete: "resources associated with the container, but not created by this container, MUST NOT be deleted"."""
    source = container.directory("source", "file")
    container.mount("/data", "bind", source, "rbind", "rw")
    container.started().stopped()
    container.must("delete")
    assert os.path.exists(f"{source}/file")
    assert os.path.isdir(container.rootfs)
    assert os.path.exists(f"{container.bundle}/config.json")


# run: create, start, wait, delete


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_run_ends_as_the_program_did(container: Container, code: int) -> None:
    assert container.run("sh", "-c", f"exit {code}").code == code
    assert not container.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_run_ends_as_the_program_was_ended(container: Container, number: int) -> None:
    """As a shell tells it: 128 + the number of the signal."""
    program = f"import os, signal; signal.signal({number}, 0) if {number} != 9 else 0"
    script = f"{program}; pid = os.fork(); pid or os.kill(os.getpid(), {number}); status = os.waitpid(pid, 0)[1]"
    done = container.run("/usr/bin/python3", "-c", f"{script}; os._exit(128 + os.WTERMSIG(status))")
    assert done.code == 128 + number


def test_run_detached(container: Container) -> None:
    container.process["args"] = ["sleep", "60"]
    container.must("run", "--detach")
    assert container.state()["status"] == "running"


def test_run_passes_signals_on(container: Container) -> None:
    """runc(8): signals that reach `run` reach the container's process."""
    container.process["args"] = ["sh", "-c", "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.01; done"]
    container.save()
    process = container.runtime.start("run", "--bundle", container.bundle, container.id)
    # crun does so when the program may run already
    until(lambda: os.path.exists(f"{container.upper}/ready") and catches(process.pid, signal.SIGTERM))
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 7


def test_run_carries_the_streams(container: Container) -> None:
    done = container.run("sh", "-c", "cat; echo err >&2", stdin="in\n")
    assert (done.out, done.err) == ("in\n", "err\n")


# --pid-file


def test_create_writes_a_pid_file(container: Container) -> None:
    """runc(8): --pid-file, which has the number alone."""
    path = f"{container.bundle}/pid"
    container.create("--pid-file", path)
    with open(path) as file:
        assert file.read() == str(container.state()["pid"])


def test_run_writes_a_pid_file(container: Container) -> None:
    path = f"{container.bundle}/pid"
    container.process["args"] = ["sleep", "60"]
    container.must("run", "--detach", "--pid-file", path)
    with open(path) as file:
        assert file.read() == str(container.state()["pid"])


def test_a_pid_file_that_cannot_be_written(container: Container) -> None:
    """Errors: "generating an error MUST leave the state of the environment as if the operation were never attempted"."""
    assert container.attempt("create", "--pid-file", "/proc/no/such/file").code != 0
    assert not container.exists()


# list


def test_list_has_the_container(container: Container) -> None:
    container.create()
    done = container.runtime.call("list", "--format", "json")
    found = {entry["id"]: entry for entry in json.loads(done.out)}[container.id]
    assert found["status"] == "created"
    assert found["bundle"] == container.bundle
    assert found["pid"] == container.state()["pid"]


def test_list_quiet(container: Container) -> None:
    container.create()
    assert container.id in container.runtime.call("list", "--quiet").out.split()


def test_list_as_a_table(container: Container) -> None:
    container.create()
    header, *lines = container.runtime.call("list").out.splitlines()
    # crun says NAME for ID
    assert header.split()[1:5] == ["PID", "STATUS", "BUNDLE", *header.split()[4:5]][:4]
    assert [line.split()[2] for line in lines if line.split()[0] == container.id] == ["created"]


def test_list_nothing(runtime: Runtime) -> None:
    os.makedirs(runtime.root, exist_ok=True)
    done = runtime.call("list", "--quiet")
    assert (done.code, done.out.strip()) == (0, "")
