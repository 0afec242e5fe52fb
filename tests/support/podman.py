"""Podman with a store of the test's own: one that pulls, pushes and inspects, and one that runs containers."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from typing import Any

from engine import linux
from tests.support import leaks
from tests.support.runner import Result, run_command
from tests.support.terminal import Terminal

# Accepts any image: where no containers-common is installed, there is no policy, and nothing would be accepted.
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


class Podman:
    """Everything of it is in one directory, until `close`. The driver vfs mounts nothing; it runs no container."""

    DRIVER = "vfs"

    def __init__(self) -> None:
        self.root = tempfile.mkdtemp(prefix="mp", dir="/tmp")
        self.policy = f"{self.root}/policy.json"
        with open(self.policy, "w") as file:
            json.dump(_POLICY, file)
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CONTAINERS_", "CONTAINER_"))},
            "REGISTRY_AUTH_FILE": f"{self.root}/auth.json",
            "TMPDIR": self.root,
        }
        with open(f"{self.root}/auth.json", "w") as file:
            file.write("{}")

    def run(self, *args: str, env: dict[str, str] | None = None, **options: Any) -> Result:
        """`podman ARGS…`, with the options of `Mini.run`."""
        return run_command(self.command(*args), {**self.environ, **(env or {})}, **options)

    def command(self, *args: str) -> list[str]:
        places = ["--root", f"{self.root}/storage", "--runroot", f"{self.root}/run", "--storage-driver", self.DRIVER]
        return ["podman", *places, *args]

    def pull(self, name: str) -> str:
        """The image's ID."""
        return self.run("pull", "-q", "--tls-verify=false", "--signature-policy", self.policy, name).out

    def push(self, source: str, target: str, *options: str) -> None:
        places = ["--tls-verify=false", "--signature-policy", self.policy]
        self.run("push", "-q", *places, *options, source, f"docker://{target}")

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


class RunningPodman(Podman):
    """One that runs containers, by the OCI runtime that is named: locks, cgroups and mounts are the test's own, too."""

    DRIVER = "overlay"

    def __init__(self, runtime: str, program: str) -> None:
        super().__init__()
        self.runtime = runtime
        self.cgroup_parent = f"/mini-test-podman-{secrets.token_hex(3)}"
        config = f"{self.root}/containers.conf"
        # What Podman asks for by default may be more than root without CAP_SYS_RESOURCE may have.
        limits = '"nofile=1024:4096", "nproc=4096:4096"'
        # not --runtime-flag: the command that cleans up after a container is not given it
        wrapper = f"{self.root}/{runtime}"
        with open(wrapper, "w") as file:
            file.write(f'#!/bin/sh\nexec {program} --root {self.root}/state "$@"\n')
        os.chmod(wrapper, 0o755)
        with open(config, "w") as file:
            file.write(
                f'[containers]\ndefault_ulimits = [{limits}]\ninit_path = "{shutil.which("tini")}"\n'
                f'[engine]\nlock_type = "file"\nevents_logger = "file"\ncgroup_manager = "cgroupfs"\n'
                f'runtime_supports_json = ["{runtime}"]\n[engine.runtimes]\n{runtime} = ["{wrapper}"]\n'
            )
        self.environ["CONTAINERS_CONF"] = config

    def command(self, *args: str) -> list[str]:
        places = ["--tmpdir", f"{self.root}/tmp", "--volumepath", f"{self.root}/volumes"]
        return super().command(*places, "--runtime", self.runtime, *args)

    def terminal(self, *args: str) -> Terminal:
        return Terminal(self.command(*args), {**self.environ, "TERM": "xterm"})

    def close(self) -> None:
        """Idempotent."""
        for what in ("pod", "container"):
            self.run(what, "rm", "--all", "--force", "--time", "0", check=False)
        for target in leaks.mounts_below(self.root):
            linux.umount2(target, linux.MNT_DETACH)
        leaks.remove_cgroups(self.cgroup_parent)
        super().close()
