"""What a user can ask of a container, as plain values: the command line fills these in, `containers` reads them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class _Options:
    """Keyword arguments over class-level defaults; an unknown name is a TypeError."""

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            if not hasattr(type(self), name):
                raise TypeError(f"no option named {name}")
            setattr(self, name, value)


class CreateOptions(_Options):
    """`mini create` and `mini run`. Sizes in bytes, times in seconds (`health_*`: nanoseconds), None for what was not given."""

    image: str = ""
    command: Sequence[str] = ()
    name: str | None = None
    hostname: str | None = None
    domainname: str | None = None
    env: Sequence[str] = ()
    env_files: Sequence[str] = ()
    user: str | None = None
    workdir: str | None = None
    entrypoint: str | None = None
    interactive: bool = False
    tty: bool = False
    detach: bool = False
    remove: bool = False
    volumes: Sequence[str] = ()
    mounts: Sequence[str] = ()
    volumes_from: Sequence[str] = ()
    tmpfs: Sequence[str] = ()
    networks: Sequence[str] = ()
    network_aliases: Sequence[str] = ()
    ip: str | None = None
    ip6: str | None = None
    mac_address: str | None = None
    links: Sequence[str] = ()
    publish: Sequence[str] = ()
    publish_all: bool = False
    expose: Sequence[str] = ()
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    blkio_weight: int | None = None
    blkio_weight_devices: Sequence[dict[str, Any]] = ()
    device_read_bps: Sequence[dict[str, Any]] = ()
    device_write_bps: Sequence[dict[str, Any]] = ()
    device_read_iops: Sequence[dict[str, Any]] = ()
    device_write_iops: Sequence[dict[str, Any]] = ()
    memory_swappiness: int | None = None
    kernel_memory: int | None = None
    pids_limit: int | None = None
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    cgroupns: str = ""
    cgroup_parent: str | None = None
    devices: Sequence[str] = ()
    device_cgroup_rules: Sequence[str] = ()
    gpus: str | None = None
    log_driver: str = ""
    log_opts: Sequence[str] = ()
    storage_opt: Sequence[str] = ()
    privileged: bool = False
    read_only: bool = False
    labels: Sequence[str] = ()
    label_files: Sequence[str] = ()
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shm_size: int | None = None
    extra_hosts: Sequence[str] = ()
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    security_opt: Sequence[str] = ()
    ulimits: Sequence[str] = ()
    group_add: Sequence[str] = ()
    sysctls: Sequence[str] = ()
    oom_score_adj: int | None = None
    oom_kill_disable: bool = False
    annotations: Sequence[str] = ()
    isolation: str | None = None
    runtime: str | None = None
    volume_driver: str | None = None
    restart: str = "no"
    init: bool = False
    health_cmd: str | None = None
    health_interval: int | None = None
    health_timeout: int | None = None
    health_start_period: int | None = None
    health_start_interval: int | None = None
    health_retries: int | None = None
    health_on_failure: str = "none"
    no_healthcheck: bool = False
    cidfile: str | None = None
    platform: str | None = None


class ExecOptions(_Options):
    """`mini exec`."""

    interactive: bool = False
    tty: bool = False
    detach: bool = False
    env: Sequence[str] = ()
    env_files: Sequence[str] = ()
    user: str | None = None
    workdir: str | None = None
    privileged: bool = False
    detach_keys: bytes = b"\x10\x11"


class UpdateOptions(_Options):
    """`mini update`. None is left as it is."""

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    blkio_weight: int | None = None
    kernel_memory: int | None = None
    pids_limit: int | None = None
    restart: str | None = None
    publish_add: Sequence[str] = ()
    publish_rm: Sequence[str] = ()
