"""Commands on containers, each at the top and under `container`, as Docker has them."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.declare import COMMON, FORMAT_HELP, INSPECT_FORMAT_HELP, Declarations, String, Strings, flag, option

commands = Declarations()
MANY = "CONTAINER [CONTAINER...]"


def container_options(
    image: Annotated[str, typer.Argument()],
    command: Annotated[Strings, typer.Argument()] = None,
    extra_hosts: Annotated[
        Strings, option("--add-host", kind="list", help="Add a custom host-to-IP mapping (host:ip)")
    ] = None,
    annotations: Annotated[
        Strings, option("--annotation", kind="map", help="Add an annotation to the OCI spec")
    ] = None,
    attach: Annotated[Strings, option("-a", "--attach", kind="list", help="Attach to STDIN, STDOUT or STDERR")] = None,
    blkio_weight: Annotated[
        String,
        option("--blkio-weight", kind="int", help="Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    ] = None,
    blkio_weight_devices: Annotated[
        Strings, option("--blkio-weight-device", kind="list", help="Block IO weight (relative device weight)")
    ] = None,
    cap_add: Annotated[Strings, option("--cap-add", kind="list", help="Add Linux capabilities")] = None,
    cap_drop: Annotated[Strings, option("--cap-drop", kind="list", help="Drop Linux capabilities")] = None,
    cgroup_parent: Annotated[String, option("--cgroup-parent", help="Optional parent cgroup for the container")] = None,
    cgroupns: Annotated[String, option("--cgroupns", help="Cgroup namespace to use (host|private)")] = None,
    cidfile: Annotated[String, option("--cidfile", help="Write the container ID to the file")] = None,
    cpu_period: Annotated[
        String, option("--cpu-period", kind="int", help="Limit CPU CFS (Completely Fair Scheduler) period")
    ] = None,
    cpu_quota: Annotated[
        String, option("--cpu-quota", kind="int", help="Limit CPU CFS (Completely Fair Scheduler) quota")
    ] = None,
    cpu_rt_period: Annotated[
        String, option("--cpu-rt-period", kind="int", help="Limit CPU real-time period in microseconds")
    ] = None,
    cpu_rt_runtime: Annotated[
        String, option("--cpu-rt-runtime", kind="int", help="Limit CPU real-time runtime in microseconds")
    ] = None,
    cpu_shares: Annotated[String, option("-c", "--cpu-shares", kind="int", help="CPU shares (relative weight)")] = None,
    cpus: Annotated[String, option("--cpus", kind="decimal", help="Number of CPUs")] = None,
    cpuset_cpus: Annotated[String, option("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)")] = None,
    cpuset_mems: Annotated[String, option("--cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)")] = None,
    devices: Annotated[Strings, option("--device", kind="list", help="Add a host device to the container")] = None,
    device_cgroup_rules: Annotated[
        Strings, option("--device-cgroup-rule", kind="list", help="Add a rule to the cgroup allowed devices list")
    ] = None,
    device_read_bps: Annotated[
        Strings,
        option("--device-read-bps", kind="list", help="Limit read rate (bytes per second) from a device"),
    ] = None,
    device_read_iops: Annotated[
        Strings, option("--device-read-iops", kind="list", help="Limit read rate (IO per second) from a device")
    ] = None,
    device_write_bps: Annotated[
        Strings, option("--device-write-bps", kind="list", help="Limit write rate (bytes per second) to a device")
    ] = None,
    device_write_iops: Annotated[
        Strings, option("--device-write-iops", kind="list", help="Limit write rate (IO per second) to a device")
    ] = None,
    dns: Annotated[Strings, option("--dns", kind="list", help="Set custom DNS servers")] = None,
    dns_options: Annotated[Strings, option("--dns-option", kind="list", help="Set DNS options")] = None,
    dns_search: Annotated[Strings, option("--dns-search", kind="list", help="Set custom DNS search domains")] = None,
    domainname: Annotated[String, option("--domainname", help="Container NIS domain name")] = None,
    entrypoint: Annotated[
        String, option("--entrypoint", help="Overwrite the default ENTRYPOINT of the image ('' for none)")
    ] = None,
    env: Annotated[Strings, option("-e", "--env", kind="list", help="Set environment variables")] = None,
    env_files: Annotated[
        Strings, option("--env-file", kind="list", help="Read in a file of environment variables")
    ] = None,
    expose: Annotated[Strings, option("--expose", kind="list", help="Expose a port or a range of ports")] = None,
    gpus: Annotated[String, option("--gpus", kind="gpu-request", help="GPU devices: not supported, refused")] = None,
    group_add: Annotated[Strings, option("--group-add", kind="list", help="Add additional groups to join")] = None,
    health_cmd: Annotated[String, option("--health-cmd", help="Command to run to check health")] = None,
    health_interval: Annotated[
        String, option("--health-interval", kind="duration", help="Time between running the check (default 30s)")
    ] = None,
    health_on_failure: Annotated[
        str,
        option("--health-on-failure", help='What to do when unhealthy ("none", "kill", "restart", "stop")'),
    ] = "none",
    health_retries: Annotated[
        String, option("--health-retries", kind="int", help="Consecutive failures needed to report unhealthy")
    ] = None,
    health_start_interval: Annotated[
        String,
        option("--health-start-interval", kind="duration", help="Time between checks during the start period"),
    ] = None,
    health_start_period: Annotated[
        String,
        option(
            "--health-start-period",
            kind="duration",
            help="Start period for the container to initialize before failures count",
        ),
    ] = None,
    health_timeout: Annotated[
        String, option("--health-timeout", kind="duration", help="Maximum time to allow one check to run (default 30s)")
    ] = None,
    hostname: Annotated[String, option("-h", "--hostname", help="Container host name")] = None,
    init: Annotated[
        bool, flag("--init", help="Run an init inside the container that forwards signals and reaps processes")
    ] = False,
    interactive: Annotated[bool, flag("-i", "--interactive", help="Keep STDIN open even if not attached")] = False,
    ip: Annotated[String, option("--ip", kind="ip", help="IPv4 address (e.g., 172.30.100.104)")] = None,
    ip6: Annotated[String, option("--ip6", kind="ip6", help="IPv6 address (e.g., 2001:db8::33)")] = None,
    ipc: Annotated[String, option("--ipc", help="IPC mode to use (none|private|shareable|host|container:NAME)")] = None,
    isolation: Annotated[String, option("--isolation", help="Container isolation technology (default)")] = None,
    kernel_memory: Annotated[
        String, option("--kernel-memory", kind="bytes", help="Kernel memory limit: not supported, refused")
    ] = None,
    labels: Annotated[Strings, option("-l", "--label", kind="list", help="Set meta data on a container")] = None,
    label_files: Annotated[
        Strings, option("--label-file", kind="list", help="Read in a line delimited file of labels")
    ] = None,
    links: Annotated[
        Strings, option("--link", kind="list", help="Add a name for another container (NAME[:ALIAS])")
    ] = None,
    log_driver: Annotated[
        String, option("--log-driver", help="Logging driver for the container (json-file|local|journald|none)")
    ] = None,
    log_opts: Annotated[
        Strings, option("--log-opt", kind="list", help="Log driver options (max-size, max-file, tag, …)")
    ] = None,
    mac_address: Annotated[
        String, option("--mac-address", help="Container MAC address (e.g., 92:d0:c6:0a:29:33)")
    ] = None,
    memory: Annotated[String, option("-m", "--memory", kind="bytes", help="Memory limit")] = None,
    memory_reservation: Annotated[
        String, option("--memory-reservation", kind="bytes", help="Memory soft limit")
    ] = None,
    memory_swap: Annotated[
        String,
        option("--memory-swap", kind="bytes", help="Limit of memory plus swap: '-1' to enable unlimited swap"),
    ] = None,
    memory_swappiness: Annotated[
        String,
        option("--memory-swappiness", kind="int", help="Tune container memory swappiness (0 to 100) (default -1)"),
    ] = None,
    mounts: Annotated[
        Strings, option("--mount", kind="mount", help="Attach a filesystem mount to the container")
    ] = None,
    name: Annotated[String, option("--name", help="Assign a name to the container")] = None,
    networks: Annotated[
        Strings,
        option(
            "--network",
            "--net",
            kind="network",
            help="Connect a container to a network (NAME, bridge, none, host, container:NAME, or name=NAME,alias=…,ip=…)",
        ),
    ] = None,
    network_aliases: Annotated[
        Strings,
        option("--network-alias", "--net-alias", kind="list", help="Add network-scoped alias for the container"),
    ] = None,
    no_healthcheck: Annotated[bool, flag("--no-healthcheck", help="Disable any HEALTHCHECK of the image")] = False,
    oom_kill_disable: Annotated[bool, flag("--oom-kill-disable", help="Disable OOM Killer")] = False,
    oom_score_adj: Annotated[
        String, option("--oom-score-adj", kind="int", help="Tune host's OOM preferences (-1000 to 1000)")
    ] = None,
    pid: Annotated[String, option("--pid", help="PID namespace to use (host|container:NAME)")] = None,
    pids_limit: Annotated[
        String, option("--pids-limit", kind="int", help="Tune container pids limit (set -1 for unlimited)")
    ] = None,
    platform: Annotated[
        String, option("--platform", help="Platform of the image, where it has several (os[/arch[/variant]])")
    ] = None,
    privileged: Annotated[bool, flag("--privileged", help="Give extended privileges to this container")] = False,
    publish: Annotated[
        Strings, option("-p", "--publish", kind="list", help="Publish a container's port(s) to the host")
    ] = None,
    publish_all: Annotated[bool, flag("-P", "--publish-all", help="Publish all exposed ports to random ports")] = False,
    pull: Annotated[
        str, option("--pull", help='Pull image before running ("always", "missing", "never") (default "missing")')
    ] = "missing",
    quiet: Annotated[bool, flag("-q", "--quiet", help="Suppress the pull output")] = False,
    read_only: Annotated[bool, flag("--read-only", help="Mount the container's root filesystem as read only")] = False,
    remove: Annotated[
        bool,
        flag("--rm", help="Automatically remove the container and its associated anonymous volumes when it exits"),
    ] = False,
    restart: Annotated[
        str, option("--restart", help='Restart policy to apply when a container exits (default "no")')
    ] = "no",
    runtime: Annotated[String, option("--runtime", help="Runtime to use for this container (mini)")] = None,
    security_opt: Annotated[Strings, option("--security-opt", kind="list", help="Security Options")] = None,
    shm_size: Annotated[String, option("--shm-size", kind="bytes", help="Size of /dev/shm")] = None,
    stop_signal: Annotated[String, option("--stop-signal", help="Signal to stop the container")] = None,
    stop_timeout: Annotated[
        String, option("--stop-timeout", kind="int", help="Timeout (in seconds) to stop a container")
    ] = None,
    storage_opt: Annotated[
        Strings, option("--storage-opt", kind="list", help="Storage driver options: not supported, refused")
    ] = None,
    sysctls: Annotated[Strings, option("--sysctl", kind="map", help="Sysctl options")] = None,
    tmpfs: Annotated[Strings, option("--tmpfs", kind="list", help="Mount a tmpfs directory")] = None,
    tty: Annotated[bool, flag("-t", "--tty", help="Allocate a pseudo-TTY")] = False,
    ulimits: Annotated[Strings, option("--ulimit", kind="ulimit", help="Ulimit options")] = None,
    user: Annotated[String, option("-u", "--user", help="Username or UID (format: <name|uid>[:<group|gid>])")] = None,
    userns: Annotated[String, option("--userns", help="User namespace to use (host)")] = None,
    uts: Annotated[String, option("--uts", help="UTS namespace to use (host)")] = None,
    volumes: Annotated[Strings, option("-v", "--volume", kind="list", help="Bind mount a volume")] = None,
    volume_driver: Annotated[
        String, option("--volume-driver", help="Optional volume driver for the container (local)")
    ] = None,
    volumes_from: Annotated[
        Strings, option("--volumes-from", kind="list", help="Mount volumes from the specified container(s)")
    ] = None,
    workdir: Annotated[String, option("-w", "--workdir", help="Working directory inside the container")] = None,
) -> None:
    """The options that `run` and `create` share."""


@commands.command(
    "run",
    "IMAGE [COMMAND] [ARG...]",
    also=container_options,
    interspersed=False,
    panel=COMMON,
    aliases=("container run",),
)
def run(
    detach: Annotated[bool, flag("-d", "--detach", help="Run container in background and print container ID")] = False,
    detach_keys: Annotated[
        String, option("--detach-keys", help="Override the key sequence for detaching a container")
    ] = None,
    sig_proxy: Annotated[bool, flag("--sig-proxy", help="Proxy received signals to the process (default true)")] = True,
    wait: Annotated[bool, flag("--wait", help="With -d: return when the container is healthy (or runs)")] = False,
) -> None:
    """Create and run a new container from an image"""


@commands.command(
    "create",
    "IMAGE [COMMAND] [ARG...]",
    also=container_options,
    interspersed=False,
    aliases=("container create",),
    target="run:create",
)
def create() -> None:
    """Create a new container"""


@commands.command("exec", "CONTAINER COMMAND [ARG...]", interspersed=False, panel=COMMON, aliases=("container exec",))
def exec_(
    container: Annotated[str, typer.Argument()],
    command: Annotated[list[str], typer.Argument()],
    detach: Annotated[bool, flag("-d", "--detach", help="Detached mode: run command in the background")] = False,
    detach_keys: Annotated[
        String, option("--detach-keys", help="Override the key sequence for detaching a container")
    ] = None,
    env: Annotated[Strings, option("-e", "--env", kind="list", help="Set environment variables")] = None,
    env_files: Annotated[
        Strings, option("--env-file", kind="list", help="Read in a file of environment variables")
    ] = None,
    interactive: Annotated[bool, flag("-i", "--interactive", help="Keep STDIN open even if not attached")] = False,
    privileged: Annotated[bool, flag("--privileged", help="Give extended privileges to the command")] = False,
    tty: Annotated[bool, flag("-t", "--tty", help="Allocate a pseudo-TTY")] = False,
    user: Annotated[String, option("-u", "--user", help='Username or UID (format: "<name|uid>[:<group|gid>]")')] = None,
    workdir: Annotated[String, option("-w", "--workdir", help="Working directory inside the container")] = None,
) -> None:
    """Execute a command in a running container"""


@commands.command("ps", panel=COMMON, aliases=("container ls", "container list", "container ps"))
def ps(
    all: Annotated[bool, flag("-a", "--all", help="Show all containers (default shows just running)")] = False,
    filter: Annotated[
        Strings, option("-f", "--filter", kind="filter", help="Filter output based on conditions provided")
    ] = None,
    format: Annotated[String, option("--format", help=FORMAT_HELP)] = None,
    last: Annotated[
        str, option("-n", "--last", kind="int", help="Show n last created containers (includes all states)")
    ] = "-1",
    latest: Annotated[
        bool, flag("-l", "--latest", help="Show the latest created container (includes all states)")
    ] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Don't truncate output")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only display container IDs")] = False,
    size: Annotated[bool, flag("-s", "--size", help="Display total file sizes")] = False,
) -> None:
    """List containers"""


@commands.command("start", MANY, aliases=("container start",))
def start(
    container: Annotated[list[str], typer.Argument()],
    attach: Annotated[bool, flag("-a", "--attach", help="Attach STDOUT/STDERR and forward signals")] = False,
    detach_keys: Annotated[
        String, option("--detach-keys", help="Override the key sequence for detaching a container")
    ] = None,
    interactive: Annotated[bool, flag("-i", "--interactive", help="Attach container's STDIN")] = False,
) -> None:
    """Start one or more stopped containers"""


@commands.command("stop", MANY, aliases=("container stop",), target="lifecycle:stop")
def stop(
    container: Annotated[list[str], typer.Argument()],
    signal: Annotated[String, option("-s", "--signal", help="Signal to send to the container")] = None,
    timeout: Annotated[
        String, option("-t", "--timeout", "--time", kind="int", help="Seconds to wait before killing the container")
    ] = None,
) -> None:
    """Stop one or more running containers"""


@commands.command("kill", MANY, aliases=("container kill",), target="lifecycle:kill")
def kill(
    container: Annotated[list[str], typer.Argument()],
    signal: Annotated[str, option("-s", "--signal", help='Signal to send to the container (default "KILL")')] = "KILL",
) -> None:
    """Kill one or more running containers"""


@commands.command("rm", MANY, aliases=("container rm", "container remove"), target="lifecycle:rm")
def rm(
    container: Annotated[list[str], typer.Argument()],
    force: Annotated[
        bool, flag("-f", "--force", help="Force the removal of a running container (uses SIGKILL)")
    ] = False,
    link: Annotated[bool, flag("-l", "--link", help="Remove the specified link")] = False,
    volumes: Annotated[
        bool, flag("-v", "--volumes", help="Remove anonymous volumes associated with the container")
    ] = False,
) -> None:
    """Remove one or more containers"""


@commands.command("logs", "CONTAINER", aliases=("container logs",))
def logs(
    container: Annotated[str, typer.Argument()],
    details: Annotated[bool, flag("--details", help="Show extra details provided to logs")] = False,
    follow: Annotated[bool, flag("-f", "--follow", help="Follow log output")] = False,
    since: Annotated[
        String,
        option("--since", help='Show logs since timestamp ("2013-01-02T13:23:37Z") or relative ("42m" for 42 minutes)'),
    ] = None,
    tail: Annotated[
        str, option("-n", "--tail", help='Number of lines to show from the end of the logs (default "all")')
    ] = "all",
    timestamps: Annotated[bool, flag("-t", "--timestamps", help="Show timestamps")] = False,
    until: Annotated[
        String,
        option("--until", help='Show logs before a timestamp ("2013-01-02T13:23:37Z") or relative ("42m")'),
    ] = None,
) -> None:
    """Fetch the logs of a container"""


@commands.command("wait", MANY, aliases=("container wait",), target="lifecycle:wait")
def wait(container: Annotated[list[str], typer.Argument()]) -> None:
    """Block until one or more containers stop, then print their exit codes"""


@commands.command("container inspect", MANY, target="inspect:containers")
def inspect_container(
    names: Annotated[list[str], typer.Argument()],
    format: Annotated[String, option("-f", "--format", help=INSPECT_FORMAT_HELP)] = None,
    size: Annotated[bool, flag("-s", "--size", help="Display total file sizes")] = False,
) -> None:
    """Display detailed information on one or more containers"""
