"""`fsck`: whether images, containers, volumes and what they have on the host fit together, and how it is mended.

    storage.fsck      images, layers, documents, indexes, downloads
    here              containers and their names, images, volumes; and the host: cgroups, veths, addresses, mounts

A container's life takes things from the host that are named after its ID. Whatever has the ID of no container that is alive
was left by a monitor or a client that was killed.
"""

from __future__ import annotations

import fcntl
import os
import time

from engine import files, host
from engine.containers import lifecycle, publishing, records, sharing, views, volumemounts
from engine.containers.records import Record
from engine.errors import MiniError, NotFound, StoreError
from engine.oci.digest import is_hex_id
from engine.runtime.network import attach as link
from engine.storage import drivers, staging, volumecheck
from engine.storage.findings import DAMAGED, RUBBISH, Finding
from engine.storage.fsck import Attempt, StoreCheck, short
from engine.storage.repair import StoreRepair
from engine.storage.volumes import Volumes
from engine.system import imageuse, netcheck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.context import Context
    from engine.paths import Paths
    from engine.runtime.cgroups.manager import Cgroup

# Seconds in which a cgroup that was made gets its first process.
_SETTLED = 60.0


class Report:
    """What `fsck` found. `done`: what was done about a finding; `pull`: by image ID, what has to be pulled again."""

    __slots__ = ("checked", "done", "findings", "pull")

    def __init__(self, findings: list[Finding], pull: dict[str, str], checked: dict[str, int]) -> None:
        self.findings = findings
        self.done: dict[Finding, str] = {}
        self.pull = pull
        self.checked = checked

    @property
    def damaged(self) -> bool:
        return any(f.kind == DAMAGED for f in self.findings)


def fsck(ctx: Context, repair: bool = False) -> Report:
    """Checks everything under the data root, and with `repair` mends it. Safe beside any other command."""
    store = StoreCheck(ctx.paths)
    if not files.names_in(ctx.paths.root):
        return Report([], {}, {})
    store.run()
    objects = ObjectCheck(ctx, store)
    objects.run()
    findings = [*store.findings, *volumecheck.check(ctx.paths), *objects.findings]
    checked = {
        "images": len(store.records), "layers": len(store.layers), "bytes": store.bytes_read,
        "containers": objects.containers, "volumes": objects.volumes,
    }  # fmt: skip
    report = Report(findings, store.needs_pull() | objects.pull, checked)
    if repair:
        report.done = Repair(ctx, store).run(findings)
    return report


def sweep(ctx: Context, objects: bool = True) -> None:
    """Removes what killed commands left, and nothing that anybody sees: the rubbish that `fsck` finds without reading content,
    and downloads that a pull could go on with. Without `objects`, that of images only.
    """
    store = StoreCheck(ctx.paths)
    if not files.names_in(ctx.paths.root):
        return
    store.run(content=False, resumable=True)
    found = store.findings
    if objects:
        check = ObjectCheck(ctx, store)
        check.run()
        found = [*found, *volumecheck.check(ctx.paths), *check.findings]
    Repair(ctx, store).run([f for f in found if f.kind == RUBBISH])


