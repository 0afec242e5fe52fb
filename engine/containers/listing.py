"""Which containers `ps` shows: Docker's filters (moby, daemon/list.go), and how large they are."""

from __future__ import annotations

import os
import stat

from engine.containers import records
from engine.errors import MiniError, NotFound, UsageError
from engine.storage.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from engine.context import Context

STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
HEALTH = ("none", "starting", "healthy", "unhealthy")


class Filters:
    """`--filter NAME=VALUE`. Of one name any value may match (of `label`, all must); all names must."""

    def __init__(self, ctx: Context, given: Sequence[str]) -> None:
        """Raises UsageError and NotFound in Docker's words."""
        self._ctx = ctx
        tests: dict[str, Callable[[str], Callable[[dict[str, Any]], bool]]] = {
            "ancestor": self._ancestor,
            "before": lambda name: self._compared(name, earlier=True),
            "exited": _exited,
            "expose": lambda text: _expose(_ports("expose", text)),
            "health": _health,
            "id": lambda text: lambda found: matches(text, found["Id"]),
            "is-task": _is_task,
            # of Windows; on Linux Docker takes whatever it is for true
            "isolation": lambda text: lambda found: True,
            "label": _label,
            "name": _name,
            "network": _network,
            "publish": lambda text: _publish(_ports("publish", text)),
            "since": lambda name: self._compared(name, earlier=False),
            "status": _status,
            "volume": _volume,
        }
        self._tests: dict[str, list[Callable[[dict[str, Any]], bool]]] = {}
        for text in given:
            name, _, value = text.partition("=")
            if name not in tests:
                raise UsageError(f"Invalid filter '{name}'", f"the filters are {', '.join(tests)}")
            self._tests.setdefault(name, []).append(tests[name](value))

    @property
    def names_states(self) -> bool:
        """Whether a state is asked for: then those that do not run are not left out."""
        return "status" in self._tests

    def match(self, found: dict[str, Any]) -> bool:
        """Whether a container, as its inspect object, is to be shown."""
        return all(
            (all if name == "label" else any)(test(found) for test in tests) for name, tests in self._tests.items()
        )

    def _ancestor(self, name: str) -> Callable[[dict[str, Any]], bool]:
        """The image by name or ID, or one built on it: its layers begin with the same, and go on."""
        try:
            image = ImageStore(self._ctx.paths).resolve(name)
        except MiniError:
            return lambda found: False
        below = image.diff_ids

        def test(found: dict[str, Any]) -> bool:
            layers = found["GraphDriver"]["Data"]["DiffIDs"]
            return bool(found["Image"] == image.id or (layers[: len(below)] == below and len(layers) > len(below)))

        return test

    def _compared(self, name: str, earlier: bool) -> Callable[[dict[str, Any]], bool]:
        try:
            created = records.find(self._ctx.paths, name).config["Created"]
        except NotFound:
            raise NotFound(f"no such container {name}") from None
        return lambda found: found["Created"] < created if earlier else found["Created"] > created


def matches(pattern: str, text: str) -> bool:
    """Equal, or found as a regular expression, as Docker's filters have it; a pattern that is none matches nothing."""
    if pattern == text:
        return True
    import re

    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _name(text: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: matches(text, found["Name"]) or matches(text, found["Name"].removeprefix("/"))


def _label(text: str) -> Callable[[dict[str, Any]], bool]:
    key, equals, value = text.partition("=")

    def test(found: dict[str, Any]) -> bool:
        labels = found["Config"].get("Labels") or {}
        return key in labels and (not equals or labels[key] == value)

    return test


def _exited(text: str) -> Callable[[dict[str, Any]], bool]:
    try:
        code = int(text)
    except ValueError:
        raise UsageError(f'strconv.Atoi: parsing "{text}": invalid syntax') from None
    return lambda found: found["State"]["Status"] in ("exited", "dead") and found["State"]["ExitCode"] == code


def _status(text: str) -> Callable[[dict[str, Any]], bool]:
    if text not in STATES:
        raise UsageError(f"Invalid filter 'status={text}'", f"the states are {', '.join(STATES)}")
    return lambda found: bool(found["State"]["Status"] == text)


def _health(text: str) -> Callable[[dict[str, Any]], bool]:
    if text not in HEALTH:
        raise UsageError(f"Unrecognised filter value for health: {text}", f"it is one of {', '.join(HEALTH)}")
    return lambda found: bool((found["State"].get("Health") or {}).get("Status", "none") == text)


def _is_task(text: str) -> Callable[[dict[str, Any]], bool]:
    """Tasks are Swarm's, which mini has none of."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise UsageError(f"Invalid filter 'is-task=[{text}]'")
    return lambda found: text.lower() in ("0", "false")


def _volume(text: str) -> Callable[[dict[str, Any]], bool]:
    def test(found: dict[str, Any]) -> bool:
        return any(text in (m.get("Name"), m.get("Source"), m["Destination"]) for m in found.get("Mounts") or ())

    return test


def _network(text: str) -> Callable[[dict[str, Any]], bool]:
    def test(found: dict[str, Any]) -> bool:
        networks: dict[str, Any] = found["NetworkSettings"]["Networks"]
        ids = [network.get("NetworkID") or "" for network in networks.values()]
        return text in networks or any(text and i.startswith(text) for i in ids)

    return test


def _ports(name: str, text: str) -> set[str]:
    """`80`, `80/udp` or `8000-8010/tcp` as Docker's `80/tcp`."""
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    try:
        low, high = (int(n) if n.isascii() and n.isdigit() else int("") for n in (first, last if dash else first))
    except ValueError:
        reason = f'strconv.ParseUint: parsing "{numbers}": invalid syntax'
        raise UsageError(f"error while looking up for {name} {text}: {reason}") from None
    return {f"{port}/{protocol or 'tcp'}" for port in range(low, min(high, 65535) + 1)}


def _expose(wanted: set[str]) -> Callable[[dict[str, Any]], bool]:
    return lambda found: bool(wanted & {*(found["Config"].get("ExposedPorts") or ()), *published(found)})


def _publish(wanted: set[str]) -> Callable[[dict[str, Any]], bool]:
    """The ports of the host, as in Docker."""

    def test(found: dict[str, Any]) -> bool:
        hosts = (
            f"{binding['HostPort']}/{port.partition('/')[2]}"
            for port, bindings in published(found).items()
            for binding in bindings
        )
        return not wanted.isdisjoint(hosts)

    return test


def published(found: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Container port ("80/tcp") → where it is published: `HostIp`, `HostPort`."""
    ports: dict[str, Any] = found["NetworkSettings"].get("Ports") or {}
    return {port: bindings for port, bindings in ports.items() if bindings}


def sizes(ctx: Context, found: dict[str, Any]) -> tuple[int, int]:
    """(what the container wrote, that and its image): Docker's SizeRw and SizeRootFs, in bytes as ls(1) shows them."""
    written = _size_of(f"{ctx.paths.container(found['Id'])}/upper")
    image = ImageStore(ctx.paths).load(found["Image"])
    return written, written + (image.size if image else 0)


def _size_of(directory: str) -> int:
    """Of all below that is no directory, each inode once (moby, pkg/directory)."""
    seen: set[int] = set()
    total = 0
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
                    elif status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_size
        except (FileNotFoundError, NotADirectoryError):
            # removed while we looked
            continue
    return total
