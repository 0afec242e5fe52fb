"""config.md, "Linux Process": `apparmorProfile`, where the kernel has AppArmor (scripts/test-vm boots such a one)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.conformance import PYTHON, Container
from tests.support.requirements import program

pytestmark = pytest.mark.requires("apparmor")

_PROFILE = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  file, capability, network, mount, umount, pivot_root, signal, ptrace, unix, dbus,
  deny /tmp/denied w,
}}
"""
LOOK = "print(open('/proc/self/attr/apparmor/current').read().strip())"
TOUCH = """
for name in ("allowed", "denied"):
    try: open(f"/tmp/{name}", "w"); print(name, "written")
    except PermissionError: print(name, "refused")
"""


def _parser(option: str, name: str) -> None:
    command = [program("apparmor_parser") or "", option, "--skip-cache"]
    subprocess.run(command, input=_PROFILE.format(name=name), check=True, text=True, capture_output=True)


@pytest.fixture
def profile() -> Iterator[str]:
    """The name of one that is loaded: everything is allowed but for writing /tmp/denied."""
    name = f"mini-test-{os.getpid()}"
    _parser("--replace", name)
    yield name
    _parser("--remove", name)


def test_the_program_is_confined(container: Container, profile: str) -> None:
    """Linux Process: "`apparmorProfile` (string, OPTIONAL) specifies the name of the AppArmor profile for the process"."""
    container.process["apparmorProfile"] = profile
    assert container.run(*PYTHON, LOOK).out == f"{profile} (enforce)\n"
    assert container.run(*PYTHON, TOUCH).out == "allowed written\ndenied refused\n"


def test_without_one_it_is_not(container: Container, profile: str) -> None:
    assert container.run(*PYTHON, LOOK).out == "unconfined\n"
    assert container.run(*PYTHON, TOUCH).out == "allowed written\ndenied written\n"


def test_exec_is_confined(container: Container, profile: str) -> None:
    """The same of a process that joins, by the container's own `process`."""
    container.process["apparmorProfile"] = profile
    container.started("sleep", "60")
    assert container.exec(*PYTHON, LOOK).out == f"{profile} (enforce)\n"


def test_with_no_new_privs(container: Container, profile: str) -> None:
    """A profile is entered before no_new_privs could forbid it."""
    container.process.update(apparmorProfile=profile, noNewPrivileges=True)
    assert container.run(*PYTHON, LOOK).out == f"{profile} (enforce)\n"


def test_one_that_is_not_loaded(container: Container) -> None:
    """Create: "If the runtime cannot apply a property …, it MUST generate an error"."""
    container.process["apparmorProfile"] = "mini-test-nosuch"
    container.refused()
