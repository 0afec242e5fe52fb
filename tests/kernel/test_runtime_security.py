"""Hostile images and command lines, by way of mini-runtime: what is asserted is the host's side.

The interpreter and descriptors are in test_runtime_cli.py; attacks on the engine alone in test_process_escape.py.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_process_escape import OVERWRITE
from tests.kernel.test_runtime_cli import digest, root
from tests.support import checkout
from tests.support.conformance import Container, Runtime, until
from tests.support.leaks import hierarchies
from tests.support.requirements import CHECKOUT

__all__ = ["root"]  # a fixture
pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay")


@pytest.fixture(scope="module")
def runtime(template: str) -> Iterator[Runtime]:
    directory = tempfile.mkdtemp(prefix="mini-runtime-")
    runtime = Runtime("mini", [f"{CHECKOUT}/mini-runtime"], os.path.realpath(directory), template, hierarchies())
    yield runtime
    runtime.close()
    shutil.rmtree(directory)


@pytest.fixture(params=["host's user namespace", "its own"])
def container(runtime: Runtime, request: pytest.FixtureRequest) -> Iterator[Container]:
    """The container's root is also root of the host, or is not; an image is as hostile to both."""
    container = runtime.container()
    if request.param == "its own":
        container.user_namespace(
            0, 65536
        )  # root of the host in a user namespace of its own, so that it may write its root
    yield container
    container.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's, which the links of an image name, and which stays as it is."""
    directory = tmp_path / "of-the-host"
    directory.mkdir()
    (directory / "file").write_text("the host's")
    mounts = _mounts()
    yield directory
    assert os.listdir(directory) == ["file"] and (directory / "file").read_text() == "the host's"
    assert _mounts() == mounts


