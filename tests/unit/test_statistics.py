"""Docker's formulas for `stats`, and how `ps --filter` reads ports."""

from __future__ import annotations

import os

import pytest

from engine.containers import statistics
from engine.containers.listing import Filters
from engine.containers.statistics import Sample
from engine.context import Context
from engine.errors import UsageError
from engine.paths import Paths

PROCESSORS = os.cpu_count() or 1


def sample(cpu: int = 0, system: int = 0, memory: int = 0, limit: int = 0) -> Sample:
    found = Sample()
    found.cpu, found.system, found.memory, found.limit = cpu, system, memory, limit
    return found


@pytest.mark.parametrize(
    ("before", "now", "percent"),
    [
        (sample(0, 0), sample(500, 1000 * PROCESSORS), 50.0),
        (sample(), sample(1000 * PROCESSORS, 1000 * PROCESSORS), 100.0 * PROCESSORS),
        (sample(500, 1000), sample(500, 2000), 0.0),
        (sample(500, 1000), sample(0, 0), 0.0),  # it has ended
        (sample(500, 1000), sample(600, 1000), 0.0),  # no time has passed
    ],
)
def test_cpu_percent(before: Sample, now: Sample, percent: float) -> None:
    assert statistics.cpu_percent(before, now) == pytest.approx(percent)


def test_memory_percent() -> None:
    assert sample(memory=16, limit=64).memory_percent == 25.0
    assert sample().memory_percent == 0.0


@pytest.mark.requires("linux")
def test_what_the_host_says_of_itself() -> None:
    first = statistics.host_cpu()
    assert 0 < first <= statistics.host_cpu()
    assert statistics.host_memory() > 1 << 20
    received, sent = statistics.interfaces(os.getpid())
    assert received >= 0 and sent >= 0
    assert statistics.interfaces(1 << 22) == (0, 0)


PUBLISHED = {
    "Config": {"ExposedPorts": {"99/tcp": {}}},
    "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9999"}], "53/udp": None}},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("publish=9999", True),
        ("publish=9000-10000/tcp", True),
        ("publish=9999/udp", False),
        ("publish=80", False),
        ("expose=80", True),
        ("expose=98-100", True),
        ("expose=53/udp", False),
        ("expose=1-70000/sctp", False),
    ],
)
def test_filters_for_ports(text: str, matches: bool) -> None:
    assert Filters(Context(Paths("/nowhere"), {}), [text]).match(PUBLISHED) is matches


@pytest.mark.parametrize("text", ["expose=x", "publish=1-", "publish=-1", "expose=", "expose=1-x/tcp"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(UsageError, match="error while looking up for"):
        Filters(Context(Paths("/nowhere"), {}), [text])
