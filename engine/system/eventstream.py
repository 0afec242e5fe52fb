"""Reading the event log (events.py): what was, what comes, and Docker's filters."""

from __future__ import annotations

import os
import time

from engine import lean
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from engine.paths import Paths

_PAUSE = 0.1
# Actions that have a detail after a colon, and match by their beginning once a filter names one of them alone.
_DETAILED = ("exec_create", "exec_start", "health_status")
FILTERS = ("container", "daemon", "event", "image", "label", "network", "plugin", "scope", "type", "volume")


class Filters:
    """`--filter NAME=VALUE`: of one name any may match, of several all must (moby, daemon/events/filter.go)."""

    def __init__(self, given: Sequence[str]) -> None:
        self._wanted: dict[str, list[str]] = {}
        for text in given:
            name, _, value = text.partition("=")
            if name not in FILTERS:
                raise UsageError(f"invalid filter '{name}'", f"the filters are {', '.join(FILTERS)}")
            self._wanted.setdefault(name, []).append(value)

    def match(self, event: dict[str, Any]) -> bool:
        return all(self._matches(name, values, event) for name, values in self._wanted.items())

    def _matches(self, name: str, values: list[str], event: dict[str, Any]) -> bool:
        kind, actor, action = event["Type"], str(event["Actor"]["ID"]), str(event["Action"])
        attributes: dict[str, str] = event["Actor"]["Attributes"]
        if name == "event":
            if any(value in _DETAILED for value in values):
                return action.startswith(tuple(values))
            return action in values
        if name in ("type", "scope"):
            return (kind if name == "type" else event["scope"]) in values
        if name == "label":
            pairs = (value.partition("=") for value in values)
            return all(key in attributes and (not equals or attributes[key] == value) for key, equals, value in pairs)
        if name == "image":
            shown = attributes.get("image" if kind == "container" else "name", "")
            return any(value in (actor, shown, _untagged(actor), _untagged(shown)) for value in values)
        return actor.startswith(tuple(values)) or attributes.get("name", "").startswith(tuple(values))


def _untagged(name: str) -> str:
    repository, colon, tag = name.rpartition(":")
    return repository if colon and "/" not in tag else name


def read(paths: Paths, since: int | None, until: int | None) -> Iterator[dict[str, Any]]:
    """The events from `since` to `until` (nanoseconds since the epoch) in the order they were written.

    Without `since`, those that come from now on; without `until`, for ever. A line that is damaged is left out.
    """
    log = _Log(paths.events, from_start=since is not None)
    try:
        while True:
            over = until is not None and time.time_ns() >= until
            for line in log.lines():
                event = _parse(line)
                if event is None or (since is not None and event["timeNano"] < since):
                    continue
                if until is not None and event["timeNano"] > until:
                    over = True
                    continue
                yield event
            if over:
                return
            time.sleep(_PAUSE if until is None else min(_PAUSE, max(0.0, (until - time.time_ns()) / 1e9)))
    finally:
        log.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event: dict[str, Any] = lean.loads(line)
        event["Type"], event["Action"], event["Actor"]["Attributes"], event["timeNano"]
    except (ValueError, KeyError, TypeError):
        return None
    return event


class _Log:
    """The file under its name, and across a rotation the one that had it before, to its end."""

    def __init__(self, path: str, from_start: bool) -> None:
        self._path = path
        self._fd = -1
        self._rest = b""
        self._old = self._open(f"{path}.1") if from_start else -1
        self._switch()
        if not from_start and self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_END)

    @staticmethod
    def _open(path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def _switch(self) -> None:
        """Opens what has the name now; what was open is read once more, by the next `lines`, for who wrote meanwhile."""
        found = self._open(self._path)
        if found < 0:
            return
        if self._fd >= 0 and os.fstat(found).st_ino == os.fstat(self._fd).st_ino:
            os.close(found)
            return
        if self._old < 0:
            self._old = self._fd
        self._fd = found

    def lines(self) -> Iterator[bytes]:
        """Whole lines that were not read yet."""
        if self._old >= 0:
            yield from self._read(self._old)
            os.close(self._old)
            self._old, self._rest = -1, b""
        if self._fd >= 0:
            yield from self._read(self._fd)
        self._switch()

    def _read(self, fd: int) -> Iterator[bytes]:
        while data := os.read(fd, 1 << 20):
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from lines

    def close(self) -> None:
        for fd in (self._old, self._fd):
            if fd >= 0:
                os.close(fd)
