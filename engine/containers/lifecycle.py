"""One life of a container, from inside its monitor: prepare, launch, clean up.

    client                          monitor                                     init
      │ fork ────────────────────────▶│
      │                               │ image mounted, root, user, volumes,
      │                               │ address, cgroup, seccomp filter
      │                               │ fork ───────────────────────────────────▶│ namespaces, mounts, pivot_root …
      │                               │ veth into its network namespace          │
      │                               │◀───────────────────────────────── ready ─│
      │                               │ start ──────────────────────────────────▶│ execve
      │◀────────────────────── STARTED│
      │                               │ output, log, clients, health checks      │
      │                               │◀────────────────────────────────── exit ─╯
      │◀───────── EXIT, after clean-up│ (supervision.py)

Whatever a life takes from the host (mount, cgroup, veth, address) is named after the container's ID, so `release` can give it back
knowing nothing else: after the exit, after a failed start, and for a monitor that was killed.
"""

from __future__ import annotations

import os

from engine import events, files, linux
from engine.containers import bundle, health, networking, records, sharing
from engine.errors import Conflict, NotFound
from engine.oci import users
from engine.runtime.cgroups import manager as cgroups
from engine.runtime.monitor import Stdio
from engine.runtime.process import launch
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.publishing import Published
    from engine.containers.records import Record
    from engine.context import Context
    from engine.oci.runtime import Spec


def cgroup_of(ctx: Context, record: Record) -> cgroups.Cgroup:
    """Under `--cgroup-parent`, which is a path from the hierarchies' top whatever it looks like, or under mini's own."""
    if parent := record.config["HostConfig"].get("CgroupParent"):
        return cgroups.Cgroup(ctx.cgroups, f"{os.path.normpath(f'/{parent}')}/{record.id}")
    return own_cgroup(ctx, record.id)


def own_cgroup(ctx: Context, container_id: str) -> cgroups.Cgroup:
    return cgroups.Cgroup(ctx.cgroups, f"{ctx.cgroup_parent.rstrip('/')}/{container_id}")


