"""Reads back what the `journald` driver has sent, by way of journalctl(1), whose export format keeps every byte.

An entry is its fields, as the native protocol has them (journald.py), and an empty line (systemd.io/JOURNAL_EXPORT_FORMATS).
"""

from __future__ import annotations

import os
import select
import subprocess

from engine.errors import RuntimeFault, Unsupported
from engine.runtime.logs.writer import Entry
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 16
_PAUSE = 0.25
# not attributes: Docker's own, and those that syslog and the journal know (moby, daemon/logger/journald/read.go)
_KNOWN = frozenset(
    "MESSAGE MESSAGE_ID PRIORITY CODE_FILE CODE_LINE CODE_FUNC ERRNO SYSLOG_FACILITY SYSLOG_IDENTIFIER SYSLOG_PID "
    "SYSLOG_TIMESTAMP CONTAINER_NAME CONTAINER_ID CONTAINER_ID_FULL CONTAINER_TAG IMAGE_NAME CONTAINER_PARTIAL_ID "
    "CONTAINER_PARTIAL_ORDINAL CONTAINER_PARTIAL_LAST CONTAINER_PARTIAL_MESSAGE CONTAINER_LOG_EPOCH "
    "CONTAINER_LOG_ORDINAL".split()
)


def read(container_id: str, tail: int | None, follow: Callable[[], bool] | None, since: int | None) -> Iterator[Entry]:
    """The container's entries, oldest first; see drivers.read. Raises Unsupported where there is no journalctl."""
    wanted = ["-o", "export", "-a", "-q", "--no-pager", f"CONTAINER_ID_FULL={container_id}"]
    first = ["--no-tail"] if follow and tail is None else [] if tail is None else ["-n", str(tail)]
    if since is not None:
        # no entry was received before it was sent
        first.append(f"--since=@{since // 1_000_000_000}.{since % 1_000_000_000 // 1000:06d}")
    _settle()
    cursor = ""
    if follow:
        with _journalctl(*wanted, *first, "-f") as journal:
            for fields in _following(journal, follow):
                cursor = fields.get("__CURSOR", b"").decode()
                yield _entry(fields)
        # what was in the socket when the container ended
        _settle()
        if cursor:
            first = [f"--after-cursor={cursor}"]
    with _journalctl(*wanted, *first) as journal:
        parser = _Parser()
        assert journal.stdout
        while block := os.read(journal.stdout.fileno(), _BLOCK):
            for fields in parser.feed(block):
                yield _entry(fields)
        if journal.wait():
            raise _failure(journal)


def _journalctl(*arguments: str) -> _Process:
    try:
        return _Process(
            ["journalctl", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise Unsupported(
            "the log is in the systemd journal, and this host has no journalctl to read it with",
            "install systemd, or choose another --log-driver",
        ) from None


class _Process(subprocess.Popen[bytes]):
    """Ended, if it has not ended itself, where its reader leaves."""

    def __exit__(self, *args: object) -> None:
        if self.poll() is None:
            self.terminate()
        super().__exit__(None, None, None)


def _failure(journal: _Process) -> RuntimeFault:
    assert journal.stderr
    said = journal.stderr.read().decode(errors="replace").strip()
    return RuntimeFault("logs", f"journalctl cannot read the journal: {said or f'exit code {journal.returncode}'}")


def _settle() -> None:
    """Has the journal write what it has received: what a container said just before is found. Without it, what is there is read."""
    with _journalctl("--sync") as journal:
        journal.wait()


def _following(journal: _Process, alive: Callable[[], bool]) -> Iterator[dict[str, bytes]]:
    """Entries as they come, until nobody may write any more."""
    assert journal.stdout
    parser, poll = _Parser(), select.poll()
    poll.register(journal.stdout.fileno(), select.POLLIN | select.POLLHUP)
    while True:
        may_grow = alive()
        if poll.poll(_PAUSE * 1000):
            block = os.read(journal.stdout.fileno(), _BLOCK)
            if not block:
                raise _failure(journal)
            yield from parser.feed(block)
        elif not may_grow:
            return


class _Parser:
    """Makes entries of the bytes of an export, in whatever portions they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, bytes]]:
        """The entries that are complete now: their fields by name."""
        data = self._rest + data
        fields: dict[str, bytes] = {}
        begin = at = 0
        while (end := data.find(b"\n", at)) >= 0:
            name, separator, value = data[at:end].partition(b"=")
            at = end + 1
            if not name and not separator:
                if fields:
                    yield fields
                fields, begin = {}, at
                continue
            if not separator:
                length = int.from_bytes(data[at : at + 8], "little")
                if at + 8 + length + 1 > len(data):
                    break
                value = data[at + 8 : at + 8 + length]
                at += 8 + length + 1
            fields[name.decode(errors="replace")] = value
        self._rest = data[begin:]


def _entry(fields: dict[str, bytes]) -> Entry:
    stream = "stderr" if fields.get("PRIORITY") == b"3" else "stdout"
    partial = fields.get("CONTAINER_PARTIAL_MESSAGE") == b"true"
    attributes = {
        name: value.decode(errors="replace")
        for name, value in sorted(fields.items())
        if not name.startswith("_") and name not in _KNOWN
    }
    # older Dockers sent no time of their own
    moment = fields.get("SYSLOG_TIMESTAMP", b"").decode() or timestamp(int(fields["__REALTIME_TIMESTAMP"]) * 1000)
    return Entry(stream, moment, fields.get("MESSAGE", b"") + (b"" if partial else b"\n"), attributes)
