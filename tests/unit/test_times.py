"""Times that users write, to the nanosecond: `--since` and `--until`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from engine.cli import values
from engine.errors import UsageError
from engine.times import nanoseconds_of, seconds_of

NOW = nanoseconds_of("2026-01-01T00:10:00.5Z")
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.000000001Z", SECOND + 1),
        ("1970-01-01T00:00:01.5Z", SECOND * 3 // 2),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00.25-00:30", SECOND // 4),
        ("2026-11-24T05:47:42.123456789Z", 1795499262123456789),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
    ],
)
def test_rfc_3339(text: str, nanoseconds: int) -> None:
    assert nanoseconds_of(text) == nanoseconds
    assert seconds_of(text) == nanoseconds / 1e9


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An hour ahead of UTC in winter, two in summer."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-01T00:00:00.000000001Z", "2026-01-01T00:00:00.000000001Z"),
        ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T01:00:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T01:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T01", "2026-01-01T00:00:00Z"),
        ("2026-07-01", "2026-06-30T22:00:00Z"),
        ("2026-01-01Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:05Z", "2026-01-01T00:05:00Z"),
        ("1767225600", "2026-01-01T00:00:00Z"),
        ("1767225600.000000001", "2026-01-01T00:00:00.000000001Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("10m", "2026-01-01T00:00:00.5Z"),
        ("1h10m0.5s", "2025-12-31T23:00:00Z"),
        ("-1m", "2026-01-01T00:11:00.5Z"),
        ("500ms", "2026-01-01T00:10:00Z"),
    ],
)
def test_moments(berlin: None, text: str, same: str) -> None:
    assert values.moment(text, NOW) == nanoseconds_of(same)


@pytest.mark.parametrize("text", ["x", "12x", "yesterday", "1.x", "h", "-", "2026-99-"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match=f'failed to parse value as time or duration: "{text}"'):
        values.moment(text, NOW)