class ObjectCheck:
    """Containers, and what is on the host for them."""

    def __init__(self, ctx: Context, store: StoreCheck) -> None:
        self.ctx = ctx
        self.paths = ctx.paths
        self.store = store
        self.findings: list[Finding] = []
        self.pull: dict[str, str] = {}
        self.containers = self.volumes = 0
        self._volumes: set[str] = set()
        self._images: set[str] = set()
        self._alive: set[str] = set()

    def run(self) -> None:
        self._volumes = {n for n in files.names_in(self.paths.volumes) if not n.startswith(".")}
        self.volumes = len(self._volumes)
        # Whoever makes a container holds the other side of this lock until it has its name.
        with Attempt(self.store.store.writing):
            named = self._check_names()
            for container_id in files.names_in(self.paths.containers):
                self._check_directory(container_id, named)
        self._check_removals()
        self.findings += netcheck.check(self.paths)
        if host.is_linux() and host.is_root():
            self._check_host()

    def _found(self, kind: str, what: str, why: str, action: str, *arguments: Any) -> None:
        self.findings.append(Finding(kind, what, why, action, *arguments))

    # --- containers --------------------------------------------------------------------------------------------------

    def _check_names(self) -> dict[str, str]:
        """Container ID → its name, of those whose names lead to something."""
        found = {}
        for name in files.names_in(self.paths.names):
            why = stale_name(self.paths, name)
            if why:
                self._found(RUBBISH, f"name {name}", why, "remove_name", name)
            else:
                found[records.name_holder(self.paths, name) or ""] = name
        return found

    def _check_directory(self, container_id: str, named: dict[str, str]) -> None:
        record = Record(self.paths, container_id)
        what = f"container {named.get(container_id) or container_id[:12]}"
        try:
            config = record.config
            config["Name"], config["Image"], config["NetworkSettings"]["Networks"], config["Mounts"]
            state = record.load_state()
        except NotFound:
            config = state = {}
        except (StoreError, KeyError, TypeError):
            self._check_damaged(record, what, named)
            return
        if any(records.is_alive(state, key) for key in ("Pid", "MonitorPid")):
            self._alive.add(container_id)
        elif _is_locked(f"{record.directory}/lock"):
            self._alive.add(container_id)  # being started or removed
            return
        if container_id not in named:
            if container_id not in self._alive:
                self._found(RUBBISH, what, "half-made or half-removed", "remove_container", container_id)
            return
        self.containers += 1
        self._check_container(record, what, config, state)

    def _check_damaged(self, record: Record, what: str, named: dict[str, str]) -> None:
        """A record that cannot be read: without its config a container is nothing, its state can be supposed."""
        self.containers += 1
        try:
            record.config["NetworkSettings"]["Networks"], record.config["Mounts"], record.config["Image"]
        except (StoreError, KeyError, TypeError):
            why = "its config is damaged"
            self._found(DAMAGED, what, why, "quarantine_container", record.id, named.get(record.id))
            return
        self._found(DAMAGED, what, "its state is damaged", "reset_state", record.id)

    def _check_container(self, record: Record, what: str, config: dict[str, Any], state: dict[str, Any]) -> None:
        if state.get("Status") in records.RUNNING and record.id not in self._alive:
            self._found(
                RUBBISH, what, "it ended together with its monitor, and its state does not say so", "refresh", record.id
            )
        self._check_images(what, config)
        if not all(os.path.isdir(f"{record.directory}/{name}") for name in ("upper", "work")):
            self._found(DAMAGED, what, "the directory of what it wrote is missing", "make_root", record.id)
        for mount in config["Mounts"]:
            if mount["Type"] == "volume" and mount["Name"] not in self._volumes:
                self._found(DAMAGED, what, f"its volume {mount['Name']} is missing", "make_volume", mount["Name"])

    def _check_images(self, what: str, config: dict[str, Any]) -> None:
        """Its own, and those that are mounted in it."""
        names = [config["Config"]["Image"], *(m["Source"] for m in config["Mounts"] if m["Type"] == "image")]
        removing = {r["id"] for r in self.store.removing}
        for image, name in zip(imageuse.images_of(config), names, strict=True):
            self._images.add(image)
            if image not in self.store.records and image not in removing:
                self._found(DAMAGED, what, f"its image {name} is not there", "")
                self.pull[image] = name

    def _check_removals(self) -> None:
        """An image being removed waits for the containers that use it, and for nothing else."""
        for record in self.store.removing:
            if record["id"] not in self._images:
                self._found(RUBBISH, f"image {short(record['id'])}", "its removal was not finished", "finish_removals")

    # --- the host ----------------------------------------------------------------------------------------------------

    def _check_host(self) -> None:
        """Of IDs that this data root knows: another one may have containers under the same cgroup, at the same bridge."""
        owners, ends = netcheck.owners(self.paths)
        published = netcheck.published(self.ctx)
        names = netcheck.interfaces()
        running = set(files.names_in(f"{self.paths.run}/containers"))
        volumes = self.paths.volumes_run
        mounted = {user for name in files.names_in(volumes) for user in files.names_in(f"{volumes}/{name}")}
        known = {*files.names_in(self.paths.containers), *owners, *ends, *published, *running, *mounted}
        for container_id in sorted(known - self._alive):
            left = [
                noun
                for noun, there in (
                    ("cgroup", _cgroup(self.ctx, container_id).exists()),
                    ("network interface", bool(link.host_ends(container_id, names))),
                    ("endpoint", container_id in ends),
                    ("published port", container_id in published),
                    ("address", container_id in owners),
                    ("socket", container_id in running),
                    ("mounted volume", container_id in mounted),
                )
                if there
            ]
            if left:
                why = f"container {container_id[:12]} does not run"
                self._found(RUBBISH, " and ".join(left), why, "release", container_id)
        for container_id in sorted(self._alive):
            path = f"{self.paths.container(container_id)}/lock"
            if netcheck.unknown_interfaces(self.paths, container_id, names) and not _is_locked(path):
                why = f"container {container_id[:12]} has it from a command that was killed"
                self._found(RUBBISH, "network interface", why, "detach_unknown", container_id)
        for name in files.names_in(volumes):
            if not files.names_in(f"{volumes}/{name}"):
                self._found(
                    RUBBISH, f"volume {name}", "noted for those that have it, who are none", "forget_unused", name
                )
        for name in stale_cgroups(self.ctx, self._alive):
            self._found(RUBBISH, f"cgroup {name[:12]}", "nothing runs in it", "remove_cgroup", name)
        needed = {r["chain_id"][7:] for r in [*self.store.records.values(), *self.store.removing]}
        for name in files.names_in(f"{self.paths.run}/images"):
            if name not in needed:
                self._found(RUBBISH, f"mount {short(name)}", "no image has it", "unmount", name)


