"""pause, resume, update: what is done to the cgroup of a container that runs."""

from __future__ import annotations

import os

from engine import files, lean
from engine.errors import Conflict, Unsupported, UsageError
from engine.runtime import resources, state, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.oci_cli.context import Context
    from engine.runtime.state import Container

# option: where it goes in OCI's linux.resources
_PLACES = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}


def pause(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = _locked(ctx, arguments[0])
    if container.status() not in ("created", "running"):
        raise Conflict("container not running")
    _cgroup(container).freeze()
    return 0


def resume(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = _locked(ctx, arguments[0])
    if container.status() != "paused":
        raise Conflict("container not paused")
    _cgroup(container).thaw()
    return 0


def update(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = _locked(ctx, arguments[0])
    if container.status() == "stopped":
        raise Conflict("container not running")
    path = options.get("resources")
    wanted = from_file(path) if path else from_options(options)
    if any(name.startswith("kernel-memory") for name in options):
        ctx.log.warning("kernel memory is not limited: Linux has no such limit any more")
    resources.check(wanted, "resources")
    _cgroup(container).set_limits(wanted)
    return 0


def _locked(ctx: Context, container_id: str) -> Container:
    container = state.find(ctx.root, container_id)
    container.lock()
    return container


def _cgroup(container: Container) -> Cgroup:
    cgroup = container.cgroup
    if not cgroup:
        raise Unsupported("the container has no cgroup: it was made without the right to make one")
    return cgroup


def from_file(path: str) -> Any:
    """linux.resources from a JSON file, or from standard input for `-`. Raises UsageError."""
    try:
        value = lean.loads(files.read_bytes("/dev/stdin" if path == "-" else path))
    except OSError as e:
        raise UsageError(f"cannot read the resources from {path}: {os.strerror(e.errno or 0).lower()}") from e
    except (ValueError, RecursionError) as e:
        raise UsageError(f"cannot read the resources from {path}: {e}") from e
    return validate.without_nulls(value)


def _number(text: str, is_size: bool) -> int:
    """A size may have one of Docker's units; -1 is none. Raises ValueError."""
    if not is_size or text == "-1":
        return int(text)
    from engine import units

    return units.size(text)


def from_options(options: dict[str, Any]) -> dict[str, Any]:
    """linux.resources from the command line. Raises UsageError, Unsupported."""
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if options.get(name):
            raise Unsupported(f"--{name}: Intel RDT is not supported")
    found: dict[str, Any] = {}
    for name, (part, key) in _PLACES.items():
        if name in options:
            try:
                found.setdefault(part, {})[key] = _number(options[name], is_size=part == "memory")
            except ValueError:
                raise UsageError(f"invalid value for {name}: {options[name]}") from None
    for name, (part, key) in _TEXTS.items():
        if options.get(name):
            found.setdefault(part, {})[key] = options[name]
    return found
