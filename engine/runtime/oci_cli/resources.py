"""pause, resume, update: what is done to the cgroup of a container that runs."""

from __future__ import annotations

from engine import files, lean
from engine.errors import Conflict, StoreError, Unsupported, UsageError
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
    wanted = from_file(options["resources"]) if "resources" in options else from_options(options)
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
    except (OSError, ValueError, RecursionError, StoreError) as e:
        raise UsageError(f"cannot read the resources from {path}: {e}") from e
    return validate.without_nulls(value)


def _number(text: str, is_size: bool) -> int:
    """A size may have one of Docker's units, of 1024: `50M`, `1gb`. Raises ValueError."""
    word = text.lower().removesuffix("b") if is_size else text
    power = "kmgt".find(word[-1:]) + 1 if word else 0
    return int(word[:-1]) << 10 * power if power and is_size else int(word)


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
