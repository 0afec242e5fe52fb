"""Podman with a store of the test's own: what it needs to pull, push and inspect; it runs no container here."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import Any

from tests.support.runner import Result, run_command

# Accepts any image: where no containers-common is installed, there is no policy, and nothing would be accepted.
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


class Podman:
    """Everything of it is in one directory, until `close`. The driver vfs mounts nothing."""

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

    def run(self, *args: str, **options: Any) -> Result:
        """`podman ARGS…`, with the options of `Mini.run`."""
        places = ["--root", f"{self.root}/storage", "--runroot", f"{self.root}/run", "--storage-driver", "vfs"]
        return run_command(["podman", *places, *args], self.environ, **options)

    def pull(self, name: str) -> str:
        """The image's ID."""
        return self.run("pull", "-q", "--tls-verify=false", "--signature-policy", self.policy, name).out

    def push(self, source: str, target: str, *options: str) -> None:
        places = ["--tls-verify=false", "--signature-policy", self.policy]
        self.run("push", "-q", *places, *options, source, f"docker://{target}")

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
