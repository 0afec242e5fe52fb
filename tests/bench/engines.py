"""The engines that are compared: mini, Docker and Podman, with the same image, each with everything of its set apart.

In namespaces of this process's own: nothing reaches a network. Podman is left out where it is not installed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from engine import linux
from tests.support import isolation
from tests.support.docker import Docker
from tests.support.images import DebianRegistry, Images
from tests.support.leaks import directories, hierarchies
from tests.support.runner import PROGRAM, Mini

_CNI_STATE = "/var/lib/cni"
# Nothing of podman's is shared with the machine's own; a limit it cannot raise here is set to what it is.
_PODMAN_CONFIG = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[network]
network_config_dir = "{work}/podman-networks"
"""


class Engines:
    """`programs` are the engines' command lines, `image` alpine, or the image of the host's programs where that is not."""

    def __init__(self) -> None:
        isolation.isolate()
        # `timeout` ends by it: `close` is called then, too
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        self.work = tempfile.mkdtemp(prefix="mb", dir="/tmp")
        self._registry = DebianRegistry(self.work)
        self.docker, self.mini = Docker(), Mini()
        self.environ = {**self.mini.environ, "DOCKER_HOST": self.docker.environ["DOCKER_HOST"]}
        self.environ["CONTAINERS_CONF"] = f"{self.work}/containers.conf"
        self.programs = {"mini": [PROGRAM], "docker": ["docker"]}
        if shutil.which("podman"):
            self.programs["podman"] = _podman(self.work)
        try:
            images = Images(self._registry)
            image = images.get("alpine") or images.get("host")
            assert image is not None
            self.image = f"{self._registry.address}/library/{image.name}"
            for engine in self.programs:
                insecure = ["--tls-verify=false"] if engine == "podman" else []
                self.run(engine, "pull", "-q", *insecure, self.image)
        except BaseException:
            self.close()
            raise

    def run(self, engine: str, *arguments: str) -> str:
        """Standard output of a command, which must succeed."""
        return run([*self.programs[engine], *arguments], self.environ)

    def close(self) -> None:
        if containers := self.docker.run("ps", "-aq").lines:
            # a hundred take dockerd longer to stop than it is given
            self.docker.run("rm", "-f", *containers)
        self.docker.close()
        if "podman" in self.programs:
            self._close_podman()
        self.mini.close()
        self._registry.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def _close_podman(self) -> None:
        subprocess.run([*self.programs["podman"], "rm", "-f", "-t", "0", "-a"], env=self.environ, capture_output=True)
        # it may be gone: another run of a benchmark, in a mount namespace of its own, has removed it
        if os.path.ismount(_CNI_STATE):
            linux.umount2(_CNI_STATE, linux.MNT_DETACH)
        with contextlib.suppress(OSError):
            os.rmdir(_CNI_STATE)
        time.sleep(1)  # its monitor, which nothing waits for, is still in there
        for tree in hierarchies():
            parent = f"{tree.path}/libpod_parent"
            for path in [*directories(parent), parent]:
                try:
                    os.rmdir(path)
                except OSError:
                    pass


def run(command: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def _podman(work: str) -> list[str]:
    """With the state of its network plug-ins on a file system of this mount namespace, which goes with it."""
    with open(f"{work}/containers.conf", "w") as file:
        file.write(_PODMAN_CONFIG.format(work=work))
    if not os.path.ismount(_CNI_STATE):
        os.makedirs(_CNI_STATE, exist_ok=True)
        linux.mount("tmpfs", _CNI_STATE, "tmpfs")
    return ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run"]
