"""One table of commands on the same four containers in both engines: exit code, output, and the first line of what went wrong.

web      runs; labels a=1 and b, a named volume, memory limit; SIGTERM ends it with 5
ended    has ended with 3
made     was never started; label a=2
still    runs, is paused; no network
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support.conformance import until
from tests.support.docker import Docker
from tests.support.runner import Mini, Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker", "program:ps")

Engine = Docker | Mini
# One child that stays: of one that comes and goes, `top` would tell now and then.
_BEGIN = "trap 'exit 5' TERM; sleep 6000 & echo out; "
_SERVE = f"{_BEGIN}wait"
_SERVE_MORE = f"{_BEGIN}until test -e /dev/shm/go; do sleep 0.05; done; echo err >&2; printf 'no end'; wait"


def ps(filters: str, options: str = "-a") -> list[str]:
    return ["ps", *options.split(), "--format", "{{.Names}}", *(w for f in filters.split() for w in ("--filter", f))]


# In `{}` stands what differs from engine to engine: the image's name, a container's ID.
READING = [
    *[ps(f) for f in (
        "name=e", "name=^web$", "name=/web", "name=^/web$", "name=WEB", "name=we name=mad", "name=[", "id={web}",
        "label=a", "label=a=1", "label=a label=b", "label=none", "exited=3", "exited=0", "exited=x", "exited=3 exited=5",
        "status=running", "status=paused", "status=created status=exited", "status=dancing", "ancestor={image}",
        "ancestor=nosuch", "before=ended", "since=ended", "before=nosuch", "since=nosuch", "since=web before=still",
        "volume=data", "volume=/data", "volume=/nosuch", "network=none", "network=bridge", "network=nosuch",
        "health=none", "health=healthy", "health=bogus", "publish=80", "publish=80-90/udp", "publish=x", "expose=80",
        "expose=x", "is-task=true", "is-task=false", "is-task=x", "bogus=1", "name=web status=exited", "NAME=web",
    )],
    *[ps(f, "") for f in ("status=exited", "exited=3", "name=ended", "since=web", "label=a")],
    ps("name=e", "-n 1"), ps("status=exited", "-n 2"), ps("name=web", "-l"),
    ["ps", "--filter", "nonsense"],
    ["ps", "-aq", "--no-trunc", "--filter", "name=nosuch"],
    ["top", "made"], ["top", "ended"], ["top", "nosuch"], ["top", "web", "-o", "comm"], ["top", "web", "-zzz"], ["top"],
    ["port", "web"], ["port", "made"], ["port", "web", "80"], ["port", "web", "80/udp"], ["port", "web", "x"],
    ["port", "nosuch"], ["port"], ["port", "web", "1", "2"],
    ["wait", "made", "ended", "nosuch"], ["wait", "ended", "ended"], ["wait"],
    ["logs", "web"], ["logs", "--tail", "1", "web"], ["logs", "--tail", "0", "web"], ["logs", "--tail", "-1", "web"],
    ["logs", "--since", "1h", "web"], ["logs", "--until", "1h", "web"], ["logs", "--since", "2006-01-02", "web"],
    ["logs", "--since", "2006-01-02T15:04:05Z", "--until", "2006-01-02T15:04:06.5+01:00", "web"],
    ["logs", "--since", "0", "web"], ["logs", "--since", "-1m", "web"], ["logs", "--until", "-1m", "web"],
    ["logs", "--since", "x", "web"], ["logs", "--until", "x", "web"], ["logs", "nosuch"], ["logs"],
    ["logs", "made"], ["logs", "-f", "made"], ["logs", "-f", "ended"],
    ["attach", "made"], ["attach", "ended"], ["attach", "still"], ["attach", "nosuch"], ["attach"],
    ["exec", "still", "true"], ["exec", "-d", "still", "true"], ["exec", "ended", "true"],
    ["pause", "still"], ["pause", "made"], ["pause", "ended"], ["pause", "nosuch", "ended"], ["pause"],
    ["unpause", "web"], ["unpause", "made"], ["unpause", "nosuch"],
    ["start", "still"], ["rm", "still"], ["rm", "web"],
    ["rename", "web", "web"], ["rename", "web", "made"], ["rename", "nosuch", "other"], ["rename", "web", "!"],
    ["rename", "web", "x"], ["rename", "web", ""],
    ["update", "web"], ["update", "-m", "1m", "web"], ["update", "-m", "100m", "web"], ["update", "--cpus", "99", "web"],
    ["update", "-m", "60m", "--memory-swap", "10m", "web"], ["update", "--cpus", "-1", "web"],
    ["update", "--cpuset-cpus", "99", "web"], ["update", "--restart", "bogus", "web"], ["update", "-m", "x", "web"],
    ["update", "--cpu-shares", "2", "nosuch"], ["update"],
    ["update", "--cpu-period", "1", "web"], ["update", "--cpu-quota", "1", "web"], ["update", "--cpuset-mems", "9", "web"],
    ["update", "--cpuset-mems", "x", "web"], ["update", "--cpuset-cpus", "x", "web"], ["update", "--blkio-weight", "x", "web"],
    ["rmi", "--no-prune", "nosuch"],
    ["stats", "--no-stream", "nosuch"], ["stats", "--no-stream", "web", "nosuch"],
    ["stats", "--no-stream", "--format", "{{.Name}} {{.MemPerc}} {{.PIDs}} {{.BlockIO}}", "made"],
    ["stats", "--no-stream", "-a", "--format", "{{.Name}}"], ["stats", "--no-stream", "--format", "{{.Name}}"],
    ["inspect", "-s", "-f", "{{.SizeRw}}", "web"], ["inspect", "-s", "-f", "{{.Id}}", "{image}"],
    ["inspect", "-f", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}", "still"],
    ["restart", "nosuch"], ["restart"], ["kill", "made"], ["events", "--since", "x"], ["events", "--until", "x"],
    ["events", "--since", "2006-01-02", "--until", "2006-01-03"],
]  # fmt: skip


def plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    return re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)


def first_error(text: str) -> str:
    """The first line of stderr that says something, without the engine's own name for itself."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"^((mini|docker): )?(Error response from daemon: |Error: )?", "", line)
    return plain(re.sub(r"\b(mini|docker)\b", "<engine>", line))


