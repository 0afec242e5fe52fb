"""The systemd driver: the container's cgroup is that of a transient scope, which systemd makes and, emptied, removes.

    cgroupsPath slice:prefix:name           "machine.slice:libpod:4f1c"
    the unit    prefix-name.scope           in the slice, a dash a level: "a-b.slice" is a.slice/a-b.slice
    the cgroup  /SLICE/prefix-name.scope    delegated: below it everything is the container's

One manager of the tree is what cgroup v2 wants ("single writer"), and on a host booted by systemd that is systemd. Limits go
both ways: as the unit's properties, or systemd would undo them when it next looks, and into the files, for it does not know
all. opencontainers/runc, docs/systemd.md; systemd's CGROUP_DELEGATION.md; org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os

from engine.errors import Unsupported, UsageError
from engine.runtime.cgroups import dbus, units
from engine.runtime.cgroups.layout import Layout
from engine.runtime.cgroups.limits import in_user_namespace
from engine.runtime.cgroups.manager import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.cgroups.units import Property

_NAME, _PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
BOOTED = "/run/systemd/system"  # sd_booted(3)
_EXISTS, _NO_SUCH = f"{_NAME}.UnitExists", f"{_NAME}.NoSuchUnit"


class Systemd:
    """A connection to the systemd that manages our units: the host's, or for a user the user's own."""

    def __init__(self, address: str | None = None) -> None:
        self._bus = dbus.Connection(address or _address())
        self._bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")

    def close(self) -> None:
        self._bus.close()

    def _call(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        return self._bus.call(_NAME, _PATH, _MANAGER, member, signature, *body)

    def control_group(self) -> str:
        """The cgroup that this systemd manages: "/" of the host's, a user's below."""
        get = ("org.freedesktop.DBus.Properties", "Get", "ss", _MANAGER, "ControlGroup")
        (value,) = self._bus.call(_NAME, _PATH, *get)
        return str(value[1]).rstrip("/")

    def start(self, unit: str, properties: list[Property]) -> None:
        """Makes a transient unit, and waits until it is there. Raises RuntimeFault, naming unit and cause."""
        self._watch_jobs()
        try:
            job = self._start(unit, properties)
        except dbus.CallFailed as e:
            if e.name != _EXISTS:
                raise
            self._reset(unit)  # a failed one of this name may be left
            job = self._start(unit, properties)
        result = self._await_job(job)
        if result != "done":
            self._reset(unit)
            raise dbus.CallFailed(_NAME, f"systemd cannot make {unit}: {result}")

    def _start(self, unit: str, properties: list[Property]) -> str:
        values = [[name, (signature, value)] for name, signature, value in properties]
        (job,) = self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", values, [])
        return str(job)

    def stop(self, unit: str) -> None:
        """No error where it is gone."""
        self._watch_jobs()
        try:
            (job,) = self._call("StopUnit", "ss", unit, "replace")
            self._await_job(job)
        except dbus.CallFailed as e:
            if e.name != _NO_SUCH:
                raise
        self._reset(unit)

    def set(self, unit: str, properties: list[Property]) -> None:
        """Changes a unit until it goes."""
        values = [[name, (signature, value)] for name, signature, value in properties]
        self._call("SetUnitProperties", "sba(sv)", unit, True, values)

    def _watch_jobs(self) -> None:
        rule = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
        self._bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule)
        self._call("Subscribe")

    def _await_job(self, job: str) -> str:
        for _, path, _, result in self._bus.signals("JobRemoved"):
            if path == job:
                return str(result)
        raise AssertionError  # the signals never end

    def _reset(self, unit: str) -> None:
        try:
            self._call("ResetFailedUnit", "s", unit)
        except dbus.CallFailed:
            pass  # it did not fail, or is gone


def _address() -> str:
    variable, default = "DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket"
    if _is_rootless():
        variable, default = "DBUS_SESSION_BUS_ADDRESS", f"unix:path={os.environ.get('XDG_RUNTIME_DIR', '')}/bus"
    return os.environ.get(variable) or default


def _is_rootless() -> bool:
    return os.geteuid() != 0 or in_user_namespace()


class SystemdCgroup(Cgroup):
    """The cgroup of a scope. `create` asks systemd for it, the rest are files as ever.

    systemd makes no scope without a process, and takes one away that has none left: a placeholder waits in it until the
    container's first process has entered.
    """

    __slots__ = ("_placeholder", "auxiliary", "slice", "unit")

    def __init__(self, layout: Layout, name: str, annotations: dict[str, str] | None = None) -> None:
        """`name` is slice:prefix:name, complete; of `annotations` those that are properties are given to a new scope, and
        overrule ours. Raises UsageError for what is neither; for a user, what `Systemd` raises."""
        self.slice, self.unit = units.parse(name)
        self.auxiliary = units.auxiliary(annotations or {})
        above = ""
        if _is_rootless():
            systemd = Systemd()
            above = systemd.control_group()
            systemd.close()
        super().__init__(layout, above + units.path_of(self.slice) + "/" + self.unit)
        self._placeholder = -1

    def create(self) -> None:
        if not os.path.isdir(BOOTED):
            raise Unsupported("systemd does not run this host, so it cannot make cgroups", "leave --systemd-cgroup out")
        pid = self._hold()
        try:
            systemd = Systemd()
            try:
                properties = units.scope(self.slice, self.unit, pid, self.layout.version == "v2")
                systemd.start(self.unit, properties + self.auxiliary)
            finally:
                systemd.close()
            super().create()
        except BaseException:
            os.write(self._placeholder, b".")
            os.waitpid(pid, 0)
            raise

    def _hold(self) -> int:
        """Forks the placeholder: it ends at the first byte in its pipe, or when nobody holds the other end any more."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(writer)
                os.read(reader, 1)
            finally:
                os._exit(0)
        os.close(reader)
        self._placeholder = writer
        return pid

    def enter(self) -> None:
        super().enter()
        if self._placeholder >= 0:
            os.write(self._placeholder, b".")

    def apply(self, resources: dict[str, Any]) -> None:
        if "devices" in self.layout.v1:
            self._set(units.devices(resources))
        super().apply(resources)

    def set_limits(self, resources: dict[str, Any]) -> None:
        on_v2 = self.layout.version == "v2"
        self._set(units.limits(resources, on_v2) + (units.unified(resources) if on_v2 else []))
        super().set_limits(resources)

    def _set(self, properties: list[Property]) -> None:
        if not properties:
            return
        systemd = Systemd()
        try:
            systemd.set(self.unit, properties)
        finally:
            systemd.close()

    def delete_empty(self) -> bool:
        return False  # the unit is systemd's to stop

    def delete(self, parent: bool = False) -> None:
        systemd = Systemd()
        try:
            systemd.stop(self.unit)
        finally:
            systemd.close()
        super().delete(parent=False)  # v1's hierarchies that systemd does not manage


def name_of(cgroups_path: str, container_id: str) -> str:
    """A spec's `cgroupsPath` made complete: ":runc:ID" where it says nothing, as with runc. Raises UsageError."""
    parts = (cgroups_path or f":mini:{container_id}").split(":")
    if len(parts) != 3:
        text = f"with the systemd driver cgroupsPath is slice:prefix:name, and not {cgroups_path!r}"
        raise UsageError(text, "leave --systemd-cgroup out for a path")
    default = "user.slice" if _is_rootless() else "system.slice"
    name = f"{parts[0] or default}:{parts[1]}:{parts[2] or container_id}"
    units.parse(name)
    return name
