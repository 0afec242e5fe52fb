"""`./mini` as a subprocess, with all that has a name on the host set apart: data root, bridge, subnet, cgroups."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import leaks
from tests.support.requirements import CHECKOUT
from tests.support.terminal import Terminal

PROGRAM = os.path.join(CHECKOUT, "mini")
_subnets = itertools.count(1)


class Failed(AssertionError):
    """A command that should have succeeded has not; the message shows all that it said."""


class Result:
    """What a command said and how it ended. `out` is stdout without its last line feed, `lines` its lines."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.args: list[str] = done.args
        self.code = done.returncode
        self.stdout, self.stderr = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        self.out = self.stdout.removesuffix("\n")
        self.lines = self.out.split("\n") if self.stdout else []

    def json(self) -> Any:
        return json.loads(self.stdout)

    def __repr__(self) -> str:
        command = " ".join([os.path.basename(self.args[0]), *self.args[1:]])
        return f"{command}: exit code {self.code}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}"


def run_command(
    command: list[str],
    environ: dict[str, str],
    input: str | bytes | None = None,
    timeout: float = 60,
    check: bool = True,
    cwd: str | None = None,
) -> Result:
    """The command's result; its stdin is empty where there is no `input`."""
    data = input.encode("utf-8", "surrogateescape") if isinstance(input, str) else input
    source: Any = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    result = Result(subprocess.run(command, env=environ, cwd=cwd, timeout=timeout, capture_output=True, **source))
    if check and result.code != 0:
        raise Failed(repr(result))
    return result


class Mini:
    """One data root and what belongs to it. `close` removes all of it, and asserts that nothing is left."""

    def __init__(self, environ: dict[str, str] | None = None, root: str | None = None) -> None:
        token = secrets.token_hex(3)
        # Short: a unix socket's path, which a container has below the root, ends at 108 bytes (unix(7)).
        self.root = root or tempfile.mkdtemp(prefix="m", dir="/tmp")
        self.bridge = f"mt{token}"
        self.subnet = f"10.213.{next(_subnets) % 256}.0/24"
        self.cgroup_parent = f"/mini-test-{token}"
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("MINI_", "DOCKER_"))},
            "MINI_ROOT": self.root,
            "MINI_BRIDGE": self.bridge,
            "MINI_SUBNET": self.subnet,
            "MINI_CGROUP_PARENT": self.cgroup_parent,
            **(environ or {}),
        }

    def run(
        self,
        *args: str,
        input: str | bytes | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 60,
        check: bool = True,
        cwd: str | None = None,
    ) -> Result:
        """Raises Failed on another exit code than 0 if `check`, subprocess.TimeoutExpired after `timeout` seconds."""
        return run_command([PROGRAM, *args], {**self.environ, **(env or {})}, input, timeout, check, cwd)

    def start(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """The command running, its stdin, stdout and stderr as pipes of text."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([PROGRAM, *args], env=self.environ, text=True, **{**pipes, **options})

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
        """The command running on a terminal of its own."""
        return Terminal([PROGRAM, *args], {**self.environ, "TERM": "xterm"}, rows, columns)

    def detached(self, *args: str) -> str:
        """`run -d` with these arguments; the container's full ID."""
        return self.run("run", "-d", *args).out

    def inspect(self, name: str) -> Any:
        """The one object that `mini inspect NAME` describes."""
        (found,) = self.run("inspect", name).json()
        return found

    def monitor(self, name: str) -> int:
        """The process that carries a running container."""
        with open(f"/proc/{self.inspect(name)['State']['Pid']}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("PPid:"))

    def address(self, container: str) -> str:
        """Its IPv4 address on the bridge."""
        address: str = self.inspect(container)["NetworkSettings"]["IPAddress"]
        return address

    def failures(self) -> str:
        """What the monitors of its containers have noted of errors that they did not expect."""
        return "".join(path.read_text() for path in Path(self.root).glob("containers/*/monitor.log"))

    def cgroup_path(self, controller: str, container_id: str) -> str:
        """The container's directory in the hierarchy that has the controller: the one with its ID below the parent."""
        for hierarchy in leaks.hierarchies():
            if controller not in hierarchy.controllers:
                continue
            for path in leaks.directories(hierarchy.path + self.cgroup_parent):
                if container_id in os.path.basename(path):
                    return path
        raise AssertionError(f"no cgroup of {container_id} with the controller {controller}")

    def cgroup_file(self, container_id: str, controller: str, v1: str, v2: str) -> str:
        """What a file of the container's cgroup says; its name is another one in each version."""
        path = self.cgroup_path(controller, container_id)
        version = next(tree.version for tree in leaks.hierarchies() if path.startswith(f"{tree.path}/"))
        with open(os.path.join(path, v1 if version == 1 else v2)) as file:
            return file.read().strip()

    # what is left

    def remove_containers(self) -> None:
        containers = self.run("ps", "-aq", "--no-trunc").lines
        if containers:
            self.run("rm", "-f", "-v", *containers)

    def remove_volumes(self) -> None:
        volumes = self.run("volume", "ls", "-q").lines
        if volumes:
            self.run("volume", "rm", *volumes)

    def remove_networks(self) -> None:
        networks = self.run("network", "ls", "-q", "--no-trunc", "--filter", "type=custom").lines
        if networks:
            self.run("network", "rm", *networks)

    def remove_images(self) -> None:
        images = sorted(set(self.run("images", "-aq", "--no-trunc").lines))
        if images:
            self.run("rmi", "-f", *images)

    def assert_nothing_left(self, images_too: bool = False) -> None:
        """No container: so no process, cgroup, link but the bridge, or mount but (unless `images_too`) those of images.

        Waits up to a minute, since a monitor ends after the client that it answered.
        """
        deadline = time.monotonic() + 60
        while left := leaks.find(self, images_too):
            if time.monotonic() > deadline:
                raise AssertionError("left on the host:\n  " + "\n  ".join(left))
            time.sleep(0.05)

    def close(self) -> None:
        try:
            self.remove_containers()
            self.remove_volumes()
            self.remove_networks()
            self.remove_images()
            self.assert_nothing_left(images_too=True)
        finally:
            leaks.sweep(self)
            shutil.rmtree(self.root, ignore_errors=True)
