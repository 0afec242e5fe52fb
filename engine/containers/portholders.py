"""Which process has a port of the host: /proc/net/tcp and its like name a socket's inode, /proc/PID/fd whose it is."""

from __future__ import annotations

import os

from engine.files import read_bytes

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp; a UDP socket that is bound has 07


def process_with(protocol: str, address: str, port: int) -> str:
    """`nginx (process 123)`; empty where it cannot be found, as in another PID namespace."""
    from engine.runtime.network.netlink import inet

    wanted = _kernels(inet(address))
    inodes = set()
    for suffix in ("", "6"):
        try:
            lines = read_bytes(f"/proc/net/{protocol}{suffix}").decode().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            its, _, number = fields[1].partition(":")
            if int(number, 16) != port or (protocol == "tcp" and fields[3] != _LISTEN):
                continue
            if its == wanted or not its.strip("0") or not wanted.strip("0"):
                inodes.add(f"socket:[{fields[9]}]")
    return _owner(inodes)


def _kernels(packed: bytes) -> str:
    """An address as the kernel prints it: words of four bytes, each in the host's byte order."""
    import sys

    words = (packed[i : i + 4] for i in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _owner(sockets: set[str]) -> str:
    for pid in os.listdir("/proc") if sockets else ():
        if not pid.isdigit():
            continue
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") in sockets for fd in os.listdir(f"/proc/{pid}/fd")):
                name = read_bytes(f"/proc/{pid}/comm").decode(errors="replace").strip()
                return f"{name} (process {pid})"
        except OSError:  # it has ended, or closed something meanwhile
            continue
    return ""
