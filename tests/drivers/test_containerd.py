"""containerd's own client, and its runc shim with mini-runtime for its binary: what a Kubernetes node is made of."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import seen
from tests.drivers.conftest import PROGRAM
from tests.support import leaks
from tests.support.containerd import Containerd
from tests.support.requirements import CHECKOUT
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay", "ctr", "runc", "docker-registry")

BINARIES = {"runc": "runc", "mini": PROGRAM}
WAITS = "trap 'exit 7' TERM; touch /tmp/ready; while :; do sleep 0.05; done"


class Node:
    """containerd with an image, and what every container here is run with."""

    def __init__(self, containerd: Containerd, image: str) -> None:
        self.containerd = containerd
        self.image = image
        self.ctr = containerd.run

    def command(self, binary: str, name: str, *options: str) -> list[str]:
        runtime = ["--runc-binary", BINARIES[binary], "--runc-root", f"{self.containerd.root}/{binary}"]
        return ["run", *runtime, "--cgroup", f"{self.containerd.cgroup_parent}/{name}", *options, self.image, name]

    def once(self, binary: str, *command: str, options: tuple[str, ...] = ()) -> Result:
        return self.ctr(*self.command(binary, f"{binary}-once", "--rm", *options), *command, check=False)

    def up(self, binary: str) -> str:
        """A task that is ready."""
        self.ctr(*self.command(binary, binary, "-d"), "sh", "-c", WAITS)
        deadline = time.monotonic() + 60
        while self.exec(binary, "test", "-e", "/tmp/ready").code:
            assert time.monotonic() < deadline
        return binary

    def exec(self, name: str, *command: str, options: tuple[str, ...] = ()) -> Result:
        return self.ctr("task", "exec", "--exec-id", f"x{time.monotonic_ns()}", *options, name, *command, check=False)

    def status(self, name: str) -> str:
        (line,) = (line for line in self.ctr("task", "list").lines if line.split()[0] == name)
        return line.split()[2]

    def wait(self, name: str, status: str) -> None:
        deadline = time.monotonic() + 60
        while self.status(name) != status:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def node(containerd: Containerd, image: str) -> Iterator[Node]:
    """Nothing runs; and afterwards the runtime has left nothing."""
    yield Node(containerd, image)
    containerd.remove_containers()
    assert leaks.cgroups(containerd.cgroup_parent) == []
    assert [path for path, _, files in os.walk(f"{containerd.root}/mini") if "state.json" in files] == []


def test_what_a_container_sees(node: Node) -> None:
    for options in ((), ("--read-only", "--env", "A=1"), ("--privileged",), ("--seccomp", "--cap-drop", "CAP_CHOWN")):
        runc, mini = (node.once(name, *seen.COMMAND, options=options) for name in BINARIES)
        if "unable to apply caps" in runc.stderr:  # more than this host has; OCI says that it should not fail
            assert seen.sections(mini.stdout)
            continue
        own = [text.replace(f"{name}-once", "<name>") for name, text in (("runc", runc.stdout), ("mini", mini.stdout))]
        assert seen.difference(*own) == "", options


def test_streams_and_exit_codes(node: Node) -> None:
    for name in BINARIES:
        result = node.once(name, "sh", "-c", "echo out; echo err >&2; exit 3")
        assert (result.code, result.stdout, result.stderr) == (3, "out\n", "err\n")
        result = node.once(name, "no-such-program")
        assert result.code == 1
        assert 'exec: "no-such-program": executable file not found in $PATH' in result.stderr


def test_a_terminal(node: Node) -> None:
    script = "stty -echo; tty; echo ready; cat; exit 3"
    with node.containerd.terminal(*node.command("mini", "it", "--rm", "-t"), "sh", "-c", script) as terminal:
        assert "/dev/pts/0" in terminal.expect("ready")
        terminal.await_raw()
        terminal.write("word\n")
        terminal.expect("word")
        terminal.write("\x04")
        assert terminal.wait() == 3


def test_exec(node: Node) -> None:
    name = node.up("mini")
    result = node.exec(
        name, "sh", "-c", "pwd; id -u; echo err >&2; exit 4", options=("--cwd", "/usr", "--user", "1000")
    )
    assert (result.code, result.lines, result.stderr) == (4, ["/usr", "1000"], "err\n")
    assert "executable file not found in $PATH" in node.exec(name, "no-such-program").stderr
    command = ["task", "exec", "-t", "--exec-id", "it", name, "sh", "-c", "stty -echo; tty; cat; exit 5"]
    with node.containerd.terminal(*command) as terminal:
        terminal.expect("/dev/pts/0")
        terminal.await_raw()
        terminal.write("\x04")
        assert terminal.wait() == 5


def test_a_life(node: Node) -> None:
    name = node.up("mini")
    assert node.status(name) == "RUNNING"
    assert len(node.ctr("task", "ps", name).lines) >= 2
    node.ctr("task", "pause", name)
    assert node.status(name) == "PAUSED"
    node.ctr("task", "resume", name)
    assert node.status(name) == "RUNNING"
    node.ctr("task", "kill", name)
    node.wait(name, "STOPPED")
    deleted = node.ctr("task", "delete", name, check=False)
    assert "exit code 7" in deleted.stderr
    node.ctr("containers", "rm", name)
    node.up("mini")
    node.ctr("task", "kill", "--all", "--signal", "KILL", name)
    node.wait(name, "STOPPED")
    assert "exit code 137" in node.ctr("task", "delete", name, check=False).stderr


def test_metrics(node: Node) -> None:
    """The shim reads them, from the cgroups that the runtime has put the process into."""
    node.ctr(*node.command("mini", "mini", "-d", "--memory-limit", str(64 << 20)), "sleep", "600")
    metrics: Any = node.ctr("task", "metrics", "--format", "json", "mini").json()
    assert metrics["pids"]["current"] == 1
    usage = metrics["memory"]["usage"]
    limit, used = (
        (usage["limit"], usage["usage"]) if isinstance(usage, dict) else (metrics["memory"]["usage_limit"], usage)
    )
    assert limit == 64 << 20 and 0 < used < limit


def test_namespaces_of_a_pod(node: Node) -> None:
    """As Kubernetes does: one container has the namespaces, the others join them by path."""
    name = node.up("mini")
    pid = next(line.split()[1] for line in node.ctr("task", "list").lines if line.startswith(name))
    kinds = ("network", "ipc", "uts")
    options = [word for kind in kinds for word in ("--with-ns", f"{kind}:/proc/{pid}/ns/{kind[:3]}")]
    links = "cd /proc/self/ns; readlink net ipc uts pid"
    result = node.once("mini", "sh", "-c", links, options=tuple(options))
    assert result.code == 0, result
    joined = result.lines
    result = node.exec(name, "sh", "-c", links)
    first = result.lines
    assert first, result
    assert joined[:3] == first[:3] and joined[3] != first[3]


def test_a_checkpoint_is_refused(node: Node) -> None:
    name = node.up("mini")
    result = node.ctr("task", "checkpoint", name, check=False)
    assert result.code == 1 and "checkpoint" in result.stderr
    assert node.status(name) == "RUNNING"


def test_the_configuration_that_the_docs_show() -> None:
    """docs/kubernetes.md: containerd starts with it, and so does its part for Kubernetes."""
    page = Path(CHECKOUT, "docs/kubernetes.md").read_text()
    (config,) = re.findall(r"```toml\nversion = 2\n(.*?)```", page, re.DOTALL)
    containerd = Containerd(config)
    try:
        plugins = [line.split() for line in containerd.run("plugins", "list").lines]
        config = containerd.configuration()
    finally:
        containerd.close()
    assert [plugin[-1] for plugin in plugins if plugin[1] == "cri"] == ["ok"]
    section = config.partition('[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mini]\n')[2]
    assert 'runtime_type = "io.containerd.runc.v2"' in section.partition("\n\n")[0]
    assert 'BinaryName = "/usr/local/bin/mini-runtime"' in section
