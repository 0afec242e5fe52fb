"""`mini system start` and `mini system install`."""

from __future__ import annotations

import os
import sys

from engine import host
from engine.context import Context
from engine.paths import checkout_root
from engine.system import boot


def start(context: Context) -> int:
    host.require_container_host()
    started, failed = boot.start_all(context)
    for name in started:
        print(name)
    for name, error in failed:
        print(f"mini: cannot start {name}: {error.message}", file=sys.stderr)
    return 1 if failed else 0


def install(context: Context) -> None:
    path = boot.install(context, _program())
    print(f"{path} is written; `systemctl enable mini` has it run at the next start of this host")


def _program() -> list[str]:
    """How the host is to run this mini: by its launcher, or where pip has not brought one, by the Python that runs it now."""
    checkout = checkout_root()
    if checkout:
        return [os.path.join(checkout, "mini")]
    from importlib import metadata

    try:
        files = metadata.files("mini-engine") or []
    except metadata.PackageNotFoundError:
        files = []
    launchers = [os.path.realpath(file.locate()) for file in files if file.name == "mini"]
    return launchers[:1] or [sys.executable, "-m", "engine"]
