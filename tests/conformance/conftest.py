"""The runtimes under test: mini-runtime, and beside it, as the proof of the suite itself, Debian's runc and crun.

`MINI_CONFORMANCE_RUNTIME=/path/to/one scripts/test tests/conformance` tests that one alone, whatever it is.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import linux
from tests.support.conformance import Container, Containers, Runtime, install_probe
from tests.support.leaks import hierarchies
from tests.support.process import make_template
from tests.support.requirements import CHECKOUT, program

# What `differs` says of runc and crun is so in these versions (Debian 12's); other versions may do better.
KNOWN_VERSIONS = {"runc": "1.1.5", "crun": "1.8.1"}


def _runtimes() -> list[object]:
    given = os.environ.get("MINI_CONFORMANCE_RUNTIME")
    if given:
        return [pytest.param(given, id=os.path.basename(shlex.split(given)[0]))]
    return [
        pytest.param(f"{CHECKOUT}/mini-runtime", id="mini-runtime"),
        pytest.param("runc", id="runc", marks=pytest.mark.requires("runc")),
        pytest.param("crun", id="crun", marks=pytest.mark.requires("crun")),
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`differs(runc="why")`: expected to fail with runc, and if it is a known version, failing where it does not."""
    for item in items:
        if item.path.parent != Path(__file__).parent:
            continue
        item.add_marker(pytest.mark.requires("root", "netns", "overlay"))
        command = str(item.callspec.params["runtime"]) if isinstance(item, pytest.Function) else ""
        name = os.path.basename(shlex.split(command)[0])
        for mark in item.iter_markers("differs"):
            if name in mark.kwargs:
                number = _version(command)
                reason = f"{name} {number}: {mark.kwargs[name]}"
                item.add_marker(pytest.mark.xfail(reason=reason, strict=KNOWN_VERSIONS.get(name) == number))


@functools.cache
def _version(command: str) -> str:
    """`1.1.5` where it calls itself `runc version 1.1.5+ds1`; nothing where it does not run."""
    program_path, *options = shlex.split(command)
    try:
        out = subprocess.run(
            [program(program_path) or program_path, *options, "--version"], capture_output=True, text=True
        )
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?", out.stdout)
    return found[0] if found else ""


@pytest.fixture(scope="package")
def conformance_template(tmp_path_factory: pytest.TempPathFactory) -> str:
    template = make_template(str(tmp_path_factory.mktemp("conformance")))
    install_probe(template)
    return template


@pytest.fixture(scope="package", params=_runtimes())
def runtime(request: pytest.FixtureRequest, conformance_template: str) -> Iterator[Runtime]:
    """Everything of the runtime's is on a tmpfs; /sys/fs/cgroup/unified is hidden from crun, which takes no hybrid."""
    program_path, *options = shlex.split(request.param)
    command = [program(program_path) or program_path, *options]
    name = os.path.basename(program_path)
    # Where a container's root may go, too, whom the host does not take for root: not below pytest's directory.
    directory = os.path.realpath(tempfile.mkdtemp(prefix=f"{name}-"))
    linux.mount("tmpfs", directory, "tmpfs", 0, "mode=755")
    trees = hierarchies()
    is_hybrid_refused = name == "crun" and os.path.exists("/sys/fs/cgroup/unified/cgroup.procs")
    if is_hybrid_refused:
        trees = [tree for tree in trees if tree.version == 1]
        linux.mount("tmpfs", "/sys/fs/cgroup/unified", "tmpfs")
    made = Runtime(name, command, directory, conformance_template, trees)
    yield made
    if is_hybrid_refused:
        linux.umount2("/sys/fs/cgroup/unified")
    made.close()
    linux.umount2(directory, linux.MNT_DETACH)
    os.rmdir(directory)


@pytest.fixture
def containers(runtime: Runtime) -> Iterator[Containers]:
    """Makes bundles; what becomes of them is gone after the test."""
    made: list[Container] = []

    def make() -> Container:
        made.append(runtime.container())
        return made[-1]

    yield make
    for container in reversed(made):
        container.close()


@pytest.fixture
def container(containers: Containers) -> Container:
    return containers()
