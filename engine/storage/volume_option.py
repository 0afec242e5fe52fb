"""`-v [SOURCE:]DESTINATION[:MODES]` as Docker reads it: cli, compose/loader/volume.go, then moby, volume/mounts/linux_parser.go."""

from __future__ import annotations

import os
import posixpath

from engine.errors import UsageError
from engine.storage.volumes import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypedDict

    class MountPoint(TypedDict):
        """A `-v` as data. `source` is a host path (bind), a volume's name, or empty for an anonymous volume.

        `propagation` is of binds only. `relabel` is SELinux's "z", "Z" or "". `create_source`: a missing host directory
        is made, as `-v` does and `--mount` does not.
        """

        type: str
        source: str
        destination: str
        readonly: bool
        nocopy: bool
        propagation: str
        relabel: str
        create_source: bool


_MODES = {
    "access": ("ro", "rw"),
    "relabel": ("z", "Z"),
    "propagation": ("private", "rprivate", "slave", "rslave", "shared", "rshared"),
    "copy": ("nocopy",),
    "consistency": ("consistent", "cached", "delegated"),
}


def parse_volume_option(value: str, cwd: str) -> MountPoint:
    """Reads `-v [SOURCE:]DESTINATION[:MODES]`. Pure; raises UsageError in Docker's words.

    A source with a leading `/` or `.` is a path on the host, a relative one below `cwd`; any other is a volume's name.
    """
    source, destination, modes = _split(value)
    kind = "bind" if source.startswith((".", "/")) else "volume"
    chosen = _read_modes(modes)
    error = f"invalid volume specification: '{value}': invalid mount config for type \"{kind}\": "
    if not destination.startswith("/"):
        raise UsageError(f"{error}invalid mount path: '{destination}' mount path must be absolute")
    destination = _clean(destination)
    if destination == "/":
        raise UsageError(f"{error}invalid specification: destination can't be '/'")
    if kind == "bind" and "copy" in chosen:
        raise UsageError(f"{error}field VolumeOptions must not be specified")
    if kind == "volume" and "propagation" in chosen:
        raise UsageError(f"{error}field BindOptions must not be specified")
    if kind == "bind":
        source = _clean(os.path.join(cwd, source))
    elif source:
        check_name(source)
    return {
        "type": kind,
        "source": source,
        "destination": destination,
        "readonly": chosen.get("access") == "ro",
        "nocopy": "copy" in chosen,
        "propagation": chosen.get("propagation", "rprivate") if kind == "bind" else "",
        "relabel": chosen.get("relabel", ""),
        "create_source": kind == "bind",
    }


def parse_volume_options(values: Sequence[str], cwd: str) -> list[MountPoint]:
    """Every `-v` in order. Raises UsageError where two have one destination."""
    found = [parse_volume_option(v, cwd) for v in values]
    check_duplicates(m["destination"] for m in found)
    return found


def check_duplicates(destinations: Iterable[str]) -> None:
    """Raises UsageError, in Docker's words, for the first destination that comes twice."""
    seen = set()
    for destination in destinations:
        if destination in seen:
            raise UsageError(f"Duplicate mount point: {destination}")
        seen.add(destination)


def _split(value: str) -> tuple[str, str, str]:
    if not value:
        raise UsageError("invalid empty volume spec")
    parts = value.split(":")
    if not all(parts):
        raise UsageError(f"invalid spec: {value}: empty section between colons")
    if len(parts) > 3:
        raise UsageError(f"invalid spec: {value}: too many colons")
    if len(parts) == 1:
        return "", value, ""
    if len(parts) == 2 and _known_modes(parts[1]):
        raise UsageError(f"invalid volume specification: '{value}'")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def _known_modes(modes: str) -> bool:
    try:
        _read_modes(modes)
    except UsageError:
        return False
    return True


def _read_modes(modes: str) -> dict[str, str]:
    """Kind of mode → the mode given. Each kind at most once."""
    chosen: dict[str, str] = {}
    for mode in modes.split(",") if modes else ():
        kind = next((k for k, words in _MODES.items() if mode in words), None)
        if kind is None or kind in chosen:
            raise UsageError(f"invalid mode: {modes}")
        chosen[kind] = mode
    return chosen


def _clean(path: str) -> str:
    """Go's path.Clean: normpath, without POSIX's special meaning of two leading slashes."""
    return "/" + posixpath.normpath(path).lstrip("/")
