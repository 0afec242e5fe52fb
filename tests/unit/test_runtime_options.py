"""mini-runtime's command line: runc's flags, read as Go's flag package reads them."""

from __future__ import annotations

import subprocess

import pytest

from engine.errors import Unsupported, UsageError
from engine.runtime.oci_cli import context, options
from tests.support.requirements import program


@pytest.mark.parametrize(
    "line, settings, command, given, arguments",
    [
        ("state x", {}, "state", {}, ["x"]),
        ("--root /r --log /l --log-format json create --bundle /b x", {"root": "/r", "log": "/l", "log-format": "json"},
         "create", {"bundle": "/b"}, ["x"]),
        ("-root=/r run -d=true -b /b x", {"root": "/r"}, "run", {"detach": True, "bundle": "/b"}, ["x"]),
        ("run --detach=false x", {}, "run", {"detach": False}, ["x"]),
        ("kill x KILL --all", {}, "kill", {"all": True}, ["x", "KILL"]),
        ("exec -t -e A=1 -e B=2 x sh -c -- -t", {}, "exec", {"tty": True, "env": ["A=1", "B=2"]}, ["x", "sh", "-c", "--", "-t"]),
        ("exec -td x sh", {}, "exec", {"tty": True, "detach": True}, ["x", "sh"]),
        ("exec -p /p -d x", {}, "exec", {"process": "/p", "detach": True}, ["x"]),
        ("ps x -o pid", {}, "ps", {}, ["x", "-o", "pid"]),
        ("update -r - x", {}, "update", {"resources": "-"}, ["x"]),
        ("delete -- -x", {}, "delete", {}, ["-x"]),
        ("run --help", {}, "run", {"help": True}, []),
    ],
)  # fmt: skip
def test_lines(
    line: str, settings: dict[str, object], command: str, given: dict[str, object], arguments: list[str]
) -> None:
    read = options.parse(line.split())
    assert (read.settings, read.command, read.options, read.arguments) == (settings, command, given, arguments)


@pytest.mark.parametrize(
    "line, message",
    [
        ("nosuch", "No help topic for 'nosuch'"),
        ("--nosuch run x", "flag provided but not defined: -nosuch"),
        ("run --nosuch x", "flag provided but not defined: -nosuch"),
        ("run --bundle", "flag needs an argument: -bundle"),
        ("run --detach=perhaps x", 'invalid boolean value "perhaps" for -detach: parse error'),
        ("help nosuch", "No help topic for 'nosuch'"),
        ("run", '"run" requires exactly 1 argument(s)'),
        ("run a b", '"run" requires exactly 1 argument(s)'),
        ("ps", '"ps" requires a minimum of 1 argument(s)'),
        ("kill a b c", '"kill" requires a maximum of 2 argument(s)'),
    ],
)
def test_what_is_wrong(line: str, message: str) -> None:
    with pytest.raises(UsageError) as e:
        options.parse(line.split())
    assert e.value.message == message


@pytest.mark.parametrize("line", ["checkpoint x", "checkpoint --help", "restore x"])
def test_what_is_refused(line: str) -> None:
    with pytest.raises(Unsupported, match="is not supported"):
        options.parse(line.split())


def test_who_makes_cgroups() -> None:
    assert [context.Context({"cgroup-manager": word}).systemd for word in ("cgroupfs", "systemd")] == [False, True]
    with pytest.raises(UsageError, match="--cgroup-manager: disabled"):
        context.Context({"cgroup-manager": "disabled"})


def _flags(runtime: str, *command: str) -> set[str]:
    """The long options that a runtime's help tells of."""
    out = subprocess.run([program(runtime) or runtime, *command, "--help"], capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines() if line.lstrip().startswith("--")]
    return {word.strip(",").removeprefix("--") for row in rows for word in row if word.startswith("--")} - {
        "help",
        "version",
    }


@pytest.mark.requires("runc")
@pytest.mark.parametrize("command", options.COMMANDS)
def test_every_flag_of_runcs_is_known(command: str) -> None:
    ours = {name for names, _, _ in options.COMMANDS[command][4] for name in names.split()}
    assert _flags("runc", command) - ours == set()


@pytest.mark.requires("runc")
def test_every_global_flag_of_runcs_is_known() -> None:
    assert _flags("runc") - {name for names, _, _ in options.GLOBAL for name in names.split()} == set()


def test_help_names_every_option() -> None:
    text = options.usage("exec")
    assert "--process, -p VALUE" in text and "mini-runtime exec [OPTION...] ID COMMAND [ARG...]" in text
    assert all(name in options.usage("") for name in options.COMMANDS)
