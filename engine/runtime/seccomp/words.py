"""The words of OCI's `linux.seccomp` (config-linux.md, "Seccomp"): apart from what compiles them, since every spec is checked."""

from __future__ import annotations

NOTIFY = "SCMP_ACT_NOTIFY"
WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")  # the actions that have an errnoRet
ACTIONS = frozenset(
    f"SCMP_ACT_{name}"
    for name in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        "NATIVE X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
        "PPC64LE S390 S390X PARISC PARISC64 RISCV64 SH SHEB"
    ).split()
)

# seccomp(2). OCI's names; SECCOMP_FILTER_FLAG_NEW_LISTENER is not one that a profile may choose.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_TSYNC_ESRCH": 16,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
