"""How a command line is read, and Docker's words for one that cannot be (measured on docker 28.2)."""

from __future__ import annotations

import pytest

from engine.cli.parse import CommandLineError, HelpWanted, parse


def values(line: str) -> dict[str, object]:
    return parse(line.split()).values


@pytest.mark.parametrize(
    "line, name, value",
    [
        ("run --rm=false alpine", "remove", False),
        ("run --rm=1 alpine", "remove", True),
        ("run --rm --rm=false alpine", "remove", False),
        ("run -i=false alpine", "interactive", False),
        ("run --sig-proxy=false alpine", "sig_proxy", False),
        ("run --sig-proxy alpine", "sig_proxy", True),
        ("run -e=A=b alpine", "env", ["A=b"]),
        ("run -eA=b -e C alpine", "env", ["A=b", "C"]),
        ("run --name= alpine", "name", ""),
        ("run -m 64k alpine", "memory", 64 << 10),
        ("run -m 64KB alpine", "memory", 64 << 10),
        ("run -m 5b alpine", "memory", 5),
        ("run --blkio-weight 0 alpine", "blkio_weight", 0),
        ("run --blkio-weight-device /dev/a:0 alpine", "blkio_weight_devices", [{"Path": "/dev/a", "Weight": 0}]),
        ("run --device-read-bps /dev/a:1.5k alpine", "device_read_bps", [{"Path": "/dev/a", "Rate": 1536}]),
        ("run --device-write-iops /dev/a:08 alpine", "device_write_iops", [{"Path": "/dev/a", "Rate": 8}]),
        ("run --sysctl net.core.somaxconn=1 alpine", "sysctls", ["net.core.somaxconn=1"]),
        ("run --ulimit nofile=1:-1 alpine", "ulimits", ["nofile=1:-1"]),
        ("run -ite A=b alpine", "env", ["A=b"]),
        ("run -e --rm alpine", "env", ["--rm"]),
        ("run -m 1.5g alpine", "memory", 3 << 29),
        ("run -m 64MiB alpine", "memory", 64 << 20),
        ("run -m 1024 alpine", "memory", 1024),
        ("run --memory-swap -1 alpine", "memory_swap", -1),
        ("run --cpus .5 alpine", "cpus", 0.5),
        ("run --pids-limit -1 alpine", "pids_limit", -1),
        ("run --add-host a=::1 alpine", "extra_hosts", ["a:::1"]),
        ("run --add-host a:host-gateway alpine", "extra_hosts", ["a:host-gateway"]),
        ("run alpine -- ls", "command", ["--", "ls"]),
        ("run -- alpine -d", "command", ["-d"]),
        ("run alpine -d", "detach", False),
        ("run - sh", "image", "-"),
        ("rm a -f", "force", True),
        ("rm -- -f", "container", ["-f"]),
        ("volume create", "name", None),
        ("ps", "last", -1),
    ],
)
def test_values(line: str, name: str, value: object) -> None:
    assert values(line)[name] == value


