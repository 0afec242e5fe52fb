"""The same keys pressed on a terminal of both engines: what the screen shows, what is left behind, how it ends."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support.conformance import until

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker", "iproute2")

# Shells that echo nothing themselves: what a line editor writes depends on when the window's size comes.
_SIZES = "stty -echo; echo ready; while read a; do stty size; done"
_LINES = "stty -echo; echo ready; while read a; do echo got $a; done; exit 3"
_BYTES = "stty raw -echo; printf 'ready\\r\\n'; head -c {} | od -An -tx1; exit 4"
_TRAP = "trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.1; done"
_NOTES = "trap 'echo got' INT TERM; echo ready; while :; do sleep 0.1; done"


def running(engine: Any) -> str:
    found = engine.run("inspect", "-f", "{{.State.Running}}", "it", check=False)
    return str(found.out) if found.code == 0 else "gone"


def up(engine: Any, image: str, options: str, script: str) -> None:
    """A container in the background that has said that it is ready."""
    engine.run("run", "-d", *options.split(), "--network", "none", "--name", "it", image, "sh", "-c", script)
    until(lambda: "ready" in engine.run("logs", "it").stdout)


def on_terminal(engine: Any, image: str, how: str, script: str, options: str = "") -> Any:
    """`script` on a terminal by run, start, exec or attach; what it is ready with has come."""
    words = options.split()
    if how == "run":
        command = ["run", *words, "-it", "--network", "none", "--name", "it", image, "sh", "-c", script]
    elif how == "start":
        engine.run("create", "-it", "--network", "none", "--name", "it", image, "sh", "-c", script)
        command = ["start", *words, "-ai", "it"]
    elif how == "exec":
        up(engine, image, "", "echo ready; sleep 1000")
        command = ["exec", *words, "-it", "it", "sh", "-c", script]
    else:
        up(engine, image, "-it", script)
        return engine.terminal("attach", *words, "it", rows=33, columns=111)
    terminal = engine.terminal(*command, rows=33, columns=111)
    terminal.expect("ready")
    terminal.expect("\n")  # after two carriage returns where the client has not made its terminal raw yet
    return terminal


def settled(terminal: Any, key: str, wanted: str) -> str:
    """Presses a key until the answer is what is wanted: an attachment, or a resize, has then arrived."""
    deadline = time.monotonic() + 60
    while True:
        terminal.write(key)
        terminal.expect("\r\n")
        time.sleep(0.2)
        terminal.write(key)
        before: str = terminal.expect("\r\n")
        if before.endswith(wanted):
            return wanted
        assert time.monotonic() < deadline, before


def sizes(engine: Any, image: str, how: str) -> object:
    with on_terminal(engine, image, how, _SIZES) as terminal:
        first = settled(terminal, "x\n", "33 111")
        terminal.resize(22, 99)
        return first, settled(terminal, "x\n", "22 99")


def detaches(engine: Any, image: str, how: str, keys: str, options: str = "") -> object:
    with on_terminal(engine, image, how, _LINES, options) as terminal:
        settled(terminal, "a\n", "got a")
        for key in keys:
            terminal.write(key)
        code = terminal.wait()
        # two carriage returns: the client had not made its terminal raw yet
        return code, re.split(rb"got a\r+\n", terminal.screen)[-1], running(engine)


def puts_back(engine: Any, image: str, how: str, keys: str) -> object:
    """The terminal's attributes, while and after."""
    with on_terminal(engine, image, how, _LINES) as terminal:
        settled(terminal, "a\n", "got a")
        is_changed = terminal.attributes() != terminal.attributes_before
        if keys == "kill":
            engine.run("kill", "it")
        elif keys == "rm":
            engine.run("rm", "-f", "it")
        else:
            terminal.write(keys)
        code = terminal.wait()
        return is_changed, code, terminal.attributes() == terminal.attributes_before


def held_back(engine: Any, image: str, keys: list[str], options: str = "") -> object:
    """Detach keys typed in part, and then something else: all of it is input."""
    with on_terminal(engine, image, "run", _BYTES.format(sum(map(len, keys))), options) as terminal:
        for key in keys:
            terminal.write(key)
            time.sleep(0.1)
        return terminal.wait(), terminal.screen


def interrupts(engine: Any, image: str, how: str, key: str, prepare: str) -> object:
    """Ctrl-C and Ctrl-Z in raw mode are bytes: the shell's foreground job gets the signal, the shell goes on."""
    script = f"stty -echo; {prepare}; echo ready; sleep 1001; echo code $?; exit 7"
    with on_terminal(engine, image, how, script) as terminal:
        until(
            lambda: ["sleep", "1001"] in [line.split()[1:] for line in engine.run("top", "it", "-eo", "pid,args").lines]
        )
        terminal.write(key)
        return terminal.wait(), terminal.screen


def interrupts_without(engine: Any, image: str) -> object:
    """Without -t the terminal makes SIGINT of it for the client, which passes it on."""
    with engine.terminal("run", "--network", "none", "--name", "it", image, "sh", "-c", _TRAP) as terminal:
        terminal.expect("ready")
        terminal.write("\x03")
        return terminal.wait(), terminal.screen


def insists(engine: Any, image: str, number: int) -> object:
    client = engine.start("run", "--network", "none", "--name", "it", image, "sh", "-c", _NOTES)
    ended = []
    for line in ("ready\n", "got\n", "got\n"):
        assert client.stdout.readline() == line
        ended.append(client.poll())
        client.send_signal(number)
    _, said = client.communicate(timeout=60)
    return ended, client.returncode, "got 3 SIGTERM/SIGINTs, forcefully exiting" in said, running(engine)


