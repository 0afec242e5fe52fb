"""Namespaces (network, mount) for the whole session: no test can reach a network or touch the host's firewall."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from engine import host, linux

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def isolate() -> None:
    """Moves this process, single-threaded as yet, into namespaces of its own, loopback up. Without root: does nothing.

    Everything is done by pytest itself and not by a wrapper, so that no way of starting it goes without.
    """
    if not (host.is_linux() and host.is_root()):
        return
    try:
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS)
    except PermissionError:
        return  # a container without CAP_SYS_ADMIN: requires("netns") tells
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    set_up("lo")


def set_up(link: str) -> None:
    """netdevice(7): sets IFF_UP on a link of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = _flags(control, link) | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", os.fsencode(link), flags))


def links_up() -> set[str]:
    """The links of this network namespace that are up. Those that a kernel adds by itself (tunl0, sit0) never are."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return {name for _, name in socket.if_nameindex() if _flags(control, name) & _IFF_UP}


def _flags(control: socket.socket, link: str) -> int:
    request = struct.pack("16sH22x", os.fsencode(link), 0)
    flags: int = struct.unpack("16sH22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
    return flags
