"""`mini version` and `mini --version`."""

from __future__ import annotations

import os
import sys

from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "0.1.0"


def short(context: Context) -> None:
    print(f"mini version {VERSION}")


def main(context: Context, format: str | None) -> None:
    value = facts()
    if format:
        from engine.cli import templates

        print(templates.one(format, value))
        return
    names = {"Version": "Version", "PythonVersion": "Python version", "KernelVersion": "Kernel", "Arch": "OS/Arch"}
    print("mini")
    for key, label in names.items():
        text = f"{value['Os']}/{value['Arch']}" if key == "Arch" else value[key]
        print(f" {label + ':':<16} {text}")


def facts() -> dict[str, Any]:
    from engine import host

    return {
        "Version": VERSION,
        "Os": sys.platform,
        "Arch": host.architecture()[0],
        "KernelVersion": os.uname().release,
        "PythonVersion": ".".join(map(str, sys.version_info[:3])),
        "Python": sys.executable,
    }