def _mounts() -> list[str]:
    """Without the interpreter's, which the first mini-runtime of all makes."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/.interpreter/" not in line]


def link(container: Container, name: str, target: object) -> None:
    path = f"{container.upper}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(path):
        os.rmdir(path)
    os.symlink(str(target), path)


def without(container: Container, *destinations: str) -> None:
    container.spec["mounts"] = [m for m in container.spec["mounts"] if not m["destination"].startswith(destinations)]


# --- links in the image (CVE-2019-19921, -16884, 2021-30465, 2025-31133, -52565, -52881, 2026-47766) ------------------------


@pytest.mark.parametrize("depth", ["", "../../../../../../../.."])
@pytest.mark.parametrize("terminal", [False, True])
def test_dev_is_a_link(container: Container, host: Path, depth: str, terminal: bool) -> None:
    link(container, "dev", f"{depth}{host}")
    container.process["terminal"] = terminal
    container.run("sh", "-c", "echo > /dev/x")


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_or_sys_is_a_link(container: Container, host: Path, name: str) -> None:
    link(container, name, host)
    assert f"at /{name}: it is a symbolic link, not a directory" in container.refused()


@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/link/sys", "proc"])
def test_nothing_is_mounted_in_proc(container: Container, host: Path, destination: str) -> None:
    link(container, "link", "/proc")
    container.mount(destination, "bind", str(host), "rbind")
    assert "is inside /proc" in container.refused()


def test_mount_points_and_the_directory_are_links(container: Container, host: Path) -> None:
    link(container, "data", host)
    link(container, "work", f"../../../../../..{host}/deeper")
    link(container, "etc/hosts", f"{host}/new")
    source = container.directory("source", "one")
    container.mount("/data", "bind", source, "rbind")
    container.mount("/etc/hosts", "bind", f"{source}/one", "rbind")
    container.process["cwd"] = "/work"
    out = container.sh("cat /etc/hosts; echo; ls /data; touch x; pwd").split()
    assert out == ["one", "deeper", "new", "one", f"{host}/deeper"]


def test_masked_and_read_only_paths_are_links(container: Container, host: Path) -> None:
    link(container, "file", f"{host}/file")
    link(container, "directory", host)
    container.linux["maskedPaths"] = ["/file", "/directory"]
    container.linux["readonlyPaths"] = ["/directory"]
    container.run("true")


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/proc/self/environ"])
def test_masks_are_made_of_the_null_device(container: Container, host: Path, target: str) -> None:
    """CVE-2025-31133: bound over the masked file would be whatever /dev/null links to, writable."""
    without(container, "/dev")
    link(container, "dev/null", target)
    container.linux["maskedPaths"] = ["/etc/motd"]
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    assert container.run("sh", "-c", "echo owned > /etc/motd").code != 0
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


def test_a_kernel_parameter_is_not_written_through_the_image(container: Container, host: Path) -> None:
    """CVE-2025-52881."""
    without(container, "/proc")
    link(container, "proc/sys/net/ipv4/ip_forward", f"{host}/file")
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    container.run("true")


@pytest.mark.parametrize("field", ["apparmorProfile", "selinuxLabel"])
def test_a_label_is_not_written_through_the_image(container: Container, host: Path, field: str) -> None:
    """CVE-2019-16884, -2025-52881: what cannot be set is an error, and never left out."""
    link(container, "proc/self/attr/exec", f"{host}/file")
    container.process[field] = "confined"
    if container.attempt("create").code == 0:
        pytest.skip("this host has the module")


# --- the interpreter (CVE-2019-5736) ----------------------------------------------------------------------------------------


def test_exec_of_the_interpreter(runtime: Runtime, container: Container, root: Path) -> None:
    """Whoever waits in the container for somebody to execute what it has replaced, `sh` say."""
    python = checkout.python(root)
    before = digest(python)
    container.started()
    Path(container.rootfs, "attack").write_text(f"#!/proc/self/exe\n{OVERWRITE}")
    Path(container.rootfs, "attack").chmod(0o755)
    Path(container.rootfs, "link").symlink_to("/proc/self/exe")
    command, runtime.command = runtime.command, [str(root / "mini-runtime")]
    try:
        # whoever joins is not in its /proc before its program is found
        assert container.exec("/link", "-c", OVERWRITE).code == 255
        # in the background: while mini-runtime itself is there, its binary is busy
        assert container.exec("/attack", options=("--detach",)).code == 0
    finally:
        runtime.command = command
    answer = Path(container.rootfs, "answer")
    until(answer.exists)
    assert answer.read_text() == "EROFS"
    assert digest(python) == before


# --- identities (CVE-2022-36109, -29162, -27649, 2024-40635, 2026-30892) ----------------------------------------------------


@pytest.mark.parametrize("uid", [-1, 4294967295, 4294967296, 18446744073709551616, "0", 1.5])
def test_an_id_that_would_become_another(container: Container, uid: Any) -> None:
    container.process["user"] = {"uid": uid, "gid": 0}
    assert "process.user.uid: must be" in container.refused()


@pytest.mark.parametrize("user", ["4294967295", "4294967296", "-1", "root", "1:4294967296", "1:", "", "+0", "0x0"])
def test_exec_with_an_id_that_would_become_another(container: Container, user: str) -> None:
    done = container.started().exec("id", options=("--user", user))
    # an empty one is as none
    assert done.code != 0 or (user == "" and done.out.startswith("uid=0"))


@pytest.mark.parametrize("user, expected", [("7", "7 0"), ("7:8", "7 8"), ("0:9", "0 9")])
def test_exec_as_another_user(container: Container, user: str, expected: str) -> None:
    """CVE-2026-30892: `-u N` is user N, who has no capabilities."""
    container.started()
    out = container.exec("sh", "-c", "echo $(id -u) $(id -g); grep CapEff /proc/self/status", options=("-u", user)).out
    ids, capabilities = out.splitlines()
    assert ids == expected
    assert (int(capabilities.split()[1], 16) == 0) == (user[0] != "0")


def test_the_callers_groups_do_not_stay(container: Container) -> None:
    """CVE-2022-36109."""
    container.process["args"] = ["sh", "-c", "id -G; sleep 60"]
    assert container.run("id", "-G", extra_groups=[42, 1000]).out == "0\n"
    container.attempt("delete", "--force")
    container.started()
    assert container.exec("id", "-G", extra_groups=[42, 1000]).out == "0\n"
    assert container.exec("id", "-G", options=("--additional-gids", "5"), extra_groups=[42]).out.split() == ["0", "5"]


def test_inheritable_capabilities_are_those_of_the_spec(container: Container) -> None:
    """CVE-2022-29162, -24769: with some, a program with inheritable file capabilities gained them."""

    def inheritable(out: str) -> int:
        found = re.search(r"CapInh:\s*(\w+)", out)
        assert found
        return int(found[1], 16)

    assert inheritable(container.run("cat", "/proc/self/status").out) == 0
    container.attempt("delete", "--force")
    container.started()
    out = container.exec("cat", "/proc/self/status", options=("--cap", "CAP_NET_ADMIN")).out
    assert inheritable(out) == 0 and re.search(r"CapEff:\s*[0-9a-f]*[13579bdf]...$", out, re.M)


# --- cgroups (CVE-2022-0492) --------------------------------------------------------------------------------------------------


def test_no_release_agent(container: Container, tmp_path: Path) -> None:
    """Whoever can mount a v1 hierarchy names a program of the host's to be run as root when a cgroup is empty."""
    marker = tmp_path / "owned"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho > {marker}\n")
    program.chmod(0o755)
    if any(entry["type"] == "user" for entry in container.linux["namespaces"]):
        for name in ("bounding", "effective", "permitted"):
            container.process["capabilities"][name] = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
    script = f"""
        for controller in rdma memory cpu pids devices; do
            mkdir -p /m/$controller && mount -t cgroup -o $controller none /m/$controller || continue
            echo {program} > /m/$controller/release_agent && echo 1 > /m/$controller/notify_on_release && echo ARMED
            mkdir /m/$controller/x && echo 1 > /m/$controller/x/notify_on_release && rmdir /m/$controller/x
        done; unshare -Ur -m -C mount -t cgroup -o rdma none /mnt && echo MOUNTED; true"""
    assert "ARMED" not in container.run("sh", "-c", script).out
    assert not marker.exists()
    for agent in Path("/sys/fs/cgroup").glob("*/release_agent"):
        assert str(tmp_path) not in agent.read_text()
