"""`mini info`."""

from __future__ import annotations

import os
import platform
from functools import partial

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
    plugins = value["Plugins"]
    lines = [
        f"Version: {value['ServerVersion']} (Python {value['PythonVersion']})",
        f"Containers: {value['Containers']}",
        f" Running: {value['ContainersRunning']}",
        f" Paused: {value['ContainersPaused']}",
        f" Stopped: {value['ContainersStopped']}",
        f"Images: {value['Images']}",
        f"Storage Driver: {value['Driver']}",
        *(f" {name}: {fact}" for name, fact in value["DriverStatus"]),
        f"Logging Driver: {value['LoggingDriver']}",
        f"Cgroup Driver: {value['CgroupDriver']}",
        f"Cgroup Version: {value['CgroupVersion']}",
        f"Cgroup Parent: {value['CgroupParent']}",
        "Plugins:",
        *(f" {kind}: {' '.join(names)}" for kind, names in plugins.items()),
        f"Runtimes: {' '.join(value['Runtimes'])}",
        "Security Options:",
        *(f" {line}" for text in value["SecurityOptions"] for line in _security_lines(text)),
        f"Default Bridge: {value['Bridge']} ({value['Subnet']})",
        f"Kernel Version: {value['KernelVersion']}",
        f"Operating System: {value['OperatingSystem']}",
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


def _security_lines(option: str) -> list[str]:
    """`name=seccomp,profile=default` as the name, and what belongs to it further in."""
    name, *rest = (pair.partition("=") for pair in option.split(","))
    return [name[2], *(f" {key.title()}: {value}" for key, _, value in rest)]


def _struct(value: dict[str, Any]) -> Struct:
    """What a template has: the values here, and of the rest of Docker's what is so on every mini."""
    from engine.cli.gotemplate.values import Map, Struct

    runtimes = Map(
        {
            name: Struct(
                "system.RuntimeWithStatus", {"Path": path}, json=partial(templates.compact_json, {"path": path})
            )
            for name, path in value["Runtimes"].items()
        }
    )
    runtimes.go_type = "map[string]system.RuntimeWithStatus"
    made = {
        "Plugins": Struct("system.PluginsInfo", {kind: _strings(names) for kind, names in value["Plugins"].items()}),
        "DriverStatus": _strings(map(_strings, value["DriverStatus"]), "[][2]string"),
        "Runtimes": runtimes,
        "DockerRootDir": value["MiniRootDir"],
        "Swarm": Struct("swarm.Info", {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive"}),
        "ExperimentalBuild": False,
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "ClientInfo": Struct(
            "*system.clientInfo", {"Debug": False, "Version": value["ServerVersion"], "Context": "default"}
        ),
        "Labels": _strings(()),
        "ServerErrors": _strings(()),
        "SecurityOptions": _strings(value["SecurityOptions"]),
        "Warnings": _strings(value["Warnings"]),
    }
    return Struct("system.dockerInfo", value | made)


def _strings(texts: Iterable[Any], go_type: str = "[]string") -> Any:
    from engine.cli.gotemplate.values import List

    made = List(texts)
    made.go_type = go_type
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
        "DriverStatus": _driver_status(context),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": _cgroup_version(),
        "CgroupParent": context.cgroup_parent,
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Log": ["journald", "json-file", "local", "none"],
        },
        "Runtimes": {"mini": "mini-runtime"},
        "DefaultRuntime": "mini",
        "SecurityOptions": _security_options(),
        "Bridge": context.bridge,
        "Subnet": context.subnet,
        "KernelVersion": own["KernelVersion"],
        "OperatingSystem": _operating_system(),
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


def _driver_status(context: Context) -> list[tuple[str, str]]:
    path = context.paths.root
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return [("Backing Filesystem", host.filesystem_of(path) or "unknown")]


def _security_options() -> list[str]:
    return ["name=seccomp,profile=default"] if os.path.isdir("/proc/sys/kernel/seccomp") else []


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _cgroup_version(root: str = "/sys/fs/cgroup") -> str:
    """1 on a hybrid host, as Docker says it: the controllers are there."""
    if os.path.exists(f"{root}/cgroup.controllers"):
        return "2"
    return "1" if os.path.isdir(root) else "none"
