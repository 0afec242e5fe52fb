"""`features`: what this runtime can do, for whoever drives it (OCI runtime spec, features.md and features-linux.md).

Taken from the tables that do it, so that it says no more and no less.
"""

from __future__ import annotations

from engine.runtime import defaults, hooks, mounts, namespaces
from engine.runtime.oci_cli import context
from engine.runtime.oci_cli.log import say
from engine.runtime.oci_cli.report import indented
from engine.runtime.seccomp.words import ACTIONS, FLAGS, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.oci_cli.context import Context

# of libseccomp; a test asks it
_ARCHITECTURES = [
    f"SCMP_ARCH_{n}"
    for n in (
        "AARCH64 ARM MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE RISCV64 S390 S390X X32 X86 X86_64"
    ).split()
]


def features(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    say(indented(describe()) + "\n")
    return 0


def describe() -> dict[str, Any]:
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": list(hooks.KINDS),
        "mountOptions": mounts.option_words(),
        "linux": {
            "namespaces": sorted(namespaces.KINDS),
            "capabilities": list(defaults.ALL_CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": _ARCHITECTURES,
                "knownFlags": list(FLAGS),
                "supportedFlags": list(FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "netDevices": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"org.opencontainers.runtime-spec.features.mini-runtime.version": context.NUMBER},
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],  # and all that begin so
    }
