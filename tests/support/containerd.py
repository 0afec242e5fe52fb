"""A containerd of the test session's own: Debian's, started by hand, with everything of it set apart. `ctr` is its client."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from typing import Any

from tests.support import leaks
from tests.support.runner import Result, run_command
from tests.support.terminal import Terminal

CONFIG = """\
version = 2
root = "{root}/root"
state = "{root}/state"

[grpc]
address = "{root}/socket"

[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
"""


class Containerd:
    """Runs until `close`, in a mount namespace of its own, so that whatever it leaves mounted goes with it."""

    def __init__(self, more: str = "") -> None:
        """`more` of its configuration."""
        self.root = tempfile.mkdtemp(prefix="mc", dir="/tmp")
        self.cgroup_parent = f"/mini-test-ctr-{secrets.token_hex(3)}"
        self.socket = f"{self.root}/socket"
        self.environ = {**os.environ, "CONTAINERD_ADDRESS": self.socket}
        self._command = ["containerd", "--config", f"{self.root}/config.toml"]
        with open(self._command[-1], "w") as file:
            file.write(CONFIG.format(root=self.root) + more)
        self._log = open(f"{self.root}/log", "wb")
        self._daemon = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", *self._command],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def run(self, *args: str, **options: Any) -> Result:
        """`ctr ARGS…`, with the options of `Mini.run`."""
        return run_command(["ctr", *args], self.environ, **options)

    def configuration(self) -> str:
        """As containerd has read it."""
        return run_command([*self._command, "config", "dump"], self.environ).out

    def terminal(self, *args: str) -> Terminal:
        return Terminal(["ctr", *args], {**self.environ, "TERM": "xterm"})

    def remove_containers(self) -> None:
        """A shim lives as long as its task, and longer than containerd."""
        for namespace in self.run("namespaces", "list", "-q").lines:
            for name in self.run("-n", namespace, "containers", "list", "-q").lines:
                self.run("-n", namespace, "task", "delete", "--force", name, check=False)
                self.run("-n", namespace, "containers", "rm", name)

    def close(self) -> None:
        """Idempotent."""
        if self._daemon.poll() is None:
            try:
                self.remove_containers()
            finally:
                self._daemon.terminate()
                self._daemon.wait()
        self._log.close()
        leaks.remove_cgroups(self.cgroup_parent)
        shutil.rmtree(self.root, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while self.run("version", check=False).code != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                with open(f"{self.root}/log", errors="replace") as log:
                    raise RuntimeError(f"containerd does not answer:\n{log.read()[-3000:]}")
            time.sleep(0.05)
