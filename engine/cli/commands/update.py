"""`mini update`."""

from __future__ import annotations

from engine.cli.each import each
from engine.containers import updating
from engine.containers.options import UpdateOptions
from engine.context import Context
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(context: Context, container: list[str], **asked: Any) -> int:
    if not any(value is not None and value != [] for value in asked.values()):
        raise UsageError("you must provide one or more flags when using this command")
    options = UpdateOptions(**asked)
    return each(container, lambda name: updating.update(context, name, options), echo=True)