def told(result: Result) -> dict[str, Any]:
    return {"code": result.code, "stdout": plain(result.stdout).splitlines(), "stderr": first_error(result.stderr)}


@pytest.fixture(scope="module")
def fleet(engines: Both) -> Iterator[Both]:
    image = engines.names["host"]
    for engine in (engines.docker, engines.mini):
        options = ["--label", "a=1", "--label", "b", "-v", "data:/data", "-m", "64m", "--memory-swap", "64m"]
        engine.run("run", "-d", "--name", "web", *options, image, "sh", "-c", _SERVE_MORE)
        _await_trap(engine, "web", 1)
        engine.run("exec", "web", "touch", "/dev/shm/go")  # two streams have an order where one waits for the other
        engine.run("create", "--name", "made", "--label", "a=2", image, "true")
        engine.run("run", "--name", "ended", image, "sh", "-c", "exit 3", check=False)
        engine.run("run", "-d", "--name", "still", "--network", "none", image, "sleep", "6000")
        engine.run("pause", "still")
        until(lambda engine=engine: "err" in engine.run("logs", "web").stderr)  # type: ignore[misc]
    yield engines
    for engine in (engines.docker, engines.mini):
        engine.run("rm", "-f", "-v", "web", "made", "ended", "still")
        engine.run("volume", "rm", "-f", "data")


def _await_trap(engine: Engine, name: str, starts: int) -> None:
    """Until a container of _SERVE that was started so often has set its trap: it would ignore SIGTERM before."""
    until(lambda: engine.run("logs", name).lines.count("out") == starts)


def filled(engine: Engine, command: list[str], image: str) -> list[str]:
    values = {"{image}": image}
    if any("{web}" in word for word in command):
        values["{web}"] = engine.run("inspect", "-f", "{{.Id}}", "web").out[:8]
    for key, value in values.items():
        command = [word.replace(key, value) for word in command]
    return command


@pytest.mark.parametrize("command", READING, ids=[" ".join(c) for c in READING])
def test_says_the_same(fleet: Both, command: list[str]) -> None:
    image = fleet.names["host"]
    found = [told(engine.run(*filled(engine, command, image), check=False)) for engine in (fleet.docker, fleet.mini)]
    _same(*found)


def _same(docker: Any, mini: Any) -> None:
    theirs, ours = (json.dumps(value, indent=1).splitlines() for value in (docker, mini))
    difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=1, lineterm=""))
    assert not difference, "\n".join(difference)


