"""Restart policies and health checks, as rules."""

from __future__ import annotations

import os
from typing import Any

import pytest

from engine.containers import health, restart
from engine.containers.options import CreateOptions
from engine.context import Context
from engine.errors import UsageError
from engine.paths import Paths
from engine.system import boot


@pytest.mark.parametrize("text", ["no", "always", "unless-stopped", "on-failure", "on-failure:5"])
def test_policies(text: str) -> None:
    name, _, count = text.partition(":")
    assert restart.parse(text) == {"Name": name, "MaximumRetryCount": int(count or 0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "invalid restart policy 'nosuch'"),
        ("always:3", "maximum retry count cannot be used with restart policy 'always'"),
        (":3", "invalid restart policy format: no policy provided before colon"),
        ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
    ],
)
def test_bad_policies(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        restart.parse(text)


@pytest.mark.parametrize(
    ("text", "code", "restarts", "expected"),
    [
        ("no", 1, 0, False),
        ("always", 0, 9, True),
        ("unless-stopped", 0, 0, True),
        ("on-failure", 0, 0, False),
        ("on-failure", 1, 99, True),
        ("on-failure:2", 1, 1, True),
        ("on-failure:2", 1, 2, False),
    ],
)
def test_again(text: str, code: int, restarts: int, expected: bool) -> None:
    assert restart.again(restart.parse(text), code, restarts) is expected


@pytest.mark.parametrize(
    ("text", "code", "stopped", "expected"),
    [
        ("no", 1, False, False),
        ("always", 0, True, True),
        ("unless-stopped", 0, True, False),
        ("unless-stopped", 0, False, True),
        ("on-failure", 1, False, True),
        ("on-failure", 1, True, False),
        ("on-failure", 0, False, False),
    ],
)
def test_at_boot(text: str, code: int, stopped: bool, expected: bool) -> None:
    assert restart.at_boot(restart.parse(text), code, stopped) is expected


def test_the_delay_doubles_up_to_a_minute_and_begins_anew_after_a_long_life() -> None:
    delay, delays = 0.0, []
    for _ in range(12):
        delay = restart.next_delay(delay, 0.5)
        delays.append(delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60
    assert restart.next_delay(60, 10) == 0.1


IMAGE = {"Healthcheck": {"Test": ["CMD", "probe"], "Interval": 5, "Retries": 2}}


@pytest.mark.parametrize(
    ("options", "image", "expected"),
    [
        ({}, {}, None),
        ({}, IMAGE, {"Test": ["CMD", "probe"], "Interval": 5, "Retries": 2}),
        ({"health_retries": 7}, IMAGE, {"Test": ["CMD", "probe"], "Interval": 5, "Retries": 7}),
        ({"health_cmd": "x y"}, IMAGE, {"Test": ["CMD-SHELL", "x y"], "Interval": 5, "Retries": 2}),
        ({"no_healthcheck": True}, IMAGE, {"Test": ["NONE"]}),
    ],
)
def test_health_config(options: dict[str, Any], image: dict[str, Any], expected: Any) -> None:
    assert health.config(CreateOptions(**options), image) == expected


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (None, []),
        ({"Test": ["NONE"]}, []),
        ({"Test": ["CMD", "a", "b"]}, ["a", "b"]),
        ({"Test": ["CMD-SHELL", "a | b"]}, ["/bin/sh", "-c", "a | b"]),
        ({"Test": []}, []),
    ],
)
def test_health_command(check: dict[str, Any] | None, expected: list[str]) -> None:
    assert health.command(check) == expected


def test_conflicting_health_options() -> None:
    with pytest.raises(UsageError, match="--no-healthcheck conflicts"):
        health.config(CreateOptions(no_healthcheck=True, health_cmd="x"), {})
    with pytest.raises(UsageError, match="cannot be negative"):
        health.config(CreateOptions(health_retries=-1), {})
    with pytest.raises(UsageError, match="invalid --health-on-failure"):
        health.config(CreateOptions(health_on_failure="explode"), {})


def test_the_systemd_unit(tmp_path: Any) -> None:
    ctx = Context(Paths("/data root"), {})
    path = boot.install(ctx, ["/opt/mini"], str(tmp_path))
    with open(path) as file:
        text = file.read()
    assert 'ExecStart=/opt/mini --root "/data root" system start\n' in text
    assert os.listdir(tmp_path) == ["mini.service"]
    with pytest.raises(UsageError, match="is this host run by systemd"):
        boot.install(ctx, ["/opt/mini"], f"{tmp_path}/nosuch")
