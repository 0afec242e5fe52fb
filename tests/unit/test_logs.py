"""Logs in files: what was written comes back, byte for byte, in both formats, across rotation, and whatever was cut off."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.logs import drivers, jsonfile, local, reader, rotation
from engine.runtime.logs.drivers import JSON_FILE, LOCAL
from engine.runtime.logs.writer import Entry, LogWriter, Partials
from engine.times import nanoseconds_of

both = pytest.mark.parametrize("driver", [JSON_FILE, LOCAL])


def writer(
    path: Path, driver: str = JSON_FILE, max_size: int = 10_000_000, max_files: int = 3, compress: bool = False
) -> LogWriter:
    made = drivers.open_writer(drivers.Plan(driver, max_size, max_files, compress, None), f"{path}/log")
    assert made
    return made


def entries(path: Path, driver: str = JSON_FILE, **options: Any) -> list[Entry]:
    return list(drivers.read(driver, "", f"{path}/log", **options))


def lines(path: Path, driver: str = JSON_FILE, **options: Any) -> list[bytes]:
    return [entry.data for entry in entries(path, driver, **options)]


def numbered(first: int, last: int) -> list[bytes]:
    return [f"line {n}\n".encode() for n in range(first, last)]


def test_lines_are_dockers(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.write("stdout", b"one\ntwo")
    log.write("stderr", b"err\n")
    log.write("stdout", b" more\n")
    log.close()
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(r["log"], r["stream"]) for r in records] == [
        ("one\n", "stdout"), ("err\n", "stderr"), ("two more\n", "stdout"),
    ]  # fmt: skip
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", r["time"]) for r in records)


def test_attributes_are_in_each_record_as_docker_puts_them(tmp_path: Path) -> None:
    plan = drivers.Plan(JSON_FILE, 10_000, 3, False, None)
    plan.attributes = {"a": "é", "tag": '"x"'}
    log = drivers.open_writer(plan, f"{tmp_path}/log")
    assert log
    log.write("stdout", b"1\n2\n")
    log.close()
    for line in (tmp_path / "log").read_text().splitlines():
        assert list(json.loads(line)) == ["log", "stream", "attrs", "time"]
    assert [e.attributes for e in entries(tmp_path)] == [{"a": "é", "tag": '"x"'}] * 2


def test_long_lines_are_cut_as_docker_cuts_them(tmp_path: Path) -> None:
    """moby, daemon/logger/copier.go: a buffer of 16 KiB, logged as a part when it is full and has no line feed."""
    log = writer(tmp_path)
    log.write("stdout", b"a" * 16383 + b"\n" + b"b" * 16384 + b"\n" + b"c" * 40000 + b"\nd\n\n" + b"e" * 16380)
    log.write("stdout", b"f" * 5 + b"\n")
    log.close()
    records = [json.loads(line)["log"] for line in (tmp_path / "log").read_text().splitlines()]
    assert records == [
        "a" * 16383 + "\n", "b" * 16384, "\n", "c" * 16384, "c" * 16384, "c" * 7232 + "\n", "d\n", "\n",
        "e" * 16380 + "f" * 4, "f\n",
    ]  # fmt: skip


def test_the_parts_of_a_line_are_numbered_and_have_its_time() -> None:
    partials = Partials()
    (first,) = partials.lines(b"a" * 10, "stdout", 1)
    ((_, _, none),) = partials.lines(b"other\n", "stderr", 2)
    (second,) = partials.lines(b"b" * 10, "stdout", 3)
    last, whole = partials.lines(b"c\nd\n", "stdout", 4)
    assert none is None and whole == (b"d", 4, None)
    assert first[2] and second[2] and last[2]
    identity = first[2][0]
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert [first[1:], second[1:], last[1:]] == [
        (1, (identity, 1, False)), (1, (identity, 2, False)), (1, (identity, 3, True)),
    ]  # fmt: skip
    assert partials.lines(b"x", "stdout", 5)[0][2] != (identity, 1, False)


def test_a_local_record_is_what_dockers_protobuf_makes() -> None:
    """entry.proto, by hand: source, time_nano, line, partial, {last, id, ordinal}."""
    format = local.Format()
    plain = format.encode(b"hi\n", "stdout", 300)
    assert plain == b"\0\0\0\x0f" + b"\x0a\x06stdout" + b"\x10\xac\x02" + b"\x1a\x02hi" + b"\0\0\0\x0f"
    assert format.encode(b"\n", "stderr", 1) == b"\0\0\0\x0a" + b"\x0a\x06stderr" + b"\x10\x01" + b"\0\0\0\x0a"
    part = format.encode(b"x", "stdout", 1)
    identity = part[part.index(b"\x12\x40") + 2 :][:64]
    assert part[4:-4] == b"\x0a\x06stdout\x10\x01\x1a\x01x\x20\x01\x2a\x44\x12\x40" + identity + b"\x18\x01"
    last = format.encode(b"y\n", "stdout", 1)
    assert last[4:-4] == b"\x0a\x06stdout\x10\x01\x1a\x01y\x20\x01\x2a\x46\x08\x01\x12\x40" + identity + b"\x18\x02"


@pytest.mark.parametrize("driver", [JSON_FILE, LOCAL])
@settings(max_examples=60)
@given(pieces=st.lists(st.tuples(st.booleans(), st.binary(max_size=40000)), max_size=6))
def test_every_byte_comes_back(tmp_path_factory: Any, driver: str, pieces: list[tuple[bool, bytes]]) -> None:
    directory = tmp_path_factory.mktemp("log")
    log = writer(directory, driver, max_size=30_000, max_files=100, compress=driver == LOCAL)
    for is_error, piece in pieces:
        log.write("stderr" if is_error else "stdout", piece)
    log.close()
    found = entries(directory, driver)
    for stream in ("stdout", "stderr"):
        said = b"".join(piece for is_error, piece in pieces if is_error == (stream == "stderr"))
        assert b"".join(e.data for e in found if e.stream == stream) == said
    for count in (0, 1, 2, 3, 7, 1000):
        assert [(e.data, e.time) for e in entries(directory, driver, tail=count)] == [
            (e.data, e.time) for e in (found[-count:] if count else [])
        ]


@both
def test_rotation_keeps_the_newest_and_bounds_the_disk(tmp_path: Path, driver: str) -> None:
    log = writer(tmp_path, driver, max_size=1000)
    for line in numbered(0, 50):
        log.write("stdout", line)
    # in one piece: the limit holds in the middle of it, too
    log.write("stdout", b"".join(numbered(50, 100)))
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    assert all(os.path.getsize(tmp_path / name) < 1100 for name in os.listdir(tmp_path))
    assert all(os.path.getsize(tmp_path / name) >= 1000 for name in ("log.1", "log.2"))
    found = lines(tmp_path, driver)
    assert found == numbered(100 - len(found), 100)


@both
def test_one_file_alone(tmp_path: Path, driver: str) -> None:
    log = writer(tmp_path, driver, max_size=1000, max_files=1)
    log.write("stdout", b"".join(numbered(0, 100)))
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    found = lines(tmp_path, driver)
    assert found and found == numbered(100 - len(found), 100)


@both
def test_compressed_files(tmp_path: Path, driver: str) -> None:
    """gzip as Docker writes it: the time of the last record is in the header, and --since need not read the file."""
    log = writer(tmp_path, driver, max_size=1000, max_files=4, compress=True)
    for line in numbered(0, 100):
        log.write("stdout", line)
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1.gz", "log.2.gz", "log.3.gz"]
    found = entries(tmp_path, driver)
    assert [e.data for e in found] == numbered(100 - len(found), 100)
    compressed = tmp_path / "log.1.gz"
    extra = compressed.read_bytes()[12:]
    last = json.loads(extra[: extra.index(b"}") + 1])["lastTime"]
    format = local.Format if driver == LOCAL else jsonfile.Format
    records, used = format.decode(gzip.decompress(compressed.read_bytes()))
    assert used >= 1000 and nanoseconds_of(records[-1].time) <= nanoseconds_of(last)
    for name in ("log.1.gz", "log.2.gz", "log.3.gz"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: data.index(b"}") + 1] + bytes(100))
    # they are damaged now, which nobody sees who does not read them
    assert entries(tmp_path, driver, since=nanoseconds_of(last) + 1)
    with pytest.raises(Exception, match=r"log\.3\.gz is damaged"):
        entries(tmp_path, driver)


@both
def test_tail_reads_from_the_end(tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 MB, of which the last five lines take a few reads, and no file but the last is opened for more than its header."""
    log = writer(tmp_path, driver, max_size=12_000_000, max_files=9)
    block = b"".join(b"%099d\n" % n for n in range(1000))
    for _ in range(300 if driver == LOCAL else 200):
        log.write("stdout", block)
    log.close()
    assert sum(os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path)) > 30_000_000
    taken: list[int] = []
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        data = pread(fd, size, offset)
        taken.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    assert lines(tmp_path, driver, tail=5) == [b"%099d\n" % n for n in range(995, 1000)]
    assert len(taken) <= 20 and sum(taken) < 200_000


