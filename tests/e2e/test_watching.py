"""`top`, `stats`, `port`, `wait`, `logs` in time, `ps --filter` and `-s`: what is told of containers."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

_BUSY = "while :; do :; done"


def start(mini: Mini, image: Image, name: str, *options: str, script: str = "exec sleep 60") -> str:
    return mini.detached("--name", name, "--network", "none", *options, image.name, "sh", "-c", script)


# --- top


def test_top(mini: Mini, image: Image) -> None:
    container = start(mini, image, "it", "-u", "1234", script="sleep 61 & sleep 62 & wait")
    while not {"sleep 61", "sleep 62"} <= {re.split(r" {2,}", line)[-1] for line in mini.run("top", "it").lines}:
        time.sleep(0.02)
    header, *rows = mini.run("top", "it").lines
    assert header.split() == "UID PID PPID C STIME TTY TIME CMD".split()
    pid = mini.inspect(container)["State"]["Pid"]
    found = [re.split(r" {2,}", row) for row in rows]
    assert [row[0] for row in found] == ["1234"] * 3
    assert found[0][1] == str(pid) and {row[2] for row in found[1:]} == {str(pid)}
    assert [row[5] for row in found] == ["?"] * 3
    assert sorted(row[7] for row in found[1:]) == ["sleep 61", "sleep 62"]


@pytest.mark.requires("program:ps")
def test_top_says_what_ps_says(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "it", "-t", script="sleep 61 & exec sleep 62")
    while "sleep 62" not in mini.run("top", "it").out or len(mini.run("top", "it").lines) < 3:
        time.sleep(0.02)
    own, of_ps = mini.run("top", "it").lines, mini.run("top", "it", "-ef").lines
    rows = [[re.split(r" {2,}", line) for line in lines] for lines in (own, of_ps)]
    assert {row[5] for row in rows[0][1:]} == {"pts/0"}
    for row in (*rows[0][1:], *rows[1][1:]):
        # how busy it was: of two moments
        assert row[3].isdigit()
        # ps looks for the terminal among the host's, which may have none of this number
        assert row[5] in ("pts/0", "?")
        row[3] = row[5] = ""
    assert rows[0] == rows[1]


@pytest.mark.requires("program:ps")
def test_top_with_options_of_ps(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "it")
    start(mini, host_image, "other")
    pid = str(mini.inspect("it")["State"]["Pid"])
    assert mini.run("top", "it", "-o", "pid,comm").lines[0].split() == ["PID", "COMMAND"]
    assert [line.split()[0] for line in mini.run("top", "it", "-eo", "pid,args").lines[1:]] == [pid]
    assert [line.split()[1] for line in mini.run("top", "it", "-ef", "f").lines[1:]] == [pid]
    for options, said in (
        (["-o", "comm"], "Couldn't find PID field in ps output"),
        (["-zzz"], "ps: error: unsupported"),
        (["-eo", "ppid=PID"], 'specifying "ppid=PID" is not allowed'),
    ):
        result = mini.run("top", "it", *options, check=False)
        assert (result.code, result.stdout) == (1, ""), options
        assert said in result.stderr


def test_top_needs_a_running_container(mini: Mini, host_image: Image) -> None:
    container = mini.run("create", "--name", "it", host_image.name, "true").out
    assert f"Container {container} is not running" in mini.run("top", "it", check=False).stderr


# --- stats


def test_stats(mini: Mini, host_image: Image) -> None:
    script = f"head -c 3000000 /dev/zero | tail -c 3000000 | cat >/dev/null; {_BUSY}"
    container = start(mini, host_image, "it", "-m", "64m", "--cpus", "0.5", script=script)
    start(mini, host_image, "idle")
    mini.run("create", "--name", "created", host_image.name, "true")
    rows = {r["Name"]: r for r in map(json.loads, mini.run("stats", "--no-stream", "--format", "json").lines)}
    assert set(rows) == {"it", "idle"}
    row = rows["it"]
    assert (row["ID"], row["Container"], row["PIDs"]) == (container[:12], container[:12], "1")
    assert row["MemUsage"].endswith(" / 64MiB") and not row["MemUsage"].startswith("0B")
    # half of one processor, as it is limited to; never more, and idle nothing to speak of
    assert 5 < float(row["CPUPerc"].rstrip("%")) < 75
    assert float(rows["idle"]["CPUPerc"].rstrip("%")) < 5
    assert row["NetIO"] == "0B / 0B"
    table = mini.run("stats", "--no-stream", "-a").lines
    assert re.split(r" {2,}", table[0]) == [
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ]
    assert len(table) == 4
    (created,) = (line for line in table if "created" in line)
    assert re.split(r" {2,}", created)[2:] == ["0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0"]
    shown = mini.run("stats", "--no-stream", "--no-trunc", "--format", "{{.Container}} {{.ID}}", "it").out
    assert shown == f"it {container}"
    missing = mini.run("stats", "--no-stream", "it", "nosuch", check=False)
    assert (missing.code, missing.stdout) == (1, "") and "No such container: nosuch" in missing.stderr


def test_network_traffic_is_counted(mini: Mini, host_image: Image) -> None:
    mini.run("run", "-d", "--name", "it", host_image.name, "sleep", "60")
    mini.run(
        "exec",
        "it",
        "python3",
        "-c",
        "import socket; socket.socket(2, 2).sendto(b'x' * 1000, ('10.213.0.9', 9))",
        check=False,
    )
    (row,) = map(json.loads, mini.run("stats", "--no-stream", "--format", "json", "it").lines)
    assert row["NetIO"] != "0B / 0B"


def test_stats_draws_again_and_ends_with_what_it_watches(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "it")
    watcher = mini.start("stats", "it")
    assert watcher.stdout
    first = watcher.stdout.readline()
    assert first.startswith("\x1b[HCONTAINER ID") and first.endswith("\x1b[K\n")
    mini.run("rm", "-f", "it")
    rest, errors = watcher.communicate(timeout=20)
    assert (watcher.returncode, errors) == (0, "")
    assert rest.count("\x1b[H") >= 1 and rest.endswith("\x1b[J")


# --- port, wait


def test_port_of_what_publishes_nothing(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "it")
    assert mini.run("port", "it").stdout == ""
    for arguments, said in (
        (["it", "80"], "Error: No public port '80' published for it\n"),
        (["it", "80/udp"], "Error: No public port '80/udp' published for it\n"),
        (["it", "x"], 'invalid port (x): strconv.ParseUint: parsing "x": invalid syntax\n'),
        (["nosuch"], "No such container: nosuch\n"),
    ):
        result = mini.run("port", *arguments, check=False)
        assert (result.code, result.stdout) == (1, "")
        assert result.stderr.endswith(said)


def test_wait_of_several(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "slow", script="sleep 0.5; exit 4")
    start(mini, host_image, "fast", script="exit 3")
    mini.run("create", "--name", "created", host_image.name, "true")
    result = mini.run("wait", "slow", "nosuch", "fast", "created", check=False)
    assert (result.code, result.lines) == (1, ["4", "3", "0"])
    assert "No such container: nosuch" in result.stderr


# --- logs


def test_logs_between_two_moments(mini: Mini, host_image: Image) -> None:
    mini.run(
        "run",
        "--name",
        "it",
        "--network",
        "none",
        host_image.name,
        "sh",
        "-c",
        "for i in 1 2 3 4; do echo $i; sleep 0.02; done",
    )
    stamped = [line.split(" ") for line in mini.run("logs", "-t", "it").lines]
    assert [text for _, text in stamped] == ["1", "2", "3", "4"]
    times = [moment for moment, _ in stamped]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", moment) for moment in times)

    def logs(*options: str) -> list[str]:
        return mini.run("logs", *options, "it").lines

    assert logs("--since", times[1]) == ["2", "3", "4"]
    assert logs("--until", times[1]) == ["1", "2"]
    assert logs("--since", times[1], "--until", times[2]) == ["2", "3"]
    assert logs("--since", times[1], "--tail", "3", "-t")[0] == f"{times[1]} 2"
    assert logs("--since", "1h", "--until", "0s") == ["1", "2", "3", "4"]
    assert logs("--until", "1h") == logs("--tail", "0") == logs("--since", str(int(time.time()) + 60)) == []
    assert logs("--tail", "2") == ["3", "4"]
    assert logs("-f", "--since", times[2]) == ["3", "4"]
    for option in ("since", "until"):
        result = mini.run("logs", f"--{option}", "x", "it", check=False)
        assert (result.code, result.stdout) == (1, "")
        assert f'invalid value for "{option}": failed to parse value as time or duration: "x"' in result.stderr


def test_following_ends_when_until_has_come(mini: Mini, host_image: Image) -> None:
    start(mini, host_image, "it", script="while :; do echo x; sleep 0.05; done")
    until = time.time() + 1
    lines = mini.run("logs", "-f", "--until", f"{until:.3f}", "it").lines
    assert 1 < len(lines) < 40
    assert mini.inspect("it")["State"]["Running"] is True


# --- ps and inspect


def test_ps_filters(mini: Mini, host_image: Image) -> None:
    first = start(mini, host_image, "first", "--label", "a=1", "--label", "b", "-v", "data:/var/data")
    mini.run("run", "--name", "second", "--label", "a=2", host_image.name, "sh", "-c", "exit 3", check=False)
    mini.run("create", "--name", "third", "--network", "none", "-v", f"{mini.root}:/host", host_image.name, "true")
    start(mini, host_image, "paused", "--health-cmd", "true", "--health-interval", "50ms")
    while mini.inspect("paused")["State"]["Health"]["Status"] != "healthy":
        time.sleep(0.02)
    mini.run("pause", "paused")
    everything = "paused third second first"
    for filters, wanted in (
        ("name=ir", "third first"),
        ("name=^/first$", "first"),
        ("name=first name=sec", "second first"),
        (f"id={first[:8]}", "first"),
        ("label=a", "second first"),
        ("label=a=1", "first"),
        ("label=a label=b", "first"),
        ("exited=3", "second"),
        ("exited=0", ""),
        ("status=running", "first"),
        ("status=paused status=created", "paused third"),
        (f"ancestor={host_image.name}", everything),
        ("ancestor=nosuch", ""),
        ("before=third", "second first"),
        ("since=second", "paused third"),
        ("since=first before=third", "second"),
        ("volume=data", "first"),
        ("volume=/var/data", "first"),
        (f"volume={mini.root}", "third"),
        ("network=none", "paused third first"),
        ("network=bridge", "second"),
        ("health=healthy", "paused"),
        ("health=none", "third second first"),
        ("publish=80", ""),
        ("expose=80-90/udp", ""),
        ("is-task=true", ""),
        ("is-task=false name=first", "first"),
        ("name=first status=exited", ""),
    ):
        options = [word for text in filters.split() for word in ("--filter", text)]
        shown = mini.run("ps", "-a", "--format", "{{.Names}}", *options).lines
        assert " ".join(shown) == wanted, filters
    names = ["--format", "{{.Names}}"]
    assert mini.run("ps", *names, "-f", "status=exited").lines == ["second"]  # shows those that do not run
    assert mini.run("ps", *names, "-f", "label=a").lines == ["first"]
    assert mini.run("ps", *names, "-n", "1", "-f", "label=a").lines == ["second"]
    for text, said in (
        ("colour=red", "Invalid filter 'colour'"),
        ("status=dancing", "Invalid filter 'status=dancing'"),
        ("exited=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("before=nosuch", "no such container nosuch"),
        ("health=x", "Unrecognised filter value for health: x"),
        ("expose=x", 'error while looking up for expose x: strconv.ParseUint: parsing "x": invalid syntax'),
    ):
        result = mini.run("ps", "-f", text, check=False)
        assert (result.code, result.stdout) == (1, "")
        assert said in result.stderr


def test_sizes(mini: Mini, host_image: Image) -> None:
    mini.run(
        "run",
        "--name",
        "it",
        "--network",
        "none",
        host_image.name,
        "sh",
        "-c",
        "head -c 5000 /dev/zero >/a; ln /a /b; mkdir /d; rm /etc/motd",
    )
    (image,) = mini.run("image", "inspect", host_image.name).json()
    (found,) = mini.run("inspect", "-s", "it").json()
    assert (found["SizeRw"], found["SizeRootFs"]) == (5000, 5000 + image["Size"])
    assert "SizeRw" not in mini.inspect("it")
    assert mini.run("ps", "-as").lines[1].split("it")[-1].strip().startswith("5kB (virtual ")
    assert mini.run("ps", "-a", "--format", "{{.Size}}").out.startswith("5kB (virtual ")
    result = mini.run("inspect", "-s", "-f", "{{.Id}}", host_image.name)
    assert result.stderr == "WARNING: --size ignored for image\n"


# --- events


def test_events(mini: Mini, host_image: Image) -> None:
    begin = f"{time.time():.9f}"
    container = mini.run(
        "create",
        "--name",
        "it",
        "--network",
        "none",
        "--label",
        "a=1",
        "-v",
        "data:/data",
        host_image.name,
        "sh",
        "-c",
        "exit 3",
    ).out
    mini.run("start", "-a", "it", check=False)
    mini.run("rename", "it", "other")
    mini.run("tag", host_image.name, "named:1")
    mini.run("rmi", "named:1")
    mini.run("rm", "other")
    mini.run("volume", "rm", "data")
    shown = ["events", "--since", begin, "--until", "0s"]
    image = mini.run("images", "-q", "--no-trunc", host_image.name).out
    told = [line.split(" ", 1)[1] for line in mini.run(*shown).lines]
    labels = mini.run("image", "inspect", "-f", "{{json .Config.Labels}}", host_image.name).json() or {}
    more = "".join(f"{key}={value}, " for key, value in labels.items())
    about = f"{container} (a=1, image={host_image.name}, {more}name="
    network = mini.run("network", "inspect", "-f", "{{.Id}}", "none").out
    assert told == [
        "volume create data (driver=local)",
        f"container create {about}it)",
        f"container attach {about}it)",
        f"volume mount data (container={container}, destination=/data, driver=local, propagation=, read/write=true)",
        f"network connect {network} (container={container}, name=none, type=null)",
        f"container start {about}it)",
        f"container die {container} (a=1, exitCode=3, image={host_image.name}, {more}name=it)",
        f"network disconnect {network} (container={container}, name=none, type=null)",
        f"volume unmount data (container={container}, driver=local)",
        f"container rename {about}other, oldName=/it)",
        f"image tag {image} ({more}name=named:1)",
        f"image untag {image} ({more}name={image})",
        f"container destroy {about}other)",
        "volume destroy data (driver=local)",
    ]
    died = json.loads(mini.run(*shown, "--filter", "event=die", "--format", "json").out)
    assert (died["status"], died["id"], died["from"], died["scope"]) == ("die", container, host_image.name, "local")
    assert list(died)[:3] == ["status", "id", "from"]
    actions = mini.run(
        *shown, "-f", "type=container", "-f", "label=a=1", "--format", "{{.Action}} {{.Actor.ID}} {{.Scope}}"
    ).lines
    assert actions == [f"{a} {container} local" for a in "create attach start die rename destroy".split()]
    for options, said in (
        (["--since", "x"], 'failed to parse value as time or duration: "x"'),
        (["--filter", "x=y"], "invalid filter 'x'"),
    ):
        result = mini.run("events", *options, check=False)
        assert (result.code, result.stdout) == (1, "") and said in result.stderr


def test_events_as_they_come(mini: Mini, host_image: Image) -> None:
    watcher = mini.start("events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    assert watcher.stdout
    # until it listens; what came before is not told
    while os.readlink(f"/proc/{watcher.pid}/exe").endswith(("sh", "dash")) or not _has_open(
        watcher.pid, "events.jsonl"
    ):
        time.sleep(0.02)
    mini.run(
        "run",
        "--rm",
        "--name",
        "it",
        "--network",
        "none",
        "-m",
        "20m",
        host_image.name,
        "python3",
        "-c",
        "x = b'a' * (100 << 20)",
        check=False,
    )
    told = [watcher.stdout.readline().rstrip("\n") for _ in range(6)]
    assert told == [f"{action} it" for action in "create attach start oom die destroy".split()]
    watcher.terminate()
    watcher.communicate()


def _has_open(pid: int, name: str) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").endswith(name) for fd in descriptors)
    except OSError:
        return False


def test_events_of_execs_and_health(mini: Mini, host_image: Image) -> None:
    begin = f"{time.time():.9f}"
    start(mini, host_image, "it", "--health-cmd", "true", "--health-interval", "50ms")
    mini.run("exec", "it", "sh", "-c", "exit 4", check=False)
    while mini.inspect("it")["State"]["Health"]["Status"] != "healthy":
        time.sleep(0.02)
    shown = ["events", "--since", begin, "--until", "0s", "--filter", "container=it", "--format", "json"]
    told = [json.loads(line) for line in mini.run(*shown).lines]
    execs = [e for e in told if e["Action"].startswith("exec_")]
    assert [e["Action"] for e in execs] == ["exec_create: sh -c exit 4", "exec_start: sh -c exit 4", "exec_die"]
    assert len({e["Actor"]["Attributes"]["execID"] for e in execs}) == 1
    assert execs[-1]["Actor"]["Attributes"]["exitCode"] == "4"
    assert "health_status: healthy" in [e["Action"] for e in told]
