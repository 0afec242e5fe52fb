"""devices: which device nodes may be opened or made. Documentation/admin-guide/cgroup-v1/devices.rst"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.devices import DeviceList


def settings(devices: DeviceList) -> list[tuple[str, str]]:
    """Resets the list to all or nothing, then writes each exception: one rule a write, "c 1:3 rwm"."""
    default, exception = ("allow", "deny") if devices.default_allow else ("deny", "allow")
    plan = [(f"devices.{default}", "a")]
    for (kind, major, minor), access in devices.exceptions.items():
        numbers = ":".join("*" if number is None else str(number) for number in (major, minor))
        plan.append((f"devices.{exception}", f"{kind} {numbers} {access}"))
    return plan
