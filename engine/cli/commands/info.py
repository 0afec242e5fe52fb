"""`mini info`."""

from __future__ import annotations

import os

from engine import host
from engine.cli import formats, templates
from engine.cli.commands.version import facts
from engine.containers import views
from engine.context import Context
from engine.errors import MiniError
from engine.storage.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from engine.cli.gotemplate.values import Struct


def main(context: Context, format: str | None) -> None:
    value = collect(context)
    if format:
        templates.show_one(format, _struct(value))
        return
    lines = [
        f"Version: {value['ServerVersion']} (Python {value['PythonVersion']})",
        f"Containers: {value['Containers']}",
        f" Running: {value['ContainersRunning']}",
        f" Paused: {value['ContainersPaused']}",
        f" Stopped: {value['ContainersStopped']}",
        f"Images: {value['Images']}",
        f"Storage Driver: {value['Driver']}",
        f"Cgroup Version: {value['CgroupVersion']}",
        f"Cgroup Parent: {value['CgroupParent']}",
        f"Default Bridge: {value['Bridge']} ({value['Subnet']})",
        f"Kernel Version: {value['KernelVersion']}",
        f"OSType: {value['OSType']}",
        f"Architecture: {value['Architecture']}",
        f"CPUs: {value['NCPU']}",
        f"Total Memory: {formats.binary_size(value['MemTotal'])}",
        f"Name: {value['Name']}",
        f"Root Dir: {value['MiniRootDir']}",
        f"Run Dir: {value['MiniRunDir']}",
    ]
    print("\n".join(lines))
    for warning in value["Warnings"]:
        print(f"WARNING: {warning}")


def _struct(value: dict[str, Any]) -> Struct:
    """What a template has: the values here, and of the rest of Docker's what is so on every mini."""
    from engine.cli.gotemplate.values import Struct

    strings = {"Warnings": value["Warnings"], "Labels": (), "SecurityOptions": ("name=seccomp,profile=default",)}
    plugins = {"Volume": ("local",), "Network": ("bridge", "host", "null"), "Log": ("journald", "json-file", "local", "none")}
    client = {"Debug": False, "Version": value["ServerVersion"], "Context": "default"}
    fixed = {
        "CgroupDriver": "cgroupfs",
        "LoggingDriver": "json-file",
        "DockerRootDir": value["MiniRootDir"],
        "DefaultRuntime": "mini",
        "Plugins": Struct("system.PluginsInfo", {name: _strings(names) for name, names in plugins.items()}),
        "Swarm": Struct("swarm.Info", {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive"}),
        "ExperimentalBuild": False,
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "ClientInfo": Struct("*system.clientInfo", client),
        "ServerErrors": _strings(()),
    }
    return Struct("system.dockerInfo", value | fixed | {name: _strings(texts) for name, texts in strings.items()})


def _strings(texts: Iterable[str]) -> Any:
    from engine.cli.gotemplate.values import List

    made = List(texts)
    made.go_type = "[]string"
    return made


def collect(context: Context) -> dict[str, Any]:
    """Docker's names for the facts that Docker has, too."""
    states = [c["State"]["Status"] for c in views.list_(context)]
    own = facts()
    driver, warnings = _driver(context)
    try:
        host.require_container_host()
    except MiniError as e:
        warnings.append(e.message)
    return {
        "ServerVersion": own["Version"],
        "PythonVersion": own["PythonVersion"],
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": sum(s not in ("running", "paused") for s in states),
        "Images": len(ImageStore(context.paths).list_()),
        "Driver": driver,
        "CgroupVersion": _cgroup_version(),
        "CgroupParent": context.cgroup_parent,
        "Bridge": context.bridge,
        "Subnet": context.subnet,
        "KernelVersion": own["KernelVersion"],
        "OSType": own["Os"],
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": os.uname().nodename,
        "MiniRootDir": context.paths.root,
        "MiniRunDir": context.paths.run,
        "Warnings": warnings,
    }


def _driver(context: Context) -> tuple[str, list[str]]:
    from engine.storage import drivers

    try:
        return drivers.choose(context.paths, context.storage_driver).name, []
    except MiniError as e:
        return "none", [e.message]


def _cgroup_version(root: str = "/sys/fs/cgroup") -> str:
    if os.path.exists(f"{root}/cgroup.controllers"):
        return "2"
    if os.path.isdir(f"{root}/unified"):
        return "1 (hybrid)"
    return "1" if os.path.isdir(root) else "none"
