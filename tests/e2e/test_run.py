"""`mini run`: exit codes, streams, terminal, environment, user, directory, names; what the process sees of itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$; sleep 60"], 137),
        (["/etc/passwd"], 126),
        (["/tmp"], 126),
        (["no-such-program"], 127),
        (["/no/such/program"], 127),
    ],
)
def test_exit_codes(mini: Mini, image: Image, command: list[str], code: int) -> None:
    if code == 137:
        # PID 1 cannot kill itself (pid_namespaces(7)): a child of it does, and its status becomes the shell's.
        command = ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]
    assert mini.run("run", "--rm", image.name, *command, check=False).code == code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-such-flag"], "no-such-flag"),
        (["-u", "no-such-user"], "no-such-user"),
        (["-w", "relative"], "relative"),
        (["--memory", "1m"], "memory"),
        (["--memory", "lots"], "lots"),
        (["--name", "-bad-"], "bad"),
        (["--network", "no-such-network"], "no-such-network"),
    ],
)
def test_failures_of_mini_itself_are_125(mini: Mini, host_image: Image, options: list[str], said: str) -> None:
    result = mini.run("run", "--rm", *options, host_image.name, "true", check=False)
    assert (result.code, result.stdout) == (125, "")
    assert said in result.stderr.lower()
    assert "Traceback" not in result.stderr


def test_a_name_is_taken_once(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "taken", host_image.name, "sleep", "60")
    result = mini.run("run", "--name", "taken", host_image.name, "true", check=False)
    assert result.code == 125
    assert "/taken" in result.stderr


def test_stdin_through_i(mini: Mini, image: Image) -> None:
    assert mini.run("run", "-i", "--rm", image.name, "cat", input="one\ntwo\n").stdout == "one\ntwo\n"
    assert mini.run("run", "-i", "--rm", image.name, "sh", input="echo from-stdin; exit 4\n", check=False).code == 4


def test_a_megabyte_through_stdin_and_back(mini: Mini, host_image: Image) -> None:
    data = os.urandom(1 << 19).hex()
    assert mini.run("run", "-i", "--rm", host_image.name, "cat", input=data).stdout == data


def test_without_i_stdin_is_empty(mini: Mini, image: Image) -> None:
    assert mini.run("run", "--rm", image.name, "cat", input="not for it\n").stdout == ""


def test_stdout_and_stderr_are_apart(mini: Mini, image: Image) -> None:
    result = mini.run("run", "--rm", image.name, "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_terminal(mini: Mini, image: Image) -> None:
    with mini.terminal("run", "-it", "--rm", image.name, "sh", rows=33, columns=99) as terminal:
        terminal.write("echo $((40 + 2))-is-it; tty; stty size; echo $TERM\r")
        terminal.expect("42-is-it\r\n")
        terminal.expect("/dev/pts/0\r\n")
        terminal.expect("33 99\r\n")
        terminal.expect("xterm\r\n")
        terminal.resize(44, 111)
        terminal.write("sleep 0.3; stty size\r")
        terminal.expect("44 111\r\n")
        # A job of its own, so that it has the terminal by the time that it speaks.
        terminal.write("sh -c 'echo $((40 + 2))-minutes; exec sleep 2520'\r")
        terminal.expect("42-minutes\r\n")
        terminal.write("\x03")
        terminal.write("exit 3\r")
        assert terminal.wait() == 3
        assert terminal.attributes() == terminal.attributes_before


def test_a_terminal_is_demanded(mini: Mini, host_image: Image) -> None:
    result = mini.run("run", "-it", "--rm", host_image.name, "true", check=False)
    assert result.code == 1
    assert "the input device is not a TTY" in result.stderr


def test_t_alone(mini: Mini, image: Image) -> None:
    assert mini.run("run", "-t", "--rm", image.name, "tty").stdout == "/dev/pts/0\r\n"


def test_environment(mini: Mini, host_image: Image) -> None:
    out = mini.run(
        "run", "--rm", "--hostname", "box", "-e", "A=1", "-e", "COPIED", "-e", "UNSET_HERE", "-e", "EMPTY=",
        host_image.name, "env", env={"COPIED": "from the host"},
    ).lines  # fmt: skip
    assert dict(line.split("=", 1) for line in out) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "box",
        "HOME": "/root",
        "IMAGE": "host",
        "A": "1",
        "COPIED": "from the host",
        "EMPTY": "",
    }


def test_user(mini: Mini, host_image: Image) -> None:
    def identity(user: str) -> str:
        return mini.run("run", "--rm", "-u", user, host_image.name, "sh", "-c", "id -u; id -g; id -G; echo $HOME").out

    assert identity("user") == "1000\n1000\n1000 29 50\n/home/user"
    assert identity("user:staff") == "1000\n50\n50\n/home/user"
    assert identity("1000:0") == "1000\n0\n0\n/home/user"
    assert identity("1234") == "1234\n0\n0\n/"
    assert identity("root") == "0\n0\n0\n/root"


def test_workdir_is_made(mini: Mini, image: Image) -> None:
    out = mini.run("run", "--rm", "-u", "1234", "-w", "/made/here", image.name, "sh", "-c", "pwd; ls -ldn .").lines
    assert out[0] == "/made/here"
    assert re.match(r"drwxr-xr-x +\d+ 0 +0 ", out[1])


def test_hostname(mini: Mini, image: Image) -> None:
    container = mini.run("run", "-d", image.name, "sleep", "60").out
    assert mini.run("exec", container, "hostname").out == container[:12]
    assert mini.run("exec", container, "cat", "/etc/hostname").out == container[:12]
    address = mini.address(container)
    hosts = mini.run("exec", container, "cat", "/etc/hosts").lines
    assert f"{address}\t{container[:12]}" in hosts
    assert "127.0.0.1\tlocalhost" in hosts
    assert mini.run("run", "--rm", "--hostname", "box", image.name, "hostname").out == "box"


def test_pid_1_and_its_own_processes_only(mini: Mini, image: Image) -> None:
    assert mini.run("run", "--rm", image.name, "sh", "-c", "echo $$").out == "1"
    pids = [name for name in mini.run("run", "--rm", image.name, "ls", "/proc").out.split() if name.isdigit()]
    assert pids == ["1"]


def test_namespaces_are_its_own(mini: Mini, image: Image) -> None:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    command = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    inside = mini.run("run", "--rm", image.name, "sh", "-c", command).lines
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    shared = [kind for kind, mine, its in zip(kinds, outside, inside, strict=True) if mine == its]
    assert shared in ([], ["cgroup"])  # Docker shares the cgroup namespace on version 1


def test_no_descriptor_is_inherited(mini: Mini, image: Image) -> None:
    """CVE-2024-21626: 0, 1, 2, and the one with which `ls` reads the directory."""
    assert mini.run("run", "--rm", image.name, "ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]


def test_entrypoint(mini: Mini, host_image: Image) -> None:
    assert mini.run("run", "--rm", "--entrypoint", "echo", host_image.name, "a", "b").out == "a b"
    assert mini.run("run", "--rm", "--entrypoint", "echo", host_image.name).out == ""  # the image's CMD goes with it
    assert mini.run("run", "-i", "--rm", host_image.name, input="echo $0").out == "sh"


def test_signals_reach_pid_1(mini: Mini, image: Image) -> None:
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    process = mini.start("run", "--rm", image.name, "sh", "-c", script)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got\n"
    assert process.returncode == 5


def test_read_only(mini: Mini, image: Image) -> None:
    out = mini.run(
        "run", "--rm", "--read-only", image.name, "sh", "-c",
        "touch /x; touch /etc/hosts; touch /dev/shm/x && echo shm; touch /dev/x && echo dev", check=False,
    )  # fmt: skip
    assert out.lines == ["shm", "dev"]
    assert out.stderr.lower().count("read-only file system") == 2


def test_the_image_is_not_written(mini: Mini, image: Image) -> None:
    mini.run("run", "--rm", image.name, "sh", "-c", "echo changed > /etc/passwd; rm -rf /usr; > /new")
    out = mini.run("run", "--rm", image.name, "sh", "-c", "cat /etc/passwd; test -d /usr; test ! -e /new")
    assert out.lines[0].startswith("root:")


def test_many_at_once(mini: Mini, host_image: Image) -> None:
    running = [mini.start("run", "--rm", host_image.name, "hostname", "-I", stderr=subprocess.STDOUT) for _ in range(8)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * 8, outputs
    assert all(output.startswith("10.213.") for output in outputs), outputs


def test_format_json(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "named", host_image.name, "sleep", "60")
    (line,) = mini.run("ps", "--format", "json").lines
    shown = json.loads(line)
    assert (shown["ID"], shown["Names"], shown["Image"]) == (container[:12], "named", host_image.name)
    assert (shown["Command"], shown["State"]) == ('"sleep 60"', "running")
