"""Limits and other options that are checked before anything is made, in the words of Docker's daemon."""

from __future__ import annotations

import os

from engine.containers import config, logoptions, mountpoints, netoptions, sharing
from engine.errors import Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.containers.options import CreateOptions

MINIMUM_MEMORY = 6 << 20
CPU_PERIOD = 100_000
_NODES = "/sys/devices/system/node/online"
_CPUS = "/sys/devices/system/cpu/online"


def check(options: CreateOptions) -> None:
    """Raises UsageError for what Docker refuses, Unsupported for what mini does not have."""
    _check_memory(options)
    _check_cpus(options)
    if options.blkio_weight is not None and options.blkio_weight != 0 and not 10 <= options.blkio_weight <= 1000:
        raise UsageError("Range of blkio weight is from 10 to 1000")
    if options.oom_score_adj is not None and not -1000 <= options.oom_score_adj <= 1000:
        raise UsageError(f"Invalid value {options.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if options.remove and options.restart not in ("no", ""):
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(f"the working directory '{options.workdir}' is invalid, it needs to be an absolute path")
    sharing.check(options)
    netoptions.settings(options)
    _refuse(options)
    logoptions.log_config(options.log_driver, options.log_opts)
    if options.devices or options.device_cgroup_rules:
        from engine.containers import hostdevices

        for device in options.devices:
            hostdevices.parse(device)
        for rule in options.device_cgroup_rules:
            hostdevices.parse_rule(rule)
    mountpoints.parse_mounts(options)
    config.tmpfs(options.tmpfs)


def _check_memory(options: CreateOptions) -> None:
    if options.memory is not None and 0 < options.memory < MINIMUM_MEMORY:
        raise UsageError("Minimum memory limit allowed is 6MB")
    swap = options.memory_swap
    if swap is not None and swap > 0:
        if not options.memory:
            raise UsageError("You should always set the Memory limit when using Memoryswap limit, see usage")
        if swap < options.memory:
            raise UsageError("Minimum memoryswap limit should be larger than memory limit, see usage")
    if options.memory and options.memory_reservation and options.memory < options.memory_reservation:
        raise UsageError("Minimum memory limit can not be less than memory reservation limit, see usage")
    swappiness = options.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise UsageError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")


def _check_cpus(options: CreateOptions) -> None:
    count = os.cpu_count() or 1
    if options.cpus is not None and options.cpus != 0 and not 0.01 <= options.cpus <= count:
        raise UsageError(f"Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    for what, given in (("Quota", options.cpu_quota), ("Period", options.cpu_period)):
        if options.cpus and given:
            raise UsageError(f"Conflicting options: Nano CPUs and CPU {what} cannot both be set")
    if options.cpu_period and not 1000 <= options.cpu_period <= 1_000_000:
        raise UsageError("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if options.cpu_quota and 0 < options.cpu_quota < 1000:
        raise UsageError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if options.cpu_rt_period and (options.cpu_rt_runtime or 0) > options.cpu_rt_period:
        raise UsageError("cpu real-time runtime cannot be higher than cpu real-time period")
    for what, noun, value, path in (
        ("CPUs", "cpus", options.cpuset_cpus, _CPUS),
        ("memory nodes", "mems", options.cpuset_mems, _NODES),
    ):
        if value:
            _check_set(what, noun, value, path)


def _check_set(what: str, noun: str, value: str, path: str) -> None:
    wanted = _numbers(value)
    if wanted is None:
        raise UsageError(f"Invalid value {value} for cpuset {noun}: invalid format: {value}")
    try:
        with open(path) as file:
            available = file.read().strip()
    except OSError:
        return  # a kernel without NUMA has no such file; the cgroup will tell
    if not wanted <= (_numbers(available) or set()):
        raise UsageError(f"Requested {what} are not available - requested {value}, available: {available}")


def _numbers(text: str) -> set[int] | None:
    """The numbers of a list such as `0-3,7` (cpuset(7), List format), None where it is none."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first) > 5 or len(last) > 5:
            return None
        found.update(range(int(first), int(last or first) + 1))
    return found


def _refuse(options: CreateOptions) -> None:
    if options.isolation and options.isolation.lower() != "default":
        raise UsageError(f"Invalid isolation: \"{options.isolation}\" - linux only supports 'default'")
    if options.runtime and options.runtime != "mini":
        raise UsageError(f"unknown or invalid runtime name: {options.runtime}", "there is one: mini")
    if options.volume_driver and options.volume_driver != "local":
        raise UsageError(
            f'error looking up volume plugin {options.volume_driver}: plugin "{options.volume_driver}" not found',
            "there is one driver: local",
        )
    if options.gpus is not None:
        raise Unsupported(
            'could not select device driver "" with capabilities: [[gpu]]', "give the device nodes with --device"
        )
    if options.storage_opt:
        raise Unsupported("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if options.kernel_memory is not None:
        raise Unsupported("a limit of kernel memory is not supported: Linux 5.16 removed it", "use --memory")
