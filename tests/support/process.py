"""Containers straight from the runtime, without images, store or command line: a spec, an overlay over the host's own programs."""

from __future__ import annotations

import copy
import os
import tarfile
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.demo import hostimage
from engine.runtime import defaults
from engine.runtime.process import exec as joined
from engine.runtime.process import launch
from engine.runtime.process.launch import InitProcess

if TYPE_CHECKING:
    from engine.oci.runtime import Mount, Process, Spec


class Ended(NamedTuple):
    """`status` as of waitpid(2)."""

    status: int
    out: str

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)


def children() -> set[int]:
    """This process's children, zombies among them (proc_pid_task_children(5)). Other tests' services may be some of them."""
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return {int(pid) for pid in file.read().split()}


def make_template(directory: str) -> str:
    """A root file system of the host's own programs, with a Python; the tests put overlays over it."""
    layers = hostimage.build(f"{directory}/layers").layers[:2]
    root = f"{directory}/root"
    for layer in layers:
        with tarfile.open(layer) as tar:
            # Python before 3.11.4 knows no filters, and unpacks as this one says
            options: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            tar.extractall(root, **options)
    return root


class Box:
    """One container's root (an overlay; `upper` is what it writes) and its spec, to be changed at will before it runs."""

    def __init__(self, template: str, directory: str) -> None:
        self.directory = directory
        self.template = template
        for name in ("upper", "work", "rootfs"):
            os.mkdir(f"{directory}/{name}")
        self.upper = f"{directory}/upper"
        self.spec = _spec(f"{directory}/rootfs")
        self.rootfs: list[Mount] | int = [
            {
                "destination": "/",
                "type": "overlay",
                "source": "overlay",
                "options": [f"lowerdir={template}", f"upperdir={self.upper}", f"workdir={directory}/work"],
            }
        ]
        self.options: dict[str, Any] = {"cgroup": None, "seccomp": None}
        self.running: list[InitProcess] = []

    @property
    def process(self) -> Process:
        return self.spec["process"]

    @property
    def linux(self) -> dict[str, Any]:
        return self.spec["linux"]

    def write(self, name: str, text: str, mode: int = 0o755) -> None:
        """A file of the image, so to speak."""
        path = f"{self.upper}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)

    def mount(self, destination: str, kind: str, source: str, *options: str) -> None:
        self.spec["mounts"].append({"destination": destination, "type": kind, "source": source, "options": [*options]})

    def create(self, *args: str, stdio: tuple[int, int, int] | None = None, **options: Any) -> InitProcess:
        self.process["args"] = list(args)
        made = launch.create(self.spec, rootfs=self.rootfs, stdio=stdio, **(self.options | options))
        self.running.append(made)
        return made

    def run(self, *args: str, **options: Any) -> Ended:
        """Runs to the end, standard output and error together in a pipe."""
        return self._to_the_end(lambda stdio: self.create(*args, stdio=stdio, **options))

    def sh(self, script: str, **options: Any) -> str:
        ended = self.run("sh", "-ec", script, **options)
        assert ended.status == 0, ended
        return ended.out

    def python(self, script: str, **options: Any) -> str:
        ended = self.run("python3", "-c", script, **options)
        assert ended.status == 0, ended
        return ended.out

    def start(self, *args: str, **options: Any) -> InitProcess:
        made = self.create(*args, **options)
        made.start()
        return made

    def spawn(self, first: InitProcess, *args: str, stdio: Any = None, **changes: Any) -> InitProcess:
        process: Process = {**copy.deepcopy(self.process), "args": list(args), **changes}  # type: ignore[typeddict-item]
        options = {key: self.options[key] for key in ("cgroup", "seccomp", "notify", "settings") if key in self.options}
        made = joined.spawn(first.pid, process, stdio=stdio, **options)
        self.running.append(made)
        return made

    def exec(self, first: InitProcess, *args: str, **changes: Any) -> Ended:
        return self._to_the_end(lambda stdio: self.spawn(first, *args, stdio=stdio, **changes))

    def close(self) -> None:
        for process in reversed(self.running):
            if process.pidfd >= 0:
                process.abandon()

    def _to_the_end(self, make: Callable[[tuple[int, int, int]], InitProcess]) -> Ended:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        reader, writer = os.pipe()
        try:
            process = make((null, writer, writer))
            process.start()
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(null)
            os.close(writer)
        with os.fdopen(reader, errors="replace") as file:
            out = file.read()
        status = process.wait()
        process.close()
        return Ended(status, out)


def _spec(root: str) -> Spec:
    sets = {name: list(defaults.DEFAULT_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    return {
        "ociVersion": "1.2.0",
        "root": {"path": root},
        "hostname": "box",
        "process": {
            "args": ["true"],
            "cwd": "/",
            "env": [f"PATH={hostimage.PATH}"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": sets,
        },
        "mounts": copy.deepcopy(defaults.DEFAULT_MOUNTS),
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
            "maskedPaths": list(defaults.MASKED_PATHS),
            "readonlyPaths": list(defaults.READONLY_PATHS),
        },
    }
