"""What happens around a container, through both engines: exec, stop, kill, rm, logs, and what ps, images and inspect say."""

from __future__ import annotations

import difflib
import json
import pprint
import re
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support.conformance import until
from tests.support.docker import Docker
from tests.support.runner import Mini, Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker")

Engine = Docker | Mini

EXECS: list[tuple[str, list[str], list[str]]] = [
    ("environment", ["-e", "B=2"], ["env"]),
    ("user", ["-u", "1234:4321"], ["sh", "-c", "id; pwd; echo $HOME; umask"]),
    ("user by name", ["-u", "nobody"], ["sh", "-c", "id; echo $HOME"]),
    ("workdir", ["-w", "/usr"], ["pwd"]),
    ("exit code", [], ["sh", "-c", "exit 9"]),
    ("streams", [], ["sh", "-c", "echo out; echo err >&2"]),
    ("stdin", ["-i"], ["cat"]),
    ("no stdin", [], ["cat"]),
    ("terminal", ["-t"], ["sh", "-c", "tty; echo $TERM"]),
    ("signal", [], ["sh", "-c", "kill -9 $$"]),
    ("status", [], ["grep", "-E", "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|SigIgn|SigBlk)", "/proc/self/status"]),
    ("limits", [], ["cat", "/proc/self/limits", "/proc/self/oom_score_adj"]),
    ("cgroups", [], ["sh", "-c", "sed 's/[0-9]*:\\([^:]*\\):.*/\\1/' /proc/self/cgroup | sort"]),
    ("descriptors", [], ["ls", "/proc/self/fd"]),
]

# The engine's own words, and a code: 126 on stdout from Docker 20.10; later ones and mini answer on stderr, and
# tell a program that is missing (127) from one that is none (126).
EXEC_FAILURES: list[tuple[str, list[str], list[str]]] = [
    ("missing", [], ["no-such-program"]),
    ("not executable", [], ["/etc/passwd"]),
    ("no such user", ["-u", "no-such-user"], ["true"]),
    ("relative workdir", ["-w", "relative"], ["true"]),
    ("missing workdir", ["-w", "/no/such/directory"], ["true"]),
    ("no such option", ["--no-such-option"], ["true"]),
]


def _plain(text: str) -> list[str]:
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"mini-test-[a-z0-9-]+", "<parent>", text)
    return text.split("\n")


def _same(docker: object, mini: object) -> None:
    theirs, ours = (pprint.pformat(value, width=110).splitlines() for value in (docker, mini))
    difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=1, lineterm=""))
    assert not difference, "\n".join(difference)


def _told(result: Result) -> dict[str, object]:
    return {"code": result.code, "stdout": _plain(result.stdout), "stderr": _plain(result.stderr)}


def _ended(result: Result) -> dict[str, object]:
    """For what fails with words of the engine's own."""
    return {"code": result.code, "stdout": bool(result.stdout), "stderr": bool(result.stderr)}


@pytest.fixture(scope="module")
def sleepers(engines: Both) -> Any:
    """A container called `sleeper` in each engine, for all the execs."""
    for engine in (engines.docker, engines.mini):
        engine.run("run", "-d", "--name", "sleeper", "-e", "A=1", "-w", "/tmp", engines.names["host"], "sleep", "6000")
    yield engines
    for engine in (engines.docker, engines.mini):
        engine.run("rm", "-f", "sleeper")


@pytest.mark.parametrize(("options", "command"), [case[1:] for case in EXECS], ids=[case[0] for case in EXECS])
def test_exec(sleepers: Both, options: list[str], command: list[str]) -> None:
    both = [
        _told(engine.run("exec", *options, "sleeper", *command, input="in\n", check=False))
        for engine in (sleepers.docker, sleepers.mini)
    ]
    _same(*both)


@pytest.mark.parametrize(
    ("options", "command"), [case[1:] for case in EXEC_FAILURES], ids=[case[0] for case in EXEC_FAILURES]
)
def test_exec_failures(sleepers: Both, options: list[str], command: list[str]) -> None:
    for engine in (sleepers.docker, sleepers.mini):
        result = engine.run("exec", *options, "sleeper", *command, check=False)
        assert result.code != 0
        assert result.stdout + result.stderr


def _commands(engine: Engine, image: str) -> list[object]:
    """One story, told by a sequence of commands; what each of them says."""

    def run(*args: str) -> object:
        return _told(engine.run(*args, check=False))

    def ended(*args: str) -> object:
        return _ended(engine.run(*args, check=False))

    script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    story = [run("run", "-d", "--name", "story", image, "sh", "-c", script)]
    _await_log(engine, "story", "ready")
    story += [
        run("stop", "story"),
        run("logs", "story"),
        run("ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.Ports}}."),
        ended("exec", "story", "true"),
        ended("kill", "story"),
        run("stop", "story"),
        run("rm", "story"),
        ended("rm", "story"),
        ended("rm", "-f", "story"),
        ended("logs", "story"),
        ended("inspect", "story"),
        ended("stop", "story"),
    ]
    story += [run("run", "-d", "--name", "second", image, "sleep", "600"), ended("rm", "second"), run("kill", "second")]
    story += [
        run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Pid}}", "second")
    ]
    story += [ended("run", "--name", "second", image, "true"), run("rm", "-f", "second")]
    story += [run("run", "--name", "third", image, "no-such-program"), run("ps", "-a", "--format", "{{.Names}}")][1:]
    story += [run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "third"), run("rm", "third")]
    story += [run("volume", "create", "kept"), run("volume", "ls", "-q"), run("volume", "create", "kept")]
    story += [run("volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}}", "kept"), run("volume", "rm", "kept")]
    story += [ended("volume", "rm", "kept"), ended("volume", "inspect", "kept")]
    story += [run("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")]
    return story