def stale_name(paths: Paths, name: str) -> str:
    """Why a name leads to nothing: its container is gone, or has another name since a rename that was killed. Else ""."""
    holder = records.name_holder(paths, name)
    if name.startswith(".") or not holder or not os.path.exists(f"{paths.container(holder)}/config.json"):
        return "its container is gone"
    try:
        own = Record(paths, holder).name
    except (MiniError, KeyError):
        return ""
    renamed = own != name and records.name_holder(paths, own) == holder
    return f"its container is called {own}" if renamed and not _is_locked(f"{paths.container(holder)}/lock") else ""


def _cgroup(ctx: Context, container_id: str) -> Cgroup:
    """Of a container that may be without a record that can be read."""
    try:
        return lifecycle.cgroup_of(ctx, Record(ctx.paths, container_id))
    except (MiniError, KeyError):
        return lifecycle.own_cgroup(ctx, container_id)


def stale_cgroups(ctx: Context, alive: set[str], settled: float = _SETTLED) -> list[str]:
    """IDs under the cgroup parent that were made `settled` seconds ago and have no process: who makes a cgroup fills it."""
    layout = ctx.cgroups
    found = set()
    for root in [*layout.v1_roots, *([layout.v2] if layout.v2 else [])]:
        directory = f"{root}/{ctx.cgroup_parent.strip('/')}"
        for name in files.names_in(directory):
            path = f"{directory}/{name}"
            if is_hex_id(name) and name not in alive and time.time() - os.stat(path).st_mtime > settled:
                found.add(name)
    return sorted(n for n in found if not lifecycle.own_cgroup(ctx, n).pids())


