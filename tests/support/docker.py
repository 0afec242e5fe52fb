"""A Docker engine of the test session's own: Debian's dockerd, started by hand, with everything of its set apart."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any

from tests.support import leaks, requirements
from tests.support.runner import Result, run_command
from tests.support.terminal import Terminal

SUBNET_GATEWAY = "10.214.0.1/24"


class Docker:
    """Runs until `close`, in this network namespace (which must be private: it brings bridge and iptables rules)."""

    def __init__(self, *options: str) -> None:
        """`options` are the daemon's."""
        assert requirements.missing("netns") is None, requirements.missing("netns")
        self.root = tempfile.mkdtemp(prefix="md", dir="/tmp")
        self.cgroup_parent = f"/mini-test-docker-{secrets.token_hex(3)}"
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")},
            "DOCKER_HOST": f"unix://{self.root}/docker.sock",
            "DOCKER_CONFIG": f"{self.root}/config",
        }
        self._log = open(f"{self.root}/log", "wb")
        # A mount namespace of its own, so that whatever it leaves mounted goes with it.
        self._daemon = subprocess.Popen(
            [
                "unshare", "--mount", "--propagation", "private", "dockerd",
                "--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec", "--pidfile", f"{self.root}/pid",
                "--host", self.environ["DOCKER_HOST"], "--bip", SUBNET_GATEWAY, "--cgroup-parent", self.cgroup_parent,
                *options,
            ],
            env=self.environ, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """dockerd's: in its mount namespace is what it mounts."""
        return self._daemon.pid

    def run(self, *args: str, **options: Any) -> Result:
        """`docker ARGS…`, with the options of `Mini.run`."""
        environ = {**self.environ, **(options.pop("env", None) or {})}
        return run_command(["docker", *args], environ, **options)

    def stats(self, *args: str) -> list[str]:
        """The lines of `docker stats --no-stream ARGS…`: asked again where figures came after two seconds, and it shows `--`."""
        for _ in range(20):
            lines = self.run("stats", "--no-stream", *args).lines
            if not any("--" in line for line in lines):
                return lines
        raise AssertionError(f"no figures: {lines}")

    def start(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """The command running, its stdin, stdout and stderr as pipes of text."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(["docker", *args], env=self.environ, text=True, **{**pipes, **options})

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
        """The command running on a terminal of its own."""
        return Terminal(["docker", *args], {**self.environ, "TERM": "xterm"}, rows, columns)

    def remove_containers(self) -> None:
        containers = self.run("ps", "-aq").lines
        if containers:
            self.run("rm", "-f", "-v", *containers)

    def remove_volumes(self) -> None:
        volumes = self.run("volume", "ls", "-q").lines
        if volumes:
            self.run("volume", "rm", *volumes)

    def remove_networks(self) -> None:
        networks = self.run("network", "ls", "-q", "--filter", "type=custom").lines
        if networks:
            self.run("network", "rm", *networks)

    def close(self) -> None:
        """Idempotent. SIGTERM makes dockerd stop its containers and its containerd."""
        if self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGTERM)
            try:
                self._daemon.wait(30)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        self._log.close()
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True)
        # It leaves its rules behind, and that nothing is forwarded which they do not know.
        subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], capture_output=True)
        for table in ("filter", "nat"):
            for action in ("-F", "-X"):
                subprocess.run(["iptables", "-t", table, action], capture_output=True)
        leaks.remove_cgroups(self.cgroup_parent)
        shutil.rmtree(self.root, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while self.run("version", check=False).code != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                with open(f"{self.root}/log", errors="replace") as log:
                    raise RuntimeError(f"dockerd does not answer:\n{log.read()[-3000:]}")
            time.sleep(0.1)