@pytest.mark.parametrize(
    "line, code, message",
    [
        ("foo", 1, "mini: unknown command: mini foo"),
        ("volume foo", 1, "mini: unknown command: mini volume foo"),
        ("--foo ps", 125, "unknown flag: --foo"),
        ("run --foo alpine", 125, "unknown flag: --foo"),
        ("ps --foo=1", 125, "unknown flag: --foo"),
        ("run -itz alpine", 125, "unknown shorthand flag: 'z' in -z"),
        ("run", 1, "mini: 'mini run' requires at least 1 argument"),
        ("run -h alpine", 1, "mini: 'mini run' requires at least 1 argument"),
        ("exec c", 1, "mini: 'mini exec' requires at least 2 arguments"),
        ("ps x", 1, "mini: 'mini ps' accepts no arguments"),
        ("container ls x", 1, "mini: 'mini container ls' accepts no arguments"),
        ("help foo", 1, "unknown help topic: foo"),
        ("help volume foo", 1, "unknown help topic: volume foo"),
        ("run -ie", 125, "flag needs an argument: 'e' in -e"),
        ("tag x", 1, "mini: 'mini tag' requires 2 arguments"),
        ("pull a b", 1, "mini: 'mini pull' requires 1 argument"),
        ("images a b", 1, "mini: 'mini images' requires at most 1 argument"),
        ("run --memory", 125, "flag needs an argument: --memory"),
        ("run -e", 125, "flag needs an argument: 'e' in -e"),
        ("run -m xx alpine", 125, "invalid argument \"xx\" for \"-m, --memory\" flag: invalid size: 'xx'"),
        ("run --cpus x alpine", 125, 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
        ("run --rm=x a", 125, 'invalid argument "x" for "--rm" flag: strconv.ParseBool: parsing "x": invalid syntax'),
        ("stop -t x c", 125, 'invalid argument "x" for "-t, --timeout" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        ("run -a foo alpine", 125, 'invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'),
        ("run --dns x alpine", 125, 'invalid argument "x" for "--dns" flag: IP address is not correctly formatted: x'),
        ("run --add-host x alpine", 125, 'invalid argument "x" for "--add-host" flag: bad format for add-host: "x"'),
        ("image prune --filter x", 125, 'invalid argument "x" for "--filter" flag: bad format of filter (expected name=value)'),
        ("run --ulimit x alpine", 125, 'invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x'),
    ],
)  # fmt: skip
def test_errors(line: str, code: int, message: str) -> None:
    with pytest.raises(CommandLineError) as caught:
        parse(line.split())
    assert (caught.value.message, caught.value.exit_code) == (message, code)


@pytest.mark.parametrize(
    "line, value, option, why",
    [
        ("run -m -1 a", "-1", "-m, --memory", "invalid size: '-1'"),
        ("run -m 5x a", "5x", "-m, --memory", "invalid suffix: 'x'"),
        ("run -m 5kbb a", "5kbb", "-m, --memory", "invalid suffix: 'kbb'"),
        ("run -m 1.2.3 a", "1.2.3", "-m, --memory", 'strconv.ParseFloat: parsing "1.2.3": invalid syntax'),
        ("run --env= a", "", "-e, --env", "invalid environment variable: "),
        ("exec -e =x c ls", "=x", "-e, --env", "invalid environment variable: =x"),
        ("run -l =x a", "=x", "-l, --label", "invalid label '=x': empty name"),
        ("volume create --label =x", "=x", "--label", "invalid label '=x': empty name"),
        ("run --sysctl kernel.x=1 a", "kernel.x=1", "--sysctl", "sysctl 'kernel.x=1' is not allowed"),
        ("run --sysctl net.a a", "net.a", "--sysctl", "sysctl 'net.a' is not allowed"),
        ("run --blkio-weight -1 a", "-1", "--blkio-weight", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("run --blkio-weight 70000 a", "70000", "--blkio-weight", 'strconv.ParseUint: parsing "70000": value out of range'),
        ("run --device-read-bps a:1 a", "a:1", "--device-read-bps", "bad format for device path: a:1"),
        ("run --device-read-iops :1 a", ":1", "--device-read-iops", "bad format: :1"),
        ("run --blkio-weight-device /dev/a:5 a", "/dev/a:5", "--blkio-weight-device", "invalid weight for device: /dev/a:5"),
        ("run --ulimit a=1 a", "a=1", "--ulimit", "invalid ulimit type: a"),
        ("run --ulimit core=x a", "core=x", "--ulimit", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("run --ulimit core=2:1 a", "core=2:1", "--ulimit", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        ("run --health-interval 1 a", "1", "--health-interval", 'time: missing unit in duration "1"'),
        ("run --health-interval x a", "x", "--health-interval", 'time: invalid duration "x"'),
    ],
)  # fmt: skip
def test_values_that_cannot_be_read(line: str, value: str, option: str, why: str) -> None:
    with pytest.raises(CommandLineError) as caught:
        parse(line.split())
    assert caught.value.message == f'invalid argument "{value}" for "{option}" flag: {why}'
    assert caught.value.exit_code == 125


def test_an_error_shows_the_usage_line_and_the_nearest_option() -> None:
    with pytest.raises(CommandLineError) as caught:
        parse(["run", "--entrypont", "x", "alpine"])
    assert caught.value.usage == (
        "Usage:  mini run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'mini run --help' for more information"
    )
    assert caught.value.hint == "did you mean --entrypoint?"


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("", ["--help"]),
        ("--help", ["--help"]),
        ("help", ["--help"]),
        ("help run", ["run", "--help"]),
        ("volume", ["volume", "--help"]),
        ("volume --help", ["volume", "--help"]),
        ("volume ls -h", ["volume", "ls", "--help"]),
        ("--root /x run --help", ["run", "--help"]),
        ("container list --help", ["container", "list", "--help"]),
    ],
)
def test_help_is_left_to_typer(line: str, wanted: list[str]) -> None:
    with pytest.raises(HelpWanted) as caught:
        parse(line.split())
    assert caught.value.words == wanted
