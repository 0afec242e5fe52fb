"""What is sent to the journal: datagrams of the native protocol, and a sealed memfd where one is too small."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.logs.journald import Journal
from engine.runtime.logs.journalreader import _Parser

F_GET_SEALS, ALL_SEALS = 1034, 15


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"{tmp_path}/socket")
        made.settimeout(60)
        yield made


def parse(entry: bytes) -> dict[str, bytes]:
    """The native protocol is the export format's entry without its empty line."""
    (fields,) = _Parser().feed(entry + b"\n")
    return fields


def test_lines_and_parts(receiver: socket.socket) -> None:
    journal = Journal({"CONTAINER_ID": "abc", "X": "two\nlines"}, receiver.getsockname())
    journal.append(b"a\xff\n\nrest", "stdout")
    journal.append(b"end\n", "stdout")
    journal.append(b"bad\n", "stderr")
    journal.close()
    got = [parse(receiver.recv(1 << 20)) for _ in range(5)]
    assert [(f["MESSAGE"], f["PRIORITY"], f["CONTAINER_LOG_ORDINAL"]) for f in got] == [
        (b"a\xff", b"6", b"1"), (b"", b"6", b"2"), (b"rest", b"6", b"3"), (b"end", b"6", b"4"), (b"bad", b"3", b"5"),
    ]  # fmt: skip
    assert all(f["X"] == b"two\nlines" and f["CONTAINER_ID"] == b"abc" for f in got)
    assert len({f["CONTAINER_LOG_EPOCH"] for f in got}) == 1
    part, last = got[2], got[3]
    assert (part["CONTAINER_PARTIAL_MESSAGE"], part["CONTAINER_PARTIAL_LAST"]) == (b"true", b"false")
    assert "CONTAINER_PARTIAL_MESSAGE" not in last and last["CONTAINER_PARTIAL_LAST"] == b"true"
    assert [f["CONTAINER_PARTIAL_ORDINAL"] for f in (part, last)] == [b"1", b"2"]
    assert part["CONTAINER_PARTIAL_ID"] == last["CONTAINER_PARTIAL_ID"]
    assert part["SYSLOG_TIMESTAMP"] == last["SYSLOG_TIMESTAMP"]
    assert not any(name.startswith("CONTAINER_PARTIAL") for name in got[0])


def test_what_is_too_big_for_a_datagram_comes_as_a_sealed_memfd(receiver: socket.socket) -> None:
    journal = Journal({"BIG": "x" * 500_000}, receiver.getsockname())
    journal.append(b"hello\n", "stdout")
    journal.close()
    data, ancillary, _, _ = receiver.recvmsg(10, socket.CMSG_SPACE(4))
    assert data == b""
    fds = array.array("i", ancillary[0][2])
    with os.fdopen(fds[0], "rb") as file:
        assert fcntl.fcntl(file, F_GET_SEALS) == ALL_SEALS
        fields = parse(os.pread(file.fileno(), 1 << 20, 0))
    assert fields["MESSAGE"] == b"hello" and len(fields["BIG"]) == 500_000


def test_a_journal_that_is_gone_takes_nothing_and_fails_nothing(tmp_path: Path) -> None:
    journal = Journal({}, f"{tmp_path}/nosuch")
    journal.append(b"lost\n", "stdout")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(f"{tmp_path}/nosuch")
        journal.append(b"found\n", "stdout")
        assert parse(again.recv(1 << 16))["MESSAGE"] == b"found"
    with pytest.raises(OSError) as refused:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect(f"{tmp_path}/nosuch")
    assert refused.value.errno == errno.ECONNREFUSED
    journal.append(b"lost\n", "stdout")
    journal.close()


@given(
    st.lists(st.dictionaries(st.sampled_from(["A", "MESSAGE", "_B"]), st.binary(max_size=40), min_size=1), max_size=5),
    st.integers(1, 50),
)
def test_an_export_is_read_in_any_portions(wanted: list[dict[str, bytes]], portion: int) -> None:
    from engine.runtime.logs.journald import _field

    data = b"".join(b"".join(_field(n, v) for n, v in fields.items()) + b"\n" for fields in wanted)
    parser = _Parser()
    found = [f for at in range(0, len(data), portion) for f in parser.feed(data[at : at + portion])]
    assert found == wanted


def test_without_a_descriptor_what_is_big_is_lost(receiver: socket.socket) -> None:
    journal = Journal({"BIG": "x" * 500_000}, receiver.getsockname())
    free = os.dup(0)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        journal.append(b"lost\n", "stdout")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    journal.append(b"kept\n", "stdout")
    data, ancillary, _, _ = receiver.recvmsg(10, socket.CMSG_SPACE(4))
    (fd,) = array.array("i", ancillary[0][2])
    with os.fdopen(fd, "rb") as file:
        assert parse(os.pread(file.fileno(), 1 << 20, 0))["MESSAGE"] == b"kept"
    journal.close()
