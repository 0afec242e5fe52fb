"""From an image's config and the options to a container's own config: Docker's inspect object.

The result has Docker's field names (Config, HostConfig, Mounts), because that is what `inspect` shows and what every later step
reads; there is no second format. Pure: volumes are looked up and created by `containers`.
"""

from __future__ import annotations

import os

from engine.containers import health, logoptions, netoptions, restart
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from engine.containers.options import CreateOptions

DEFAULT_SHM_SIZE = 64 << 20
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_REST = _NAME_FIRST + "_.-"


def check_name(name: str) -> str:
    """A container's name by Docker's grammar `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; UsageError otherwise."""
    plain = name.removeprefix("/")
    if len(plain) < 2 or plain[0] not in _NAME_FIRST or plain.strip(_NAME_REST):
        raise UsageError(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return plain


def read_env_file(path: str, environ: Mapping[str, str]) -> list[str]:
    """Docker's env-file: one `K=V` or `K` a line, leading blanks trimmed, `#` only at the start a comment, quotes kept.

    A label-file is the same without variables to look up: a `K` alone is left out (docker/cli, pkg/kvfile).
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as e:
        reason = os.strerror(e.errno or 0).lower() if isinstance(e, OSError) else "it is not UTF-8"
        if isinstance(e, FileNotFoundError):
            raise UsageError(f"open {path}: {reason}") from e
        raise UsageError(f"invalid env file ({path}): read {path}: {reason}") from e
    found = []
    for line in text.split("\n"):
        line = line.lstrip().removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        key, equals, _ = line.partition("=")
        if not key:
            raise UsageError(f"invalid env file ({path}): no variable name on line '{line}'")
        if " " in key or "\t" in key:
            raise UsageError(f"invalid env file ({path}): variable '{key}' contains whitespaces")
        if equals:
            found.append(line)
        elif key in environ:
            found.append(f"{key}={environ[key]}")
    return found


def environment(
    env: Sequence[str], env_files: Sequence[str], environ: Mapping[str, str], base: Sequence[str] = ()
) -> list[str]:
    """`--env-file`, then `-e`, then what of `base` (the image's) neither names: Docker's merge, last one wins."""
    given = [line for path in env_files for line in read_env_file(path, environ)]
    for item in env:
        key, equals, _ = item.partition("=")
        if not key:
            raise UsageError(f"invalid environment variable: {item}")
        if equals:
            given.append(item)
        elif key in environ:
            given.append(f"{key}={environ[key]}")
    keys = {item.partition("=")[0] for item in given}
    return given + [item for item in base if item.partition("=")[0] not in keys]


def merge_env(first: Sequence[str], then: Sequence[str]) -> list[str]:
    """`then` over `first`: a variable that is there is replaced in its place, a new one is appended (Docker's order)."""
    merged: dict[str, str] = {}
    for item in (*first, *then):
        merged[item.partition("=")[0]] = item
    return list(merged.values())


def labels(values: Sequence[str], base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`--label K=V` (or `K`) over the image's."""
    return dict(base or {}) | {k: v for k, _, v in (item.partition("=") for item in values)}


def _file_labels(options: CreateOptions) -> list[str]:
    return [line for path in options.label_files for line in read_env_file(path, {})]


def command(options: CreateOptions, image: Mapping[str, Any]) -> tuple[list[str] | None, list[str] | None]:
    """(Entrypoint, Cmd) as Docker merges them: an `--entrypoint`, even an empty one, discards the image's CMD."""
    entrypoint: list[str] | None = image.get("Entrypoint")
    cmd: list[str] | None = list(options.command) or None
    if options.entrypoint is not None:
        entrypoint = [options.entrypoint] if options.entrypoint else None
    elif cmd is None:
        cmd = image.get("Cmd")
    return entrypoint, cmd


def container_config(
    options: CreateOptions, image: Mapping[str, Any], container_id: str, environ: Mapping[str, str]
) -> dict[str, Any]:
    """Docker's Config object."""
    entrypoint, cmd = command(options, image)
    if not entrypoint and not cmd:
        raise UsageError("No command specified", "give a command after the image's name")
    if netoptions.mode(options) == "host" and options.hostname is None:
        hostname = os.uname().nodename
    else:
        hostname = options.hostname or container_id[:12]
    config: dict[str, Any] = {
        "Hostname": hostname,
        "Domainname": options.domainname or "",
        "User": options.user if options.user is not None else image.get("User") or "",
        "AttachStdin": options.interactive and not options.detach,
        "AttachStdout": not options.detach,
        "AttachStderr": not options.detach,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and not options.detach,
        "Env": environment(options.env, options.env_files, environ, image.get("Env") or ()),
        "Cmd": cmd,
        "Image": options.image,
        "Volumes": {**(image.get("Volumes") or {}), **{v: {} for v in options.volumes if ":" not in v}} or None,
        "WorkingDir": options.workdir or image.get("WorkingDir") or "",
        "Entrypoint": entrypoint,
        "OnBuild": None,
        "Labels": labels([*_file_labels(options), *options.labels], image.get("Labels")),
    }
    if check := health.config(options, image):
        config["Healthcheck"] = check
    if options.publish or options.expose:
        from engine.containers import portoptions

        bindings = portoptions.bindings(options.publish)
        config["ExposedPorts"] = portoptions.exposed(options.expose, image.get("ExposedPorts"), bindings)
    elif ports := image.get("ExposedPorts"):
        config["ExposedPorts"] = ports
    if stop_signal := options.stop_signal or image.get("StopSignal"):
        config["StopSignal"] = stop_signal
    if options.stop_timeout is not None:
        config["StopTimeout"] = options.stop_timeout
    return config


OWN_NAMESPACES = {
    "NetworkMode": "bridge",
    "IpcMode": "private",
    "PidMode": "",
    "UTSMode": "",
    "UsernsMode": "",
    "CgroupnsMode": "private",
}


def host_config(
    options: CreateOptions, modes: Mapping[str, str] = OWN_NAMESPACES, mounts: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Docker's HostConfig object; `modes` are of `sharing.modes`, `mounts` of `mountpoints.parse_mounts`."""
    swap = options.memory_swap if options.memory_swap is not None else 2 * (options.memory or 0)
    return {
        "Binds": list(options.volumes) or None,
        **modes,
        "PortBindings": _port_bindings(options.publish),
        "PublishAllPorts": options.publish_all,
        "AutoRemove": options.remove,
        "RestartPolicy": restart.parse(options.restart),
        "HealthOnFailure": options.health_on_failure,
        "Init": options.init,
        "LogConfig": logoptions.log_config(options.log_driver, options.log_opts),
        "VolumesFrom": list(options.volumes_from) or None,
        "Links": netoptions.links(options),
        "CapAdd": list(options.cap_add) or None,
        "CapDrop": list(options.cap_drop) or None,
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_options),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.extra_hosts) or None,
        "GroupAdd": list(options.group_add) or None,
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": list(options.security_opt) or None,
        "Tmpfs": tmpfs(options.tmpfs) or None,
        "ShmSize": options.shm_size or DEFAULT_SHM_SIZE,
        "Sysctls": dict(item.partition("=")[::2] for item in options.sysctls) or None,
        "Runtime": "mini",
        "Isolation": options.isolation or "",
        "VolumeDriver": options.volume_driver or "",
        "Annotations": labels(options.annotations) or None,
        "CgroupParent": options.cgroup_parent or "",
        "Memory": options.memory or 0,
        "MemoryReservation": options.memory_reservation or 0,
        "MemorySwap": swap,
        "NanoCpus": round((options.cpus or 0) * 1_000_000_000),
        "CpuShares": options.cpu_shares or 0,
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpuRealtimePeriod": options.cpu_rt_period or 0,
        "CpuRealtimeRuntime": options.cpu_rt_runtime or 0,
        "CpusetCpus": options.cpuset_cpus or "",
        "CpusetMems": options.cpuset_mems or "",
        "BlkioWeight": options.blkio_weight or 0,
        "BlkioWeightDevice": list(options.blkio_weight_devices),
        "BlkioDeviceReadBps": list(options.device_read_bps),
        "BlkioDeviceWriteBps": list(options.device_write_bps),
        "BlkioDeviceReadIOps": list(options.device_read_iops),
        "BlkioDeviceWriteIOps": list(options.device_write_iops),
        "MemorySwappiness": None if options.memory_swappiness in (None, -1) else options.memory_swappiness,
        "Devices": _devices(options.devices),
        "DeviceCgroupRules": list(options.device_cgroup_rules) or None,
        "DeviceRequests": None,
        "PidsLimit": options.pids_limit,
        "OomKillDisable": options.oom_kill_disable,
        "OomScoreAdj": options.oom_score_adj or 0,
        "Ulimits": [ulimit(item) for item in options.ulimits] or None,
        **({"Mounts": list(mounts)} if mounts else {}),
    }


def _port_bindings(values: Sequence[str]) -> dict[str, Any]:
    if not values:
        return {}
    from engine.containers import portoptions

    return portoptions.bindings(values)


def _devices(values: Sequence[str]) -> list[dict[str, str]]:
    if not values:
        return []
    from engine.containers import hostdevices

    return [hostdevices.parse(value) for value in values]


def tmpfs(values: Sequence[str]) -> dict[str, str]:
    """`--tmpfs /path[:options]` by destination."""
    found = {}
    for value in values:
        destination, _, rest = value.partition(":")
        if not destination.startswith("/"):
            raise UsageError(f"invalid mount path: '{destination}' mount path must be absolute")
        if os.path.normpath(destination) in ("/", "//"):
            raise UsageError("invalid specification: destination can't be '/'")
        _check_tmpfs(rest)
        found[os.path.normpath(destination)] = rest
    return found


_TMPFS_WORDS = frozenset(
    "ro rw suid nosuid dev nodev exec noexec sync async dirsync mand nomand atime noatime diratime nodiratime relatime "
    "norelatime strictatime nostrictatime bind rbind private rprivate slave rslave shared rshared unbindable runbindable "
    "defaults remount".split()
)
_TMPFS_KEYS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")


def _check_tmpfs(options: str) -> None:
    """UsageError in Docker's words for what tmpfs(5) does not have (moby, libcontainerd/mount, MergeTmpfsOptions)."""
    for word in options.split(",") if options else ():
        key, equals, _ = word.partition("=")
        if word not in _TMPFS_WORDS and not (equals and key in _TMPFS_KEYS):
            raise UsageError(f'invalid tmpfs option ["{word}"]')


ULIMITS = ("core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack").split()


def ulimit(value: str) -> dict[str, Any]:
    """`--ulimit name=soft[:hard]`, -1 for unlimited."""
    name, equals, numbers = value.partition("=")
    if not equals:
        raise UsageError(f"invalid ulimit argument: {value}")
    if name not in ULIMITS:
        raise UsageError(f"invalid ulimit type: {name}", f"it is one of {' '.join(ULIMITS)}")
    limits = numbers.split(":")
    if len(limits) > 2:
        what = f"too many limit value arguments - {numbers}"
        raise UsageError(f"{what}, can only have up to two, `soft[:hard]`")
    low, high = (_limit(text) for text in (limits[0], limits[-1]))
    if high != -1 and low == -1:
        what = f"soft: -1 (unlimited), hard: {high}"
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {what}")
    if high != -1 and low > high:
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return {"Name": name, "Soft": low, "Hard": high}


def _limit(text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise UsageError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)
