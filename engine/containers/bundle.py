"""From a container's config to the OCI runtime spec that is handed to the runtime.

Everything that Docker gives a container by default is decided here, and only here: the runtime does what the spec says.
Pure: what has to be looked up in the container's root (the user) or on the host comes in as an argument.
"""

from __future__ import annotations

import os

from engine.containers.config import DEFAULT_PATH, merge_env
from engine.containers.limits import CPU_PERIOD
from engine.errors import UsageError
from engine.lean import signal
from engine.runtime import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engine.containers.sharing import Shared
    from engine.oci.runtime import Mount, Process, Spec
    from engine.oci.users import User

OCI_VERSION = "1.2.0"


def capabilities(host: dict[str, Any]) -> list[str]:
    """The bounding set: Docker's default with --cap-add and --cap-drop applied, all of them for --privileged."""
    if host["Privileged"]:
        return list(defaults.ALL_CAPABILITIES)
    add, drop = (_cap_names(key, host[key] or ()) for key in ("CapAdd", "CapDrop"))
    if "ALL" in add:
        chosen = set(defaults.ALL_CAPABILITIES)
    elif "ALL" in drop:
        chosen = set()
    else:
        chosen = set(defaults.DEFAULT_CAPABILITIES)
    chosen = (chosen | set(add) - {"ALL"}) - set(drop)
    if "ALL" in drop:
        chosen |= set(add) - {"ALL"}
    return [name for name in defaults.ALL_CAPABILITIES if name in chosen]


def _cap_names(key: str, values: Sequence[str]) -> list[str]:
    names = []
    for value in values:
        name = value.upper()
        if name != "ALL":
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in defaults.ALL_CAPABILITIES:
                raise UsageError(f'invalid {key}: unknown capability: "{name}"', "capabilities(7) lists them")
        names.append(name)
    return names


def environment(config: dict[str, Any], home: str) -> list[str]:
    """PATH, HOSTNAME, TERM (with a terminal), then the config's, then HOME unless the config set it."""
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={config['Hostname']}"]
    if config["Tty"]:
        base.append("TERM=xterm")
    env = merge_env(base, config["Env"] or ())
    if not any(item.startswith("HOME=") and item != "HOME=" for item in env):
        env = [item for item in env if item != "HOME="] + [f"HOME={home}"]
    return env


def process(
    config: dict[str, Any],
    host: dict[str, Any],
    user: User,
    args: Sequence[str],
    env: Sequence[str],
    size: tuple[int, int] | None,
) -> Process:
    """The spec's `process`. `size` is (rows, columns) of the terminal that the client has, if any."""
    caps = capabilities(host)
    held = caps if user.uid == 0 else []
    security = host["SecurityOpt"] or ()
    value: Process = {
        "terminal": config["Tty"],
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
        "args": list(args),
        "env": list(env),
        "cwd": config["WorkingDir"] or "/",
        # CVE-2022-24769: nothing inheritable, so that a file capability cannot give back what was dropped
        "capabilities": {"bounding": caps, "effective": held, "permitted": held, "inheritable": [], "ambient": []},
        "noNewPrivileges": any(
            o in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true") for o in security
        ),
        "rlimits": [
            {"type": f"RLIMIT_{u['Name'].upper()}", "soft": _unlimited(u["Soft"]), "hard": _unlimited(u["Hard"])}
            for u in host["Ulimits"] or ()
        ],
    }
    if host["OomScoreAdj"]:
        value["oomScoreAdj"] = host["OomScoreAdj"]
    if size:
        value["consoleSize"] = {"height": size[0], "width": size[1]}
    return value


def _unlimited(value: int) -> int:
    return (1 << 64) - 1 if value == -1 else value