class Life:
    """What one start of a container takes, step by step."""

    def __init__(self, ctx: Context, record: Record) -> None:
        self.ctx = ctx
        self.record = record
        self.inspect = record.config
        self.host: dict[str, Any] = self.inspect["HostConfig"]
        self.state = records.new_state()
        if health.command(self.inspect["Config"].get("Healthcheck")):
            # from the first moment, so that nobody takes a container for one without a check
            self.state["Health"] = health.unknown()
        self.stdio = Stdio(self.inspect["Config"]["Tty"], self.inspect["Config"]["OpenStdin"])
        self._first = record.load_state()["StartedAt"].startswith("0001")
        self.networking = networking.Networking(ctx, record)
        self.published: Published | None = None

    def start(self, size: tuple[int, int] | None) -> launch.InitProcess:
        """From the config on disk to a program that runs. On failure, what was taken is given back by `release`."""
        config = self.inspect["Config"]
        root = mount_root(self.ctx, self.record)
        try:
            user = find_user(root, config["User"], self.host["GroupAdd"] or ())
            shared = sharing.at_start(self.ctx, self.record.id, self.host)
            config["Hostname"] = shared.hostname or config["Hostname"]
            self._prepare_volumes(root)
            self.networking.reserve(again=self.state.get("RestartCount", 0) > 0)
            if shared.files == self.record.directory:
                self.networking.write_files()
            sharing.mount_shm(self.ctx, self.record.id, self.host)
            cgroup = cgroup_of(self.ctx, self.record)
            spec = bundle.build(self.inspect, self.record.directory, user, cgroup.path, size, shared)
            self._log_mounts(spec)
            process = self._open_and_launch(spec, root, cgroup, user)
        finally:
            os.close(root)
        self.stdio.close_inner()
        self.publish()
        process.start()
        self.state["Status"] = "running"
        self.state["StartedAt"] = timestamp()
        records.mark_process(self.state, "Pid", process.pid)
        try:
            self.record.save_state(self.state)
        except BaseException:
            # nobody could find it
            process.abandon()
            raise
        return process

    def _open_and_launch(self, spec: Spec, root: int, cgroup: cgroups.Cgroup, user: users.User) -> launch.InitProcess:
        """With what has to be opened before a namespace of mounts is left for another."""
        if not self.inspect["Mounts"]:
            return self._launch(spec, root, cgroup)
        from contextlib import ExitStack

        from engine.containers import mountsources

        with ExitStack() as stack:
            mountsources.open_all(self.ctx, stack, self.inspect, spec["mounts"], lambda: user)
            return self._launch(spec, root, cgroup)

    def _launch(self, spec: Spec, root: int, cgroup: cgroups.Cgroup) -> launch.InitProcess:
        def make_cgroup() -> bool:
            cgroup.create()
            cgroup.apply(spec["linux"]["resources"])
            return True

        return launch.create(
            spec,
            rootfs=root,
            stdio=self.stdio.inner,
            cgroup=cgroup,
            make_cgroup=make_cgroup,
            seccomp=seccomp_filter(self.ctx, self.host, spec["process"]["capabilities"]["bounding"]),
            network=self._attach,
            stay=self.host.get("Init", False),
            leashed=True,
        )

    def _log_mounts(self, spec: Spec) -> None:
        """The plan, as commands; the root comes first, an overlay that is mounted nowhere on the host."""
        if not self.ctx.log:
            return
        for mount in spec["mounts"]:
            options = ",".join(mount.get("options") or ["defaults"])
            source, kind = mount.get("source") or "none", mount.get("type") or "none"
            self.ctx.log(f"mount -t {kind} -o {options} {source} rootfs{mount['destination']}")

    def _attach(self, pid: int) -> None:
        self.state["Endpoints"] = self.networking.attach(pid)

    def publish(self) -> None:
        """Makes the container's ports what its config wants and its networks allow now. Conflict where one is taken."""
        config = self.record.config
        host = config["HostConfig"]
        if self.published or host.get("PortBindings") or host.get("PublishAllPorts"):
            from engine.containers import publishing

            self.published = self.published or publishing.Published(self.ctx, self.record)
            self.published.fit(self.state)
        elif config["Config"].get("ExposedPorts") and networking.gateways(self.networking.joined)[0]:
            self.state["Ports"] = []

    def _prepare_volumes(self, root: int) -> None:
        """Mounts those that are file systems of their own, and copies the image's content into those that are new, once in the
        container's life (Docker does it at create)."""
        points = [m for m in self.inspect["Mounts"] if m["Type"] == "volume"]
        if not points:
            return
        from engine.containers import volumemounts

        volumemounts.acquire(self.ctx, self.record)
        if self._first:
            volumemounts.fill(self.ctx, root, [m for m in points if not m["NoCopy"]])


def mount_root(ctx: Context, record: Record) -> int:
    """The container's root as a detached mount: a descriptor, attached nowhere, gone when nobody holds it.

    Mounts the image's index on the host first, unless it is there: one mount for all containers of the image.
    """
    from engine.runtime import mounts
    from engine.storage import drivers

    data = record.config["GraphDriver"]
    driver = drivers.choose(ctx.paths, data["Name"])
    root = driver.root_mounts(record.id, data["Data"]["DiffIDs"])
    if root.image:
        _mount_image(ctx, root.image)
    files.make_dirs(f"{record.directory}/rootfs", 0o755)
    (overlay,) = root.root
    return mounts.detached(overlay, mounts.parse(overlay))


def open_image(ctx: Context, record: Record) -> int:
    """The root of the container's image alone, read-only, as a detached mount."""
    data = record.config["GraphDriver"]
    return open_layers(ctx, data["Name"], data["Data"]["DiffIDs"])


