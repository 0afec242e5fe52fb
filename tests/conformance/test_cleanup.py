"""runtime.md, "Errors": "generating an error MUST leave the state of the environment as if the operation were never attempted"."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.test_hooks import hook
from tests.support.conformance import Container, Containers, Runtime, is_alive, processes, until


def _seen(container: Container) -> dict[str, Any]:
    """What a container may leave on the host."""
    root = container.runtime.root
    return {
        "mounts": container.mounts(),
        "cgroups": container.cgroups(),
        "state": sorted(os.listdir(root)) if os.path.isdir(root) else [],
        "processes": _processes(container),
    }


def _processes(container: Container) -> list[str]:
    """Those whose command line or root has to do with it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                line = file.read()
            root = os.readlink(f"/proc/{pid}/root")
        except OSError:
            continue
        if container.id in line or root.startswith(container.bundle):
            found.append(line)
    return found


BROKEN: dict[str, Callable[[Container], Any]] = {
    "a mount": lambda it: it.mount("/mnt", "bind", "/no/such/source", "rbind"),
    "a mount's type": lambda it: it.mount("/mnt", "nonsense", "nonsense"),
    "a hook": lambda it: it.spec.update(hooks={"createRuntime": [hook("exit 1")]}),
    "a hook inside": lambda it: it.spec.update(hooks={"createContainer": [hook("exit 1")]}),
    "a namespace": lambda it: it.namespace("ipc", "/etc/passwd"),
    "a sysctl": lambda it: it.linux.update(sysctl={"net.ipv4.nonsense": "1"}),
    "a limit": lambda it: it.linux.update(resources={"cpu": {"period": 1}}),
    "a device": lambda it: it.linux.update(devices=[{"path": "/dev/x", "type": "nonsense", "major": 1, "minor": 3}]),
    "seccomp": lambda it: it.linux.update(seccomp={"defaultAction": "nonsense"}),
    "an rlimit": lambda it: it.process.update(rlimits=[{"type": "nonsense", "soft": 1, "hard": 1}]),
    "the root": lambda it: it.spec.update(root={"path": "nowhere"}),
    "the terminal": lambda it: it.process.update(terminal=True),
    "the hostname": lambda it: it.spec.update(hostname="a" * 100),
}
CRUN_LEAVES = pytest.mark.differs(crun="leaves the cgroup")
CRUN_TAKES_IT = pytest.mark.differs(crun="takes it for a character device")


@pytest.mark.parametrize(
    "what",
    [pytest.param(name, marks={"a limit": CRUN_LEAVES, "a device": CRUN_TAKES_IT}.get(name, ())) for name in BROKEN],
)
def test_a_failed_create(container: Container, what: str) -> None:
    """No cgroup, mount, process, or state of its own is left."""
    before = _seen(container)
    BROKEN[what](container)
    assert container.attempt("create").code != 0
    assert _seen(container) == before


@pytest.mark.parametrize("what", ["no program", "no directory"])
def test_a_failed_run(container: Container, what: str) -> None:
    before = _seen(container)
    if what == "no program":
        container.process["args"] = ["/no/such/program"]
    else:
        container.process["cwd"] = "/etc/passwd"
    assert container.attempt("run").code != 0
    assert _seen(container) == before


@pytest.mark.parametrize("how", ["run", "delete", "delete --force"])
def test_a_life_that_was_good(container: Container, how: str) -> None:
    """Delete: "MUST delete the resources that were created during the `create` step"."""
    before = _seen(container)
    if how == "run":
        container.run("true")
    else:
        container.started()
        if how == "delete":
            container.stopped()
        container.must(*how.split())
        until(lambda: not _processes(container))
    assert _seen(container) == before


def test_the_id_is_free_after_a_failure(container: Container) -> None:
    container.mount("/mnt", "nonsense", "nonsense")
    assert container.attempt("create").code != 0
    container.spec["mounts"].pop()
    assert container.run("true").code == 0


def test_a_failure_spares_the_others(containers: Containers) -> None:
    good, bad = containers().started(), containers()
    bad.mount("/mnt", "nonsense", "nonsense")
    assert bad.attempt("create").code != 0
    assert good.state()["status"] == "running"
    assert processes(good.cgroup("pids"))


def test_init_dies_with_all_its_children(container: Container) -> None:
    """pid_namespaces(7): the end of init is that of the container."""
    container.started("sh", "-c", "sleep 61 & sleep 62 & wait")
    until(lambda: len(processes(container.cgroup("pids"))) == 3)
    pids = processes(container.cgroup("pids"))
    container.kill("KILL")
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_kill_all(container: Container) -> None:
    """runc(8): `kill --all` signals every process: without a PID namespace the only way to reach them."""
    container.without_namespace("pid")
    container.started("sh", "-c", "sleep 61 & sleep 62 & wait")
    until(lambda: len(processes(container.cgroup("pids"))) == 3)
    pids = processes(container.cgroup("pids"))
    assert container.runtime.call("kill", "--all", container.id, "KILL").code == 0
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_kill_all_after_init_has_ended(container: Container) -> None:
    """What containerd does when init has ended and others may be left."""
    container.without_namespace("pid")
    container.started("sh", "-c", "sleep 61 & exec sleep 62")
    until(lambda: len(processes(container.cgroup("pids"))) == 2)
    pids = processes(container.cgroup("pids"))
    container.stopped()
    container.runtime.call("kill", "--all", container.id, "KILL")
    container.must("delete", "--force")
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_state_directories_are_apart(container: Container, runtime: Runtime) -> None:
    """--root: a container is known where it was made alone."""
    container.create()
    done = runtime.call("--root", f"{runtime.directory}/elsewhere", "state", container.id)
    assert done.code != 0
    assert container.state()["status"] == "created"
