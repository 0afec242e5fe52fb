"""Container records: names are reserved once, and nothing half-made is ever seen."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from engine.containers import records
from engine.errors import Conflict, MiniError, NotFound
from engine.paths import Paths


def make(paths: Paths, name: str, number: int) -> records.Record:
    container_id = f"{number:064x}"
    config = {"Id": container_id, "Name": f"/{name}", "Created": f"2026-01-01T00:00:{number:02d}Z"}
    record = records.Record(paths, container_id, config)
    records.create(paths, record)
    return record


def test_found_by_id_name_and_unique_prefix(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    one = make(paths, "one", 0xA1 << 248)
    two = make(paths, "two", 0xA2 << 248)
    for wanted in (one.id, "one", "/one", "a1", one.id[:12]):
        assert records.find(paths, wanted).id == one.id
    with pytest.raises(Conflict, match="multiple IDs"):
        records.find(paths, "a")
    for missing in ("nosuch", ".", "..", "../containers", "f" * 64):
        with pytest.raises(NotFound, match=f"No such container: {missing}"):
            records.find(paths, missing)
    with pytest.raises(MiniError, match="value is empty"):
        records.find(paths, "")
    assert {r.id for r in records.list_all(paths)} == {one.id, two.id}


def test_a_taken_name_is_a_conflict_and_leaves_nothing(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    first = make(paths, "same", 1)
    with pytest.raises(Conflict, match=f'"/same" is already in use by container "{first.id}"'):
        make(paths, "same", 2)
    assert os.listdir(paths.containers) == [first.id]
    assert os.listdir(paths.names) == ["same"]


def test_the_name_of_a_container_removed_half_way_is_free(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    first = make(paths, "same", 1)
    os.unlink(f"{first.directory}/config.json")
    assert records.list_all(paths) == []
    second = make(paths, "same", 2)
    assert records.find(paths, "same").id == second.id


def _race(root: str, number: int) -> bool:
    try:
        make(Paths(root), "wanted", number)
        return True
    except Conflict:
        return False


def test_of_many_who_want_a_name_one_gets_it(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        won = pool.starmap(_race, [(str(tmp_path), n) for n in range(1, 25)])
    assert won.count(True) == 1
    assert len(records.list_all(Paths(str(tmp_path)))) == 1


def test_a_process_is_told_from_one_with_the_same_pid() -> None:
    state = records.new_state()
    records.mark_process(state, "Pid", os.getpid())
    assert records.is_alive(state, "Pid")
    assert not records.is_alive(state | {"PidStart": state["PidStart"] + 1}, "Pid")
    assert not records.is_alive(state | {"BootId": "another"}, "Pid")
    assert not records.is_alive(records.new_state(), "Pid")


def test_rename(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    one, two = make(paths, "one", 1), make(paths, "two", 2)
    with pytest.raises(Conflict, match=f'"/two" is already in use by container "{two.id}"'):
        records.rename(one, "two")
    records.rename(one, "three")
    assert sorted(os.listdir(paths.names)) == ["three", "two"]
    assert (records.find(paths, "three").id, records.find(paths, "three").name) == (one.id, "three")
    with pytest.raises(NotFound):
        records.find(paths, "one")
    records.remove(records.find(paths, "three"))
    assert os.listdir(paths.names) == ["two"]


def test_a_rename_that_was_killed_leaves_one_name(tmp_path: Path) -> None:
    """Before its config was written the old name counts, afterwards the new one; the other is free."""
    paths = Paths(str(tmp_path))
    for name, other in (("old", "new"), ("kept", "stale")):
        record = make(paths, name, len(name))
        with open(paths.name(other), "w") as file:
            file.write(record.id)
        assert records.find(paths, name).id == record.id
        with pytest.raises(NotFound):
            records.find(paths, other)
        another = make(paths, other, 10 + len(name))
        assert records.find(paths, other).id == another.id
        records.remove(record)
        assert records.find(paths, other).id == another.id


def test_a_monitor_removes_a_container_by_the_name_that_it_has_by_then(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    held = make(paths, "one", 1)
    records.rename(records.find(paths, "one"), "two")
    assert held.name == "one"
    records.remove(held)
    assert os.listdir(paths.names) == os.listdir(paths.containers) == []
