"""Logs of both engines: what one has written the other reads, and with the same options they note the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.logs import drivers
from tests.compare.conftest import Both
from tests.support.conformance import until
from tests.support.journal import Journal

pytestmark = [pytest.mark.requires("docker", "netns"), pytest.mark.timeout(240)]

# whole lines, an empty one, what is no UTF-8, a line of several parts that ends, and one that does not
SCRIPT = r"""
for n in $(seq 60); do echo "line $n of many, which are of some length"; done
echo err >&2
printf '\nbin\377\000\001\n'
head -c 40000 /dev/zero | tr '\0' x
echo
printf end
"""
LOCAL = [
    ["--log-driver", "local"],
    ["--log-driver", "local", "--log-opt", "max-size=2k", "--log-opt", "max-file=9"],
    ["--log-driver", "local", "--log-opt", "max-size=2k", "--log-opt", "max-file=9", "--log-opt", "compress=false"],
]
JSON_FILE = [
    [],
    ["--log-opt", "max-size=2k", "--log-opt", "max-file=9"],
    ["--log-opt", "max-size=2k", "--log-opt", "max-file=9", "--log-opt", "compress=true"],
]


def docker_logs(both: Both, container: str, options: list[str]) -> Path:
    """The directory in which Docker has them, who compresses when the container has ended already."""
    at = Path(both.docker.root) / "data" / "containers" / container
    at = at / "local-logs" if (at / "local-logs").is_dir() else at
    if "compress=true" in options or ("local" in options and "compress=false" not in options):
        until(lambda: not [path for path in log_files(at) if path.suffix[1:].isdigit()])
    return at


def mini_logs(both: Both, container: str, options: list[str]) -> Path:
    return Path(both.mini.root) / "containers" / container


def log_files(at: Path) -> list[Path]:
    return sorted(path for path in at.iterdir() if "log" in path.name.split(".") or path.name.endswith("-json.log"))


def read(driver: str, path: Path) -> list[tuple[str, str, bytes]]:
    return [(e.stream, e.time, e.data) for e in drivers.read(driver, "", str(path))]


def joined(entries: list[tuple[str, str, bytes]]) -> dict[str, bytes]:
    return {name: b"".join(d for stream, _, d in entries if stream == name) for name in ("stdout", "stderr")}


def said(both: Both) -> dict[str, bytes]:
    """What the script says, from the client's side."""
    result = both.mini.run("run", "--rm", both.names["host"], "sh", "-c", SCRIPT)
    streams = {"stdout": result.stdout, "stderr": result.stderr}
    return {name: text.encode("utf-8", "surrogateescape") for name, text in streams.items()}


@pytest.mark.parametrize("options", [*LOCAL, *JSON_FILE], ids=" ".join)
def test_mini_reads_what_docker_has_written(both: Both, options: list[str]) -> None:
    driver = "local" if "local" in options else "json-file"
    both.docker.run("run", "--name", "it", *options, both.names["host"], "sh", "-c", SCRIPT)
    container = both.docker.run("inspect", "-f", "{{.Id}}", "it").out
    at = docker_logs(both, container, options)
    wanted = said(both)
    if driver == "json-file":
        # Docker replaces what is no UTF-8
        wanted["stdout"] = wanted["stdout"].replace(b"\xff", "\N{REPLACEMENT CHARACTER}".encode())
    path = at / ("container.log" if driver == "local" else f"{container}-json.log")
    found = read(driver, path)
    assert joined(found) == wanted
    for count in (1, 3, 50):
        assert [(e.stream, e.time, e.data) for e in drivers.read(driver, "", str(path), tail=count)] == found[-count:]


@pytest.mark.parametrize("options", [*LOCAL, *JSON_FILE], ids=" ".join)
def test_docker_reads_what_mini_has_written(both: Both, options: list[str]) -> None:
    """Put in the place of a container's own; times and streams are the same, too."""
    for engine in (both.docker, both.mini):
        engine.run("run", "--name", "it", *options, both.names["host"], "sh", "-c", SCRIPT)
    ours = mini_logs(both, both.mini.inspect("it")["Id"], options)
    container = both.docker.run("inspect", "-f", "{{.Id}}", "it").out
    theirs = docker_logs(both, container, options)
    name = "container.log" if theirs.name == "local-logs" else f"{container}-json.log"
    for path in log_files(theirs):
        path.unlink()
    for path in ours.glob("container.log*"):
        shutil.copy(path, theirs / path.name.replace("container.log", name))
    for extra in ([], ["-t"], ["--tail", "20"], ["-t", "--since", "10m"]):
        by_docker, by_mini = (engine.run("logs", *extra, "it") for engine in (both.docker, both.mini))
        out = by_mini.stdout
        if name == "container.log":
            # Docker 20.10 gives the last part of a line no end, which later versions do
            out = out.replace("x\n", "x")
        else:
            # a byte that is no UTF-8 is a lone surrogate in mini's JSON, which Go cannot have
            out = out.replace("\udcff", "\N{REPLACEMENT CHARACTER}")
        assert (by_docker.stdout, by_docker.stderr) == (out, by_mini.stderr), extra


