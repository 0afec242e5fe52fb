"""`prune` and `system df` through both engines: questions, listings, errors, columns.

What differs, with the reason: newer Dockers' `volume prune` takes anonymous volumes only, as mini's does, and says so; that of
20.10 takes all. Sizes are allocated bytes in mini, sums of file sizes in Docker. mini's `system df` has one line more.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker", "iproute2")


def plain(said: Result) -> tuple[int, list[str]]:
    """Exit code and output, without IDs and sizes."""
    text = said.stdout + said.stderr.replace("Error response from daemon: ", "mini: ")
    text = text.replace('ERROR: The "until"', 'mini: The "until"').replace("docker", "mini")
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "<id>", text)
    text = re.sub(r"\b[\d.]+(B|kB|MB|GB)\b( \(\d+%\))?", "<size>", text)
    # mini adds a line that says which filters there are
    return said.code, [line.rstrip() for line in text.splitlines() if not line.startswith("  the filters are")]


def same(both: Both, words: str, **options: Any) -> list[str]:
    docker = plain(both.docker.run(*words.split(), check=False, **options))
    mini = plain(both.mini.run(*words.split(), check=False, **options))
    assert mini == docker, words
    return mini[1]


@pytest.mark.parametrize(
    "words",
    [
        "image prune", "image prune -a", "image prune --filter label=x", "container prune", "system prune", "system prune -a",
        "system prune --volumes", "system prune -a --volumes", "system prune --filter until=1h --filter label=x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("answer", ["", "n\n"])
def test_questions(both: Both, words: str, answer: str) -> None:
    assert "Are you sure you want to continue? [y/N]" in same(both, words, input=answer)[-1]


@pytest.mark.parametrize(
    "words",
    [
        "image prune -f --filter foo=bar", "image prune -f --filter until=xx", "container prune -f --filter foo=bar",
        "image prune -f --filter until=1h --filter until=2h", "volume prune -f --filter until=1h",
        "system prune -f --volumes --filter until=1h", "image prune -f --filter x",
    ],
)  # fmt: skip
def test_what_cannot_be_filtered(both: Both, words: str) -> None:
    same(both, words)


def test_containers(both: Both) -> None:
    for engine in (both.docker, both.mini):
        engine.run("create", "--name", "one", "-l", "a=b", both.names["host"], "true")
        engine.run("create", "--name", "two", "-v", "/data", both.names["host"], "true")
        engine.run("run", "-d", "--name", "up", both.names["host"], "sleep", "60")
    same(both, "container prune -f --filter label=a=c")
    assert len(same(both, "container prune -f --filter label=a=b")) == 4
    assert same(both, "container prune", input="y\n")[-1] == "Total reclaimed space: <size>"
    same(both, "container prune -f")
    same(both, "ps -a --format {{.Names}}")
    both.docker.run("volume", "prune", "-f")


def test_images(both: Both) -> None:
    for engine in (both.docker, both.mini):
        engine.run("tag", both.names["host"], "another:1")
        engine.run("create", "--name", "it", both.names["host"], "true")
    # used by a container, or younger than that
    same(both, "image prune -f")
    same(both, "image prune -af --filter until=1970-01-02")
    for engine in (both.docker, both.mini):
        engine.run("rmi", "another:1")


def test_df(both: Both) -> None:
    for engine in (both.docker, both.mini):
        engine.run("create", "--name", "it", "-v", "data:/data", "-v", "/more", both.names["host"], "true")
        engine.run("volume", "create", "unused")
    counts = "{{.Type}} {{.TotalCount}} {{.Active}}"
    docker = both.docker.run("system", "df", "--format", counts).lines
    mini = both.mini.run("system", "df", "--format", counts).lines
    assert mini[:4] == docker and mini[4].startswith("Other ")
    headings = [e.run("system", "df").lines[0].split() for e in (both.docker, both.mini)]
    assert headings[0] == headings[1]
    titles = []
    for engine in (both.docker, both.mini):
        lines = [re.sub(" {2,}", "  ", line) for line in engine.run("system", "df", "-v").lines]
        titles.append([line for line in lines if line.isupper() or line.endswith((":", "usage: 0B"))])
    assert titles[1][: len(titles[0])] == titles[0]
    both.docker.run("rm", "it")
    both.docker.run("volume", "rm", "data", "unused")
