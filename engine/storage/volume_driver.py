"""`--opt type=… device=… o=… size=…`: the driver `local` as Docker has it (moby, volume/local/local_unix.go).

    type device o    a file system that is mounted over the volume's directory while a container has it
    size             a project quota on the volume's directory (quota.py)

What is mounted is told as data; engine/containers/volumemounts.py mounts it.
"""

from __future__ import annotations

import os

from engine import linux
from engine.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.oci.runtime import Mount

LOCAL = "local"
_NEEDED = {"device": ("type",), "type": ("device",), "o": ("device", "type"), "size": ()}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NETWORK = ("nfs", "cifs")
# mount(8)'s words that are flags of mount(2), which Docker's error shows as a number (moby/sys, mount/flags_linux.go)
_FLAGS = {
    "ro": linux.MS_RDONLY, "nosuid": linux.MS_NOSUID, "nodev": linux.MS_NODEV, "noexec": linux.MS_NOEXEC,
    "sync": linux.MS_SYNCHRONOUS, "remount": linux.MS_REMOUNT, "mand": linux.MS_MANDLOCK, "dirsync": linux.MS_DIRSYNC,
    "noatime": linux.MS_NOATIME, "nodiratime": linux.MS_NODIRATIME, "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC, "relatime": linux.MS_RELATIME, "strictatime": linux.MS_STRICTATIME,
}  # fmt: skip
_NO_FLAGS = frozenset(("", "defaults", "rw", "suid", "dev", "exec", "async", "nomand", "atime", "diratime"))


def check_driver(driver: str, name: str) -> None:
    """Raises NotFound, in Docker's words, for another driver than this. `name` is the volume that was to be made."""
    if driver not in ("", LOCAL):
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def check(options: Mapping[str, str], name: str) -> None:
    """Raises UsageError, in Docker's words, for options that make no sense."""
    for option in options:
        if option not in _NEEDED:
            raise UsageError(f'create {name}: invalid option: "{option}"', f"known are {', '.join(_NEEDED)}")
    try:
        quota(options)
    except UsageError as e:
        raise UsageError(f"create {name}: {e.message}") from None
    for option in options:
        for needed in _NEEDED[option]:
            if needed not in options:
                raise UsageError(f'create {name}: missing required option: "{needed}"')


def quota(options: Mapping[str, str]) -> int:
    """Bytes of `size`, 0 for no limit. UsageError for what is no size."""
    text = options.get("size", "0")
    number = text.rstrip("bBiIkKmMgGtTpP ")
    suffix = text[len(number) :].strip().lower().removesuffix("b").removesuffix("i")
    if suffix not in _POWERS or not number.replace(".", "", 1).isdecimal():
        raise UsageError(f"invalid size: '{text}'")
    return int(float(number) * 1024 ** _POWERS[suffix])


def needs_mount(options: Mapping[str, str]) -> bool:
    return bool(options.get("type") or options.get("device"))


def is_mounted(path: str) -> bool:
    """Whether something is mounted at `path`: it is on another mount than its parent (os.path.ismount misses bind mounts)."""
    return _mount_id(path) != _mount_id(os.path.dirname(path))


def _mount_id(path: str) -> bytes:
    fd = os.open(path, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            return next(line for line in file if line.startswith(b"mnt_id:"))
    finally:
        os.close(fd)


def mount(path: str, options: Mapping[str, str]) -> Mount:
    """What the options say to mount at `path`. Looks up the host that `addr=` names, which the kernel cannot. Raises OSError."""
    kind = options["type"]
    words = [word for word in options.get("o", "").split(",") if word]
    if kind in _NETWORK:
        words = [f"addr={_address(word[5:])}" if word.startswith("addr=") else word for word in words]
    return {"destination": path, "type": kind, "source": options["device"], "options": words}


def _address(host: str) -> str:
    import socket

    return str(socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)[0][4][0])


def failure(path: str, options: Mapping[str, str], reason: str) -> str:
    """Docker's words for a mount that failed, without a password."""
    words = [word for word in options.get("o", "").split(",") if word not in _NO_FLAGS]
    flags = sum(_FLAGS.get(word, 0) for word in dict.fromkeys(words))
    data = ["password=********" if word.startswith("password=") else word for word in words if word not in _FLAGS]
    text = f"mount {options['device']}:{path}"
    text += f", flags: {flags:#x}" if flags else ""
    text += f", data: {','.join(data)}" if data else ""
    return f"error while mounting volume '{path}': failed to mount local volume: {text}: {reason}"
