"""Builds the BPF program: libseccomp makes the filter, and a stub before it answers ENOSYS to what the profile never
heard of.

A C library tries a new system call and falls back to an old one on ENOSYS. EPERM, the profile's default, would make
it fail instead (moby#42680). So, as runc does, a number above the greatest that the profile names gets ENOSYS,
architecture by architecture.

    load the architecture
    is it A? ── no ─► next section
    load the number;  > greatest of A? ─ yes ─► return ENOSYS
    jump to the filter
    … one section an architecture
    the filter of libseccomp, as it is
"""

from __future__ import annotations

import errno
import os
import struct

from engine.errors import UsageError
from engine.runtime.seccomp.compile import library
from engine.runtime.seccomp.words import NOTIFY, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# linux/bpf_common.h
_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_ARCHITECTURE_OFFSET, _NUMBER_OFFSET = 4, 0  # struct seccomp_data
_X32_BIT = 0x40000000
_AUDIT_ARCH_X86_64, _X32 = 0xC000003E, "SCMP_ARCH_X32"
_ALLOWING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")


def build(seccomp: dict[str, Any]) -> bytes:
    """The whole program, struct sock_filter by struct sock_filter. Errors as `compile.compile_filter`."""
    seccomplib = library()
    architectures = {name: _architecture(seccomplib, name) for name in seccomp.get("architectures") or []}
    native = int(seccomplib.system_arch())
    if architectures and native not in architectures.values():
        architectures["SCMP_ARCH_NATIVE"] = (
            native  # libseccomp's filter has it from the start, also that of runc and crun
        )
    default = _action(seccomplib, seccomp["defaultAction"], seccomp.get("defaultErrnoRet"))
    program = _filter(seccomplib, seccomp, default, architectures)
    refuses = seccomp["defaultAction"] not in _ALLOWING and default != seccomplib.ERRNO(errno.ENOSYS)
    return _enosys_stub(seccomplib, seccomp, architectures) + program if refuses else program


def _filter(seccomplib: Any, seccomp: dict[str, Any], default: int, architectures: dict[str, int]) -> bytes:
    rules = seccomplib.SyscallFilter(default)
    native = seccomplib.system_arch()
    for architecture in architectures.values():
        if architecture != native:
            try:
                rules.add_arch(architecture)
            except FileExistsError:
                pass
    for rule in seccomp.get("syscalls") or []:
        action = _action(seccomplib, rule["action"], rule.get("errnoRet"))
        if action == default:
            continue  # libseccomp refuses a rule that changes nothing
        for name in rule["names"]:
            number = seccomplib.resolve_syscall(native, name)
            if number == -1:
                continue
            for conditions in _alternatives(rule.get("args") or []):
                arguments = [_argument(seccomplib, condition) for condition in conditions]
                try:
                    rules.add_rule(action, number, *arguments)
                except OSError as e:
                    raise UsageError(f"seccomp rule for {name}: {os.strerror(e.errno or 0)}") from e
    return _export(rules)


def _export(rules: Any) -> bytes:
    """seccomp_export_bpf(3) writes to a descriptor; a memfd never blocks, as a full pipe would."""
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "rb") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _alternatives(args: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """All conditions of a rule must hold; but libseccomp takes one an argument. Several for one argument are, as in
    runc, rules of their own, of which one must hold."""
    if len({arg["index"] for arg in args}) == len(args):
        return [args]
    return [[arg] for arg in args]


def _argument(seccomplib: Any, arg: dict[str, Any]) -> Any:
    operator = OPERATORS.get(arg["op"])
    if operator is None or not 0 <= arg["index"] <= 5:
        raise UsageError(f"not a seccomp condition: {arg}")
    return seccomplib.Arg(arg["index"], operator, arg["value"], arg.get("valueTwo") or 0)


def _action(seccomplib: Any, name: str, number: int | None) -> int:
    """`number` is errnoRet: what ERRNO returns and what TRACE tells the tracer; EPERM if left out."""
    value = errno.EPERM if number is None else number
    actions = {
        "SCMP_ACT_KILL": seccomplib.KILL_THREAD,
        "SCMP_ACT_KILL_THREAD": seccomplib.KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS": seccomplib.KILL_PROCESS,
        "SCMP_ACT_TRAP": seccomplib.TRAP,
        "SCMP_ACT_ERRNO": seccomplib.ERRNO(value),
        "SCMP_ACT_TRACE": seccomplib.TRACE(value),
        "SCMP_ACT_LOG": seccomplib.LOG,
        "SCMP_ACT_ALLOW": seccomplib.ALLOW,
        NOTIFY: seccomplib.NOTIFY,
    }
    if name not in actions:
        raise UsageError(f"not a seccomp action: {name}")
    return int(actions[name])


def _architecture(seccomplib: Any, name: str) -> int:
    number = getattr(seccomplib.Arch, name.removeprefix("SCMP_ARCH_"), None)
    if number is None or not name.startswith("SCMP_ARCH_"):
        raise UsageError(f"not an architecture that libseccomp knows: {name}")
    return int(number) or int(seccomplib.system_arch())


def _instruction(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, constant)


def _enosys_stub(seccomplib: Any, seccomp: dict[str, Any], architectures: dict[str, int]) -> bytes:
    """The sections drawn above. x32 shares x86_64's architecture and marks its numbers by a bit."""
    names = {name for rule in seccomp.get("syscalls") or [] for name in rule["names"]}
    greatest = {
        architecture: max((seccomplib.resolve_syscall(number, name) for name in names), default=-1)
        for architecture, number in architectures.items()
    }
    sections: list[list[bytes]] = []
    for architecture, number in architectures.items():
        # s390 passes large numbers by another way (the number is 0 then); its stub would do harm.
        if architecture == _X32 or greatest[architecture] < 0 or "S390" in architecture:
            continue
        tests = [_instruction(_JUMP_GREATER, greatest[architecture], 0, 1), _return_enosys(seccomplib)]
        if number == _AUDIT_ARCH_X86_64:
            tests = _x86_64_tests(seccomplib, greatest[architecture], greatest.get(_X32))
        body = [_instruction(_LOAD, _NUMBER_OFFSET), *tests]
        sections.append([_instruction(_JUMP_EQUAL, number, 0, len(body) + 1), *body])
    stub = [_instruction(_LOAD, _ARCHITECTURE_OFFSET)]
    for position, section in enumerate(sections):
        behind = sum(len(later) + 1 for later in sections[position + 1 :])
        stub += [*section, _instruction(_JUMP, behind)]
    return b"".join(stub) if sections else b""


def _x86_64_tests(seccomplib: Any, x86_64: int, x32: int | None) -> list[bytes]:
    if x32 is None or x32 < 0:
        # Numbers with the x32 bit go to the filter, which kills or refuses the foreign architecture.
        return [
            _instruction(_JUMP_ANY_BIT, _X32_BIT, 2, 0),
            _instruction(_JUMP_GREATER, x86_64, 0, 1),
            _return_enosys(seccomplib),
        ]
    return [
        _instruction(_JUMP_ANY_BIT, _X32_BIT, 0, 1),
        _instruction(_JUMP_GREATER, x32, 1, 2),
        _instruction(_JUMP_GREATER, x86_64, 0, 1),
        _return_enosys(seccomplib),
    ]


def _return_enosys(seccomplib: Any) -> bytes:
    return _instruction(_RETURN, seccomplib.ERRNO(errno.ENOSYS))
