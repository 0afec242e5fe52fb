"""`mini rename`."""

from __future__ import annotations

from engine.containers import updating
from engine.context import Context


def main(context: Context, container: str, new_name: str) -> None:
    updating.rename(context, container, new_name)