def resources(host: dict[str, Any]) -> dict[str, Any]:
    """The spec's `linux.resources`: only what was asked for, and the device rules."""
    memory: dict[str, Any] = {}
    if host["Memory"]:
        memory["limit"] = host["Memory"]
        memory["swap"] = host["MemorySwap"]
    if host["MemoryReservation"]:
        memory["reservation"] = host["MemoryReservation"]
    if host["MemorySwappiness"] is not None:
        memory["swappiness"] = host["MemorySwappiness"]
    if host["OomKillDisable"]:
        memory["disableOOMKiller"] = True
    cpu: dict[str, Any] = {}
    if host["NanoCpus"]:
        cpu = {"quota": host["NanoCpus"] * CPU_PERIOD // 1_000_000_000, "period": CPU_PERIOD}
    if host["CpuPeriod"]:
        cpu["period"] = host["CpuPeriod"]
    if host["CpuQuota"]:
        cpu["quota"] = host["CpuQuota"]
    for key, name in (("CpuRealtimePeriod", "realtimePeriod"), ("CpuRealtimeRuntime", "realtimeRuntime")):
        if host.get(key):
            cpu[name] = host[key]
    if host["CpuShares"]:
        cpu["shares"] = host["CpuShares"]
    if host["CpusetCpus"]:
        cpu["cpus"] = host["CpusetCpus"]
    if host["CpusetMems"]:
        cpu["mems"] = host["CpusetMems"]
    value: dict[str, Any] = {
        "devices": defaults.PRIVILEGED_DEVICE_RULES if host["Privileged"] else defaults.DEVICE_RULES
    }
    if memory:
        value["memory"] = memory
    if cpu:
        value["cpu"] = cpu
    if block := _block_io(host):
        value["blockIO"] = block
    if host["PidsLimit"] and host["PidsLimit"] > 0:
        value["pids"] = {"limit": host["PidsLimit"]}
    return value


_BLOCK_DEVICES = (
    ("BlkioWeightDevice", "weightDevice"),
    ("BlkioDeviceReadBps", "throttleReadBpsDevice"),
    ("BlkioDeviceWriteBps", "throttleWriteBpsDevice"),
    ("BlkioDeviceReadIOps", "throttleReadIOPSDevice"),
    ("BlkioDeviceWriteIOps", "throttleWriteIOPSDevice"),
)


def _block_io(host: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {"weight": host["BlkioWeight"]} if host["BlkioWeight"] else {}
    for key, name in _BLOCK_DEVICES:
        # what an earlier mini made has no such keys
        if limited := host.get(key):
            from engine.containers import hostdevices

            value[name] = [hostdevices.limit(device) for device in limited]
    return value


def mounts(inspect: dict[str, Any], shared: Shared) -> list[Mount]:
    """The spec's `mounts`: Docker's defaults, the files that name hosts, then the user's, shallow before deep.

    A user's mount replaces a default one at the same place.
    """
    host = inspect["HostConfig"]
    wanted = {m["destination"]: m for m in user_mounts(inspect) + _tmpfs_mounts(host)}
    for destination, options in (host["Tmpfs"] or {}).items():
        words = ["noexec", "nosuid", "nodev", *filter(None, options.split(","))]
        wanted[destination] = {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": words}
    files: list[Mount] = [
        {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": f"{shared.files}/{name}",
            "options": ["rbind", "rprivate", *(["ro"] if host["ReadonlyRootfs"] else [])],
        }
        for name in ("resolv.conf", "hostname", "hosts")
    ]
    base = defaults.PRIVILEGED_MOUNTS if host["Privileged"] else defaults.DEFAULT_MOUNTS
    result: list[Mount] = []
    for mount in (*base, *files):
        if mount["destination"] in wanted:
            continue
        if mount["destination"] != "/dev/shm":
            result.append(mount)
        elif shared.shm is None:
            options = [o for o in mount.get("options", []) if not o.startswith("size=")]
            result.append({**mount, "options": [*options, f"size={host['ShmSize']}"]})
        elif shared.shm:
            result.append(_bind("/dev/shm", shared.shm))
    # stable, so that mounts of the same depth stay in the order given
    return result + sorted(wanted.values(), key=lambda m: m["destination"].count("/"))


def _clean(destination: str) -> str:
    return os.path.normpath(destination)


def _bind(destination: str, source: str) -> Mount:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate"]}


def _tmpfs_mounts(host: dict[str, Any]) -> list[Mount]:
    """Of `--tmpfs`, and of `--mount type=tmpfs`."""
    found = {
        destination: ["noexec", "nosuid", "nodev", *filter(None, options.split(","))]
        for destination, options in (host["Tmpfs"] or {}).items()
    }
    for mount in host.get("Mounts") or ():
        if mount["Type"] == "tmpfs":
            from engine.storage.mount_option import tmpfs_options

            found[_clean(mount["Target"])] = tmpfs_options(mount)
    return [
        {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": words}
        for destination, words in found.items()
    ]


def user_mounts(inspect: dict[str, Any]) -> list[Mount]:
    """The binds, volumes and images that the user asked for, shallow before deep; mountsources.py opens some of them."""
    found = [_user_mount(point) for point in inspect["Mounts"] if point["Type"] != "tmpfs"]
    return sorted(found, key=lambda m: m["destination"].count("/"))


def _user_mount(point: dict[str, Any]) -> Mount:
    bind = point.get("BindOptions") or {}
    options = ["bind" if bind.get("NonRecursive") else "rbind", point["Propagation"] or "rprivate"]
    if not point["RW"]:
        # with what is mounted below it, as Docker since 25: or the host's disk under /mnt would be writable
        options.append("ro" if bind.get("NonRecursive") or bind.get("ReadOnlyNonRecursive") else "rro")
    return {"destination": _clean(point["Destination"]), "type": "bind", "source": point["Source"], "options": options}


def root_propagation(inspect: dict[str, Any]) -> str:
    """The spec's `rootfsPropagation`: what a mount that passes on mounts, or receives them, needs of the root."""
    modes = {str(point["Propagation"]).removeprefix("r") for point in inspect["Mounts"]}
    return "shared" if "shared" in modes else "rslave" if "slave" in modes else ""


def _devices(host: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The nodes of `--device`, and the rules for them and of `--device-cgroup-rule`; a privileged container has all anyway."""
    if not (host["Devices"] or host["DeviceCgroupRules"]) or host["Privileged"]:
        return [], []
    from engine.containers import hostdevices

    nodes = [node for item in host["Devices"] or () for node in hostdevices.nodes(item)]
    return nodes, hostdevices.rules(nodes) + [hostdevices.parse_rule(rule) for rule in host["DeviceCgroupRules"] or ()]


def build(
    inspect: dict[str, Any],
    directory: str,
    user: User,
    cgroup_path: str,
    size: tuple[int, int] | None,
    shared: Shared,
) -> Spec:
    """The whole spec of a container. `inspect` is its config.json, `directory` its own; the seccomp filter is chosen by
    `seccomp_choice`. Raises UsageError where a device of the host's is missing."""
    config, host = inspect["Config"], inspect["HostConfig"]
    privileged = host["Privileged"]
    nodes, rules = _devices(host)
    limits = resources(host)
    limits["devices"] = [*limits["devices"], *rules]
    own_network = {"type": "network"} in shared.namespaces
    return {
        "ociVersion": OCI_VERSION,
        "process": process(
            config, host, user, [inspect["Path"], *inspect["Args"]], environment(config, user.home), size
        ),
        "root": {"path": f"{directory}/rootfs", "readonly": host["ReadonlyRootfs"]},
        "hostname": config["Hostname"],
        "domainname": config["Domainname"],
        "mounts": mounts(inspect, shared),
        "annotations": host["Annotations"] or {},
        "linux": {
            "namespaces": shared.namespaces,
            "resources": limits,
            "cgroupsPath": cgroup_path,
            "rootfsPropagation": root_propagation(inspect),
            "devices": defaults.host_devices() if privileged else [*defaults.DEFAULT_DEVICES, *nodes],
            "maskedPaths": [] if privileged else defaults.masked_paths(os.cpu_count() or 1),
            "readonlyPaths": [] if privileged else list(defaults.READONLY_PATHS),
            "sysctl": {**(defaults.SYSCTLS if own_network else {}), **(host["Sysctls"] or {})},
        },
    }


_SECURITY_OPTIONS = (
    ("no-new-privileges", ""),
    ("no-new-privileges", "true"),
    ("no-new-privileges", "false"),
    ("apparmor", "unconfined"),
    ("label", "disable"),
)


def seccomp_choice(host: dict[str, Any]) -> str | None:
    """Which filter: "default", a profile's path, or None for unconfined (--privileged, --security-opt seccomp=unconfined)."""
    choice: str | None = None if host["Privileged"] else "default"
    for option in host["SecurityOpt"] or ():
        key, _, value = option.replace(":", "=", 1).partition("=")
        if key == "seccomp":
            choice = None if value == "unconfined" else value
        elif (key, value) not in _SECURITY_OPTIONS:
            raise UsageError(
                f'Invalid --security-opt: "{option}"',
                "known: seccomp=FILE|unconfined, no-new-privileges, apparmor=unconfined, label=disable",
            )
    return choice


def stop_signal(config: dict[str, Any]) -> int:
    """The number of the signal that asks the container to stop: its STOPSIGNAL, or SIGTERM."""
    return signal_number(config.get("StopSignal") or "SIGTERM")


def signal_number(name: str) -> int:
    """`SIGTERM`, `TERM` or `15` as a number. UsageError in Docker's words."""
    plain = name.upper().removeprefix("SIG")
    if plain.isdigit() and 0 < int(plain) <= signal.SIGRTMAX:
        return int(plain)
    if plain.startswith(("RTMIN", "RTMAX")):
        base, offset = (signal.SIGRTMIN, plain[5:]) if plain.startswith("RTMIN") else (signal.SIGRTMAX, plain[5:])
        try:
            number = base + int(offset or 0)
        except ValueError:
            number = 0
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return int(number)
    found = getattr(signal, f"SIG{plain}", None) if plain.isalnum() and not plain.isdigit() else None
    if isinstance(found, int) and found > 0:
        return found
    raise UsageError(f"Invalid signal: {name}")
