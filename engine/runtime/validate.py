"""A spec is checked before anything is made of it: what it lacks, what is of the wrong type, and what this runtime cannot do.

The shape of config.json is a table below, one entry a field; `_rules` has what several fields say together. Every error names
the field as a path (`linux.namespaces[2].type`). A property that the specification does not know is ignored, as it demands
(spec.md, "Extensibility"), as are the sections of other platforms; one of Linux's that we do not support is an error. OCI
runtime spec 1.2, config.md, config-linux.md.
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError
from engine.runtime import labels, namespaces, rlimits, rootfs
from engine.runtime.defaults import ALL_CAPABILITIES
from engine.runtime.process import outside
from engine.runtime.seccomp import words as seccomp

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
    spec = _without_nulls(spec)
    _SPEC(spec, "")
    _rules(spec)
    return spec, _warnings(spec.get("process", {}))


def checked_process(process: Any) -> tuple[Process, list[str]]:
    """The same for the `process` of an exec alone."""
    process = _without_nulls(process)
    _PROCESS(process, "process")
    _process_rules(process)
    return process, _warnings(process)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


# --- the types --------------------------------------------------------------------------------------------------------


def _bad(path: str, why: str) -> UsageError:
    return UsageError(f"{path or 'config.json'}: {why}")


def _typed(kind: type, name: str) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, kind):
            raise _bad(path, f"must be {name}, not {type(value).__name__} ({value!r})"[:200])

    return check


_string = _typed(str, "a string")
_bool = _typed(bool, "true or false")


def _integer(low: int, high: int) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _bad(path, f"must be an integer, not {value!r}")
        if not low <= value <= high:
            raise _bad(path, f"must be from {low} to {high}, not {value}")

    return check


def _word(known: Collection[str], what: str) -> Check:
    def check(value: Any, path: str) -> None:
        _string(value, path)
        if value not in known:
            raise _bad(path, f"unknown {what}: {value}")

    return check


def _absolute(value: Any, path: str) -> None:
    _string(value, path)
    if not value.startswith("/"):
        raise _bad(path, f"must be an absolute path, not {value!r}")


def _list(of: Check, least: int = 0) -> Check:
    def check(value: Any, path: str) -> None:
        _typed(list, "a list")(value, path)
        if len(value) < least:
            raise _bad(path, "must not be empty")
        for number, item in enumerate(value):
            of(item, f"{path}[{number}]")

    return check


def _map(of: Check, keys: Check = _string) -> Check:
    def check(value: Any, path: str) -> None:
        _typed(dict, "an object")(value, path)
        for key, item in value.items():
            keys(key, path)
            of(item, f"{path}.{key}")

    return check


def _object(fields: dict[str, Check], required: str = "") -> Check:
    def check(value: Any, path: str) -> None:
        _typed(dict, "an object")(value, path)
        prefix = f"{path}." if path else ""
        for name in required.split():
            if name not in value:
                raise _bad(f"{prefix}{name}", "is required")
        for name, item in value.items():
            if name in fields:
                fields[name](item, f"{prefix}{name}")

    return check


def _refused(why: str) -> Check:
    def check(value: Any, path: str) -> None:
        if value:
            raise Unsupported(f"{path}: {why}")

    return check


def _cpu_list(value: Any, path: str) -> None:
    _string(value, path)
    try:
        outside.cpus(value)
    except ValueError:
        raise _bad(path, f"not a list of processors such as 0-3,7: {value!r}") from None


# --- config.json ------------------------------------------------------------------------------------------------------

_BOTH = 1 << 63
_u32, _u64, _i64 = _integer(0, (1 << 32) - 1), _integer(0, (1 << 64) - 1), _integer(-_BOTH, _BOTH - 1)
_id = _integer(0, (1 << 32) - 2)  # -1 means "leave it" to setresuid(2): CVE-2024-40635
_limit = _integer(-1, (1 << 64) - 1)
_strings = _list(_string)
_MAPPINGS = _list(
    _object({"containerID": _id, "hostID": _id, "size": _integer(1, (1 << 32) - 1)}, "containerID hostID size")
)
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

_PROCESS = _object(
    {
        "terminal": _bool,
        "consoleSize": _object({"height": _integer(0, 65535), "width": _integer(0, 65535)}, "height width"),
        "cwd": _absolute,
        "env": _strings,
        "args": _list(_string, least=1),
        "commandLine": _refused("is of Windows"),
        "user": _object({"uid": _id, "gid": _id, "umask": _integer(0, 0o7777), "additionalGids": _list(_id)}),
        "capabilities": _object(dict.fromkeys(_CAPABILITY_SETS, _strings)),
        "rlimits": _list(
            _object(
                {"type": _word(rlimits.NUMBERS, "resource limit"), "soft": _limit, "hard": _limit},
                "type soft hard",
            )
        ),
        "noNewPrivileges": _bool,
        "oomScoreAdj": _integer(-1000, 1000),
        "scheduler": _object(
            {
                "policy": _word(outside.POLICIES, "scheduling policy"),
                "flags": _list(_word(outside.SCHEDULER_FLAGS, "scheduling flag")),
                "nice": _integer(-20, 19),
                "priority": _integer(0, 99),
                "runtime": _u64,
                "deadline": _u64,
                "period": _u64,
            },
            "policy",
        ),
        "ioPriority": _object(
            {"class": _word(outside.IO_CLASSES, "I/O priority class"), "priority": _integer(0, 7)}, "class priority"
        ),
        "execCPUAffinity": _object({"initial": _cpu_list, "final": _cpu_list}),
        "apparmorProfile": _string,
        "selinuxLabel": _string,
    },
    "cwd args",
)  # fmt: skip

_HOOKS = _list(
    _object({"path": _absolute, "args": _strings, "env": _strings, "timeout": _integer(1, _BOTH - 1)}, "path")
)

_SECCOMP = _object(
    {
        "defaultAction": _word(seccomp.ACTIONS, "seccomp action"),
        "defaultErrnoRet": _integer(0, 65535),
        "architectures": _list(_word(seccomp.ARCHITECTURES, "seccomp architecture")),
        "flags": _list(_word(seccomp.FLAGS, "seccomp flag")),
        "listenerPath": _absolute,
        "listenerMetadata": _string,
        "syscalls": _list(
            _object(
                {
                    "names": _list(_string, least=1),
                    "action": _word(seccomp.ACTIONS, "seccomp action"),
                    "errnoRet": _integer(0, 65535),
                    "args": _list(
                        _object(
                            {
                                "index": _integer(0, 5),
                                "value": _u64,
                                "valueTwo": _u64,
                                "op": _word(seccomp.OPERATORS, "seccomp operator"),
                            },
                            "index value op",
                        )
                    ),
                },
                "names action",
            )
        ),
    },
    "defaultAction",
)

_LINUX = _object(
    {
        "namespaces": _list(
            _object({"type": _word(namespaces.KINDS, "namespace"), "path": _string}, "type"),
        ),
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "timeOffsets": _map(
            _object({"secs": _i64, "nanosecs": _integer(0, 999_999_999)}), _word(("monotonic", "boottime"), "clock")
        ),
        "devices": _list(
            _object(
                {
                    "type": _word(("c", "b", "u", "p"), "type of device"),
                    "path": _absolute,
                    "major": _integer(0, (1 << 12) - 1),
                    "minor": _integer(0, (1 << 20) - 1),
                    "fileMode": _integer(0, 0o177777),
                    "uid": _id,
                    "gid": _id,
                },
                "type path",
            )
        ),
        "cgroupsPath": _string,
        "resources": _object({}),
        "sysctl": _map(_string),
        "seccomp": _SECCOMP,
        "rootfsPropagation": _word([*rootfs.PROPAGATION, *(f"r{word}" for word in rootfs.PROPAGATION), ""], "propagation"),
        "maskedPaths": _list(_absolute),
        "readonlyPaths": _list(_absolute),
        "mountLabel": _string,
        "personality": _object(
            {"domain": _word(("LINUX", "LINUX32"), "personality"), "flags": _refused("the specification has none yet")},
            "domain",
        ),
        "intelRdt": _refused("resource control by resctrl is not supported"),
        "memoryPolicy": _refused("NUMA memory policies are not supported"),
        "netDevices": _refused("moving network devices is not supported; a hook can"),
    }
)  # fmt: skip

_SPEC = _object(
    {
        "ociVersion": _string,
        "root": _object({"path": _string, "readonly": _bool}, "path"),
        "process": _PROCESS,
        "hostname": _string,
        "domainname": _string,
        "mounts": _list(
            _object(
                {
                    "destination": _string,
                    "type": _string,
                    "source": _string,
                    "options": _strings,
                    "uidMappings": _MAPPINGS,
                    "gidMappings": _MAPPINGS,
                },
                "destination",
            )
        ),
        "hooks": _object(
            dict.fromkeys(("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), _HOOKS)
        ),
        "annotations": _map(_string),
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
            raise _bad(f"linux.devices[{number}].major", "is required, as is minor")
    if "seccomp" in settings:
        _seccomp_rules(settings["seccomp"], "linux.seccomp")
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
            raise _bad(f"{where}.type", f"there are two {kind} namespaces")
        (joined if path else new).add(kind)
        if path:
            _absolute(path, f"{where}.path")
            namespaces.check_kind(path, kind, f"{where}.path")
            if kind == "mount" and namespaces.is_ours(path, "mount"):
                raise Unsupported(f"{where}.path: the container's root would become the root of the host")
    if "mount" not in new | joined:
        raise Unsupported("linux.namespaces: a container needs a mount namespace, new or another's")
    for key in ("uidMappings", "gidMappings"):
        if "user" in new and not settings.get(key):
            raise _bad(f"linux.{key}", "is required for a new user namespace")
        if settings.get(key) and "user" not in new | joined:
            raise _bad(f"linux.{key}", "there is no user namespace that it could be for")
    if settings.get("timeOffsets") and "time" not in new:
        raise _bad("linux.timeOffsets", "there is no new time namespace that they could be for")
    for key in ("hostname", "domainname"):
        if spec.get(key) and "uts" not in new | joined:
            raise _bad(key, "without a uts namespace it would be the host's")
    for key in settings.get("sysctl", ()):
        owner = namespaces.sysctl_owner(key)
        if owner not in new | joined:
            why = (
                f"needs a {owner} namespace of the container's own"
                if owner
                else "is not in a separate kernel namespace"
            )
            raise _bad(f"linux.sysctl.{key}", why)


def _mount_rules(m: dict[str, Any], path: str) -> None:
    bind = m.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(m.get("options", ()))
    if bind and not m.get("source"):
        raise _bad(f"{path}.source", "is required for a bind mount")
    if not bind and not m.get("type"):
        raise _bad(f"{path}.type", "is required for what is not a bind mount")
    if bool(m.get("uidMappings")) != bool(m.get("gidMappings")):
        raise _bad(f"{path}.uidMappings", "goes together with gidMappings")
    if m.get("uidMappings") and not bind:
        raise Unsupported(f"{path}.uidMappings: only of a bind mount are ids mapped")


def _process_rules(process: dict[str, Any]) -> None:
    types = [limit["type"] for limit in process.get("rlimits", ())]
    for number, kind in enumerate(types):
        if kind in types[:number]:
            raise _bad(f"process.rlimits[{number}].type", f"there are two limits {kind}")
    if process.get("apparmorProfile"):
        labels.require_apparmor("process.apparmorProfile")
    if process.get("selinuxLabel"):
        labels.require_selinux("process.selinuxLabel")


def _seccomp_rules(wanted: dict[str, Any], path: str) -> None:
    rules = [(wanted["defaultAction"], wanted.get("defaultErrnoRet"), f"{path}.defaultErrnoRet")]
    for number, rule in enumerate(wanted.get("syscalls", ())):
        rules.append((rule["action"], rule.get("errnoRet"), f"{path}.syscalls[{number}].errnoRet"))
    for action, value, where in rules:
        if value is not None and action not in seccomp.WITH_NUMBER:
            raise _bad(where, f"{action} has no number")
    notifies = {
        name for rule in wanted.get("syscalls", ()) if rule["action"] == seccomp.NOTIFY for name in rule["names"]
    }
    if wanted["defaultAction"] == seccomp.NOTIFY or "sendmsg" in notifies:  # by which the agent's descriptor leaves
        raise Unsupported(f"{path}: {seccomp.NOTIFY} for sendmsg would stop the runtime itself")
    if notifies and not wanted.get("listenerPath"):
        raise _bad(f"{path}.listenerPath", f"is required for {seccomp.NOTIFY}")
    if wanted.get("listenerMetadata") and not wanted.get("listenerPath"):
        raise _bad(f"{path}.listenerMetadata", "there is no listenerPath that it could be for")


def _warnings(process: dict[str, Any]) -> list[str]:
    """config.md: capabilities that cannot be granted are warned of, and no error."""
    sets = process.get("capabilities", {})
    unknown = sorted({name for key in _CAPABILITY_SETS for name in sets.get(key, ()) if name not in ALL_CAPABILITIES})
    return [f"unknown capabilities are left out: {', '.join(unknown)}"] if unknown else []
