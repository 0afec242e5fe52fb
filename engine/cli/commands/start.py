"""`mini start`."""

from __future__ import annotations

from engine.cli.each import each
from engine.containers import usecases
from engine.containers.terminal import DETACH_KEYS, parse_detach_keys
from engine.context import Context
from engine.errors import UsageError


def main(context: Context, container: list[str], attach: bool, detach_keys: str | None, interactive: bool) -> int:
    if not attach and not interactive:
        return each(container, lambda name: usecases.start(context, name), echo=True)
    if len(container) > 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    keys = parse_detach_keys(detach_keys) if detach_keys is not None else DETACH_KEYS
    code = usecases.start(context, container[0], attached=True, interactive=interactive, detach_keys=keys)
    return code or 0
