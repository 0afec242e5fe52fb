"""OCI device rules, in the forms that the two cgroup versions can express.

The spec (config-linux.md, "Allowed Device list") applies its rules in order: of each access, the last rule that the device fits
decides. The kernel of v1 keeps a default and exceptions from it (`DeviceList`), which cannot say everything. The program that v2
asks has an answer for each group of devices that any rule names (`answers`), which can.
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Key = tuple[str, int | None, int | None]

# Every container has these, as runc adds them to any spec: the OCI default devices (config-linux.md, "Default
# Devices"), its own pseudo-terminals, and mknod (but neither reading nor writing) of anything, so that archives can
# be unpacked.
ALWAYS_ALLOWED: list[dict[str, Any]] = [
    {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
    for kind, major, minor, access in (
        ("c", None, None, "m"),
        ("b", None, None, "m"),
        ("c", 1, 3, "rwm"),  # null
        ("c", 1, 5, "rwm"),  # zero
        ("c", 1, 7, "rwm"),  # full
        ("c", 1, 8, "rwm"),  # random
        ("c", 1, 9, "rwm"),  # urandom
        ("c", 5, 0, "rwm"),  # tty
        ("c", 5, 1, "rwm"),  # console
        ("c", 5, 2, "rwm"),  # ptmx
        ("c", 136, None, "rwm"),  # pts/*
        ("c", 10, 200, "rwm"),  # net/tun: VPNs that make the node themselves rely on it (runc#4556)
    )
]


_ALL: list[Key] = [("b", None, None), ("c", None, None)]
EVERYTHING = dict.fromkeys(_ALL, "rwm")  # what `answers` says where nothing is denied


class DeviceList:
    """`default_allow`, and `exceptions`: (type "b" or "c", major, minor) → the accesses excepted, in the order "rwm".

    A major or minor of None stands for any.
    """

    __slots__ = ("default_allow", "exceptions")

    def __init__(self) -> None:
        self.default_allow = False
        self.exceptions: dict[Key, str] = {}

    @classmethod
    def from_rules(cls, rules: list[dict[str, Any]]) -> DeviceList:
        """Applies OCI rules in order to "deny all". Raises UsageError for a malformed rule, Unsupported for one that
        would cut a hole into a wider exception: v1 has no form for that."""
        devices = cls()
        for keys, access, allow in map(_parse, rules):
            if keys == _ALL and set(access) == set("rwm"):
                devices.default_allow, devices.exceptions = allow, {}
                continue
            for key in keys:
                if allow != devices.default_allow:
                    devices._except(key, access)
                else:
                    devices._unexcept(key, access)
        return devices

    def _except(self, key: Key, access: str) -> None:
        have = self.exceptions.get(key, "")
        self.exceptions[key] = "".join(c for c in "rwm" if c in access or c in have)

    def _unexcept(self, key: Key, access: str) -> None:
        for other, have in list(self.exceptions.items()):
            common = set(have) & set(access)
            if not common or not _overlap(key, other):
                continue
            if not _covers(key, other):
                raise Unsupported(f"device rule {_text(key)} lies inside the earlier rule {_text(other)}")
            if rest := "".join(c for c in have if c not in common):
                self.exceptions[other] = rest
            else:
                del self.exceptions[other]


def answers(rules: list[dict[str, Any]]) -> dict[Key, str]:
    """The accesses that are allowed to each group of devices, the narrowest groups first: the first that a device is in has its
    answer, and what is in none is denied. Raises UsageError for a malformed rule.

    Where `c 5:*` and `c *:1` cross, `c 5:1` is a group, too: so all rules that a device fits, its group fits.
    """
    steps: list[tuple[bool, str]] = []
    at: dict[Key, list[int]] = {}
    for keys, access, allow in map(_parse, rules):
        for key in keys:
            at.setdefault(key, []).append(len(steps))
        steps.append((allow, access))
    majors = [key for key in at if key[1] is not None and key[2] is None]
    minors = [key for key in at if key[1] is None and key[2] is not None]
    keys_ = {*at, *((one[0], one[1], other[2]) for one in majors for other in minors if one[0] == other[0])}
    found: dict[Key, str] = {}
    for key in sorted(keys_, key=lambda key: (key[1:].count(None), key[1] is None)):
        allowed = ""
        for number in sorted(number for wider in _wider(key) for number in at.get(wider, ())):
            allow, access = steps[number]
            allowed = "".join(c for c in "rwm" if (c in access and allow) or (c in allowed and c not in access))
        found[key] = allowed
    return {key: allowed for key, allowed in found.items() if _says_more(key, allowed, found)}


def _wider(key: Key) -> tuple[Key, ...]:
    """The groups that hold all of this one, itself among them."""
    kind, major, minor = key
    return tuple({(kind, a, b): None for a in (major, None) for b in (minor, None)})


def _says_more(key: Key, allowed: str, found: dict[Key, str]) -> bool:
    """Whether without it another answer would be given."""
    others = {found[wider] for wider in _wider(key)[1:] if wider in found}
    return others != {allowed} if others else bool(allowed)


def _parse(rule: dict[str, Any]) -> tuple[list[Key], str, bool]:
    """(groups, accesses, allow) of a rule. Raises UsageError."""
    kind, access = rule.get("type") or "a", rule.get("access") or "rwm"
    if kind not in ("a", "b", "c", "u") or set(access) - set("rwm"):
        raise UsageError(f"not a device rule: {rule}")
    kinds = ("b", "c") if kind == "a" else (kind.replace("u", "c"),)
    return [(k, _number(rule.get("major")), _number(rule.get("minor"))) for k in kinds], access, bool(rule.get("allow"))


def _number(value: int | None) -> int | None:
    return None if value is None or value < 0 else value


def _overlap(a: Key, b: Key) -> bool:
    return a[0] == b[0] and all(x is None or y is None or x == y for x, y in zip(a[1:], b[1:], strict=True))


def _covers(a: Key, b: Key) -> bool:
    return a[0] == b[0] and all(x is None or x == y for x, y in zip(a[1:], b[1:], strict=True))


def _text(key: Key) -> str:
    return f"{key[0]} " + ":".join("*" if n is None else str(n) for n in key[1:])