@pytest.mark.parametrize("options", [[], ["aux"], ["-o", "pid,comm"], ["-eo", "pid,args"], ["-ef", "f"]])
def test_top(fleet: Both, options: list[str]) -> None:
    """The same columns, widths and commands; not the numbers, nor their order: the kernel's may have begun again at the lowest."""
    shown = []
    for engine in (fleet.docker, fleet.mini):
        header, *rows = engine.run("top", "web", *options).lines
        shown.append([header.rstrip(), *sorted(re.sub(r"\d+", "N", re.split(r" {2,}", row)[-1]) for row in rows)])
    _same(*shown)


def test_stats_table(fleet: Both) -> None:
    shown = []
    for engine in (fleet.docker, fleet.mini):
        lines = engine.stats("-a") if isinstance(engine, Docker) else engine.run("stats", "--no-stream", "-a").lines
        rows = []
        for identity, name, _cpu, memory, _part, _network, disk, processes in (
            re.split(r" {2,}", line) for line in lines
        ):
            # what was read from disk is what the page cache did not hold
            read = "" if name in ("web", "still") else disk
            rows.append([plain(identity), name, memory.partition(" / ")[2], read, processes])
        shown.append(rows)
    _same(*shown)


# Stories: what each command says, and what is there afterwards.
STORIES = {
    "pause": [
        "run -d --name it {image} sh -c {serve}", "pause it", "ps --format {{.State}}", "pause it", "unpause it",
        "ps --format {{.State}}", "unpause it", "pause it", "kill -s CONT it",
        "rm -f it", "inspect it",
    ],
    "pause and stop": [
        "run -d --name it {image} sh -c {serve}", "pause it", "stop it", "inspect -f {{.State.ExitCode}} it",
        "start it", "pause it", "kill it", "wait it", "start it", "pause it", "restart -t 5 it",
        "inspect -f {{.State.Status}} it", "rm -f it",
    ],
    "rename": [
        "run -d --name it {image} sleep 60", "rename it other", "inspect -f {{.Name}} other", "inspect it",
        "run -d --name it {image} sleep 60", "rename it other", "rename other third", "rename it /other",
        "ps --format {{.Names}}", "rm -f third", "rm -f other", "rm it",
    ],
    "restart": [
        "run -d --name it {image} sh -c {serve}", "restart -t 5 it", "inspect -f {{.State.Running}} it", "stop it",
        "inspect -f {{.State.ExitCode}} it", "restart it nosuch", "inspect -f {{.State.Running}} it",
        "restart -s KILL it", "rm -f it",
    ],
    "update": [
        "run -d --name it {image} sleep 60", "update -m 64m --memory-swap 128m --cpus 0.5 it",
        "update -c 512 --cpuset-cpus 0 --pids-limit 50 it", "update -m 256m it", "update --restart on-failure:2 it",
        "inspect -f {{.HostConfig.Memory}}_{{.HostConfig.MemorySwap}}_{{.HostConfig.NanoCpus}} it",
        "inspect -f {{.HostConfig.CpuShares}}_{{.HostConfig.CpusetCpus}}_{{.HostConfig.PidsLimit}} it",
        "inspect -f {{json .HostConfig.RestartPolicy}} it", "exec it cat {cgroup}/memory/memory.limit_in_bytes",
        "exec it cat {cgroup}/memory/memory.memsw.limit_in_bytes", "exec it cat {cgroup}/cpu/cpu.cfs_quota_us",
        "exec it cat {cgroup}/cpu/cpu.shares", "exec it cat {cgroup}/pids/pids.max", "rm -f it",
    ],
    "update of processors": [
        "run -d --name it {image} sleep 60", "update --cpu-period 50000 --cpu-quota 25000 --cpuset-mems 0 it",
        "exec it cat {cgroup}/cpu/cpu.cfs_quota_us {cgroup}/cpu/cpu.cfs_period_us {cgroup}/cpuset/cpuset.mems",
        "update --cpus 1 it", "update --cpu-quota -1 it", "update -c 512 it",
        "inspect -f {{.HostConfig.CpuPeriod}}_{{.HostConfig.CpuQuota}}_{{.HostConfig.CpusetMems}} it",
        "exec it cat {cgroup}/cpu/cpu.cfs_quota_us {cgroup}/cpu/cpu.cfs_period_us {cgroup}/cpu/cpu.shares", "rm -f it",
        "run -d --name it --cpus 1 {image} sleep 60", "update --cpu-quota 5000 it", "update --cpu-period 5000 it",
        "update --cpus 1.5 --cpu-quota 5000 it", "exec it cat {cgroup}/cpu/cpu.cfs_quota_us", "rm -f it",
    ],
    "a parent cgroup": [
        "create --name it --cgroup-parent own.slice {image} true", "inspect -f {{.HostConfig.CgroupParent}} it", "rm it",
    ],
    "what there is one of": [
        "create --name it --isolation default --volume-driver local -v data:/data --cpu-rt-period 500000 {image} true",
        "inspect -f {{.HostConfig.Isolation}}_{{.HostConfig.VolumeDriver}}_{{.HostConfig.CpuRealtimePeriod}} it", "rm it",
    ],
    "restart with rm": [
        "run -d --rm --name it {image} sh -c {serve}", "restart -t 5 it", "inspect -f {{.State.Running}} it",
        "update --restart always it", "stop it",
    ],
    "attach": [
        "run -di --name it {image} sh -c {late}", "attach --no-stdin it", "attach it", "rm it",
        "run -dit --name it {image} sh", "attach it", "rm -f it",
    ],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(both: Both, story: list[str]) -> None:
    values = {
        "{image}": both.names["host"],
        "{serve}": _SERVE,
        "{late}": "sleep 3; echo late; echo err >&2; exit 4",
    }
    values["{cgroup}"] = "/sys/fs/cgroup"
    found = []
    for engine in (both.docker, both.mini):
        steps = []
        starts = 0
        for line in story:
            command = [values.get(word, word) for word in line.replace("{cgroup}", values["{cgroup}"]).split(" ")]
            if command[:2] == ["inspect", "-f"]:
                command = ["inspect", "-f", " ".join(command[2:-1]), command[-1]]
            steps.append({"command": line, **told(engine.run(*command, input="hello\n", check=False))})
            if "{serve}" in story[0] and command[0] in ("run", "start", "restart"):
                _await_trap(engine, "it", starts := starts + 1)
        found.append(steps)
    _same(*found)


# --- events


def events(engine: Engine, image: str) -> list[str]:
    """What both engines tell of one story. Networks, mounts of volumes and prunes are left out, and the attributes of images."""
    begin = f"{time.time():.9f}"
    engine.run("run", "-d", "--name", "it", "--label", "a=1", "-v", "data:/data", image, "sh", "-c", _SERVE)
    _await_trap(engine, "it", 1)
    engine.run("exec", "it", "sh", "-c", "exit 3", check=False)
    engine.run("pause", "it")
    engine.run("unpause", "it")
    engine.run("rename", "it", "other")
    engine.run("update", "-c", "512", "other")
    engine.run("top", "other")
    engine.run("kill", "-s", "CONT", "other")
    engine.run("restart", "-t", "5", "other")
    _await_trap(engine, "other", 2)
    engine.run("stop", "-t", "5", "other")
    engine.run("rm", "other")
    engine.run("volume", "rm", "data")
    engine.run(
        "run", "--rm", "--name", "oom", "-m", "20m", image, "python3", "-c", "x = b'a' * (100 << 20)", check=False
    )
    engine.run("tag", image, "named:1")
    engine.run("rmi", "named:1")
    shown = engine.run("events", "--since", begin, "--until", f"{time.time():.9f}").lines
    lines = []
    for line in shown:
        line = re.sub(r"execID=\w+", "execID=<>", plain(line.partition(" ")[2])).replace(image, "<image>")
        if not re.match(r"network |volume (un)?mount|\w+ prune", line):
            lines.append(re.sub(r"\(.*", "", line) if line.startswith("image") else line)
    return lines


def test_events(both: Both) -> None:
    docker, mini = (events(engine, both.names["host"]) for engine in (both.docker, both.mini))
    # Docker hears of memory that runs out from elsewhere than of the end: before it, after it, or when nothing is left
    lacks = [line for line in mini if line.startswith("container oom ")]
    assert len(lacks) == 1 and mini[mini.index(lacks[0]) + 1].startswith("container die ")
    assert {line for line in docker if line.startswith("container oom ")} <= {*lacks}
    docker, mini = ([line for line in lines if not line.startswith("container oom ")] for lines in (docker, mini))
    # and whoever waits for an end may hear of it before it is noted
    for at, (first, second) in enumerate(itertools.pairwise(docker)):
        if first.startswith("container stop ") and second.startswith("container die "):
            docker[at : at + 2] = second, first
    _same(docker, mini)
