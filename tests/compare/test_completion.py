"""What can follow, in both engines: `docker __complete` and `mini __complete` on the same containers, volumes and networks.

Left out is what Docker offers in spite of what is typed already: names that are on the line, values after `=`.
"""

from __future__ import annotations

import pytest

from tests.compare.conftest import Both
from tests.compare.test_commands import fleet as fleet

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker")

SAME = [
    "start ", "stop ", "kill ", "exec ", "attach ", "pause ", "unpause ", "top ", "logs ", "rm ", "rm -f ", "restart ",
    "rename ", "update ", "port ", "container start ", "ps ",
    "volume rm ", "volume inspect ", "volume ls ", "rmi ", "image inspect ", "run ", "push ", "history ", "save ", "tag ",
    "run --restart ", "run --pull ", "run --ipc ", "run --pid ", "run --uts ", "run --userns ", "run --cgroupns ",
    "run --attach ", "run --volumes-from ", "network inspect ", "run --name ",
    "container unp", "volume p", "sto", "images --dig", "run --add",
]  # fmt: skip


def _docker(fleet: Both, line: str) -> set[str]:
    """Without descriptions, and without the line that says what else the shell may do."""
    lines = fleet.docker.run("__complete", *line.split(" ")).lines
    return {line.partition("\t")[0] for line in lines if not line.startswith(":")}


@pytest.mark.parametrize("line", SAME)
def test_offers_the_same(fleet: Both, line: str) -> None:
    mini = fleet.mini.run("__complete", "--", *line.split(" ")).lines
    assert {word for word in mini if word != "@files"} == _docker(fleet, line)
