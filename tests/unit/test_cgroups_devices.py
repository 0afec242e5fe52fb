"""OCI device rules reduced to a default and exceptions, and the eBPF program of them, run here by a small interpreter."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups.devices import ALWAYS_ALLOWED, EVERYTHING, DeviceList, answers
from engine.runtime.cgroups.v1 import devices as v1
from engine.runtime.cgroups.v2 import devices as v2
from engine.runtime.defaults import DEVICE_RULES, PRIVILEGED_DEVICE_RULES

DENY_ALL: dict[str, Any] = {"allow": False, "access": "rwm"}
ALLOW_ALL: dict[str, Any] = {"allow": True, "access": "rwm"}


def rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Interprets the handful of eBPF instructions that the generator uses."""
    wanted = sum({"m": 1, "r": 2, "w": 4}[c] for c in access)
    context = struct.pack("<III", wanted << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers, pc = [0] * 10, 0
    while True:
        opcode, operands, offset, constant = struct.unpack_from("<BBhi", program, pc * 8)
        into, source = operands & 15, operands >> 4
        pc += 1
        if opcode == 0x95:
            return bool(registers[0])
        if opcode == 0x61:
            registers[into] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == 0xBC:
            registers[into] = registers[source]
        elif opcode == 0xB4:
            registers[into] = constant
        elif opcode == 0x54:
            registers[into] &= constant
        elif opcode == 0x74:
            registers[into] >>= constant
        elif opcode == 0x56:
            pc += offset * (registers[into] != constant)
        else:
            pytest.fail(f"opcode {opcode:#x}")


def test_what_every_container_gets() -> None:
    plan = v1.settings(DeviceList.from_rules(DEVICE_RULES + ALWAYS_ALLOWED))
    assert plan[0] == ("devices.deny", "a")
    assert ("devices.allow", "c 1:3 rwm") in plan
    assert ("devices.allow", "b *:* m") in plan
    program = v2.program(answers(DEVICE_RULES + ALWAYS_ALLOWED))
    assert run(program, "c", 1, 3, "rw")
    assert run(program, "c", 136, 7, "rw")
    assert run(program, "b", 8, 0, "m")
    assert not run(program, "b", 8, 0, "r")
    assert not run(program, "b", 8, 0, "rm")
    assert not run(program, "b", 1, 3, "rw")
    assert not run(program, "c", 10, 229, "w")


def test_privileged() -> None:
    devices = DeviceList.from_rules(PRIVILEGED_DEVICE_RULES + ALWAYS_ALLOWED)
    assert v1.settings(devices) == [("devices.allow", "a")]
    assert answers(PRIVILEGED_DEVICE_RULES + ALWAYS_ALLOWED) == EVERYTHING
    assert run(v2.program(EVERYTHING), "b", 8, 0, "rwm")


def test_rules_act_in_order() -> None:
    both = rule(True, "c", 10, 200, "rw")
    devices = DeviceList.from_rules([DENY_ALL, both, rule(False, "c", 10, 200, "w"), rule(True, "c", 10, 200, "m")])
    assert devices.exceptions == {("c", 10, 200): "rm"}
    assert DeviceList.from_rules([both, DENY_ALL]).exceptions == {}


def test_a_wider_denial_removes_narrower_exceptions() -> None:
    devices = DeviceList.from_rules([rule(True, "c", 10, 200, "rw"), rule(False, "c", 10, -1, "rwm")])
    assert devices.exceptions == {}


def test_all_but_one() -> None:
    rules = [ALLOW_ALL, rule(False, "c", 10, 229, "w")]
    assert v1.settings(DeviceList.from_rules(rules)) == [("devices.allow", "a"), ("devices.deny", "c 10:229 w")]
    program = v2.program(answers(rules))
    assert run(program, "c", 10, 229, "r")
    assert not run(program, "c", 10, 229, "rw")
    assert run(program, "b", 10, 229, "w")


def test_a_hole_in_a_wider_exception_is_refused_by_v1_not_ignored() -> None:
    rules = [rule(True, "c", 1, None, "rwm"), rule(False, "c", 1, 3, "rwm")]
    with pytest.raises(Unsupported, match="c 1:3 lies inside the earlier rule c 1:\\*"):
        DeviceList.from_rules(rules)
    program = v2.program(answers(rules))
    assert run(program, "c", 1, 4, "rwm") and not run(program, "c", 1, 3, "r")


def test_groups_that_cross() -> None:
    rules = [rule(True, "c", 5, None, "rw"), rule(True, "c", None, 1, "m"), rule(False, "c", None, 1, "w")]
    assert list(answers(rules).items()) == [
        (("c", 5, 1), "rm"),
        (("c", 5, None), "rw"),
        (("c", None, 1), "m"),
    ]


_NUMBERS = st.none() | st.integers(0, 3)
_ACCESSES = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda found: "".join(sorted(found)))
_RULES = st.lists(st.builds(rule, st.booleans(), st.sampled_from("abc"), _NUMBERS, _NUMBERS, _ACCESSES), max_size=12)


@given(_RULES, st.sampled_from("bc"), st.integers(0, 4), st.integers(0, 4), _ACCESSES)
def test_the_last_rule_that_fits_decides(
    rules: list[dict[str, Any]], kind: str, major: int, minor: int, wanted: str
) -> None:
    """config-linux.md, "Allowed Device list": "The runtime MUST apply entries in the listed order"."""
    allowed: set[str] = set()
    for one in rules:
        fits = one["type"] in ("a", kind) and one["major"] in (None, major) and one["minor"] in (None, minor)
        if fits:
            allowed = allowed | set(one["access"]) if one["allow"] else allowed - set(one["access"])
    assert run(v2.program(answers(rules)), kind, major, minor, wanted) == (set(wanted) <= allowed)


def test_many_rules() -> None:
    rules = [rule(True, "c", 10, minor, "rw") for minor in range(2000)]
    program = v2.program(answers([DENY_ALL, *rules]))
    assert run(program, "c", 10, 1999, "rw") and not run(program, "c", 10, 2000, "r")


def test_a_rule_for_both_types_of_one_number() -> None:
    devices = DeviceList.from_rules([DENY_ALL, rule(True, "a", 7, 1, "r")])
    assert devices.exceptions == {("b", 7, 1): "r", ("c", 7, 1): "r"}


@pytest.mark.parametrize("bad", [rule(True, "x", 1, 1, "r"), rule(True, "c", 1, 1, "rx")])
def test_not_a_rule(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not a device rule"):
        DeviceList.from_rules([bad])
    with pytest.raises(UsageError, match="not a device rule"):
        answers([bad])
