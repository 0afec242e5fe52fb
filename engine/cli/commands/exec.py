"""`mini exec`."""

from __future__ import annotations

from engine import containers
from engine.context import Context
from engine.options import ExecOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(context: Context, container: str, command: list[str], **asked: Any) -> int:
    code = containers.exec_(context, container, command, ExecOptions(**asked))
    return code or 0
