"""The json-file log: what was written comes back, byte for byte, across rotation."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime import logs


def test_lines_are_dockers(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log")
    writer.write("stdout", b"one\ntwo")
    writer.write("stderr", b"err\n")
    writer.write("stdout", b" more\n")
    writer.close()
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(r["log"], r["stream"]) for r in records] == [
        ("one\n", "stdout"), ("err\n", "stderr"), ("two more\n", "stdout"),
    ]  # fmt: skip
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", r["time"]) for r in records)


def test_long_lines_are_cut_as_docker_cuts_them(tmp_path: Path) -> None:
    """moby, daemon/logger/copier.go: a buffer of 16 KiB, logged as a part when it is full and has no line feed."""
    writer = logs.LogWriter(f"{tmp_path}/log")
    writer.write("stdout", b"a" * 16383 + b"\n" + b"b" * 16384 + b"\n" + b"c" * 40000 + b"\nd\n\n" + b"e" * 16380)
    writer.write("stdout", b"f" * 5 + b"\n")
    writer.close()
    records = [json.loads(line)["log"] for line in (tmp_path / "log").read_text().splitlines()]
    assert records == [
        "a" * 16383 + "\n", "b" * 16384, "\n", "c" * 16384, "c" * 16384, "c" * 7232 + "\n", "d\n", "\n",
        "e" * 16380 + "f" * 4, "f\n",
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40000), max_size=6))
def test_every_byte_comes_back(tmp_path_factory: object, pieces: list[bytes]) -> None:
    directory = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]
    writer = logs.LogWriter(f"{directory}/log")
    for piece in pieces:
        writer.write("stdout", piece)
    writer.close()
    assert b"".join(e.data for e in logs.read(f"{directory}/log")) == b"".join(pieces)


def test_rotation_keeps_the_newest_and_bounds_the_disk(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log", max_size=1000, max_files=3)
    for n in range(100):
        writer.write("stdout", f"line {n}\n".encode())
    writer.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    assert all(os.path.getsize(tmp_path / name) < 1100 for name in os.listdir(tmp_path))
    found = [e.data for e in logs.read(f"{tmp_path}/log")]
    assert found == [f"line {n}\n".encode() for n in range(100 - len(found), 100)]


def test_tail(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log")
    writer.write("stdout", b"1\n2\n3\n")
    writer.close()
    assert [e.data for e in logs.read(f"{tmp_path}/log", tail=2)] == [b"2\n", b"3\n"]
    assert list(logs.read(f"{tmp_path}/log", tail=0)) == []


def test_tail_over_rotated_files_and_long_ones(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log", max_size=400_000, max_files=3)
    for n in range(9000):
        writer.write("stdout", f"{n}\n".encode())
    writer.close()
    everything = [e.data for e in logs.read(f"{tmp_path}/log")]
    assert os.path.exists(f"{tmp_path}/log.1") and everything[-1] == b"8999\n"
    for count in (1, 2, 3000, 7000, len(everything) - 1, len(everything), len(everything) + 1):
        assert [e.data for e in logs.read(f"{tmp_path}/log", tail=count)] == everything[-count:]


def test_what_a_power_loss_leaves_is_passed_over(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log")
    writer.write("stdout", b"1\n2\n3\n4\n")
    writer.close()
    one, two, three, four = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    (tmp_path / "log").write_bytes(one + two[:-9] + b"\0" * 50 + three + b"7\n{}\n\n" + four)
    assert [e.data for e in logs.read(f"{tmp_path}/log")] == [b"1\n", b"4\n"]


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    """What a power loss leaves."""
    writer = logs.LogWriter(f"{tmp_path}/log")
    writer.write("stdout", b"whole\ncut\n")
    writer.close()
    path = tmp_path / "log"
    path.write_bytes(path.read_bytes()[:-20])
    assert [e.data for e in logs.read(str(path))] == [b"whole\n"]


def test_follow_sees_what_comes_across_a_rotation_and_ends(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log", max_size=300, max_files=3)
    writer.write("stdout", b"0\n")
    written = [b"0\n"]

    def alive() -> bool:
        """Called once a round: writes, and after ten rounds says that nobody will any more."""
        if len(written) > 10:
            return False
        line = f"{len(written)}\n".encode()
        written.append(line)
        writer.write("stdout", line)
        return True

    assert [e.data for e in logs.read(f"{tmp_path}/log", follow=alive)] == written


def test_follow_loses_nothing_when_files_rotate_faster_than_it_looks(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log", max_size=300, max_files=9)
    written: list[bytes] = []

    def alive() -> bool:
        for _ in range(20):
            line = b"%d\n" % len(written)
            written.append(line)
            writer.write("stdout", line)
        return len(written) < 100

    alive()
    assert os.path.exists(f"{tmp_path}/log.2")
    found = [e.data for e in logs.read(f"{tmp_path}/log", follow=alive)]
    assert found == written


def test_what_is_written_while_it_is_read_is_not_waited_for(tmp_path: Path) -> None:
    writer = logs.LogWriter(f"{tmp_path}/log")
    writer.write("stdout", b"0\n" * 10000)
    count = 0
    for _ in logs.read(f"{tmp_path}/log"):
        writer.write("stdout", b"0\n")
        count += 1
    assert count == 10000