def open_layers(ctx: Context, driver_name: str, diff_ids: list[str]) -> int:
    """The root that these layers make, read-only, as a detached mount."""
    from engine.runtime import mounts
    from engine.storage import drivers

    driver = drivers.choose(ctx.paths, driver_name)
    if image := driver.root_mounts("", diff_ids).image:
        _mount_image(ctx, image)
    root = driver.image_root(diff_ids)
    return mounts.detached(root, mounts.parse(root))


def _mount_image(ctx: Context, image: Any) -> None:
    from engine.runtime import mounts

    point = image["destination"]
    with files.FileLock(ctx.paths.lock(f"mount-{os.path.basename(point)}")):
        files.make_dirs(point, 0o700)
        if not is_mounted(point):
            mounts.mount_host(image)


def is_mounted(path: str) -> bool:
    """Whether an EROFS is mounted at the directory."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.fstatfs_type(fd) == linux.EROFS_SUPER_MAGIC
    finally:
        os.close(fd)


def find_user(root: int, user: str, groups: Any) -> users.User:
    """The image's `User` or `-u`, in the container's own passwd and group."""
    passwd = users.read_root_file(root, "/etc/passwd")
    group = users.read_root_file(root, "/etc/group")
    return users.resolve(user, passwd, group, groups)


def seccomp_filter(ctx: Context, host: dict[str, Any], capabilities: list[str]) -> tuple[bytes, int] | None:
    """The compiled filter that the container runs under, None for unconfined."""
    choice = bundle.seccomp_choice(host)
    if choice is None:
        return None
    from engine.runtime.seccomp import compile as seccomp

    cache = f"{ctx.paths.cache}/seccomp"
    if choice == "default":
        return seccomp.default_filter(capabilities, cache)
    from engine.runtime.seccomp import profile

    return seccomp.compile_filter(profile.from_file(choice), cache)


def release(ctx: Context, record: Record) -> None:
    """Gives back to the host whatever the container's life took. Idempotent; needs nothing but the record."""
    release_cgroup(ctx, record)
    if record.load_state().get("Ports"):
        from engine.containers import publishing

        publishing.withdraw(record.id)
    networking.release(ctx, record)
    sharing.unmount_shm(ctx, record.id)
    release_volumes(ctx, record.id)
    files.remove_tree(ctx.paths.container_run(record.id))


def release_volumes(ctx: Context, container_id: str) -> None:
    """Unmounts volumes that are file systems of their own and that nobody else has."""
    if os.path.isdir(ctx.paths.volumes_run):
        from engine.containers import volumemounts

        volumemounts.release(ctx, container_id)


def release_cgroup(ctx: Context, record: Record) -> None:
    """Kills what is left in the container's cgroup, and removes it."""
    cgroup = cgroup_of(ctx, record)
    if cgroup.exists():
        cgroup.kill()
        # a parent that was named may be somebody's, with limits
        cgroup.delete(parent=not record.config["HostConfig"].get("CgroupParent"))
    files.remove_file(record.paused_mark)


def delete(ctx: Context, record: Record, volumes: bool) -> None:
    """Removes a container that does not run, and with `volumes` the anonymous ones that were made for it."""
    from engine.storage.images import ImageStore

    ImageStore(ctx.paths).touch(record.config["Image"])
    anonymous = [m["Name"] for m in record.config["Mounts"] if m["Type"] == "volume" and m.get("Anonymous")]
    existed = os.path.exists(f"{record.directory}/config.json")
    records.remove(record)
    if existed:
        events.container(record, "destroy")
    for name in anonymous if volumes else ():
        try:
            remove_volume(ctx, name)
        except (Conflict, NotFound):
            # somebody else uses it by its name, or removed it already
            continue


def remove_volume(ctx: Context, name: str, force: bool = False) -> None:
    """Removes a volume that no container has; Conflict, which names them, otherwise. `force`: a missing one is no error."""
    from engine.storage.volumes import Volumes

    with records.using_volumes(ctx.paths, shared=False):
        Volumes(ctx.paths).remove(name, records.volume_users(ctx.paths, name), force)
