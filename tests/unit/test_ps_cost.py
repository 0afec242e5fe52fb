"""What `ps` opens: a few small files a container, whatever their number, and no config of one that it does not show."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.cli.commands import ps
from engine.containers import records
from engine.context import Context
from engine.paths import Paths

_watched: tuple[str, Counter[str]] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watched and str(arguments[0]).startswith(_watched[0]):
        path = str(arguments[0])
        _watched[1]["name" if "/names/" in path else os.path.basename(path)] += 1


sys.addaudithook(_note)


@contextmanager
def opened(root: str) -> Iterator[Counter[str]]:
    """How often which file below `root` is opened meanwhile."""
    global _watched
    _watched = root, Counter()
    try:
        yield _watched[1]
    finally:
        _watched = None


def make(paths: Paths, number: int, status: str) -> None:
    container_id = f"{number:064x}"
    config = {
        "Id": container_id,
        "Name": f"/c{number}",
        "Created": "2026-01-01T00:00:00Z",
        "Path": "true",
        "Args": [],
        "Mounts": [],
        "Config": {"Image": "alpine"},
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "json-file", "Config": {}}},
        "NetworkSettings": {"Networks": {}},
    }
    record = records.Record(paths, container_id, config)
    records.create(paths, record)
    state = records.new_state() | {"Status": status}
    if status == "running":
        records.mark_process(state, "Pid", os.getpid())
    record.save_state(state)


@pytest.mark.parametrize("count", [10, 40])
def test_files_opened(count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = Context(Paths(str(tmp_path)), {})
    for number in range(count):
        make(context.paths, number, "running" if number < 3 else "exited")
    for options, shown, wanted in (
        ({"all": True}, count, {"name": count, "config.json": count, "state.json": count}),
        ({"filter": ["status=exited"]}, count - 3, {"name": count, "config.json": count, "state.json": count}),
        ({"all": False}, 3, {"name": count, "config.json": 3, "state.json": count + 3}),
    ):
        given: dict[str, Any] = {"all": False, "filter": [], "format": None, "last": -1, "latest": False, **options}
        with opened(str(tmp_path)) as found:
            ps.main(context, no_trunc=False, quiet=True, size=False, **given)
        assert len(capsys.readouterr().out.splitlines()) == shown
        assert found == wanted
