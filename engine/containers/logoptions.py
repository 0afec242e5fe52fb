"""`--log-driver` and `--log-opt`: where a container's output is kept, and what is noted with it (moby, daemon/logger)."""

from __future__ import annotations

import os

from engine.errors import UsageError
from engine.runtime.logs.drivers import JOURNALD, JSON_FILE, LOCAL, NONE, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_ATTRIBUTES = ("env", "env-regex", "labels", "labels-regex", "tag")
_FILES = ("compress", "max-file", "max-size")
_OF_ALL = ("mode", "max-buffer-size")
_OPTIONS = {JSON_FILE: _FILES + _ATTRIBUTES, LOCAL: _FILES, JOURNALD: _ATTRIBUTES}
_UNKNOWN = {
    JSON_FILE: "unknown log opt '{}' for json-file log driver",
    LOCAL: "unknown log opt '{}' for log driver local",
    JOURNALD: "unknown log opt '{}' for journald log driver",
}
# (bytes of a file, files, compressed): json-file as it should have been in Docker, which has no limit; local as it is there
_DEFAULTS = {
    JSON_FILE: (10_000_000, 3, False),
    LOCAL: (20 << 20, 5, True),
    JOURNALD: (0, 0, False),
    NONE: (0, 0, False),
}
_UNLIMITED = 1 << 62
_BUFFER = 1_000_000
_SUFFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_FAILED = "failed to initialize logging driver: "


def log_config(driver: str, options: Sequence[str]) -> dict[str, Any]:
    """HostConfig.LogConfig. UsageError in Docker's words."""
    chosen = driver or JSON_FILE
    given = dict(option.partition("=")[::2] for option in options)
    if chosen == NONE:
        if given:
            raise UsageError("invalid logging opts for driver none")
        return {"Type": NONE, "Config": {}}
    if chosen not in _OPTIONS:
        hint = f"mini has {JSON_FILE}, {LOCAL}, {JOURNALD} and {NONE}"
        raise UsageError(f'error looking up logging plugin {chosen}: plugin "{chosen}" not found', hint)
    _buffer_size(given)
    for name in given:
        if name not in _OPTIONS[chosen] + _OF_ALL:
            hint = f"the driver has {', '.join(_OPTIONS[chosen] + _OF_ALL)}"
            raise UsageError(_UNKNOWN[chosen].format(name), hint)
    config = {"Type": chosen, "Config": given}
    _check(config)
    return config


def plan(config: dict[str, Any]) -> Plan:
    """What the LogConfig of a container's inspect object means for its runtime."""
    log = config["HostConfig"]["LogConfig"]
    given = log["Config"]
    made = Plan(log["Type"], *_limits(log), _buffer_size(given))
    if made.driver in (JSON_FILE, JOURNALD):
        named = _attributes(given, config)
        info = _template_values(config)
        if made.driver == JOURNALD:
            made.fields = _journal_fields(info, named, _tag(given.get("tag") or "{{.ID}}", info))
        else:
            tag = _tag(given.get("tag", ""), info)
            made.attributes = named | ({"tag": tag} if tag else {})
    return made


def _check(log: dict[str, Any]) -> None:
    """What Docker finds when it starts the container: mini says it before it creates it."""
    _limits(log)
    given = log["Config"]
    for name in ("labels-regex", "env-regex"):
        if given.get(name):
            _matcher(given[name])
    _tag(given.get("tag", ""), dict.fromkeys(_TEMPLATE, ""))
    if log["Type"] == JOURNALD:
        from engine.runtime.logs.journald import SOCKET

        if not os.path.exists(SOCKET):
            raise UsageError(f"{_FAILED}journald is not enabled on this host", f"there is no {SOCKET}")


# --- files


def _limits(log: dict[str, Any]) -> tuple[int, int, bool]:
    """(bytes of a file, number of files, whether the older are compressed); UsageError for values that are none."""
    driver, given = log["Type"], log["Config"]
    size, count, compress = _DEFAULTS[driver]
    if "max-size" in given:
        size = _max_size(driver, given["max-size"])
    if "max-file" in given:
        count = _max_file(driver, given["max-file"])
    if "compress" in given:
        compress = _boolean(driver, given["compress"])
    if driver == JSON_FILE and compress and count == 1:
        raise UsageError(f"{_FAILED}compress cannot be true when max-file is less than 2 or max-size is not set")
    if driver == LOCAL and compress and count <= 1:
        raise UsageError(f"{_FAILED}compression cannot be enabled when max file count is 1")
    return size or 1, max(count, 1), compress


