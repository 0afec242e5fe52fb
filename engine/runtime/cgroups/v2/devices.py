"""devices on v2: no files, but an eBPF program that the kernel asks at every open and mknod of a device node.

The program gets struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor} (linux/bpf.h), with `access_type` =
the accesses wanted << 16 | the type, and returns 1 to allow or 0 to refuse. Linux 4.15, CONFIG_CGROUP_BPF.
"""

from __future__ import annotations

import os

from engine import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.devices import Key

_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE

# eBPF opcodes (Documentation/bpf/standardization/instruction-set.rst) and the registers used
_LOAD_WORD, _MOVE, _MOVE_CONSTANT, _AND, _SHIFT_RIGHT = 0x61, 0xBC, 0xB4, 0x54, 0x74
_JUMP_NOT_EQUAL, _EXIT = 0x56, 0x95
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def program(allowed: dict[Key, str]) -> bytes:
    """The eBPF program (struct bpf_insn, 8 bytes each) of what `devices.answers` says: the first group that the device is in has
    the answer. A request is allowed when all accesses that it wants are."""
    code = [
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT, 0),
        _instruction(_MOVE, _WANTED, _TYPE),
        _instruction(_AND, _TYPE, constant=0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, constant=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for key, access in allowed.items():
        code += _group(key, sum(_ACCESS[c] for c in access))
    return b"".join([*code, *_answer(0)])


def _group(key: Key, allowed: int) -> list[bytes]:
    """One block: tests that jump past its end where the device is not in the group, then the answer."""
    kind, major, minor = key
    answer = _answer(allowed)
    numbers = [(r, n) for r, n in ((_TYPE, _TYPES[kind]), (_MAJOR, major), (_MINOR, minor)) if n is not None]
    return [
        _instruction(_JUMP_NOT_EQUAL, register, offset=len(numbers) - place - 1 + len(answer), constant=number)
        for place, (register, number) in enumerate(numbers)
    ] + answer


def _answer(allowed: int) -> list[bytes]:
    if allowed in (0, 7):
        return [_instruction(_MOVE_CONSTANT, _RESULT, constant=int(allowed == 7)), _instruction(_EXIT)]
    return [
        _instruction(_AND, _WANTED, constant=7 & ~allowed),
        _instruction(_MOVE_CONSTANT, _RESULT, constant=0),
        _instruction(_JUMP_NOT_EQUAL, _WANTED, offset=1, constant=0),
        _instruction(_MOVE_CONSTANT, _RESULT, constant=1),
        _instruction(_EXIT),
    ]


def _instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    fields = opcode | (source << 4 | destination) << 8 | offset << 16 | (constant & 0xFFFFFFFF) << 32
    return fields.to_bytes(8, "little")  # without struct, which nothing else of a run imports


def attach(directory: str, allowed: dict[Key, str]) -> None:
    """Loads the program and attaches it to the cgroup at `directory`, in place of one attached here before.

    It stays attached until the cgroup is removed. BPF_F_ALLOW_MULTI: programs of the cgroups above and below are
    asked too, and all must allow, so that a container cannot widen its own list. Raises OSError.
    """
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    loaded = -1
    try:
        before = linux.bpf_prog_query(cgroup, linux.BPF_CGROUP_DEVICE)
        loaded = linux.bpf_prog_load(linux.BPF_PROG_TYPE_CGROUP_DEVICE, program(allowed))
        linux.bpf_prog_attach(cgroup, loaded, linux.BPF_CGROUP_DEVICE, linux.BPF_F_ALLOW_MULTI)
        for identifier in before:
            old = linux.bpf_prog_get_fd_by_id(identifier)
            try:
                linux.bpf_prog_detach(cgroup, old, linux.BPF_CGROUP_DEVICE)
            finally:
                os.close(old)
    finally:
        os.close(cgroup)
        if loaded >= 0:
            os.close(loaded)