@both
@pytest.mark.parametrize("count", [1, 2, 5])
def test_tail_reaches_into_older_files(tmp_path: Path, driver: str, count: int) -> None:
    log = writer(tmp_path, driver, max_size=60, max_files=9, compress=count == 5)
    for line in numbered(0, 6):
        log.write("stdout", line)
    log.close()
    assert lines(tmp_path, driver, tail=count) == numbered(6 - count, 6)


def test_tail_over_blocks_and_files(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size=400_000)
    for n in range(9000):
        log.write("stdout", b"%d\n" % n)
    log.close()
    everything = lines(tmp_path)
    assert os.path.exists(tmp_path / "log.1") and everything[-1] == b"8999\n"
    for count in (1, 2, 3000, 7000, len(everything) - 1, len(everything), len(everything) + 1):
        assert lines(tmp_path, tail=count) == everything[-count:]


@both
def test_what_is_written_while_it_is_read_is_not_waited_for(tmp_path: Path, driver: str) -> None:
    log = writer(tmp_path, driver)
    log.write("stdout", b"0\n" * 10000)
    count = 0
    for _ in drivers.read(driver, "", f"{tmp_path}/log"):
        log.write("stdout", b"0\n")
        count += 1
    log.close()
    assert count == 10000


@both
def test_a_record_that_is_cut_is_left_out_and_taken_away(tmp_path: Path, driver: str) -> None:
    """What SIGKILL or a power loss leaves, at every byte; the container's next life writes on."""
    log = writer(tmp_path, driver)
    log.write("stdout", b"".join(numbered(0, 3)))
    log.close()
    path = tmp_path / "log"
    data = path.read_bytes()
    two = len(data) * 2 // 3
    for cut in range(two, len(data)):
        path.write_bytes(data[:cut])
        assert lines(tmp_path, driver) == numbered(0, 2), cut
        assert lines(tmp_path, driver, tail=1) == numbered(1, 2), cut
        assert lines(tmp_path, driver, tail=9) == numbered(0, 2), cut
        log = writer(tmp_path, driver)
        log.write("stdout", b"next\n")
        log.close()
        assert lines(tmp_path, driver) == [*numbered(0, 2), b"next\n"], cut


