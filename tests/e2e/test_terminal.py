"""A container's streams and the user's terminal: every way in and out, and every byte on the way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support.images import Image
from tests.support.runner import PROGRAM, Mini
from tests.support.terminal import Terminal

pytestmark = pytest.mark.requires("linux", "root", "netns")

_LINES = "stty -echo; echo ready; while read a; do echo got $a; done; exit 3"


def on_terminal(mini: Mini, image: Image, how: str, script: str = _LINES) -> Terminal:
    """The script on a terminal by run, exec or attach, ready for input."""
    run = ["run", "-it", "--network", "none", "--name", "it", image.name, "sh", "-c", script]
    if how == "run":
        terminal = mini.terminal(*run)
    else:
        mini.run("run", "-d", *run[1:])
        terminal = mini.terminal(*(["attach", "it"] if how == "attach" else ["exec", "-it", "it", "sh", "-c", script]))
    try:
        wait_for(lambda: terminal.attributes() != terminal.attributes_before)
        terminal.write("a\n")
        terminal.expect("got a\r\n")
    except BaseException:
        terminal.close()
        raise
    return terminal


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_told(mini: Mini, signals: int) -> None:
    """How many the client has passed on: two that come before it has taken the first are one to it (signal(7))."""
    shown = ("--filter", f"container={mini.inspect('it')['Id']}", "--filter", "event=kill")
    wait_for(lambda: len(mini.run("events", "--since", "1h", "--until", "0s", *shown).lines) == signals)


def status(mini: Mini) -> str:
    return str(mini.inspect("it")["State"]["Status"])


# --- the terminal's mode


@pytest.mark.parametrize("how", ["run", "attach", "exec"])
@pytest.mark.parametrize("end", ["exit", "detach", "kill", "rm", "monitor"])
def test_the_terminal_is_put_back(mini: Mini, host_image: Image, how: str, end: str) -> None:
    with on_terminal(mini, host_image, how) as terminal:
        if end == "exit":
            terminal.write("\x04")
        elif end == "detach":
            terminal.write("\x10\x11")
        elif end == "monitor":
            os.kill(mini_monitor(mini), signal.SIGKILL)
        else:
            mini.run(*{"kill": ["kill", "it"], "rm": ["rm", "-f", "it"]}[end])
        code = terminal.wait()
        assert terminal.attributes() == terminal.attributes_before
        assert code == {"exit": 3, "detach": 0 if how == "run" else 1, "kill": 137, "rm": 137}.get(end, code)
    if end == "detach":
        assert status(mini) == "running"


def mini_monitor(mini: Mini) -> int:
    with open(f"{mini.root}/containers/{mini.inspect('it')['Id']}/state.json") as file:
        return int(json.load(file)["MonitorPid"])


@pytest.mark.parametrize("how", ["attach", "exec"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_client_that_is_ended_puts_the_terminal_back(mini: Mini, host_image: Image, how: str, number: int) -> None:
    with on_terminal(mini, host_image, how) as terminal:
        terminal.process.send_signal(number)
        assert terminal.process.wait(60) == (130 if number == signal.SIGINT else -number)
        assert terminal.attributes() == terminal.attributes_before
    assert status(mini) == "running"


def test_three_signals_that_the_container_ignores_end_run(mini: Mini, host_image: Image) -> None:
    with on_terminal(mini, host_image, "run", "trap '' TERM; " + _LINES) as terminal:
        for passed_on in range(3):
            wait_until_told(mini, passed_on)
            terminal.process.send_signal(signal.SIGTERM)
        terminal.expect("got 3 SIGTERM/SIGINTs, forcefully exiting")
        assert terminal.wait() == 1
        assert terminal.attributes() == terminal.attributes_before
    assert status(mini) == "running"


def test_who_insists_on_leaving_does_not_remove_it(mini: Mini, host_image: Image) -> None:
    script = "trap '' INT; echo ready; while :; do sleep 0.1; done"
    client = mini.start("run", "--rm", "--network", "none", "--name", "it", host_image.name, "sh", "-c", script)
    assert client.stdout and client.stdout.readline() == "ready\n"
    for passed_on in range(3):
        wait_until_told(mini, passed_on)
        client.send_signal(signal.SIGINT)
    client.communicate(timeout=60)
    assert (client.returncode, status(mini)) == (1, "running")


def test_an_error_at_the_start_leaves_the_terminal_alone(mini: Mini, host_image: Image) -> None:
    with mini.terminal("run", "-it", "--rm", "--network", "none", host_image.name, "/nosuch") as terminal:
        assert terminal.wait() == 127
        assert terminal.attributes() == terminal.attributes_before


def test_a_client_that_was_stopped_goes_on_in_raw_mode(mini: Mini, host_image: Image) -> None:
    """A shell sets the terminal as it likes it while its job is stopped; the window may have another size by then."""
    with on_terminal(mini, host_image, "run", "stty -echo; while read a; do echo got $a; stty size; done") as terminal:
        terminal.process.send_signal(signal.SIGSTOP)
        terminal.put_back()
        terminal.resize(20, 70)
        terminal.process.send_signal(signal.SIGCONT)
        wait_for(lambda: terminal.attributes() != terminal.attributes_before)
        terminal.write("b\n")
        terminal.expect("got b\r\n20 70")


# --- several clients


def test_two_terminals_show_the_same_and_both_may_type(mini: Mini, host_image: Image) -> None:
    with on_terminal(mini, host_image, "run") as first, mini.terminal("attach", "it") as second:
        wait_for(lambda: second.attributes() != second.attributes_before)
        for number, typist in enumerate((first, second, first)):
            typist.write(f"line {number}\n")
            for terminal in (first, second):
                terminal.expect(f"got line {number}\r\n")
        second.write("\x04")
        assert (first.wait(), second.wait()) == (3, 3)


# --- bytes


def test_a_hundred_megabytes_both_ways(mini: Mini, host_image: Image) -> None:
    source, sink = f"{mini.root}/source", f"{mini.root}/sink"
    with open(source, "wb") as file:
        for _ in range(100):
            file.write(os.urandom(1_000_000))
    run = [PROGRAM, "run", "-i", "--rm", "--network", "none", host_image.name, "cat"]
    with open(source, "rb") as stdin, open(sink, "wb") as stdout:
        subprocess.run(run, env=mini.environ, stdin=stdin, stdout=stdout, check=True, timeout=100)
    digests = []
    for path in (source, sink):
        with open(path, "rb") as stdin:
            digests.append(hashlib.file_digest(stdin, "sha256").hexdigest())
        os.unlink(path)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("options", [[], ["-t"], ["--log-driver", "none"]])
def test_the_last_bytes_of_one_that_ends_at_once(mini: Mini, host_image: Image, options: list[str]) -> None:
    script = "printf %0200000d 7; echo end >&2"
    for _ in range(17):
        found = mini.run("run", "--rm", "--network", "none", *options, host_image.name, "sh", "-c", script)
        out, err = ("0" * 199999 + "7", "end\n")
        assert (found.stdout, found.stderr) == ((out + "end\r\n", "") if "-t" in options else (out, err))


@pytest.mark.parametrize("how", ["run", "exec"])
def test_input_ends_and_output_goes_on(mini: Mini, host_image: Image, how: str) -> None:
    script = "cat; echo eof; exec <&-; sleep 0.3; echo late; exit 6"
    if how == "run":
        command = ["run", "-i", "--rm", "--network", "none", host_image.name]
    else:
        mini.run("run", "-d", "--network", "none", "--name", "it", host_image.name, "sleep", "1000")
        command = ["exec", "-i", "it"]
    found = mini.run(*command, "sh", "-c", script, input=b"in\0\xff", check=False)
    assert (found.code, found.stdout) == (6, "in\0\udcffeof\nlate\n")


def test_input_that_nobody_reads_holds_nothing_up(mini: Mini, host_image: Image) -> None:
    run = ["run", "-i", "--rm", "--network", "none", host_image.name]
    found = mini.run(*run, "sh", "-c", "exec <&-; sleep 0.3; echo end", input=bytes(3_000_000))
    assert found.out == "end"
    assert mini.run(*run, "head", "-c", "3", input=b"abc" * 1_000_000).out == "abc"


# --- narrow terminals


@pytest.mark.parametrize("command", ["ps -a", "images", "volume ls", "system df"])
def test_tables_on_a_narrow_terminal(mini: Mini, host_image: Image, command: str) -> None:
    """As in Docker, a table is as wide as what is in it: the terminal wraps it, nothing is cut, all of it is told."""
    mini.run("create", "--name", "it", "--network", "none", host_image.name, "true")
    wanted = mini.run(*command.split()).lines
    with mini.terminal(*command.split(), columns=20) as terminal:
        assert terminal.wait() == 0
        assert terminal.screen.decode().replace("\r\n", "\n").splitlines() == wanted


def test_progress_on_a_narrow_terminal(mini: Mini, host_image: Image) -> None:
    """A line that the terminal wraps could not be overwritten: each is cut to the terminal's width."""
    mini.run("rmi", "-f", host_image.name)
    with mini.terminal("pull", host_image.name, columns=20) as terminal:
        assert terminal.wait() == 0
        pieces = re.split(r"[\r\n]|\x1b\[\d*[A-Z]", terminal.screen.decode())
    bars = [piece for piece in pieces if re.match(r"[0-9a-f]{12}:", piece)]
    assert bars and max(map(len, bars)) <= 20
