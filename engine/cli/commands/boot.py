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
    checkout = checkout_root()
    command = [os.path.join(checkout, "mini")] if checkout else [sys.executable, "-m", "engine"]
    path = boot.install(context, command)
    print(f"{path} is written; `systemctl enable mini` has it run at the next start of this host")
