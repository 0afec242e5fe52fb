"""`--log-driver` and `--log-opt`: where a container's output is kept (moby, daemon/logger)."""

from __future__ import annotations

from engine.errors import UsageError
from engine.runtime import logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

JSON_FILE, NONE = "json-file", "none"
_OPTIONS = ("max-size", "max-file")
_SUFFIXES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "p": 1000**5}


def log_config(driver: str, options: Sequence[str]) -> dict[str, Any]:
    """HostConfig.LogConfig. UsageError in Docker's words."""
    chosen = driver or JSON_FILE
    given = dict(option.partition("=")[::2] for option in options)
    if chosen == NONE and given:
        raise UsageError("invalid logging opts for driver none")
    if chosen not in (JSON_FILE, NONE):
        hint = f"mini has {JSON_FILE} and {NONE}"
        raise UsageError(f'error looking up logging plugin {chosen}: plugin "{chosen}" not found', hint)
    for name in given:
        if name not in _OPTIONS:
            raise UsageError(f"unknown log opt '{name}' for {chosen} log driver", f"mini has {' and '.join(_OPTIONS)}")
    config = {"Type": chosen, "Config": given}
    limits(config)
    return config


def limits(config: dict[str, Any]) -> tuple[int, int]:
    """(bytes of a file, number of files) of a LogConfig; UsageError for values that are none. -1 of bytes is no limit."""
    given: dict[str, str] = config["Config"]
    prefix = "failed to initialize logging driver"
    size, count = logs.MAX_SIZE, logs.MAX_FILES
    if (text := given.get("max-size")) is not None:
        size = _size(text, prefix)
    if (text := given.get("max-file")) is not None:
        try:
            count = int(text)
        except ValueError:
            raise UsageError(f'{prefix}: strconv.Atoi: parsing "{text}": invalid syntax') from None
        if count < 1:
            raise UsageError(f"{prefix}: max-file cannot be less than 1")
    return size, count


def _size(text: str, prefix: str) -> int:
    """go-units' FromHumanSize: powers of 1000."""
    if text == "-1":
        return 1 << 62
    number = text.rstrip("bBiIkKmMgGtTpP ")
    suffix = text[len(number) :].strip().lower().removesuffix("b").removesuffix("i")
    try:
        value = int(float(number) * _SUFFIXES[suffix])
    except (ValueError, KeyError):
        raise UsageError(f"{prefix}: invalid size: '{text}'") from None
    if value <= 0:
        raise UsageError(f"{prefix}: max-size must be a positive number")
    return value
