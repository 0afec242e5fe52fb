"""A container's life: in the background, its logs, commands in it, its end and what is told of it."""

from __future__ import annotations

import re
import time

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

_PATIENT = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"


def _wait_for_log(mini: Mini, container: str, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in mini.run("logs", container).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_detached_logs_stop(mini: Mini, image: Image) -> None:
    result = mini.run("run", "-d", "--name", "it", image.name, "sh", "-c", _PATIENT)
    assert re.fullmatch(r"[0-9a-f]{64}", result.out)
    assert result.stderr == ""
    _wait_for_log(mini, "it", "ready")
    assert mini.run("stop", "it").out == "it"
    assert mini.run("logs", "it").lines == ["ready", "bye"]
    state = mini.inspect("it")["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 7, 0)


def test_logs_keep_the_streams_apart(mini: Mini, image: Image) -> None:
    mini.run("run", "--name", "it", image.name, "sh", "-c", "echo out; echo err >&2")
    logs = mini.run("logs", "it")
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")


def test_logs_follow_to_the_end(mini: Mini, image: Image) -> None:
    container = mini.detached(image.name, "sh", "-c", "echo one; sleep 0.5; echo two")
    assert mini.run("logs", "-f", container).lines == ["one", "two"]


def test_pid_1_without_a_handler_is_killed_after_the_timeout(mini: Mini, image: Image) -> None:
    container = mini.detached(image.name, "sleep", "60")
    mini.run("stop", "-t", "1", container)
    assert mini.inspect(container)["State"]["ExitCode"] == 137


def test_kill(mini: Mini, image: Image) -> None:
    container = mini.detached("--name", "it", image.name, "sh", "-c", _PATIENT)
    _wait_for_log(mini, "it", "ready")
    mini.run("kill", "-s", "USR1", "it")  # pid_namespaces(7): no handler, so it never arrives
    assert mini.inspect("it")["State"]["Running"] is True
    assert mini.run("kill", "it").out == "it"
    assert mini.run("wait", container, check=False).out in ("137", "")
    assert mini.inspect("it")["State"]["ExitCode"] == 137


def test_exec(mini: Mini, image: Image) -> None:
    mini.detached("--name", "it", "-e", "FROM=run", "-w", "/tmp", image.name, "sleep", "60")
    assert mini.run("exec", "it", "sh", "-c", "echo $FROM; pwd; hostname").lines[:2] == ["run", "/tmp"]
    assert mini.run("exec", "-i", "it", "cat", input="piped").stdout == "piped"
    assert mini.run("exec", "-e", "X=1", "-w", "/", "-u", "1234", "it", "sh", "-c", "echo $X; pwd; id -u").lines == [
        "1",
        "/",
        "1234",
    ]
    assert mini.run("exec", "it", "sh", "-c", "exit 9", check=False).code == 9
    assert mini.run("exec", "it", "no-such-program", check=False).code == 127
    assert mini.run("exec", "it", "/etc/passwd", check=False).code == 126
    pids = mini.run("exec", "it", "sh", "-c", "ls -d /proc/[0-9]*").out.split()
    assert "/proc/1" in pids and len(pids) <= 3


def test_exec_in_a_terminal(mini: Mini, image: Image) -> None:
    mini.detached("--name", "it", image.name, "sleep", "60")
    with mini.terminal("exec", "-it", "it", "sh", rows=30, columns=90) as terminal:
        terminal.write("echo $((40 + 2))-is-it; stty size; tty\r")
        terminal.expect("42-is-it\r\n")
        terminal.expect("30 90\r\n")
        terminal.expect("/dev/pts/")
        terminal.write("exit 6\r")
        assert terminal.wait() == 6


def test_exec_in_a_stopped_container(mini: Mini, host_image: Image) -> None:
    mini.run("run", "--name", "it", host_image.name, "true")
    result = mini.run("exec", "it", "true", check=False)
    assert result.code == 1
    assert "is not running" in result.stderr


def test_ps(mini: Mini, host_image: Image) -> None:
    running = mini.detached("--name", "running", host_image.name, "sleep", "60")
    mini.run("run", "--name", "done", host_image.name, "sh", "-c", "exit 3", check=False)
    heading, *rows = mini.run("ps").lines
    assert heading.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert [row.split()[0] for row in rows] == [running[:12]]
    assert re.search(r'"sleep 60" +(Less than a second|\d+ seconds?) ago +Up ', rows[0])
    listed = mini.run("ps", "-a", "--format", "{{.Names}} {{.Status}}").lines
    assert re.fullmatch(r"done Exited \(3\) .* ago", listed[0])
    assert listed[1].startswith("running Up ")
    assert mini.run("ps", "-q", "--no-trunc").lines == [running]


def test_rm(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "it", host_image.name, "sleep", "60")
    refused = mini.run("rm", "it", check=False)
    assert refused.code == 1
    assert container in refused.stderr
    assert mini.run("rm", "-f", "it").out == "it"
    assert mini.run("ps", "-aq").out == ""
    assert mini.run("rm", "-f", "it", check=False).code == 0
    gone = mini.run("rm", "it", check=False)
    assert (gone.code, "No such container: it" in gone.stderr) == (1, True)


def test_a_prefix_of_the_id_names_it(mini: Mini, host_image: Image) -> None:
    container = mini.detached(host_image.name, "sleep", "60")
    assert mini.inspect(container[:6])["Id"] == container
    assert mini.run("exec", container[:12], "echo", "hello").out == "hello"
    assert re.fullmatch(r"/[a-z]+_[a-z]+\d?", mini.inspect(container)["Name"])


def test_rm_of_a_run_that_failed_to_start(mini: Mini, host_image: Image) -> None:
    """Docker keeps such a container, as created."""
    assert mini.run("run", "--name", "it", host_image.name, "no-such-program", check=False).code == 127
    assert mini.inspect("it")["State"]["ExitCode"] == 127
    mini.run("rm", "it")


def test_the_client_may_die(mini: Mini, image: Image) -> None:
    process = mini.start("run", "--name", "it", image.name, "sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate()
    assert mini.run("exec", "it", "echo", "alive").out == "alive"


def test_start_again(mini: Mini, image: Image) -> None:
    mini.run("run", "--name", "it", image.name, "sh", "-c", "echo once >> /count; wc -l < /count")
    assert mini.run("start", "-a", "it").out.strip() == "2"


def test_inspect_says_what_was_asked_for(mini: Mini, host_image: Image) -> None:
    container = mini.detached(
        "--name", "it", "-e", "A=1", "-w", "/tmp", "-u", "user", "--hostname", "box", "--pids-limit", "50",
        "--cpus", "0.5", "--read-only", "-v", "data:/data", host_image.name, "sleep", "60",
    )  # fmt: skip
    shown = mini.inspect("it")
    assert (shown["Id"], shown["Name"], shown["Path"], shown["Args"]) == (container, "/it", "sleep", ["60"])
    config, host = shown["Config"], shown["HostConfig"]
    assert (config["Hostname"], config["User"], config["WorkingDir"]) == ("box", "user", "/tmp")
    assert (config["Cmd"], config["Image"]) == (["sleep", "60"], host_image.name)
    assert {"A=1", "IMAGE=host"} <= set(config["Env"])
    assert (host["PidsLimit"], host["NanoCpus"], host["ReadonlyRootfs"]) == (50, 500_000_000, True)
    assert [mount["Name"] for mount in shown["Mounts"]] == ["data"]
    assert shown["State"]["Status"] == "running" and shown["State"]["Pid"] > 0


def test_version_and_info(mini: Mini) -> None:
    assert "Version" in mini.run("version").stdout
    shown = mini.run("info").lines
    assert f"Root Dir: {mini.root}" in shown and " Log: journald json-file local none" in shown
    assert (shown.index(" seccomp"), "  Profile: default") == (
        shown.index("Security Options:") + 1,
        shown[shown.index(" seccomp") + 1],
    )
    assert (
        mini.run("info", "-f", "{{json .Runtimes}} {{.Runtimes.mini.Path}}").out
        == '{"mini":{"path":"mini-runtime"}} mini-runtime'
    )