def _await_log(engine: Engine, name: str, text: str) -> None:
    until(lambda: text in engine.run("logs", name).stdout)


def test_a_story(both: Both) -> None:
    docker, mini = (_commands(engine, both.names["host"]) for engine in (both.docker, both.mini))
    _same(docker, mini)


def test_a_link_is_removed(both: Both) -> None:
    found = []
    for engine in (both.docker, both.mini):
        engine.run("run", "-d", "--name", "db", both.names["host"], "sleep", "60")
        engine.run(
            "create", "--name", "web", "--link", "db:d", "--link", "db:e", both.names["host"], "cat", "/etc/hosts"
        )
        told: list[object] = []
        for link in ("web/d", "web/d", "/web/e/", "web", "nosuch", "nosuch/d"):
            done = engine.run("rm", "-l", link, check=False)
            error = re.sub("^.*: (?=No such|Conflict)|mini: ", "", done.stderr.partition("\n")[0])
            told.append((link, done.code, done.out, error))
            told.append(engine.run("inspect", "-f", "{{json .HostConfig.Links}}", "web").json())
        hosts = engine.run("start", "-a", "web").stdout
        told.append([word for word in ("db", "d", "e") if word in hosts.split()])
        found.append(told)
    assert found[0] == found[1]


def test_images(both: Both) -> None:
    """The size is left out: Docker counts what unpacking takes on its disk, mini the layers' tars."""
    docker, mini = (engine.run("images").lines for engine in (both.docker, both.mini))
    assert mini[0].split() == docker[0].split()
    _same(*([line.split()[:3] for line in sorted(lines) if "/library/" in line] for lines in (docker, mini)))
    template = "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.CreatedSince}}"
    docker, mini = (sorted(engine.run("images", "--format", template).lines) for engine in (both.docker, both.mini))
    _same(*([line for line in lines if "/library/" in line] for lines in (docker, mini)))


def test_ps(both: Both) -> None:
    for engine in (both.docker, both.mini):
        engine.run("run", "--name", "ended", both.names["host"], "sh", "-c", "exit 3", check=False)
        engine.run("run", "-d", "--name", "running", both.names["host"], "sleep", "600")
    tables = [engine.run("ps", "-a").lines for engine in (both.docker, both.mini)]
    _same(*([_without_times(line) for line in lines] for lines in tables))
    keys = [sorted(json.loads(engine.run("ps", "--format", "json").out)) for engine in (both.docker, both.mini)]
    assert set(keys[0]) - set(keys[1]) <= {"Platform"}


def _without_times(line: str) -> list[str]:
    line = re.sub(r"\b[0-9a-f]{12}\b", "<id>", line)
    line = re.sub(r"(Less than a second|About a minute|\d+ seconds?|\d+ minutes?)", "<time>", line)
    return re.split(r"\s{2,}", line)


def test_inspect(both: Both) -> None:
    arguments = ["--name", "asked", "-e", "A=1", "-w", "/tmp", "-u", "1000", "--hostname", "box", "--memory", "64m"]
    arguments += ["--cpus", "0.5", "--pids-limit", "50", "-v", "data:/data:ro", "-v", "/opt:/host", "--read-only"]
    shown = []
    for engine in (both.docker, both.mini):
        engine.run("run", "-d", *arguments, both.names["host"], "sleep", "600")
        (value,) = json.loads(engine.run("inspect", "asked").stdout)
        shown.append(_comparable(value))
    docker, mini = shown
    _same(docker, {key: mini.get(key) for key in docker})


def _comparable(value: dict[str, Any]) -> dict[str, Any]:
    """The parts that tools read, without what is the engine's own: paths, IDs, times, addresses, newer fields."""
    host: tuple[str, ...] = (
        "Binds",
        "NetworkMode",
        "AutoRemove",
        "Privileged",
        "ReadonlyRootfs",
        "Memory",
        "NanoCpus",
        "PidsLimit",
    )
    host += ("RestartPolicy", "CapAdd", "CapDrop", "ShmSize")
    found: dict[str, Any] = {f"HostConfig.{key}": value["HostConfig"].get(key) for key in host}
    found["HostConfig.Binds"].sort()  # docker's client collects them in a Go map, which has no order
    if found["HostConfig.NetworkMode"] == "default":  # as newer Dockers resolve it
        found["HostConfig.NetworkMode"] = "bridge"
    config: tuple[str, ...] = (
        "Hostname",
        "Domainname",
        "User",
        "Env",
        "Cmd",
        "Image",
        "WorkingDir",
        "Entrypoint",
        "Labels",
        "Tty",
    )
    config += ("OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr")
    found |= {f"Config.{key}": value["Config"].get(key) for key in config}
    found |= {key: value.get(key) for key in ("Name", "Path", "Args", "Image", "RestartCount", "Platform")}
    state = ("Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "ExitCode", "Error")
    found |= {f"State.{key}": value["State"].get(key) for key in state}
    fields = ("Type", "Name", "Destination", "Driver", "Mode", "RW", "Propagation")
    mounts = sorted(value["Mounts"], key=lambda mount: str(mount["Destination"]))
    found["Mounts"] = [{key: mount.get(key) for key in fields} for mount in mounts]
    found["Networks"] = sorted(value["NetworkSettings"]["Networks"])
    return found
