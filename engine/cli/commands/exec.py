"""`mini exec`."""

from __future__ import annotations

from engine.containers import usecases
from engine.containers.options import ExecOptions
from engine.containers.terminal import DETACH_KEYS, parse_detach_keys
from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(context: Context, container: str, command: list[str], detach_keys: str | None, **asked: Any) -> int:
    options = ExecOptions(**asked)
    options.detach_keys = parse_detach_keys(detach_keys) if detach_keys is not None else DETACH_KEYS
    code = usecases.exec_(context, container, command, options)
    if code is None and not options.detach:
        from engine.cli.commands.attach import detached

        return detached()
    return code or 0
