"""From OCI's `linux.seccomp` to the BPF program that seccomp(2) takes, compiled by libseccomp once and cached.

Compiling takes some 30 ms, most of them for loading libseccomp; reading the cached program 0.05. A cache file is
named after all that the program depends on, is written atomically, and never changes:

    default-PROFILE-ARCH-KERNEL-CAPABILITIES-LIBSECCOMP.bpf    Docker's default profile
    HEX.bpf                                                    any other: the sha256 of what it was made from

Its first 8 bytes are a mark and the flags for seccomp(2), the rest is an array of struct sock_filter.
"""

from __future__ import annotations

import errno
import os
import struct

from engine import files
from engine.errors import StoreError, Unsupported, UsageError
from engine.runtime.seccomp import profile
from engine.runtime.seccomp.words import FLAGS, NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

_MARK = 0x31504342  # "BCP1"
_HEADER = struct.Struct("<II")

NEW_LISTENER, _TSYNC = 8, 1  # seccomp(2)


def default_filter(
    capabilities: Collection[str],
    cache_dir: str | None,
    architecture: str | None = None,
    kernel: tuple[int, int] | None = None,
) -> tuple[bytes, int]:
    """The compiled default profile for these capabilities: (program, flags) for `linux.seccomp_set_filter`.

    `architecture` and `kernel` default to this host's. On a hit neither the profile nor libseccomp is loaded. Errors as
    `compile_filter`.
    """
    from engine import host

    architecture = architecture or host.architecture()[0]
    kernel = kernel or host.kernel_version()
    path = None
    if cache_dir is not None:
        name = f"default-{profile.PROFILE_VERSION}-{architecture}-{kernel[0]}.{kernel[1]}-{_mask(capabilities):x}"
        path = f"{cache_dir}/{name}-{_library_version()}.bpf"
        if cached := _load(path):
            return cached
    return _compile_to(path, lambda: profile.docker_default(capabilities, architecture, kernel))


def compile_filter(seccomp: dict[str, Any], cache_dir: str | None) -> tuple[bytes, int]:
    """The program for an OCI `linux.seccomp` and the flags for seccomp(2); kept in `cache_dir` if one is given.

    System calls that the local libseccomp does not know are left out, as runc does. Raises UsageError for what is not
    in the specification, Unsupported where libseccomp is missing. Where an action is SCMP_ACT_NOTIFY, NEW_LISTENER is among
    the flags, and loading the filter gives a descriptor for `listener.sender`.
    """
    if _notifies(seccomp) and not seccomp.get("listenerPath"):
        raise Unsupported(f"seccomp's {NOTIFY} needs an agent that listens at listenerPath")
    path = None
    if cache_dir is not None:
        import hashlib
        import json

        canonical = json.dumps(seccomp, sort_keys=True, separators=(",", ":"))
        key = f"{_MARK}\n{os.uname().machine}\n{_library_version()}\n{canonical}"
        path = f"{cache_dir}/{hashlib.sha256(key.encode()).hexdigest()}.bpf"
        if cached := _load(path):
            return cached
    return _compile_to(path, lambda: seccomp)


def _compile_to(path: str | None, profile_of: Callable[[], dict[str, Any]]) -> tuple[bytes, int]:
    if path is None:
        return _compile(profile_of())
    from engine.runtime import apart

    apart.run(lambda: _store(path, *_compile(profile_of())))
    compiled = _load(path)
    if compiled is None:
        raise StoreError(f"cannot read the seccomp filter {path}, which was written just now")
    return compiled


def _compile(seccomp: dict[str, Any]) -> tuple[bytes, int]:
    from engine.runtime.seccomp.bpf import build

    flags = _flags(seccomp)
    if _notifies(seccomp):
        # both cannot be told apart by what the call returns (EINVAL); a process that loads it here has one thread
        flags = flags & ~_TSYNC | NEW_LISTENER
    return build(seccomp), flags


def _notifies(seccomp: dict[str, Any]) -> bool:
    return any(rule["action"] == NOTIFY for rule in seccomp.get("syscalls") or [])


def _store(path: str, program: bytes, flags: int) -> None:
    files.make_dirs(os.path.dirname(path), 0o700)
    files.write_atomic(path, _HEADER.pack(_MARK, flags) + program, 0o600)


def _load(path: str) -> tuple[bytes, int] | None:
    """A cached program; None where there is none, or none that could have been written here."""
    try:
        data = files.read_bytes(path)
    except OSError:
        return None
    if len(data) < 16 or len(data) % 8 or _HEADER.unpack_from(data)[0] != _MARK:
        return None
    return data[8:], _HEADER.unpack_from(data)[1]


def _flags(seccomp: dict[str, Any]) -> int:
    """Without any: SPEC_ALLOW, as runc. Speculative store bypass then stays as it is for the process (Linux 4.17)."""
    names = seccomp.get("flags")
    if names is None:
        return FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    total = 0
    for name in names:
        if name not in FLAGS:
            raise UsageError(f"not a seccomp flag: {name}")
        total |= FLAGS[name]
    return total


def _mask(capabilities: Collection[str]) -> int:
    """The capabilities as the kernel's bit mask. A name that is none in this list adds nothing to any rule."""
    from engine.runtime.defaults import ALL_CAPABILITIES

    return sum(1 << ALL_CAPABILITIES[name] for name in set(capabilities) & ALL_CAPABILITIES.keys())


def _library_version() -> str:
    """libseccomp's version as its file name has it (libseccomp.so.2 → libseccomp.so.2.5.4), without loading it.

    A newer one knows more system calls, so its program is another. "unknown" where the file is elsewhere.
    """
    machine = os.uname().machine
    for directory in (f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", f"/lib/{machine}-linux-gnu", "/lib"):
        try:
            return os.path.basename(os.readlink(f"{directory}/libseccomp.so.2")).removeprefix("libseccomp.so.")
        except OSError as e:
            if e.errno == errno.EINVAL:  # a file, not a link
                break
    return "unknown"


def library() -> Any:
    """pyseccomp, over libseccomp.so.2. Raises Unsupported, with the way to get it."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as e:
        raise Unsupported(
            f"compiling a seccomp filter needs libseccomp: {e}",
            "install it (apt install libseccomp2, dnf install libseccomp, apk add libseccomp), or run the container with "
            "--security-opt seccomp=unconfined",
        ) from e
    return pyseccomp
