"""Labels of Linux security modules: which program runs under which AppArmor profile or SELinux context.

A label is written to a file of the calling thread and takes effect at the next execve(2), over any fork in between. apparmor(7);
selinux(8); proc_pid_attr(5).
"""

from __future__ import annotations

import os

from engine.errors import RuntimeFault, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.oci.runtime import Mount, Process, Spec

_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_SELINUX = "/sys/fs/selinux/enforce"
_LABELLED = ("tmpfs", "devpts", "ramfs")


def require_apparmor(where: str) -> None:
    """Raises Unsupported where this kernel runs without AppArmor; `where` names the field that asks for it."""
    try:
        with open(_APPARMOR) as file:
            enabled = file.read(1) == "Y"
    except OSError:
        enabled = False
    if not enabled:
        raise Unsupported(f"{where}: AppArmor is not enabled on this host")


def require_selinux(where: str) -> None:
    """Raises Unsupported where this kernel runs without SELinux."""
    if not os.path.exists(_SELINUX):
        raise Unsupported(f"{where}: SELinux is not enabled on this host")


def at_exec(process: Process, attributes: str = "/proc/self/attr") -> None:
    """What the spec's `process` asks for, from the next program on. To be called while /proc is the host's: an image's could
    swallow what is written (CVE-2019-16884). Raises RuntimeFault."""
    if profile := process.get("apparmorProfile"):
        stacked = f"{attributes}/apparmor/exec"  # Linux 5.1; the other belongs to whichever module is the first
        _write(stacked if os.path.exists(stacked) else f"{attributes}/exec", f"exec {profile}", profile)
    if label := process.get("selinuxLabel"):
        _write(f"{attributes}/exec", label, label)


def label_mounts(spec: Spec) -> list[Mount]:
    """The mounts, with `linux.mountLabel` as the context of every file in those that are new and keep none themselves."""
    label = spec.get("linux", {}).get("mountLabel")
    found = spec.get("mounts", [])
    if not label:
        return found
    return [
        {**m, "options": [*m.get("options", ()), f"context={label}"]} if m.get("type") in _LABELLED else m
        for m in found
    ]


def _write(path: str, text: str, label: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as e:
        message = f"cannot set the label {label}: {os.strerror(e.errno or 0).lower()}"
        raise RuntimeFault("label", message, e.errno or 0, path, "is it loaded?") from e
