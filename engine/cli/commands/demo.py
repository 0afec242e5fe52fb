"""`mini demo`."""

from __future__ import annotations

from engine.context import Context


def main(context: Context) -> int:
    from engine.demo import demo

    return demo.main(context)
