"""`spec`: a config.json to begin with, runc's: `sh` in a terminal, few capabilities, a read-only root."""

from __future__ import annotations

import os

from engine.errors import MiniError
from engine.runtime import defaults
from engine.runtime.oci_cli.context import OCI_VERSION
from engine.runtime.oci_cli.report import indented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Mount
    from engine.runtime.oci_cli.context import Context

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def spec(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    """Writes config.json into the bundle, unless there is one."""
    path = os.path.join(options.get("bundle") or ".", "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise MiniError("File config.json exists. Remove it first") from None
    with open(fd, "w") as file:
        file.write(indented(example(options.get("rootless", False))) + "\n")
    return 0


def example(rootless: bool = False) -> dict[str, Any]:
    """`rootless`: for a user other than root, who is root in a user namespace, and shares the network."""
    kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {"resources": {"devices": [*defaults.DEVICE_RULES]}}
    mounts = defaults.DEFAULT_MOUNTS
    if rootless:
        kinds = [*(kind for kind in kinds if kind != "network"), "user"]
        linux = {
            "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
        }
        mounts = [_for_rootless(m) for m in mounts]
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: [*_CAPABILITIES] for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "mini",
        "mounts": mounts,
        "linux": {
            **linux,
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": defaults.MASKED_PATHS,
            "readonlyPaths": defaults.READONLY_PATHS,
        },
    }


def _for_rootless(m: Mount) -> Mount:
    """In a namespace of one id there is no group 5, and the network's /sys is its owner's."""
    if m.get("type") == "sysfs":
        return {**m, "type": "none", "source": "/sys", "options": ["rbind", *m["options"]]}
    return {**m, "options": [word for word in m["options"] if word != "gid=5"]}
