"""Seccomp profiles: Docker's format, with its conditions, resolved to OCI's `linux.seccomp`.

Docker's default profile is package data (`default.json`; its origin and what was changed: docs/seccomp.md). It allows
some 360 system calls, a few of them by argument, and some only to those who hold a capability; the rest fail with
EPERM.
"""

from __future__ import annotations

import os

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

# The first 12 digits of default.json's sha256 (a test compares): names compiled filters, without reading the profile.
PROFILE_VERSION = "268b9fbbb8ff"

# OCI's (GOARCH) names to libseccomp's, for the architecture that the kernel runs.
NATIVE_ARCHITECTURES = {
    "386": "SCMP_ARCH_X86",
    "amd64": "SCMP_ARCH_X86_64",
    "arm": "SCMP_ARCH_ARM",
    "arm64": "SCMP_ARCH_AARCH64",
    "loong64": "SCMP_ARCH_LOONGARCH64",
    "mips64": "SCMP_ARCH_MIPS64",
    "mips64le": "SCMP_ARCH_MIPSEL64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "riscv64": "SCMP_ARCH_RISCV64",
    "s390x": "SCMP_ARCH_S390X",
}


def docker_default(capabilities: Collection[str], architecture: str, kernel: tuple[int, int]) -> dict[str, Any]:
    """OCI `linux.seccomp` of Docker's default profile, for a container with these capabilities in its bounding set.

    `architecture` is OCI's word ("amd64"), `kernel` (major, minor).
    """
    return resolve(_read(os.path.join(os.path.dirname(__file__), "default.json")), capabilities, architecture, kernel)


def from_file(
    path: str,
    capabilities: Collection[str] | None = None,
    architecture: str | None = None,
    kernel: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """OCI `linux.seccomp` from a profile of Docker's format (`--security-opt seccomp=FILE`) or of OCI's.

    The conditions of Docker's format are resolved for `capabilities` (default: Docker's), `architecture` and `kernel`
    (default: this host's). Raises UsageError where the file cannot be read or is no profile.
    """
    from engine import host
    from engine.runtime.defaults import DEFAULT_CAPABILITIES

    return resolve(
        _read(path),
        DEFAULT_CAPABILITIES if capabilities is None else capabilities,
        architecture or host.architecture()[0],
        kernel or host.kernel_version(),
    )


def _read(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            profile = json.load(file)
    except OSError as e:
        reason = os.strerror(e.errno or 0).lower()
        raise UsageError(f"opening seccomp profile ({path}) failed: open {path}: {reason}") from e
    except ValueError as e:
        raise UsageError(f"the seccomp profile {path} is not JSON: {e}") from e
    if not isinstance(profile, dict) or not isinstance(profile.get("defaultAction"), str):
        raise UsageError(f"{path} is not a seccomp profile: it has no defaultAction")
    return profile


def resolve(
    profile: dict[str, Any], capabilities: Collection[str], architecture: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """Docker's format to OCI's: `archMap` to `architectures`, and only the rules whose conditions hold, without these.

    A profile in OCI's format passes unchanged but for its rules' null fields. Raises UsageError for a contradictory
    one.
    """
    if profile.get("architectures") and profile.get("archMap"):
        raise UsageError("a seccomp profile has either architectures or archMap, not both")
    result: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    for name in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if profile.get(name) is not None:
            result[name] = profile[name]
    result["architectures"] = _architectures(profile, architecture)
    result["syscalls"] = [
        _rule(rule) for rule in profile.get("syscalls") or [] if _holds(rule, set(capabilities), architecture, kernel)
    ]
    return result


def _architectures(profile: dict[str, Any], architecture: str) -> list[str]:
    if profile.get("architectures"):
        return list(profile["architectures"])
    native = NATIVE_ARCHITECTURES.get(architecture)
    for entry in profile.get("archMap") or []:
        if entry["architecture"] == native:
            return [entry["architecture"], *(entry.get("subArchitectures") or [])]
    return [native] if native else []


def _holds(rule: dict[str, Any], capabilities: set[str], architecture: str, kernel: tuple[int, int]) -> bool:
    """Whether a rule applies: none of `excludes`, and of `includes` every capability, one of the architectures and
    the kernel.
    """
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if architecture in (excludes.get("arches") or []) or capabilities & set(excludes.get("caps") or []):
        return False
    if (oldest := excludes.get("minKernel")) and kernel >= _version(oldest):
        return False
    if (arches := includes.get("arches")) and architecture not in arches:
        return False
    if not capabilities >= set(includes.get("caps") or []):
        return False
    return not (oldest := includes.get("minKernel")) or kernel >= _version(oldest)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise UsageError(f"not a kernel version in a seccomp profile: {text!r}") from None


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    if rule.get("name") and rule.get("names"):
        raise UsageError("a seccomp rule has either name or names, not both")
    names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
    if not isinstance(rule.get("action"), str) or not names:
        raise UsageError(f"not a seccomp rule: {rule}")
    result: dict[str, Any] = {"names": list(names), "action": rule["action"]}
    for key in ("errnoRet", "args"):
        if rule.get(key):
            result[key] = rule[key]
    return result
