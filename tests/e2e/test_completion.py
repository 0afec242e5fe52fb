"""TAB in real shells, on a terminal, with containers in every state; and what `mini __complete` says to them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.requirements import CHECKOUT
from tests.support.runner import Mini, run_command
from tests.support.terminal import Terminal

pytestmark = pytest.mark.requires("root", "linux", "netns")

# What is typed before TAB, and what stands there after it.
LINES = [
    ("mini comm", "mini commit "),
    ("mini container unp", "mini container unpause "),
    ("mini start en", "mini start ended "),
    ("mini start -- en", "mini start -- ended "),
    ("mini container start en", "mini container start ended "),
    ("mini start we", "mini start we"),
    ("mini stop we", "mini stop web "),
    ("mini unpause ", "mini unpause still "),
    ("mini run --rest", "mini run --restart "),
    ("mini run --pull n", "mini run --pull never "),
    ("mini run --pull=n", "mini run --pull=never "),
    ("mini run --network=no", "mini run --network=none "),
    ("mini run --network container:w", "mini run --network container:web "),
    ("mini run --network=container:w", "mini run --network=container:web "),
    ("mini run --rm -v da", "mini run --rm -v data:"),
    ("mini run --rm -v /et", "mini run --rm -v /etc/"),
    ("mini ps -f status=exi", "mini ps -f status=exited "),
    ("mini ps --filter=hea", "mini ps --filter=health="),
    ("mini kill -s WIN", "mini kill -s WINCH "),
    ("mini rmi hos", "mini rmi host:latest "),
    ("mini rmi host:la", "mini rmi host:latest "),
    ('mini run -e "a b" -w /x hos', 'mini run -e "a b" -w /x host:latest '),
    ("mini run host:latest we", "mini run host:latest we"),
    ("mini exec web e", "mini exec web e"),
    ("mini cp we", "mini cp web:"),
    ("mini cp fil", "mini cp file "),
    ("mini load -i fil", "mini load -i file "),
    ("mini load --input=fil", "mini load --input=file "),
    ("mini nosuch ", "mini nosuch "),
]
_SHELLS = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
_BEGIN = {
    "bash": "PS1='> '; bind 'set enable-bracketed-paste off'; source <(mini completion bash); echo rea''dy\n",
    "zsh": "PS1='> '; unset zle_bracketed_paste; unsetopt prompt_sp; bindkey -e; autoload -U compinit; compinit -u -D; "
    "source <(mini completion zsh); echo rea''dy\n",
}
_TO_BEGIN, _TO_END = "\x01", "\x05"


@pytest.fixture(scope="module")
def fleet(session_mini: Mini) -> Iterator[Mini]:
    mini = session_mini
    mini.run("run", "-d", "--name", "web", "-v", "data:/data", "host:latest", "sleep", "600")
    mini.run("run", "-d", "--name", "still", "--network", "none", "host:latest", "sleep", "600")
    mini.run("pause", "still")
    mini.run("run", "--name", "ended", "--network", "none", "host:latest", "true")
    mini.run("create", "--name", "made", "host:latest", "true")
    yield mini
    mini.run("rm", "-f", "web", "still", "ended", "made")
    mini.remove_volumes()
    mini.assert_nothing_left()


def environ(mini: Mini) -> dict[str, str]:
    return {**mini.environ, "PATH": f"{CHECKOUT}:{os.environ['PATH']}", "TERM": "xterm"}


class Shell:
    def __init__(self, name: str, mini: Mini, directory: Path) -> None:
        (directory / "file").write_text("")
        command = ["sh", "-c", 'cd "$0" && exec "$@"', str(directory), *_SHELLS[name]]
        self.terminal = Terminal(command, {**environ(mini), "HISTFILE": ""}, columns=200)
        try:
            self.terminal.write(_BEGIN[name])
            self.terminal.expect("ready\r\n")
        except BaseException:
            self.terminal.close()
            raise

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminal.close()

    def tab(self, typed: str) -> str:
        """The line as it stands after TAB: it is printed and not executed."""
        # An X behind it, for zsh takes its blank back at whatever is not typed text.
        self.terminal.write(f"{typed}\tX{_TO_BEGIN}printf '[%s]\\n' '{_TO_END}'\n")
        self.terminal.expect("\r\n[")
        return self.terminal.expect("X]")


@pytest.fixture(scope="module")
def shell(request: pytest.FixtureRequest, fleet: Mini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with Shell(request.param, fleet, tmp_path_factory.mktemp(request.param)) as shell:
        yield shell


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param("bash", marks=pytest.mark.requires("program:bash")),
        pytest.param("zsh", marks=pytest.mark.requires("program:zsh")),
    ],
    indirect=True,
)
@pytest.mark.parametrize("typed, expected", LINES, ids=[typed for typed, _ in LINES])
def test_tab(shell: Shell, typed: str, expected: str) -> None:
    assert shell.tab(typed) == expected


@pytest.mark.requires("program:fish")
@pytest.mark.parametrize("typed, expected", LINES, ids=[typed for typed, _ in LINES])
def test_fish(fleet: Mini, typed: str, expected: str, tmp_path: Path) -> None:
    """`complete -C` is what fish does at TAB; it prints the last word that would stand there."""
    (tmp_path / "file").write_text("")
    program = "mini completion fish | source; complete --do-complete=$argv[1]"
    result = run_command(["fish", "--no-config", "-c", program, typed], environ(fleet), cwd=str(tmp_path))
    words = [] if expected == typed else [expected.rstrip().rpartition(" ")[2]]
    assert [line.partition("\t")[0] for line in result.lines] == words


@pytest.mark.requires("program:bash")
def test_bash_lists_what_fits(fleet: Mini, tmp_path: Path) -> None:
    with Shell("bash", fleet, tmp_path) as shell:
        shell.terminal.write("mini start \t\t")
        shell.terminal.expect("ended  made")


@pytest.mark.requires("program:bash")
def test_a_path_to_mini_is_completed_as_well(fleet: Mini, tmp_path: Path) -> None:
    (tmp_path / "mini").symlink_to(f"{CHECKOUT}/mini")
    with Shell("bash", fleet, tmp_path) as shell:
        assert shell.tab("./mini start en") == "./mini start ended "


def complete(mini: Mini, *words: str) -> list[str]:
    result = mini.run("__complete", "--", *words)
    assert result.stderr == ""
    return result.lines


def test_only_containers_of_the_right_states(fleet: Mini) -> None:
    expected = {
        "start": ["ended", "made"],
        "rm": ["ended", "made"],
        "stop": ["still", "web"],
        "kill": ["still", "web"],
        "exec": ["web"],
        "attach": ["web"],
        "pause": ["web"],
        "unpause": ["still"],
        "top": ["still", "web"],
        "stats": ["still", "web"],
        "logs": ["ended", "made", "still", "web"],
        "restart": ["ended", "made", "still", "web"],
    }
    assert {command: complete(fleet, command, "") for command in expected} == expected
    assert complete(fleet, "rm", "-f", "") == ["ended", "made", "still", "web"]
    assert complete(fleet, "rm", "-fv", "web", "") == ["ended", "made", "still"]


def test_scripts_are_sound(tmp_path: Path) -> None:
    """Each shell reads its own without running it; another shell is an error."""
    mini = f"{CHECKOUT}/mini"
    for shell in ("bash", "zsh", "fish"):
        script = tmp_path / shell
        script.write_bytes(subprocess.check_output([mini, "completion", shell]))
        if subprocess.run(["sh", "-c", f"command -v {shell}"], capture_output=True).returncode == 0:
            subprocess.run([shell, "-n", str(script)], check=True)
    assert subprocess.run([mini, "completion", "csh"], capture_output=True).returncode == 1
