"""Reads the values of options, with Docker's words for those that cannot be read.

`convert` is called once for each value given, whichever parser found it. Every error is a UsageError that names the option
as Docker does: `invalid argument "xx" for "-m, --memory" flag: invalid size: 'xx'`.
"""

from __future__ import annotations

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class _Invalid(ValueError):
    """Why one value cannot be read; `convert` adds which."""


def convert(name: str, kind: str, text: str, spellings: tuple[str, ...]) -> Any:
    """The value of option `name` (its `kind` is the type word of the help text), or UsageError."""
    read = _BY_OPTION.get((name, kind)) or _BY_KIND.get(kind)
    if read is None:
        return text
    try:
        return read(text)
    except _Invalid as e:
        shown = spellings[: 1 if spellings[0].startswith("--") else 2]
        raise UsageError(f'invalid argument "{text}" for "{", ".join(shown)}" flag: {e}') from None


def boolean(text: str) -> bool:
    """Go's strconv.ParseBool, which Docker reads `--rm=false` with."""
    if text not in _TRUE and text not in _FALSE:
        raise _Invalid(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def integer(text: str) -> int:
    try:
        return int(text.strip("_") or "_", 10)
    except ValueError:
        raise _Invalid(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def size(text: str) -> int:
    from engine import units

    try:
        return units.size(text)
    except ValueError as e:
        raise _Invalid(str(e)) from None


def weight(text: str) -> int:
    """Of 16 bits, without a sign."""
    if not (text.isascii() and text.isdigit()):
        raise _Invalid(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) >= 1 << 16:
        raise _Invalid(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def device_weight(text: str) -> dict[str, Any]:
    """`/dev/PATH:WEIGHT`, 0 for none, as HostConfig.BlkioWeightDevice has it."""
    path, value = _of_device(text)
    if not (value.isascii() and value.isdigit()) or not (int(value) == 0 or 10 <= int(value) <= 1000):
        raise _Invalid(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}


def device_bytes(text: str) -> dict[str, Any]:
    """`/dev/PATH:SIZE` a second, as HostConfig.BlkioDeviceReadBps has it."""
    path, value = _of_device(text)
    try:
        return {"Path": path, "Rate": size(value)}
    except _Invalid:
        form = "<device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        raise _Invalid(f"invalid rate for device: {text}. The correct format is {form}") from None


def device_operations(text: str) -> dict[str, Any]:
    """`/dev/PATH:NUMBER` a second, as HostConfig.BlkioDeviceReadIOps has it."""
    path, value = _of_device(text)
    if not (value.isascii() and value.isdigit()) or int(value) >= 1 << 64:
        form = "<device-path>:<number>. Number must be a positive integer"
        raise _Invalid(f"invalid rate for device: {text}. The correct format is {form}")
    return {"Path": path, "Rate": int(value)}


def _of_device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not path or not colon:
        raise _Invalid(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise _Invalid(f"bad format for device path: {text}")
    return path, value


def swap(text: str) -> int:
    return -1 if text == "-1" else size(text)


def decimal(text: str) -> float:
    """A number of CPUs such as "1.5"; billionths are the finest that Docker takes."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e6 or "_" in text:
        raise _Invalid(f"failed to parse {text} as a rational number")
    if round(value * 1e9) != value * 1e9 and abs(value * 1e9 - round(value * 1e9)) > 1e-3:
        raise _Invalid("value is too precise")
    return value


def host_mapping(text: str) -> str:
    """`name:ip` or `name=ip`, as `name:ip`; `host-gateway` is allowed for the address."""
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not name or not separator or not address:
        raise _Invalid(f'bad format for add-host: "{text}"')
    address = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if address != "host-gateway" and not _is_ip(address):
        raise _Invalid(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def ip_address(text: str) -> str:
    if not _is_ip(text.strip()):
        raise _Invalid(f"IP address is not correctly formatted: {text}")
    return text.strip()


def stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise _Invalid("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def ulimit(text: str) -> str:
    from engine.containers import config

    return _readable(text, config.ulimit)


def variable(text: str) -> str:
    """`NAME=value`, or `NAME` for the one of the caller's environment."""
    if not text.partition("=")[0]:
        raise _Invalid(f"invalid environment variable: {text}")
    return text


def label(text: str) -> str:
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise _Invalid(f"invalid label '{text}': empty name")
    if " " in key or "\t" in key:
        raise _Invalid(f"label '{key}' contains whitespaces")
    return text


def sysctl(text: str) -> str:
    """`key=value` of a key that belongs to a namespace."""
    from engine.runtime.namespaces import sysctl_owner

    key, equals, _ = text.partition("=")
    if not equals or not sysctl_owner(key):
        raise _Invalid(f"sysctl '{text}' is not allowed")
    return text


def filter_(text: str) -> str:
    """`name=value`; which names there are is the command's business."""
    name, separator, value = text.partition("=")
    if not separator:
        raise _Invalid("bad format of filter (expected name=value)")
    return f"{name.strip().lower()}={value.strip()}"


def tail(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"invalid number of lines: {text}", "a number, or all") from None


def since(text: str, now: float) -> float:
    """`moment` in seconds."""
    return moment(text, round(now * 1e9)) / 1e9


def moment(text: str, now: int) -> int:
    """Nanoseconds since the epoch of `--since` and `--until`: RFC 3339 or a part of it (in the local time zone, unless it names
    one), Unix seconds, or a duration before `now` ("42m", "1h30m") (moby, api/types/time). UsageError in Docker's words.
    """
    from engine.times import nanoseconds_of

    try:
        if text != "0":
            return now - round(duration(text) * 1e9)
    except UsageError:
        pass
    seconds, _, fraction = text.partition(".")
    if seconds.isascii() and seconds.isdigit() and (fraction or "0").isdigit():
        return int(seconds) * 1_000_000_000 + int(f"{fraction:0<9}"[:9])
    if len(text) >= 10 and text[4:5] == "-" and text[7:8] == "-":
        body = text.rstrip("Z")
        if len(text) > 16 and text[-6] in "+-":
            body = text[:-6]
        zone = text[len(body) :]
        missing = "T00:00:00"[max(0, len(body) - 10) :]
        if found := nanoseconds_of(body + missing + (zone or "Z")):
            return found if zone else found - _local_offset(found)
    raise UsageError(f'failed to parse value as time or duration: "{text}"')


def _local_offset(wall: int) -> int:
    """Nanoseconds that the local time zone is ahead of UTC at a local time."""
    import time

    return time.localtime(wall // 1_000_000_000).tm_gmtoff * 1_000_000_000


def port_number(text: str) -> int:
    from engine.containers import portoptions

    try:
        return portoptions.number(text)
    except ValueError as e:
        raise UsageError(f"invalid port ({text}): {e}") from None


def duration(text: str) -> float:
    """Seconds of Go's durations: "10s", "1h30m", "500ms", "-1m"."""
    from engine import units

    try:
        return units.duration(text)
    except ValueError:
        raise UsageError(f'invalid duration "{text}"', "for instance 10s, 42m or 1h30m") from None


def nanoseconds(text: str) -> int:
    try:
        return round(duration(text) * 1e9)
    except UsageError:
        digits = text.lstrip("+-")
        what = "missing unit in" if digits.isascii() and digits.isdigit() else "invalid"
        raise _Invalid(f'time: {what} duration "{text}"') from None


def mapping(pairs: list[str]) -> dict[str, str]:
    """Labels: `key=value`, or `key` for an empty value."""
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def network(text: str) -> str:
    """`NAME`, or `name=NAME,alias=…`: checked here, since Docker's client tells it of the option; taken apart by netoptions."""
    from engine.containers import netoptions

    return _readable(text, netoptions.parse)


def link(text: str) -> str:
    from engine.containers import netoptions

    return _readable(text, netoptions.link)


def _readable(text: str, read: Callable[[str], object]) -> str:
    """The text as it is, once it is known that `read` can read it."""
    try:
        read(text)
    except UsageError as e:
        raise _Invalid(e.message) from None
    return text


def _is_ip(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except OSError:
            continue
    return False


_BY_KIND: dict[str, Callable[[str], Any]] = {
    "bool": boolean,
    "int": integer,
    "bytes": size,
    "decimal": decimal,
    "ulimit": ulimit,
    "filter": filter_,
    "duration": nanoseconds,
    "network": network,
}
_BY_OPTION: dict[tuple[str, str], Callable[[str], Any]] = {
    ("blkio_weight", "int"): weight,
    ("blkio_weight_devices", "list"): device_weight,
    ("device_read_bps", "list"): device_bytes,
    ("device_read_iops", "list"): device_operations,
    ("device_write_bps", "list"): device_bytes,
    ("device_write_iops", "list"): device_operations,
    ("memory_swap", "bytes"): swap,
    ("env", "list"): variable,
    ("label", "list"): label,
    ("labels", "list"): label,
    ("sysctls", "map"): sysctl,
    ("extra_hosts", "list"): host_mapping,
    ("dns", "list"): ip_address,
    ("links", "list"): link,
    ("attach", "list"): stream,
}
