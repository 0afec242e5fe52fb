"""`attach`: clients that come and go while the container runs; what they see, type and leave behind."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.support.conformance import catches, until
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

_ECHO = "echo early; while read a; do echo got $a; done; exit 3"


def run(mini: Mini, options: str, image: Image, script: str) -> None:
    mini.run("run", "-d", "--network", "none", "--name", "it", *options.split(), image.name, "sh", "-c", script)


def until_log(mini: Mini, text: str) -> None:
    until(lambda: text in mini.run("logs", "it").stdout)


def test_input_output_and_exit_code(mini: Mini, image: Image) -> None:
    run(mini, "-i", image, "echo early; read a; echo got $a; echo err >&2; exit 3")
    until_log(mini, "early")
    attached = mini.run("attach", "it", input="hello\n", check=False)
    assert (attached.code, attached.stdout, attached.stderr) == (3, "got hello\n", "err\n")


def test_several_clients_see_the_same(mini: Mini, host_image: Image) -> None:
    begin = f"{time.time():.9f}"
    run(mini, "-i", host_image, "read a; i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done")
    watchers = [mini.start("attach", "--no-stdin", "it") for _ in range(3)]
    events = ("events", "--since", begin, "--until", "0s", "--filter", "event=attach")
    until(lambda: mini.run(*events).out.count("name=it") == 3)
    feeder = mini.run("attach", "it", input="go\n")
    wanted = "".join(f"{i}\n" for i in range(2000))
    assert [w.communicate(timeout=60)[0] for w in watchers] == [wanted] * 3
    assert feeder.stdout == wanted


def test_a_client_that_is_killed_takes_nothing_with_it(mini: Mini, host_image: Image) -> None:
    run(mini, "-i", host_image, _ECHO)
    gone = mini.start("attach", "it")
    assert gone.stdin and gone.stdout
    gone.stdin.write("one\n")
    gone.stdin.flush()
    assert gone.stdout.readline() == "got one\n"
    gone.kill()
    gone.wait()
    until_log(mini, "got one")
    assert mini.inspect("it")["State"]["Running"] is True
    again = mini.start("attach", "it")
    assert again.stdin and again.stdout
    again.stdin.write("two\n")
    again.stdin.flush()
    assert again.stdout.readline() == "got two\n"
    again.kill()
    again.communicate()


@pytest.mark.parametrize(("keys", "option"), [("\x10\x11", []), ("\x18y", ["--detach-keys", "ctrl-x,y"])])
def test_detach_and_come_back(mini: Mini, host_image: Image, keys: str, option: list[str]) -> None:
    run(mini, "-it", host_image, "stty -echo; " + _ECHO)
    until_log(mini, "early")
    with mini.terminal("attach", *option, "it") as terminal:
        terminal.write("hello\n")
        terminal.expect("got hello")
        terminal.write(keys[0])
        time.sleep(0.1)
        terminal.write(keys[1])
        terminal.expect("read escape sequence")
        assert terminal.wait() == 1
        assert terminal.attributes() == terminal.attributes_before
    assert mini.inspect("it")["State"]["Running"] is True
    with mini.terminal("attach", *option, "it") as terminal:
        # half of the sequence is input like any other
        terminal.write(keys[0] + "z\n")
        terminal.expect("got")
        terminal.write("\x04")
        assert terminal.wait() == 3


def test_the_window_follows_who_attached_last(mini: Mini, host_image: Image) -> None:
    run(mini, "-it", host_image, "while read a; do stty size; done")
    with mini.terminal("attach", "it", rows=33, columns=111) as terminal:
        terminal.write("x\n")
        terminal.expect("33 111")
        terminal.resize(22, 99)
        time.sleep(0.2)
        terminal.write("x\n")
        terminal.expect("22 99")


def test_exec_detaches_too(mini: Mini, host_image: Image) -> None:
    run(mini, "", host_image, "while :; do sleep 0.1; done")
    with mini.terminal("exec", "-it", "--detach-keys", "a,b", "it", "sh", "-c", "echo ready; exec cat") as terminal:
        terminal.expect("ready")
        terminal.write("hello\n")
        for _ in ("the terminal's echo", "cat's"):
            terminal.expect("hello")
        terminal.write("ab")
        terminal.expect("read escape sequence")
        assert terminal.wait() == 1
    assert "cat" in mini.run("top", "it").out


def test_signals_are_passed_on(mini: Mini, host_image: Image) -> None:
    run(mini, "", host_image, "trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.1; done")
    until_log(mini, "ready")
    client = mini.start("attach", "it")
    # it catches all signals at once, of which Python itself catches SIGINT alone
    until(lambda: catches(client.pid, signal.SIGUSR1))
    client.send_signal(signal.SIGINT)
    assert client.communicate(timeout=60)[0] == "int\n"
    assert client.returncode == 5


def test_refusals(mini: Mini, host_image: Image) -> None:
    mini.run("create", "--name", "created", "--network", "none", host_image.name, "true")
    run(mini, "-it", host_image, "sleep 60")
    for arguments, said in (
        (["nosuch"], "No such container: nosuch"),
        (["created"], "You cannot attach to a stopped container, start it first"),
        (["it"], "the input device is not a TTY"),
        (["--detach-keys", "ctrl-1", "it"], "invalid detach keys (ctrl-1)"),
    ):
        result = mini.run("attach", *arguments, check=False)
        assert (result.code, result.stdout) == (1, "")
        assert said in result.stderr


def test_the_end_is_told_to_who_attaches_at_that_moment(mini: Mini, host_image: Image) -> None:
    for _ in range(10):
        mini.run("run", "-d", "--network", "none", "--name", "it", host_image.name, "sh", "-c", "sleep 0.05; exit 4")
        attached = mini.run("attach", "it", check=False)
        assert attached.code == 4 or "stopped container" in attached.stderr, attached
        mini.run("rm", "-f", "it")


def test_a_stuck_client_of_one_does_not_stop_exec(mini: Mini, host_image: Image) -> None:
    """Output is held for the slowest client, as in Docker; everything else goes on."""
    run(mini, "", host_image, "sleep 0.3; cat /dev/zero")
    stuck = subprocess.Popen(
        [mini.run("--version").args[0], "attach", "it"],
        env=mini.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    time.sleep(0.6)
    assert mini.run("exec", "it", "echo", "alive").out == "alive"
    mini.run("kill", "it")
    stuck.kill()
    stuck.communicate()
