"""What `mini __complete` offers, from the table and from stores made here; tests/e2e has the shells."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli import completion
from engine.cli.completion import FILES
from engine.cli.table import COMMANDS
from engine.containers import listing, records
from engine.context import Context
from engine.errors import MiniError
from engine.storage.images import file_name
from engine.storage.volumes import Volumes
from engine.system import eventstream
from tests.unit.test_import_budget import HEAVY, modules_of

_IMAGES = ("docker.io/library/alpine:3.20", "docker.io/user/app:1", "r.test:5000/a:1", f"docker.io/a@sha256:{'0' * 64}")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = Context.from_environment(str(tmp_path))
    for number, (name, status) in enumerate([("web", "running"), ("ended", "exited"), ("made", "created")]):
        config = {"Name": f"/{name}", "Created": f"2026-01-0{number + 1}"}
        record = records.Record(context.paths, f"{number}" * 64, config)
        records.create(context.paths, record)
        record.save_state(records.new_state() | {"Status": status})
    (tmp_path / "tags").mkdir()
    for name in _IMAGES:
        (tmp_path / "tags" / file_name(name)).write_text(f"sha256:{'1' * 64} {name}")
    Volumes(context.paths).create("data")
    (tmp_path / "networks" / "own").mkdir(parents=True)
    return context


@pytest.mark.parametrize(
    "words, expected",
    [
        (["st"], "start stats stop"),
        (["help", "st"], "start stats stop"),
        (["help"], "help"),
        (["container", "st"], "start stats stop"),
        (["container", "l"], "logs ls"),
        (["image", "r"], "rm"),
        (["vol"], "volume"),
        (["volume", "p"], "prune"),
        (["__"], ""),
        (["nosuch", ""], ""),
        (["container", "nosuch", ""], ""),
        (["start", ""], "ended made"),
        (["start", "ended", ""], "made"),
        (["container", "start", "e"], "ended"),
        (["stop", ""], "web"),
        (["stop", "-t", "3", ""], "web"),
        (["stop", "-t", ""], ""),
        (["rm", ""], "ended made"),
        (["rm", "-vf", ""], "ended made web"),
        (["logs", ""], "ended made web"),
        (["logs", "web", ""], ""),
        (["start", "--", "-"], ""),
        (["exec", "web", ""], ""),
        (["exec", "-it", "web", "-"], ""),
        (["run", ""], "alpine:3.20 r.test:5000/a:1 user/app:1"),
        (["run", "-it", "--rm", "alp"], "alpine:3.20"),
        (["run", "alpine:3.20", ""], ""),
        (["run", "alpine:3.20", "--"], ""),
        (["tag", "alpine:3.20", "u"], "user/app:1"),
        (["images", "r"], "r.test:5000/a:1"),
        (["run", "--rm", "-v", ""], "data:"),
        (["run", "-v", "/"], FILES),
        (["run", "--network", ""], "bridge container: host none own"),
        (["run", "--net", "o"], "own"),
        (["run", "--network=o"], "--network=own"),
        (["run", "--network", "container:"], "container:web"),
        (["run", "--pid", ""], "container: host"),
        (["run", "--volumes-from", "e"], "ended"),
        (["run", "--pull=ne"], "--pull=never"),
        (["run", "--runtime", ""], "mini"),
        (["run", "--volume-driver", ""], "local"),
        (["run", "--rm="], "--rm=false --rm=true"),
        (["run", "--re"], "--read-only --restart"),
        (["run", "--rm", "--r"], "--read-only --restart --runtime"),
        (["run", "-e", "A=b", "--env"], "--env --env-file"),
        (["run", "--env-file", ""], FILES),
        (["run", "--env-file="], FILES),
        (["run", "--name", ""], ""),
        (["run", "--cap-add", "NET_R"], "NET_RAW"),
        (["run", "--cap-drop", "CAP_NET_R"], "CAP_NET_RAW"),
        (["run", "--ulimit", "nof"], "nofile="),
        (["run", "--nosuch", "alp"], "alpine:3.20"),
        (["kill", "-s", "US"], "USR1 USR2"),
        (["pause", "-"], "--help"),
        (["ps", "-f", "sta"], "status="),
        (["ps", "-aqf", "status=ex"], "status=exited"),
        (["ps", "--filter=network=o"], "--filter=network=own"),
        (["ps", "-f", "nosuch=a"], ""),
        (["events", "-f", "type=v"], "type=volume"),
        (["ps", "--format", ""], "json"),
        (["volume", "rm", ""], "data"),
        (["volume", "create", ""], ""),
        (["volume", "ls", ""], ""),
        (["network", "inspect", "o"], "own"),
        (["inspect", "--type", "volume", ""], "data"),
        (["inspect", "--type", ""], "container image network volume"),
        (["create", "--label-file", ""], FILES),
        (["network", "ls", "--filter", "d"], "dangling= driver="),
        (["cp", "w"], "web:"),
        (["cp", "web:/etc/hosts", ""], "ended: made: web:"),
        (["cp", "web:/"], FILES),
        (["load", "-i", ""], FILES),
        (["import", ""], FILES),
        (["completion", ""], "bash fish zsh"),
        (["-"], "--debug --help --root --storage-driver --version -D -v"),
        (["--storage-driver", ""], "directory erofs"),
        (["--root", ""], FILES),
        (["--root", "/nonexistent", "start", ""], ""),
    ],
)
def test_candidates(context: Context, words: list[str], expected: str) -> None:
    assert completion.candidates(context, words) == expected.split()


def test_no_word_is_the_beginning_of_one(context: Context) -> None:
    assert completion.candidates(context, []) == completion.candidates(context, [""])
    assert {"run", "help", "volume", "completion"} <= set(completion.candidates(context, []))


def test_another_root_is_asked(context: Context, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = Context.from_environment(str(tmp_path_factory.mktemp("empty")))
    assert completion.candidates(empty, ["start", ""]) == []
    assert completion.candidates(empty, [f"--root={context.paths.root}", "start", ""]) == ["ended", "made"]


def test_the_filters_are_those_of_the_commands(context: Context) -> None:
    offered = completion._FILTERS
    assert {path for path in COMMANDS if any(option[1] == "filter" for option in COMMANDS[path][4])} == set(offered)
    assert not set(offered["events"]) - set(eventstream.FILTERS)
    for name in offered["ps"]:
        try:
            listing.Filters(context, [f"{name}=x"])
        except MiniError as e:
            assert e.message != f"Invalid filter '{name}'"


def test_every_name_in_the_tables_is_an_option() -> None:
    names = {option[0] for entry in COMMANDS.values() for option in entry[4]}
    named = {*completion._WORDS, *completion._COMPUTED, *completion._FILE_OPTIONS}
    assert named - names == set()
    assert set(completion._STATES) <= set(COMMANDS)


@pytest.mark.parametrize("words", ["start ", "run --rm al", "run --network ", "run -v ", "ps -f status=", "kill -s "])
def test_nothing_heavy_is_imported(context: Context, words: str) -> None:
    code, modules = modules_of(context.paths.root, "__complete", "--", *words.split(" "))
    assert code == 0
    assert "engine.cli.completion" in modules
    assert not modules & HEAVY
