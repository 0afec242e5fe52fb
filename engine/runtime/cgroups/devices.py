"""OCI device rules, reduced to what both cgroup versions can express: a default and exceptions from it.

The spec (config-linux.md, "Allowed Device list") applies its rules in order. The kernel of v1 keeps a default and a
list of exceptions; the eBPF program of v2 is generated from the same form, so that one rule list means the same on
either.
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
        would cut a hole into a wider exception: neither version of cgroups has a form for that."""
        devices = cls()
        for rule in rules:
            kind, access = rule.get("type") or "a", rule.get("access") or "rwm"
            major, minor = _number(rule.get("major")), _number(rule.get("minor"))
            if kind not in ("a", "b", "c", "u") or set(access) - set("rwm"):
                raise UsageError(f"not a device rule: {rule}")
            if kind == "a" and major is None and minor is None and set(access) == set("rwm"):
                devices.default_allow, devices.exceptions = bool(rule.get("allow")), {}
                continue
            for one in ("b", "c") if kind == "a" else (kind.replace("u", "c"),):
                if bool(rule.get("allow")) != devices.default_allow:
                    devices._except((one, major, minor), access)
                else:
                    devices._unexcept((one, major, minor), access)
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


def _number(value: int | None) -> int | None:
    return None if value is None or value < 0 else value


def _overlap(a: Key, b: Key) -> bool:
    return a[0] == b[0] and all(x is None or y is None or x == y for x, y in zip(a[1:], b[1:], strict=True))


def _covers(a: Key, b: Key) -> bool:
    return a[0] == b[0] and all(x is None or x == y for x, y in zip(a[1:], b[1:], strict=True))


def _text(key: Key) -> str:
    return f"{key[0]} " + ":".join("*" if n is None else str(n) for n in key[1:])
