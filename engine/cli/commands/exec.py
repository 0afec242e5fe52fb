"""`mini exec`."""

from __future__ import annotations

from engine.containers.execution import exec_
from engine.containers.options import ExecOptions
from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(context: Context, container: str, command: list[str], detach_keys: str | None, **asked: Any) -> int:
    options = ExecOptions(**asked)
    if detach_keys is not None:
        from engine.containers.terminal import parse_detach_keys

        options.detach_keys = parse_detach_keys(detach_keys)
    code = exec_(context, container, command, options)
    if code is None and not options.detach:
        from engine.cli.commands.attach import detached

        return detached()
    return code or 0
