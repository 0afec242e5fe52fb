"""`mini version` and `mini --version`."""

from __future__ import annotations

import os
import sys

from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.cli.gotemplate.values import Struct

VERSION = "0.1.0"


def short(context: Context) -> None:
    print(f"mini version {VERSION}")


def main(context: Context, format: str | None) -> None:
    value = facts()
    if format:
        from engine.cli import templates

        templates.show_one(format, _struct(value), "version")
        return
    names = {"Version": "Version", "PythonVersion": "Python version", "KernelVersion": "Kernel", "Arch": "OS/Arch"}
    print("mini")
    for key, label in names.items():
        text = f"{value['Os']}/{value['Arch']}" if key == "Arch" else value[key]
        print(f" {label + ':':<16} {text}")


def _struct(value: dict[str, Any]) -> Struct:
    """Docker's two halves, which are one program here, and behind them what is mini's own."""
    from engine.cli.gotemplate.values import List, Map, Struct

    platform = {"Os": value["Os"], "Arch": value["Arch"]}
    client = Struct("system.clientVersion", {"Version": value["Version"], **platform, "Context": "default"})
    details = Map({**platform, "KernelVersion": value["KernelVersion"]})
    details.go_type = "map[string]string"
    engine = Struct("types.ComponentVersion", {"Name": "Engine", "Version": value["Version"], "Details": details})
    components = List([engine])
    components.go_type = "[]types.ComponentVersion"
    fields = {
        "Platform": Struct("struct { Name string }", {"Name": "mini"}),
        "Components": components,
        "Version": value["Version"],
        **platform,
        "KernelVersion": value["KernelVersion"],
        "Experimental": False,
    }
    return Struct("system.versionInfo", {"Client": client, "Server": Struct("*types.Version", fields), **value})


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