@pytest.mark.parametrize("options", [*LOCAL, *JSON_FILE], ids=" ".join)
def test_the_files_are_cut_alike(both: Both, options: list[str]) -> None:
    """The same number of files, compressed or not, with the same records in each."""
    found: list[Any] = []
    script = "for n in $(seq 100); do echo line $((n + 1000)) of many of the same length; done"
    driver = "local" if "local" in options else "json-file"
    for engine, directory in ((both.docker, docker_logs), (both.mini, mini_logs)):
        engine.run("run", "--name", "it", *options, both.names["host"], "sh", "-c", script)
        container = engine.run("inspect", "-f", "{{.Id}}", "it").out
        at = directory(both, container, options)
        found.append(
            [name.replace(f"{container}-json.log", "container.log") for name in (p.name for p in log_files(at))]
        )
        base = next(path for path in log_files(at) if path.name.endswith("log"))
        found[-1].append([data for _, _, data in read(driver, base)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "options",
    [
        ["--log-opt", "labels=a,b,none", "--log-opt", "env=X,NOT"],
        ["--log-opt", "labels-regex=^(a|c)", "--log-opt", "env-regex=Y$"],
        ["--log-opt", "tag={{.Name}} {{.ImageName}}"],
        ["--log-opt", "tag=x{{.ImageID}}x{{.ImageFullID}}", "--log-opt", "labels=a"],
    ],
    ids=" ".join,
)
def test_attributes(both: Both, options: list[str]) -> None:
    labels = ["--label", "a=1", "--label", "b=<2>", "--label", "cc=3", "-e", "X=x=y", "-e", "XY=é"]
    found = []
    for engine, directory in ((both.docker, docker_logs), (both.mini, mini_logs)):
        engine.run("run", "--name", "it", *labels, *options, both.names["host"], "echo", "x")
        container = engine.run("inspect", "-f", "{{.Id}}", "it").out
        (path,) = log_files(directory(both, container, options))
        record = json.loads(path.read_text())
        assert list(record) == ["log", "stream", "attrs", "time"]
        found.append(record["attrs"])
    image = both.docker.run("inspect", "-f", "{{.Image}}", "it").out
    if both.mini.inspect("it")["Image"] != image:
        found = [{k: v.replace(image[:12], "ID") for k, v in attrs.items() if "sha256" not in v} for attrs in found]
    assert found[0] == found[1]


REFUSED = [
    ["--log-driver", "local", "--log-opt", "tag=x"], ["--log-driver", "journald", "--log-opt", "max-size=1m"],
    ["--log-driver", "local", "--log-opt", "max-size=xx"], ["--log-driver", "local", "--log-opt", "max-file=1"],
    ["--log-driver", "local", "--log-opt", "max-file=x"], ["--log-driver", "local", "--log-opt", "compress=x"],
    ["--log-driver", "local", "--log-opt", "max-file=-1"], ["--log-opt", "compress=maybe"],
    ["--log-opt", "compress=true", "--log-opt", "max-file=1"], ["--log-opt", "mode=x"], ["--log-opt", "max-size=0"],
    ["--log-opt", "max-buffer-size=1m"], ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=xx"],
]  # fmt: skip


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_refused(both: Both, options: list[str]) -> None:
    found = []
    for engine in (both.docker, both.mini):
        result = engine.run("run", "--rm", *options, both.names["host"], "true", check=False)
        text = result.stderr.splitlines()[0].partition(": ")[2].removeprefix("Error response from daemon: ")
        found.append((result.code, text.rstrip(".")))
    assert found[0] == found[1]


# --- the journal


@pytest.fixture
def journals(both: Both) -> Iterator[dict[str, Journal]]:
    """One in each engine's mount namespace."""
    made = {"docker": Journal(both.docker._daemon.pid), "mini": Journal()}
    yield made
    for journal in made.values():
        journal.close()


# which Docker sends since 23.0, and the test's is older
NEWER = {"SYSLOG_TIMESTAMP", "CONTAINER_LOG_EPOCH", "CONTAINER_LOG_ORDINAL"}


def _order(entry: dict[str, Any]) -> tuple[str, ...]:
    return entry["PRIORITY"], str(entry["MESSAGE"]), entry.get("CONTAINER_PARTIAL_ORDINAL", "")


@pytest.mark.requires("journal")
def test_the_journal(both: Both, journals: dict[str, Journal]) -> None:
    """The same fields with the same values, of whole lines and of parts."""
    options = [
        "--log-driver",
        "journald",
        "--log-opt",
        "labels=com.a",
        "--log-opt",
        "env=X",
        "--log-opt",
        "tag={{.Name}}",
    ]
    found = []
    for engine, journal in ((both.docker, journals["docker"]), (both.mini, journals["mini"])):
        command = ["--name", "it", "--label", "com.a=1", "-e", "X=two\nlines", both.names["host"], "sh", "-c", SCRIPT]
        engine.run("run", *options, *command)
        container = engine.run("inspect", "-f", "{{.Id}}", "it").out
        entries = [
            {k: v for k, v in e.items() if not k.startswith("_") and k not in NEWER} for e in journal.entries(container)
        ]
        for entry in entries:
            assert (entry.pop("CONTAINER_ID_FULL"), entry.pop("CONTAINER_ID")) == (container, container[:12])
            if "CONTAINER_PARTIAL_ID" in entry:
                assert len(entry.pop("CONTAINER_PARTIAL_ID")) == 64
        found.append(sorted(entries, key=_order))
    assert len(found[0]) == len(found[1])
    assert found[0] == found[1]


@pytest.mark.requires("journal")
@pytest.mark.parametrize("extra", [[], ["--tail", "3"], ["-f"], ["-f", "--tail", "2"], ["--since", "1h"]], ids=" ".join)
def test_reading_the_journal(both: Both, journals: dict[str, Journal], extra: list[str]) -> None:
    script = "for n in 1 2 3 4 5; do echo $n; done"
    found = []
    for engine in (both.docker, both.mini):
        engine.run("run", "--name", "it", "--log-driver", "journald", both.names["host"], "sh", "-c", script)
        journals["docker"].sync()  # which mini asks for itself
        found.append(engine.run("logs", *extra, "it").lines)
    assert found[0] == found[1]
