"""mini-runtime as a user other than root: a container in a user namespace with the user's own and subordinate ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.demo import hostimage
from tests.kernel.test_process_escape import OVERWRITE
from tests.kernel.test_process_userns import USER, as_user, public
from tests.support.conformance import until
from tests.support.requirements import CHECKOUT

__all__ = ["public"]  # a fixture
pytestmark = pytest.mark.requires("linux", "root")

PYTHON = shutil.which("python3", path=hostimage.PATH) or ""
OWN = [{"containerID": 0, "hostID": USER, "size": 1}]
SUBORDINATE = [*OWN, {"containerID": 1, "hostID": 200000, "size": 65536}]


class Cli:
    """mini-runtime, as whoever calls this, with a bundle in `directory`."""

    def __init__(self, directory: str, root: str, ranges: list[dict[str, int]], python: str = PYTHON) -> None:
        self._python, self._directory = python, directory
        self.call("spec", "--rootless", "--bundle", directory)
        self.spec: dict[str, Any] = json.loads(Path(directory, "config.json").read_text())
        self.spec["root"] = {"path": root}
        self.spec["process"] |= {"terminal": False, "rlimits": []}
        self.spec["linux"] |= {"uidMappings": ranges, "gidMappings": ranges}

    def call(self, *args: str) -> subprocess.CompletedProcess[str]:
        program = [self._python, "-I", "-S", f"{CHECKOUT}/engine/runtime/oci_cli/__main__.py"]
        with open(f"{self._directory}/out", "w+") as out:
            command = [*program, "--root", f"{self._directory}/state", *args]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True, timeout=60)
            out.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, out.read())

    def make(self, command: str, *args: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        self.spec["process"]["args"] = [*args]
        Path(self._directory, "config.json").write_text(json.dumps(self.spec))
        return self.call(command, "--bundle", self._directory, *options, "c")


@pytest.fixture
def root(public: str) -> Iterator[str]:
    """The user's own root."""
    subprocess.run(["chown", "-R", "-h", f"{USER}:{USER}", public], check=True)
    yield public


@pytest.mark.skipif(not PYTHON, reason="needs a Python that every user may execute")
@pytest.mark.parametrize("ranges", [OWN, SUBORDINATE], ids=["own id", "subordinate ids"])
def test_the_life_of_a_container(root: str, ranges: list[dict[str, int]]) -> None:
    if ranges is SUBORDINATE and not shutil.which("newuidmap"):
        pytest.skip("needs newuidmap (apt install uidmap)")

    def work(directory: str) -> None:
        cli = Cli(directory, root, ranges)
        done = cli.make("run", "sh", "-c", "id -u; echo > /file; hostname; cat /proc/1/comm")
        assert (done.returncode, done.stdout.split()) == (0, ["0", "mini", "sh"]), done
        assert os.stat(f"{root}/file").st_uid == USER
        assert cli.make("create", "sleep", "60").returncode == 0
        assert cli.call("start", "c").returncode == 0
        done = cli.call("exec", "c", "sh", "-c", "id -u; readlink /proc/self/ns/user")
        assert done.stdout.split()[0] == "0" and done.stdout.split()[1] != os.readlink("/proc/self/ns/user"), done
        assert json.loads(cli.call("state", "c").stdout)["status"] == "running"
        assert cli.call("delete", "--force", "c").returncode == 0
        assert cli.call("state", "c").returncode == 1

    assert as_user(work) == "ok"


@pytest.mark.skipif(not PYTHON, reason="needs a Python that every user may execute")
@pytest.mark.parametrize("resources", [{"pids": {"limit": 5}}, {"unified": {"cgroup.max.depth": "3"}}], ids=str)
def test_a_limit_without_a_cgroup(root: str, resources: dict[str, Any]) -> None:
    """Where the user may make no cgroup, a limit that was asked for is an error; none, and there is a container."""

    def work(directory: str) -> None:
        cli = Cli(directory, root, OWN)
        assert cli.make("run", "true").returncode == 0
        cli.spec["linux"]["resources"] = {**resources, "devices": [{"allow": False, "access": "rwm"}]}
        done = cli.make("run", "true")
        assert done.returncode != 0 and "/sys/fs/cgroup" in done.stdout, done
        assert cli.call("list", "--quiet").stdout == ""

    assert as_user(work) == "ok"


@pytest.mark.skipif(not PYTHON, reason="needs a Python that every user may execute")
def test_an_interpreter_of_the_users_own(root: str) -> None:
    """CVE-2019-5736: root of the container is the user, who may write the file; it must not be handed to it."""

    def work(directory: str) -> None:
        own = f"{directory}/bin/python3"
        os.mkdir(os.path.dirname(own))
        shutil.copy(PYTHON, own)
        Path(directory, "pyvenv.cfg").write_text(f"home = {os.path.dirname(PYTHON)}\n")
        before = Path(own).read_bytes()
        Path(root, "attack").write_text(f"#!/proc/self/exe\n{OVERWRITE}")
        os.chmod(f"{root}/attack", 0o755)
        cli = Cli(directory, root, OWN, own)
        # in the background: while mini-runtime itself is there, its binary is busy
        cli.make("run", "/attack", options=("--detach",))
        until(lambda: os.path.exists(f"{root}/answer"))
        cli.call("delete", "--force", "c")
        assert Path(own).read_bytes() == before
        assert Path(root, "answer").read_text() == "EPERM"  # sealed

    assert as_user(work) == "ok"
