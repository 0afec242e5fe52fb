"""`mini demo`."""

from __future__ import annotations

from engine.context import Context


def main(context: Context) -> int:
    from engine.demo.demo import main as show

    return show(context)
