"""A spec is checked before anything is made of it: what it lacks, what is of the wrong type, and what this runtime cannot do.

The shape of config.json is a table below, one entry a field; `_rules` has what several fields say together. Every error names
the field as a path (`linux.namespaces[2].type`). A property that the specification does not know is ignored, as it demands
(spec.md, "Extensibility"), as are the sections of other platforms; one of Linux's that we do not support is an error. OCI
runtime spec 1.2, config.md, config-linux.md.
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError
from engine.runtime import labels, mounts, namespaces, rlimits, rootfs
from engine.runtime.defaults import ALL_CAPABILITIES
from engine.runtime.process import outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from engine.oci.runtime import Process, Spec

    Check = Callable[[Any, str], None]


def checked(spec: Any) -> tuple[Spec, list[str]]:
    """The spec without its null fields, which are as if they were not there; and what to warn of.

    Raises UsageError, Unsupported.
    """
    spec = without_nulls(spec)
    _SPEC(spec, "")
    _rules(spec)
    return spec, _warnings(spec.get("process", {}))


def checked_process(process: Any) -> tuple[Process, list[str]]:
    """The same for the `process` of an exec alone."""
    process = without_nulls(process)
    _PROCESS(process, "process")
    _process_rules(process)
    return process, _warnings(process)


def without_nulls(value: Any) -> Any:
    """Raises UsageError for what is nested beyond what any specification has."""
    try:
        return _without_nulls(value)
    except RecursionError:
        raise bad("", "is nested too deeply") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


# --- the types --------------------------------------------------------------------------------------------------------


def bad(path: str, why: str) -> UsageError:
    return UsageError(f"{path or 'config.json'}: {why}")


def typed(kind: type, name: str) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, kind):
            raise bad(path, f"must be {name}, not {type(value).__name__} ({value!r})"[:200])

    return check


def string(value: Any, path: str) -> None:
    """One that the kernel can be given: it would read it up to the null character."""
    typed(str, "a string")(value, path)
    if "\0" in value:
        raise bad(path, f"has a null character: {value!r}"[:200])


boolean = typed(bool, "true or false")


def integer(low: int, high: int) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad(path, f"must be an integer, not {value!r}")
        if not low <= value <= high:
            raise bad(path, f"must be from {low} to {high}, not {value}")

    return check


def word(known: Collection[str], what: str) -> Check:
    def check(value: Any, path: str) -> None:
        string(value, path)
        if value not in known:
            raise bad(path, f"unknown {what}: {value}")

    return check


def absolute(value: Any, path: str) -> None:
    string(value, path)
    if not value.startswith("/"):
        raise bad(path, f"must be an absolute path, not {value!r}")


def _not_empty(value: Any, path: str) -> None:
    string(value, path)
    if not value:
        raise bad(path, "must not be empty")


def listing(of: Check, least: int = 0) -> Check:
    def check(value: Any, path: str) -> None:
        typed(list, "a list")(value, path)
        if len(value) < least:
            raise bad(path, "must not be empty")
        for number, item in enumerate(value):
            of(item, f"{path}[{number}]")

    return check


def mapping(of: Check, keys: Check = string) -> Check:
    def check(value: Any, path: str) -> None:
        typed(dict, "an object")(value, path)
        for key, item in value.items():
            keys(key, path)
            of(item, f"{path}.{key}")

    return check


def record(fields: dict[str, Check], required: str = "") -> Check:
    def check(value: Any, path: str) -> None:
        typed(dict, "an object")(value, path)
        prefix = f"{path}." if path else ""
        for name in required.split():
            if name not in value:
                raise bad(f"{prefix}{name}", "is required")
        for name, item in value.items():
            if name in fields:
                fields[name](item, f"{prefix}{name}")

    return check


def _refused(why: str, empty: bool = False) -> Check:
    """`empty`: what is empty asks for something, too."""

    def check(value: Any, path: str) -> None:
        if value or empty:
            raise Unsupported(f"{path}: {why}")

    return check


def _elsewhere(module: str) -> Check:
    """A table that is a module of its own, which only those load who have something of it."""
    return lambda value, path: __import__(module, fromlist=["check"]).check(value, path)


def _cpu_list(value: Any, path: str) -> None:
    string(value, path)
    try:
        outside.cpus(value)
    except ValueError:
        raise bad(path, f"not a list of processors such as 0-3,7: {value!r}") from None


# --- config.json ------------------------------------------------------------------------------------------------------

_BOTH = 1 << 63
_u64, _i64, _limit = integer(0, (1 << 64) - 1), integer(-_BOTH, _BOTH - 1), integer(-1, (1 << 64) - 1)
_id = integer(0, (1 << 32) - 2)  # -1 means "leave it" to setresuid(2): CVE-2024-40635
_strings = listing(string)
_MAPPINGS = listing(
    record({"containerID": _id, "hostID": _id, "size": integer(1, (1 << 32) - 1)}, "containerID hostID size")
)
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

_PARAMETERS = {"priority": ("SCHED_FIFO", "SCHED_RR")} | dict.fromkeys(
    ("runtime", "deadline", "period"), ("SCHED_DEADLINE",)
)

_PROCESS = record(
    {
        "terminal": boolean,
        "consoleSize": record({"height": integer(0, 65535), "width": integer(0, 65535)}, "height width"),
        "cwd": absolute,
        "env": _strings,
        "args": listing(string, least=1),
        "commandLine": _refused("is of Windows"),
        "user": record({"uid": _id, "gid": _id, "umask": integer(0, 0o7777), "additionalGids": listing(_id)}),
        "capabilities": record(dict.fromkeys(_CAPABILITY_SETS, _strings)),
        "rlimits": listing(
            record(
                {"type": word(rlimits.NUMBERS, "resource limit"), "soft": _limit, "hard": _limit},
                "type soft hard",
            )
        ),
        "noNewPrivileges": boolean,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": record(
            {
                "policy": word(outside.POLICIES, "scheduling policy"),
                "flags": listing(word(outside.SCHEDULER_FLAGS, "scheduling flag")),
                "nice": integer(-20, 19),
                "priority": integer(0, 99),
                "runtime": _u64,
                "deadline": _u64,
                "period": _u64,
            },
            "policy",
        ),
        "ioPriority": record(
            {"class": word(outside.IO_CLASSES, "I/O priority class"), "priority": integer(0, 7)}, "class priority"
        ),
        "execCPUAffinity": record({"initial": _cpu_list, "final": _cpu_list}),
        "apparmorProfile": string,
        "selinuxLabel": string,
    },
    "cwd args",
)  # fmt: skip

_HOOKS = listing(
    record({"path": absolute, "args": _strings, "env": _strings, "timeout": integer(1, _BOTH - 1)}, "path")
)

_LINUX = record(
    {
        "namespaces": listing(
            record({"type": word(namespaces.KINDS, "namespace"), "path": string}, "type"),
        ),
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "timeOffsets": mapping(
            record({"secs": _i64, "nanosecs": integer(0, 999_999_999)}), word(("monotonic", "boottime"), "clock")
        ),
        "devices": listing(
            record(
                {
                    "type": word(("c", "b", "u", "p"), "type of device"),
                    "path": absolute,
                    "major": integer(0, (1 << 12) - 1),
                    "minor": integer(0, (1 << 20) - 1),
                    "fileMode": integer(0, 0o177777),
                    "uid": _id,
                    "gid": _id,
                },
                "type path",
            )
        ),
        "cgroupsPath": string,
        "resources": _elsewhere("engine.runtime.resources"),
        "sysctl": mapping(string),
        "seccomp": _elsewhere("engine.runtime.seccomp.check"),
        "rootfsPropagation": word([*rootfs.PROPAGATION, *(f"r{name}" for name in rootfs.PROPAGATION), ""], "propagation"),
        "maskedPaths": listing(absolute),
        "readonlyPaths": listing(absolute),
        "mountLabel": string,
        "personality": record(
            {"domain": word(("LINUX", "LINUX32"), "personality"), "flags": _refused("the specification has none yet")},
            "domain",
        ),
        "intelRdt": _refused("resource control by resctrl is not supported", empty=True),
        "memoryPolicy": _refused("NUMA memory policies are not supported"),
        "netDevices": _refused("moving network devices is not supported; a hook can"),
    }
)  # fmt: skip

_SPEC = record(
    {
        "ociVersion": string,
        "root": record({"path": _not_empty, "readonly": boolean}, "path"),
        "process": _PROCESS,
        "hostname": string,
        "domainname": string,
        "mounts": listing(
            record(
                {
                    "destination": string,
                    "type": string,
                    "source": string,
                    "options": _strings,
                    "uidMappings": _MAPPINGS,
                    "gidMappings": _MAPPINGS,
                },
                "destination",
            )
        ),
        "hooks": record(
            dict.fromkeys(("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), _HOOKS)
        ),
        "annotations": mapping(typed(str, "a string"), _not_empty),
        "linux": _LINUX,
    },
    "ociVersion root",
)  # fmt: skip


# --- what several fields say together ---------------------------------------------------------------------------------


def _rules(spec: dict[str, Any]) -> None:
    settings = spec.get("linux", {})
    _namespace_rules(spec, settings)
    for number, m in enumerate(spec.get("mounts", ())):
        _mount_rules(m, f"mounts[{number}]")
    for number, node in enumerate(settings.get("devices", ())):
        if node["type"] != "p" and ("major" not in node or "minor" not in node):
            raise bad(f"linux.devices[{number}].major", "is required, as is minor")
    if settings.get("mountLabel"):
        labels.require_selinux("linux.mountLabel")
    if "process" in spec:
        _process_rules(spec["process"])


def _namespace_rules(spec: dict[str, Any], settings: dict[str, Any]) -> None:
    new: set[str] = set()
    joined: set[str] = set()
    for number, entry in enumerate(settings.get("namespaces", ())):
        kind, path, where = entry["type"], entry.get("path"), f"linux.namespaces[{number}]"
        if kind in new | joined:
            raise bad(f"{where}.type", f"there are two {kind} namespaces")
        (joined if path else new).add(kind)
        if path:
            absolute(path, f"{where}.path")
            namespaces.check_kind(path, kind, f"{where}.path")
            if kind == "mount" and namespaces.is_ours(path, "mount"):
                raise Unsupported(f"{where}.path: the container's root would become the root of the host")
    if "mount" not in new | joined:
        raise Unsupported("linux.namespaces: a container needs a mount namespace, new or another's")
    for key in ("uidMappings", "gidMappings"):
        if "user" in new and not settings.get(key):
            raise bad(f"linux.{key}", "is required for a new user namespace")
        if settings.get(key) and "user" not in new | joined:
            raise bad(f"linux.{key}", "there is no user namespace that it could be for")
    if settings.get("timeOffsets") and "time" not in new:
        raise bad("linux.timeOffsets", "there is no new time namespace that they could be for")
    for key in ("hostname", "domainname"):
        if spec.get(key) and "uts" not in new | joined:
            raise bad(key, "without a uts namespace it would be the host's")
    for key in settings.get("sysctl", ()):
        _sysctl_rule(key, new | joined, spec)


def _sysctl_rule(key: str, own: set[str], spec: dict[str, Any]) -> None:
    owner, field = namespaces.sysctl_owner(key), key.replace("/", ".").removeprefix("kernel.")
    if field == "hostname" or (field == "domainname" and spec.get(field)):
        raise bad(f"linux.sysctl.{key}", f"is what the field {field} is for")
    if owner not in own:
        why = f"needs a {owner} namespace of the container's own" if owner else "is not in a separate kernel namespace"
        raise bad(f"linux.sysctl.{key}", why)


def _mount_rules(m: dict[str, Any], path: str) -> None:
    bind = m.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(m.get("options", ()))
    if bind and not m.get("source"):
        raise bad(f"{path}.source", "is required for a bind mount")
    if not bind and not m.get("type"):
        raise bad(f"{path}.type", "is required for what is not a bind mount")
    if bool(m.get("uidMappings")) != bool(m.get("gidMappings")):
        raise bad(f"{path}.uidMappings", "goes together with gidMappings")
    if m.get("uidMappings") and not bind:
        raise Unsupported(f"{path}.uidMappings: only of a bind mount are ids mapped")
    plan = mounts.parse(m)  # type: ignore[arg-type]
    if plan.copy_up and m.get("type") != "tmpfs":
        raise bad(f"{path}.options", "tmpcopyup is of tmpfs alone")
    if plan.bind and (unknown := plan.unknown_to_mounts()):
        raise bad(f"{path}.options", f"a bind mount has none of a file system: {', '.join(unknown)}")


def _process_rules(process: dict[str, Any]) -> None:
    _scheduler_rules(process.get("scheduler", {}), "process.scheduler")
    types = [limit["type"] for limit in process.get("rlimits", ())]
    for number, kind in enumerate(types):
        if kind in types[:number]:
            raise bad(f"process.rlimits[{number}].type", f"there are two limits {kind}")
    if process.get("apparmorProfile"):
        labels.require_apparmor("process.apparmorProfile")
    if process.get("selinuxLabel"):
        labels.require_selinux("process.selinuxLabel")


def _scheduler_rules(wanted: dict[str, Any], path: str) -> None:
    """What is of another policy sched_setattr(2) ignores. A nice value may always be there, as with runc."""
    for name, policies in _PARAMETERS.items():
        if wanted.get(name) and wanted["policy"] not in policies:
            raise bad(f"{path}.{name}", f"is of {' and '.join(policies)} alone, not of {wanted['policy']}")


def _warnings(process: dict[str, Any]) -> list[str]:
    """config.md: capabilities that cannot be granted are warned of, and no error."""
    sets = process.get("capabilities", {})
    unknown = sorted({name for key in _CAPABILITY_SETS for name in sets.get(key, ()) if name not in ALL_CAPABILITIES})
    return [f"unknown capabilities are left out: {', '.join(unknown)}"] if unknown else []
