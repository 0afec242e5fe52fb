"""Texts for people: the same as go-units, text/tabwriter and Docker's formatter give for the same values."""

from __future__ import annotations

import pytest

from engine.cli import formats, values
from engine.errors import UsageError

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.2, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60 + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47.4 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    "count, text",
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (7_826_432, "7.83MB"), (999_900, "1e+03kB"), (45_600_000, "45.6MB"),
     (187_000_000, "187MB"), (1_950_000_000, "1.95GB")],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert formats.size(count) == text


def test_binary_size() -> None:
    assert formats.binary_size(8_363_835_392) == "7.789GiB"


@pytest.mark.parametrize(
    "state, text",
    [
        ({"Status": "created"}, "Created"),
        ({"Status": "running", "StartedAt": "2026-01-01T00:00:00.5Z"}, "Up 2 minutes"),
        ({"Status": "paused", "StartedAt": "2026-01-01T00:00:00Z"}, "Up 2 minutes (Paused)"),
        ({"Status": "exited", "ExitCode": 137, "FinishedAt": "2026-01-01T00:01:55Z"}, "Exited (137) 5 seconds ago"),
        (
            {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "Health": {"Status": "healthy"}},
            "Up 2 minutes (healthy)",
        ),
        (
            {"Status": "running", "StartedAt": "2026-01-01T01:00:00+01:00", "Health": {"Status": "starting"}},
            "Up 2 minutes (health: starting)",
        ),
        ({"Status": "running", "StartedAt": "2026-01-01T00:03:00Z"}, "Up Less than a second"),
    ],
)
def test_status(state: dict[str, object], text: str) -> None:
    assert formats.status(state, formats.seconds_of("2026-01-01T00:02:00.5Z")) == text


@pytest.mark.parametrize(
    "timestamp, seconds",
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T12:00:00Z", 951825600),
        ("2024-03-01T00:00:00Z", 1709251200),
        ("2026-11-24T05:47:42.25Z", 1795499262.25),
        ("2026-11-24T05:47:42.123456789+02:00", 1795492062.123456789),
        ("2026-11-24T05:47:42-05:30", 1795519062),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
    ],
)
def test_seconds_of(timestamp: str, seconds: float) -> None:
    assert formats.seconds_of(timestamp) == pytest.approx(seconds, abs=1e-5)


def test_table_is_laid_out_as_tabwriter_does() -> None:
    rows = [["CONTAINER ID", "IMAGE", "PORTS", "NAMES"], ["0123456789ab", "a-rather-long-image:1", "", "x"]]
    assert formats.table(rows) == (
        "CONTAINER ID   IMAGE                   PORTS     NAMES\n0123456789ab   a-rather-long-image:1             x\n"
    )


@pytest.mark.parametrize(
    "path, arguments, truncate, text",
    [
        ("sh", [], True, '"sh"'),
        ("sleep", ["100"], True, '"sleep 100"'),
        ("sh", ["-c", "echo hello world"], True, '"sh -c \'echo hello w…"'),
        ("sh", ["-c", "echo hello world"], False, "\"sh -c 'echo hello world'\""),
        ("sh", ["-c", 'a"b\n\x01é'], True, '"sh -c a\\"b\\n\\x01é"'),
    ],
)
def test_command(path: str, arguments: list[str], truncate: bool, text: str) -> None:
    assert formats.command(path, arguments, truncate) == text


@pytest.mark.parametrize(
    "text, seconds",
    [("10s", 10), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5), ("2m3s", 123), ("1h2m3s4ms", 3723.004), ("0", 0)],
)
def test_duration_values(text: str, seconds: float) -> None:
    assert values.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "10", "10 s", "m", "1y", "1hm", "--"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        values.duration(text)


def test_since() -> None:
    now = formats.seconds_of("2026-01-01T00:10:00Z")
    assert values.since("10m", now) == formats.seconds_of("2026-01-01T00:00:00Z")
    assert values.since("2026-01-01", now) == formats.seconds_of("2026-01-01T00:00:00Z")
    assert values.since("2026-01-01T00:03", now) == formats.seconds_of("2026-01-01T00:03:00Z")
    assert values.since("1767225600.5", now) == 1767225600.5
