"""The event log: one line an event whoever writes, bounded, followed across rotations, filtered as Docker does."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine import events
from engine.errors import UsageError
from engine.paths import Paths
from engine.system import eventstream
from engine.system.eventstream import Filters
from tests.support.conformance import until


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path))


def emit(paths: Paths, actor: str, kind: str = "container", action: str = "start", **attributes: str) -> None:
    events.emit(paths, kind, action, actor, attributes)


def actors(paths: Paths, since: int = 0, until: int | None = None) -> list[str]:
    return [e["Actor"]["ID"] for e in eventstream.read(paths, since, time.time_ns() if until is None else until)]


def test_what_was_written_is_read_in_order(paths: Paths) -> None:
    for number in range(3):
        emit(paths, str(number), name="x", label='quo"ted\n')
    (first, *_) = eventstream.read(paths, 0, time.time_ns())
    assert first["Actor"] == {"ID": "0", "Attributes": {"name": "x", "label": 'quo"ted\n'}}
    assert first["time"] == first["timeNano"] // 1_000_000_000
    assert actors(paths) == ["0", "1", "2"]


def test_since_and_until_are_exact_to_the_nanosecond(paths: Paths) -> None:
    for number in range(3):
        emit(paths, str(number))
    times = [e["timeNano"] for e in eventstream.read(paths, 0, time.time_ns())]
    assert actors(paths, times[1]) == ["1", "2"]
    assert actors(paths, 0, times[1]) == ["0", "1"]
    assert actors(paths, times[1] + 1, times[2] - 1) == []


def test_many_writers_lose_nothing_but_what_is_old(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is whole, and the log stays bounded, while eight write and the file is full again and again."""
    monkeypatch.setattr(events, "MAX_SIZE", 20_000)

    def write(who: int) -> None:
        for number in range(200):
            emit(paths, f"{who}-{number}")

    writers = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = actors(paths)
    assert {who.rpartition("-")[2] for who in found} >= {"199"}
    assert len(found) == len(set(found))
    sizes = [os.path.getsize(paths.events + end) for end in ("", ".1")]
    assert all(size < 30_000 for size in sizes)
    lines = sum(Path(paths.events + end).read_bytes().count(b"\n") for end in ("", ".1"))
    assert lines == len(found)


def test_following_goes_on_across_rotations(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_SIZE", 2_000)
    monkeypatch.setattr(eventstream, "_PAUSE", 0.001)
    emit(paths, "before")
    seen: list[str] = []

    def follow() -> None:
        for event in eventstream.read(paths, None, None):
            seen.append(event["Actor"]["ID"])
            if seen[-1] == "last":
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    while not seen:
        emit(paths, "begin")
        time.sleep(0.005)
    wanted = [str(n) for n in range(100)] + ["last"]
    for number, actor in enumerate(wanted):
        emit(paths, actor)
        # who is two rotations behind has lost what was there
        until(lambda: number % 5 != 4 or actor in seen)  # noqa: B023
    follower.join(60)
    assert [actor for actor in seen if actor != "begin"] == wanted


def test_a_log_that_is_not_there_yet_can_be_followed(paths: Paths) -> None:
    is_seen = threading.Event()

    def write() -> None:
        while not is_seen.wait(0.05):
            emit(paths, "first")

    writer = threading.Thread(target=write)
    writer.start()
    assert next(eventstream.read(paths, None, None))["Actor"]["ID"] == "first"
    is_seen.set()
    writer.join()


def test_damaged_lines_are_left_out(paths: Paths) -> None:
    emit(paths, "one")
    with open(paths.events, "ab") as file:
        file.write(b'{"Type":"contai\n\xff\xfe\nnull\n{"Type":"container"}\n')
    emit(paths, "two")
    assert actors(paths) == ["one", "two"]


def test_an_event_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    events.emit(Paths(str(tmp_path / "absent")), "container", "start", "x", {})
    (tmp_path / "events.jsonl").mkdir()
    events.emit(Paths(str(tmp_path)), "container", "start", "x", {})


def event(kind: str, action: str, actor: str, **attributes: str) -> dict[str, Any]:
    return {"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": attributes}, "scope": "local"}


WEB = event("container", "die", "abcdef", name="web", image="alpine:3.20", a="1")
EXEC = event("container", "exec_create: ls -l", "abcdef", name="web", image="alpine")
PULL = event("image", "pull", "alpine:3.20", name="alpine")


@pytest.mark.parametrize(
    ("given", "matched"),
    [
        ([], [WEB, EXEC, PULL]),
        (["type=container"], [WEB, EXEC]),
        (["type=container", "type=image"], [WEB, EXEC, PULL]),
        (["event=die"], [WEB]),
        (["event=die", "event=pull"], [WEB, PULL]),
        (["event=exec_create"], [EXEC]),
        (["event=exec_create: ls"], []),
        (["event=exec_create: ls -l"], [EXEC]),
        (["container=web"], [WEB, EXEC]),
        (["container=abc"], [WEB, EXEC]),
        (["container=bc"], []),
        (["image=alpine"], [WEB, EXEC, PULL]),
        (["image=alpine:3.20"], [WEB, PULL]),
        (["label=a"], [WEB]),
        (["label=a=1", "type=container"], [WEB]),
        (["label=a=2"], []),
        (["scope=local"], [WEB, EXEC, PULL]),
        (["scope=swarm"], []),
        (["volume=data"], []),
    ],
)
def test_filters(given: list[str], matched: list[dict[str, Any]]) -> None:
    filters = Filters(given)
    assert [e for e in (WEB, EXEC, PULL) if filters.match(e)] == matched


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(UsageError, match="invalid filter 'colour'"):
        Filters(["colour=red"])