def _is_locked(path: str) -> bool:
    """Whether somebody holds the flock; no file is made for the question."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


class Repair(StoreRepair):
    """The store's, and what joins it to containers and the host."""

    ORDER = (
        "quarantine_container", "reset_state", "refresh", "remove_name", "remove_container", "release", "remove_cgroup",
        "sweep_volumes", "restore_volume", "finish_volume", "make_volume", *StoreRepair.ORDER, "finish_removals",
        "make_root", "unmount", "forget_unused", "detach_unknown", "quarantine_network", "remove_network",
        "remove_half_written",
    )  # fmt: skip

    def __init__(self, ctx: Context, check: StoreCheck) -> None:
        super().__init__(check, lambda chain: imageuse.unmount(ctx, chain))
        self.ctx = ctx

    def quarantine_container(self, container_id: str, name: str | None) -> str:
        self._release(container_id)
        if name:
            files.remove_file(self.paths.name(name))
        return "quarantined" if self.quarantined.take(self.paths.container(container_id)) else "gone meanwhile"

    def reset_state(self, container_id: str) -> str:
        record = Record(self.paths, container_id)
        with record.lock():
            self._release(container_id)
            self.quarantined.take(f"{record.directory}/state.json")
            record.save_state(
                records.new_state() | {"Status": "exited", "ExitCode": 255, "Error": "its state was lost"}
            )
        return "quarantined; it counts as exited"

    def refresh(self, container_id: str) -> str:
        record = Record(self.paths, container_id)
        with record.lock():
            return f"it is {views.refresh(self.ctx, record)['Status']} now"

    def remove_name(self, name: str) -> str:
        with self.store.writing():
            if not stale_name(self.paths, name):
                return "a container has it meanwhile"
            files.remove_file(self.paths.name(name))
        return "removed"

    def remove_container(self, container_id: str) -> str:
        """What it took from the host first; with the images locked, so that nobody is just making it."""
        record = Record(self.paths, container_id)
        with self.store.writing():
            if any(r.id == container_id for r in records.list_all(self.paths)):
                return "it has a name meanwhile"
            with record.lock(wait=False):
                self._release(container_id)
                files.remove_tree(record.directory)
        return "removed"

    def release(self, container_id: str) -> str:
        record = Record(self.paths, container_id)
        if not os.path.isdir(record.directory):
            self._release(container_id)
            return "removed"
        with record.lock(wait=False):
            state = record.load_state()
            if any(records.is_alive(state, key) for key in ("Pid", "MonitorPid")):
                return "left alone: it runs meanwhile"
            self._release(container_id)
        return "removed"

    def _release(self, container_id: str) -> None:
        """As `lifecycle.release`, but without a record."""
        cgroup = _cgroup(self.ctx, container_id)
        if cgroup.exists():
            cgroup.kill()
            cgroup.delete(parent=cgroup.path == lifecycle.own_cgroup(self.ctx, container_id).path)
        if container_id in netcheck.published(self.ctx):
            publishing.withdraw(container_id)
        netcheck.forget(self.paths, container_id)
        sharing.unmount_shm(self.ctx, container_id)
        lifecycle.release_volumes(self.ctx, container_id)
        files.remove_tree(self.paths.container_run(container_id))

    def forget_unused(self, name: str) -> str:
        volumemounts.forget_unused(self.ctx, name)
        return "removed"

    def detach_unknown(self, container_id: str) -> str:
        netcheck.detach_unknown(self.paths, container_id)
        return "removed"

    def remove_half_written(self, path: str) -> str:
        files.remove_file(path)
        return "removed"

    def quarantine_network(self, name: str) -> str:
        with files.FileLock(self.paths.lock("networks")):
            return "quarantined" if self.quarantined.take(self.paths.network(name)) else "gone meanwhile"

    def remove_network(self, name: str) -> str:
        with files.FileLock(self.paths.lock("networks")):
            if netcheck.record_state(self.paths, name) != "missing":
                return "it is there meanwhile"
            files.remove_tree(self.paths.network(name))
        return "removed"

    def remove_cgroup(self, container_id: str) -> str:
        cgroup = lifecycle.own_cgroup(self.ctx, container_id)
        if cgroup.pids():
            return "left alone: something runs in it meanwhile"
        cgroup.delete()
        return "removed"

    def make_root(self, container_id: str) -> str:
        data = Record(self.paths, container_id).config["GraphDriver"]
        drivers.choose(self.paths, data["Name"]).create_root(container_id, data["Data"]["DiffIDs"])
        return "made again, empty"

    def make_volume(self, name: str) -> str:
        Volumes(self.paths).create(name)
        return "made again, empty"

    def restore_volume(self, name: str) -> str:
        Volumes(self.paths).restore(name)
        return "made again"

    def finish_volume(self, name: str) -> str:
        staging.finish(self.paths.volume(name))
        return "finished"

    def sweep_volumes(self) -> str:
        Volumes(self.paths).sweep()
        return "removed"

    def finish_removals(self) -> str:
        imageuse.finish_removals(self.ctx)
        return "removed"

    def unmount(self, chain: str) -> str:
        with self.store.writing():
            if any(r["chain_id"][7:] == chain for r in self.store.records()):
                return "an image has it meanwhile"
            imageuse.unmount(self.ctx, chain)
        return "unmounted"