def test_what_a_power_loss_leaves_is_passed_over(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.write("stdout", b"1\n2\n3\n4\n")
    log.close()
    one, two, three, four = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    (tmp_path / "log").write_bytes(one + two[:-9] + b"\0" * 50 + three + b"7\n{}\n\n" + four)
    assert lines(tmp_path) == [b"1\n", b"4\n"]


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.write("stdout", b"1\n")
    log.close()
    with open(tmp_path / "log", "ab") as file:
        file.write(b'{"log":"ab{"log":"c"}\n[]\n\n3\n{"log":3}\n{"log":"x"}\n' + bytes(100) + b"\n")
    log = writer(tmp_path)
    log.write("stdout", b"2\n")
    log.close()
    assert lines(tmp_path) == [b"1\n", b"2\n"]


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_damage_in_a_local_log_is_told_or_left_out(tmp_path_factory: Any, noise: bytes, at: int) -> None:
    """No other exception, no endless loop, whatever is in the file."""
    directory = tmp_path_factory.mktemp("log")
    log = writer(directory, LOCAL)
    log.write("stdout", b"".join(numbered(0, 5)))
    log.close()
    data = (directory / "log").read_bytes()
    (directory / "log").write_bytes(data[:at] + noise + data[at:])
    for tail in (None, 2):
        try:
            entries(directory, LOCAL, tail=tail)
        except Exception as e:
            assert "is damaged" in str(e)
    writer(directory, LOCAL).close()


def follower(write: Callable[[int], None], rounds: int) -> Callable[[], bool]:
    """Called by a reader once a round: writes, and says after so many rounds that nobody will any more."""
    done = 0

    def alive() -> bool:
        nonlocal done
        if done == rounds:
            return False
        write(done)
        done += 1
        return True

    return alive


@both
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("at_once", [1, 3, 25])
def test_follow_goes_on_across_rotations(
    tmp_path: Path, driver: str, compress: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without loss or repetition for as long as what it has not read is still there: also over several files at a time."""
    monkeypatch.setattr(reader, "_PAUSE", 0)
    log = writer(tmp_path, driver, max_size=300, max_files=20, compress=compress)
    log.write("stdout", b"line 0\n")

    def write(done: int) -> None:
        for line in numbered(1 + done * at_once, 1 + (done + 1) * at_once):
            log.write("stdout", line)

    found = lines(tmp_path, driver, follow=follower(write, 30))
    log.close()
    assert found == numbered(0, 1 + 30 * at_once)


@both
def test_follow_after_the_last_lines(tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PAUSE", 0)
    log = writer(tmp_path, driver, max_size=300, max_files=9)
    log.write("stdout", b"".join(numbered(0, 20)))

    def write(done: int) -> None:
        log.write("stdout", numbered(20 + done, 21 + done)[0])

    assert lines(tmp_path, driver, tail=0, follow=follower(write, 9)) == numbered(20, 29)
    assert lines(tmp_path, driver, tail=7, follow=lambda: False) == numbered(22, 29)
    log.close()


def test_follow_of_one_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is read is unlinked by its rotation, and read to its end nevertheless."""
    monkeypatch.setattr(reader, "_PAUSE", 0)
    log = writer(tmp_path, max_size=200, max_files=1)
    log.write("stdout", b"line 0\n")
    write = follower(lambda done: log.write("stdout", numbered(done + 1, done + 2)[0]), 20)
    assert lines(tmp_path, follow=write) == numbered(0, 21)
    log.close()


def test_follow_before_there_is_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PAUSE", 0)

    def write(done: int) -> None:
        if done == 3:
            log = writer(tmp_path)
            log.write("stdout", b"late\n")
            log.close()

    assert lines(tmp_path, follow=follower(write, 6)) == [b"late\n"]


def meanwhile(monkeypatch: pytest.MonkeyPatch, at: int, happens: Callable[[], object]) -> None:
    """Before the reader opens its file number `at`."""
    opened = 0

    class Opening(reader._File):
        def __init__(self, path: str) -> None:
            nonlocal opened
            opened += 1
            if opened == at:
                happens()
            super().__init__(path)

    monkeypatch.setattr(reader, "_File", Opening)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("at", range(1, 9))
def test_files_that_move_on_while_they_are_opened(
    tmp_path: Path, before: int, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation that has done some of its steps when the names are listed, and the others before a file is opened."""
    log = writer(tmp_path, max_size=300, max_files=9, compress=True)
    for line in numbered(0, 15):
        log.write("stdout", line)
    log.close()
    names = sorted(tmp_path.glob("log.*.gz"), reverse=True)
    assert [name.name for name in names] == ["log.3.gz", "log.2.gz", "log.1.gz"]

    def move(some: list[Path]) -> None:
        for name in some:
            name.rename(tmp_path / f"log.{int(name.name[4]) + 1}.gz")

    move(names[:before])
    meanwhile(monkeypatch, at, lambda: move(names[before:]))
    assert lines(tmp_path) == numbered(0, 15)


@pytest.mark.parametrize("at", range(1, 6))
def test_a_file_that_is_compressed_while_it_is_opened(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log = writer(tmp_path, max_size=300, max_files=9)
    for line in numbered(0, 5):
        log.write("stdout", line)
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]

    def compress() -> None:
        rotation.compress(f"{tmp_path}/log.1", 0)
        os.rename(tmp_path / "log.1.gz", tmp_path / "log.2.gz")

    meanwhile(monkeypatch, at, compress)
    assert lines(tmp_path) == numbered(0, 5)


def test_a_rotation_that_was_cut_short(tmp_path: Path) -> None:
    """Killed between link and rename, the file has two names: it is read once, and the next writer takes the second away."""
    log = writer(tmp_path)
    log.write("stdout", b"1\n")
    log.close()
    os.link(tmp_path / "log", tmp_path / "log.1")
    assert lines(tmp_path) == [b"1\n"]
    writer(tmp_path).close()
    assert sorted(os.listdir(tmp_path)) == ["log"]


def test_a_compression_that_was_cut_short(tmp_path: Path) -> None:
    """Killed between rename and unlink there are both: the file is read once, and once more it is after the next rotation."""
    log = writer(tmp_path, max_size=200, max_files=5)
    for line in numbered(0, 4):
        log.write("stdout", line)
    log.close()
    plain = (tmp_path / "log.1").read_bytes()
    rotation.compress(f"{tmp_path}/log.1", 0)
    (tmp_path / "log.1").write_bytes(plain)
    (tmp_path / "log.1.gz.new").write_bytes(b"rubbish")
    assert lines(tmp_path) == numbered(0, 4)
    log = writer(tmp_path, max_size=200, max_files=5, compress=True)
    for line in numbered(4, 9):
        log.write("stdout", line)
    log.close()
    assert lines(tmp_path) == numbered(0, 9)


@both
def test_nothing_that_befalls_the_disk_reaches_the_container(
    tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full in the middle of a record: the whole of it is lost, and what comes when there is room again is kept."""
    log = writer(tmp_path, driver)
    log.write("stdout", b"before\n")
    really = os.write
    written = 0

    def full(fd: int, data: Any) -> int:
        nonlocal written
        written += 1
        if written % 2:
            return really(fd, bytes(data)[:7])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.write("stdout", b"lost\n")
    assert written == 2
    log.write("stdout", b"after\n")
    log.close()
    assert lines(tmp_path, driver) == [b"before\n", b"after\n"]


def test_output_that_may_not_wait(tmp_path: Path) -> None:
    """mode=non-blocking: by way of another process, which writes all that the buffer had when it is closed."""
    plan = drivers.Plan(JSON_FILE, 10_000_000, 3, False, 1_000_000)
    log = drivers.open_writer(plan, f"{tmp_path}/log")
    assert log
    log.write("stderr", b"one\ntw")
    log.write("stderr", b"o\n" + b"x" * 40000)
    log.close()
    assert b"".join(lines(tmp_path)) == b"one\ntwo\n" + b"x" * 40000
    assert {e.stream for e in entries(tmp_path)} == {"stderr"}


def test_a_log_that_hangs_does_not_hold_up_the_output(tmp_path: Path) -> None:
    """The log is a pipe that nobody reads: what the buffer cannot hold is lost, in whole lines, and the writer goes on."""
    from engine.runtime.logs.buffer import Buffer

    gate = tmp_path / "gate"
    os.mkfifo(gate)

    class Slow:
        def __init__(self) -> None:
            with open(gate, "rb") as file:
                file.read()
            self._out = open(tmp_path / "out", "wb")

        def append(self, piece: bytes, _stream: str) -> None:
            self._out.write(piece)

        def close(self) -> None:
            self._out.close()

    log = LogWriter(Buffer(Slow, 100_000))
    for _ in range(1000):
        log.write("stdout", b"y" * 999 + b"\n")
    with open(gate, "wb"):
        pass
    log.close()
    kept = (tmp_path / "out").read_bytes()
    assert 16_000 <= len(kept) <= 300_000
    assert set(kept.splitlines(keepends=True)) == {b"y" * 999 + b"\n"}


@both
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("taken", ["the file", "the directory", "its rotation's place"])
def test_what_others_do_to_the_files_costs_lines_only(tmp_path: Path, driver: str, compress: bool, taken: str) -> None:
    """Somebody removes the current file, as logrotate would, or all of it; or a directory is where a rotation has to be."""
    where = tmp_path / "logs"
    where.mkdir()
    log = writer(where, driver, max_size=1000, compress=compress)
    log.write("stdout", b"before\n")
    if taken == "the file":
        (where / "log").unlink()
    elif taken == "the directory":
        where.rename(tmp_path / "away")
    else:
        (where / "log.2" / "x").mkdir(parents=True)
    for line in numbered(0, 100):
        log.write("stdout", line)
    if taken == "the directory":
        (tmp_path / "away").rename(where)
    elif taken == "its rotation's place":
        (where / "log.2" / "x").rmdir()
        (where / "log.2").rmdir()
    for line in numbered(100, 200):
        log.write("stdout", line)
    log.close()
    found = lines(where, driver)
    assert found[-1] == b"line 199\n" and found == numbered(200 - len(found), 200)
    assert (where / "log.1").exists() or (where / "log.1.gz").exists()
