"""`mini stop`, `restart`, `kill`, `pause`, `unpause`, `rm` and `wait`, for every container named.

As in Docker, all at once; but one after the other where that forks (`restart`) or is asked to wait for each (`wait`).
"""

from __future__ import annotations

from engine.cli.each import each
from engine.containers import pausing, usecases
from engine.context import Context
from engine.errors import NotFound


def stop(context: Context, container: list[str], signal: str | None, timeout: int | None) -> int:
    return each(container, lambda name: usecases.stop(context, name, timeout, signal), echo=True, at_once=True)


def restart(context: Context, container: list[str], signal: str | None, timeout: int | None) -> int:
    return each(container, lambda name: usecases.restart(context, name, timeout, signal), echo=True)


def pause(context: Context, container: list[str]) -> int:
    return each(container, lambda name: pausing.pause(context, name), echo=True, at_once=True)


def unpause(context: Context, container: list[str]) -> int:
    return each(container, lambda name: pausing.unpause(context, name), echo=True, at_once=True)


def kill(context: Context, container: list[str], signal: str) -> int:
    return each(container, lambda name: usecases.kill(context, name, signal), echo=True, at_once=True)


def rm(context: Context, container: list[str], force: bool, link: bool, volumes: bool) -> int:
    def remove(name: str) -> None:
        if link:
            from engine.containers import updating

            return updating.unlink(context, name)
        usecases.remove(context, name, force, volumes)

    return each(container, remove, echo=True, forgiven=NotFound if force else None, at_once=True)


def wait(context: Context, container: list[str]) -> int:
    return each(container, lambda name: print(usecases.wait(context, name), flush=True))