def _max_size(driver: str, text: str) -> int:
    if text == "-1" and driver == JSON_FILE:
        return _UNLIMITED
    try:
        value = _size(text, 1000)
    except ValueError as e:
        where = "" if driver == JSON_FILE else f"invalid value for max-size: {text}: "
        raise UsageError(f"{_FAILED}{where}{e}") from None
    if value <= 0 and driver == JSON_FILE:
        raise UsageError(f"{_FAILED}max-size must be a positive number")
    return value


def _max_file(driver: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        where = "" if driver == JSON_FILE else f"invalid value for max-file: {text}: "
        raise UsageError(f'{_FAILED}{where}strconv.Atoi: parsing "{text}": invalid syntax') from None
    if value < 1 and driver == JSON_FILE:
        raise UsageError(f"{_FAILED}max-file cannot be less than 1")
    if value < 0:
        raise UsageError(f"{_FAILED}max file count cannot be less than 0")
    return value


def _boolean(driver: str, text: str) -> bool:
    if text not in _TRUE + _FALSE:
        where = "" if driver == JSON_FILE else "error reading compress log option: "
        raise UsageError(f'{_FAILED}{where}strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def _buffer_size(given: dict[str, str]) -> int | None:
    """Bytes of `mode=non-blocking`; None for the mode that waits. UsageError."""
    mode = given.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise UsageError(f"logger: logging mode not supported: {mode}")
    text = given.get("max-buffer-size")
    if mode != "non-blocking":
        if text is not None:
            raise UsageError("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        return None
    try:
        return _BUFFER if text is None else _size(text, 1024)
    except ValueError as e:
        raise UsageError(f"error parsing option max-buffer-size: {e}") from None


def _size(text: str, base: int) -> int:
    """go-units' FromHumanSize (powers of 1000) and RAMInBytes (of 1024). ValueError in its words."""
    number = text.rstrip("bBiIkKmMgGtTpP ")
    suffix = text[len(number) :].strip().lower().removesuffix("b").removesuffix("i")
    if suffix not in _SUFFIXES or not number or number.strip("0123456789.") or number.count(".") > 1:
        raise ValueError(f"invalid size: '{text}'")
    return int(float(number) * base ** _SUFFIXES[suffix])


# --- what is noted with each line


def _attributes(given: dict[str, str], config: dict[str, Any]) -> dict[str, str]:
    """The labels and variables that are asked for, by name or by pattern, and that there are."""
    labels: dict[str, str] = config["Config"].get("Labels") or {}
    pairs = (variable.partition("=") for variable in config["Config"].get("Env") or ())
    environment = {name: value for name, equals, value in pairs if equals}
    found: dict[str, str] = {}
    for option, values in (("labels", labels), ("env", environment)):
        names = given[option].split(",") if given.get(option) else []
        found |= {name: values[name] for name in names if name in values}
        if pattern := given.get(f"{option}-regex"):
            matches = _matcher(pattern)
            found |= {name: value for name, value in values.items() if matches(name)}
    return dict(sorted(found.items()))


def _matcher(pattern: str) -> Callable[[str], object]:
    import re

    try:
        return re.compile(pattern).search
    except re.error as e:
        raise UsageError(f"{_FAILED}error parsing regexp: {e.msg}: `{pattern}`") from None


_TEMPLATE = ("ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName")


def _template_values(config: dict[str, Any]) -> dict[str, str]:
    """What a tag may name. An image's short ID has its algorithm before it, as in Docker: twelve characters in all."""
    container, image = config["Id"], config["Image"]
    values = (container[:12], container, config["Name"].removeprefix("/"), image[:12], image)
    return dict(zip(_TEMPLATE, (*values, config["Config"]["Image"], "mini"), strict=True))


def _tag(template: str, values: dict[str, str]) -> str:
    """Go's text/template, of which tags use fields: "{{.Name}}/{{.ID}}". UsageError for everything else."""
    text, rest = "", template
    while rest:
        before, opened, rest = rest.partition("{{")
        text += before
        if not opened:
            break
        action, closed, rest = rest.partition("}}")
        field = action.strip()
        if not closed:
            raise UsageError(f"{_FAILED}template: log-tag:1: unclosed action")
        if not field.startswith(".") or field[1:] not in values:
            hint = "a tag may have " + ", ".join(f"{{{{.{name}}}}}" for name in values)
            raise UsageError(f"{_FAILED}template: log-tag: {{{{{action}}}}} is not understood", hint)
        text += values[field[1:]]
    return text


def _journal_fields(info: dict[str, str], named: dict[str, str], tag: str) -> dict[str, str]:
    from engine.runtime.logs.journald import field_name

    fields = {
        "CONTAINER_ID": info["ID"],
        "CONTAINER_ID_FULL": info["FullID"],
        "CONTAINER_NAME": info["Name"],
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": info["ImageName"],
        "SYSLOG_IDENTIFIER": tag,
    }
    return fields | {field_name(name): value for name, value in named.items() if field_name(name)}
