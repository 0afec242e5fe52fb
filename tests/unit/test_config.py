"""From an image's config and options to a container's config, with Docker's rules and words."""

from __future__ import annotations

import pytest

from engine.containers import config, limits
from engine.containers.options import CreateOptions
from engine.errors import UsageError

IMAGE = {"Entrypoint": ["/entry"], "Cmd": ["default"], "Env": ["PATH=/bin", "A=image"]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (["/entry"], ["default"])),
        ({"command": ["x", "y"]}, (["/entry"], ["x", "y"])),
        ({"entrypoint": "/mine"}, (["/mine"], None)),
        ({"entrypoint": ""}, (None, None)),
        ({"entrypoint": "", "command": ["x"]}, (None, ["x"])),
    ],
)
def test_entrypoint_and_command(options: dict[str, object], expected: object) -> None:
    assert config.command(CreateOptions(**options), IMAGE) == expected


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="No command specified"):
        config.container_config(CreateOptions(image="x", entrypoint=""), IMAGE, "0" * 64, {})


def test_environment_merges_as_docker_does(tmp_path: object) -> None:
    """Files first, then -e, then what of the image's neither names; a bare name copies the host's or is left out."""
    path = f"{tmp_path}/env"
    with open(path, "w") as file:
        file.write('# comment\n\n   LEADING=x  \nQUOTED="a b"\nINLINE=a # b\nHOSTED\nMISSING\nA=file\n')
    found = config.environment(["B=1", "ALSO", "NOT"], [path], {"HOSTED": "h", "ALSO": "a"}, ["PATH=/bin", "A=image"])
    assert found == [
        "LEADING=x  ", 'QUOTED="a b"', "INLINE=a # b", "HOSTED=h", "A=file", "B=1", "ALSO=a", "PATH=/bin",
    ]  # fmt: skip


def test_env_file_that_is_missing_or_malformed(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        config.read_env_file(f"{tmp_path}/none", {})
    with open(f"{tmp_path}/bad", "w") as file:
        file.write("with space=1\n")
    with pytest.raises(UsageError, match="contains whitespaces"):
        config.read_env_file(f"{tmp_path}/bad", {})


@pytest.mark.parametrize("name", ["a", "", "-x", "a/b", "a b", "ä1", "_x", "../x"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError, match="Invalid container name"):
        config.check_name(name)


@pytest.mark.parametrize("name", ["ab", "A0", "x_y.z-1", "/slash"])
def test_good_names(name: str) -> None:
    assert config.check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 5 << 20}, "Minimum memory limit allowed is 6MB"),
        ({"memory_swap": 100 << 20}, "always set the Memory limit"),
        ({"memory": 100 << 20, "memory_swap": 50 << 20}, "larger than memory limit"),
        ({"memory": 10 << 20, "memory_reservation": 20 << 20}, "less than memory reservation"),
        ({"cpus": 0.001}, "Range of CPUs is from 0.01"),
        ({"cpus": 100000.0}, "Range of CPUs is from 0.01"),
        ({"workdir": "relative"}, "needs to be an absolute path"),
    ],
)
def test_limits_that_docker_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        limits.check(CreateOptions(**options))


def test_memory_swap_is_twice_the_memory() -> None:
    host = config.host_config(CreateOptions(memory=64 << 20, cpus=1.5))
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 128 << 20, 1_500_000_000)


@pytest.mark.parametrize("value", ["nofile", "nofile=x", "nosuch=1", "nofile=2:1", "nofile=-1:5", "=1"])
def test_bad_ulimits(value: str) -> None:
    with pytest.raises(UsageError):
        config.ulimit(value)


def test_ulimit() -> None:
    assert config.ulimit("nofile=1:2") == {"Name": "nofile", "Soft": 1, "Hard": 2}
    assert config.ulimit("core=-1") == {"Name": "core", "Soft": -1, "Hard": -1}


def test_unknown_option_is_a_programming_error() -> None:
    with pytest.raises(TypeError):
        CreateOptions(nosuch=1)