def without_terminal(engine: Any, image: str, *command: str) -> object:
    up(engine, image, "-it", "echo ready; cat")
    found = engine.run(*(word.format(image=image) for word in command), check=False)
    return found.code, found.stdout, found.stderr.splitlines()[:1] if "not a TTY" not in found.stderr else "not a TTY"


def asks(engine: Any, image: str, key: str) -> object:
    with engine.terminal("container", "prune") as terminal:
        terminal.expect("continue? [y/N] ")
        terminal.await_reader()  # Docker asks first, and listens to signals then
        terminal.write(key)
        return terminal.wait(), terminal.screen


def reader_leaves(engine: Any, image: str, how: str) -> object:
    """`… | head -1`: the client ends, the container goes on, and the program that an exec began."""
    script = "while :; do echo y; sleep 0.01; done"
    words = ["run", "--network", "none", "--name", "it", image, "sh", "-c", script]
    if how != "run":
        up(engine, image, "", "echo ready; " + script)
        words = ["exec", "it", "sh", "-c", script] if how == "exec" else [*how.split(), "it"]
    client = engine.start(*words)
    client.stdout.readline()
    client.stdout.close()
    code = client.wait(60)
    return code, "broken pipe" in client.stderr.read(), running(engine)


def streams_apart(engine: Any, image: str, *options: str) -> object:
    script = "echo out; echo err >&2; cat; echo end >&2"
    found = engine.run("run", *options, "--rm", "--network", "none", image, "sh", "-c", script, input=b"a\0\xff\x03\n")
    return found.code, found.stdout, found.stderr


_TABLE: dict[str, tuple[Callable[..., object], list[Any]]] = {
    "sizes, run": (sizes, ["run"]),
    "sizes, exec": (sizes, ["exec"]),
    "sizes, attach": (sizes, ["attach"]),
    "detach, run": (detaches, ["run", "\x10\x11"]),
    "sizes, start": (sizes, ["start"]),
    "detach, start": (detaches, ["start", "\x10\x11"]),
    "detach keys, start": (detaches, ["start", "\x01x", "--detach-keys ctrl-a,x"]),
    "detach, exec": (detaches, ["exec", "\x10\x11"]),
    "detach, attach": (detaches, ["attach", "\x10\x11"]),
    "detach keys, run": (detaches, ["run", "\x01x", "--detach-keys ctrl-a,x"]),
    "detach keys, exec": (detaches, ["exec", "\x01x", "--detach-keys ctrl-a,x"]),
    "detach keys, attach": (detaches, ["attach", "ab", "--detach-keys a,b"]),
    "put back, run ends": (puts_back, ["run", "\x04"]),
    "put back, run detached": (puts_back, ["run", "\x10\x11"]),
    "put back, run killed": (puts_back, ["run", "kill"]),
    "put back, run removed": (puts_back, ["run", "rm"]),
    "put back, start ends": (puts_back, ["start", "\x04"]),
    "put back, start detached": (puts_back, ["start", "\x10\x11"]),
    "put back, start killed": (puts_back, ["start", "kill"]),
    "put back, attach ends": (puts_back, ["attach", "\x04"]),
    "put back, attach detached": (puts_back, ["attach", "\x10\x11"]),
    "put back, attach killed": (puts_back, ["attach", "kill"]),
    "put back, exec ends": (puts_back, ["exec", "\x04"]),
    "put back, exec detached": (puts_back, ["exec", "\x10\x11"]),
    "put back, exec killed": (puts_back, ["exec", "kill"]),
    "half of the keys": (held_back, [["\x10", "z"]]),
    "the first key twice": (held_back, [["\x10", "\x10", "z"]]),
    "half of other keys": (held_back, [["\x01", "\x01", "y", "\x01", "b"], "--detach-keys ctrl-a,x"]),
    "keys that repeat": (held_back, [["a", "a", "c", "a", "c"], "--detach-keys a,a,b"]),
    "not the default keys": (held_back, [["\x10", "\x11"], "--detach-keys ctrl-a,x"]),
    "ctrl-c": (interrupts, ["run", "\x03", "trap : INT"]),
    "ctrl-c, start": (interrupts, ["start", "\x03", "trap : INT"]),
    "ctrl-c, exec": (interrupts, ["exec", "\x03", "trap : INT"]),
    "ctrl-z": (interrupts, ["run", "\x1a", "set -m"]),
    "ctrl-z, exec": (interrupts, ["exec", "\x1a", "set -m"]),
    "ctrl-c without -t": (interrupts_without, []),
    "three SIGINT": (insists, [signal.SIGINT]),
    "three SIGTERM": (insists, [signal.SIGTERM]),
    "no terminal, run": (without_terminal, ["run", "-it", "--rm", "{image}", "true"]),
    "no terminal, exec": (without_terminal, ["exec", "-it", "it", "true"]),
    "no terminal, attach": (without_terminal, ["attach", "it"]),
    "no terminal for -t": (without_terminal, ["run", "-t", "--rm", "{image}", "tty"]),
    "asked, ctrl-c": (asks, ["\x03"]),
    "asked, no": (asks, ["n\n"]),
    "reader leaves, run": (reader_leaves, ["run"]),
    "reader leaves, exec": (reader_leaves, ["exec"]),
    "reader leaves, attach": (reader_leaves, ["attach"]),
    "reader leaves, logs": (reader_leaves, ["logs -f"]),
    "streams apart": (streams_apart, ["-i"]),
    "streams apart, no stdin": (streams_apart, []),
}


@pytest.mark.parametrize("row", _TABLE)
def test_terminal(both: Both, row: str) -> None:
    what, arguments = _TABLE[row]
    found = []
    for engine in (both.docker, both.mini):
        found.append(what(engine, both.names["host"], *arguments))
        engine.remove_containers()
    docker, mini = found
    assert mini == docker
