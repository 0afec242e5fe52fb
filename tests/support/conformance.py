"""An OCI runtime as its callers see it: a program, bundles that it is given, and containers that come of them.

The command line is the one that runc and crun share; what containers see is told by a probe that runs inside.
"""

from __future__ import annotations

import copy
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import IO, Any, Literal, NamedTuple, TypeVar

from engine import linux
from tests.support.leaks import Hierarchy, directories
from tests.support.requirements import CHECKOUT

Found = TypeVar("Found")

PROBE = "/usr/local/bin/probe"
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")
PRELUDE = """\
import ctypes, errno, json, os, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def tell(value): print(json.dumps(value))
def outcome(function, *args, **more):
    try: function(*args, **more)
    except OSError as error: return errno.errorcode[error.errno]
    return "ok"
def attempt(function, *args, **more): tell(outcome(function, *args, **more))
def call(name, *args):
    if getattr(libc, name)(*args) < 0: raise OSError(ctypes.get_errno(), name)
"""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
        "AUDIT_WRITE"
    ).split()
]
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
# What `runc spec` mounts, without /sys/fs/cgroup, which tests of cgroups add.
MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]


class Done(NamedTuple):
    """A command of the runtime that has ended."""

    code: int
    out: str
    err: str


class Runtime:
    """`command` is the program, with global options if any; its state and every bundle are below `directory`."""

    def __init__(
        self, name: str, command: Iterable[str], directory: str, template: str, trees: list[Hierarchy]
    ) -> None:
        self.name = name
        self.command = [*command]
        self.directory = directory
        self.template = template
        self.trees = trees
        self.root = f"{directory}/state"
        self.cgroup_parent = f"/mini-conformance-{os.getpid()}"
        self._made = 0

    def start(self, *args: str, **streams: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, "--root", self.root, *args],
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            | streams,
        )

    def call(self, *args: str, stdin: str = "", **more: Any) -> Done:
        """Streams are files: a container that outlives the command must not keep its caller waiting."""
        with _file(stdin) as given, _file() as out, _file() as err:
            process = self.start(*args, **{"stdin": given, "stdout": out, "stderr": err} | more)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            return Done(process.returncode, _content(out), _content(err))

    def container(self) -> Container:
        self._made += 1
        return Container(self, f"{self.name}-{self._made}-{os.getpid()}")

    def cgroups(self) -> list[str]:
        """Every cgroup below the parent that the bundles name, in any hierarchy that the runtime may use."""
        return [path for tree in self.trees for path in directories(tree.path + self.cgroup_parent)]

    def close(self) -> None:
        for path in self.cgroups() + [tree.path + self.cgroup_parent for tree in self.trees]:
            if os.path.isdir(path):
                os.rmdir(path)


class Container:
    """A bundle (its root an overlay over the template; `upper` is what the container writes), and what is made of it.

    `spec` is changed at will and written out by whatever reads it: create, run.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.runtime = runtime
        self.id = name
        self.bundle = f"{runtime.directory}/{name}"
        self.upper = f"{self.bundle}/upper"
        self.rootfs = f"{self.bundle}/rootfs"
        for path in (self.upper, self.rootfs, f"{self.bundle}/work"):
            os.makedirs(path)
        layers = f"lowerdir={runtime.template},upperdir={self.upper},workdir={self.bundle}/work"
        linux.mount("overlay", self.rootfs, "overlay", 0, layers)
        self.spec = _spec(f"{runtime.cgroup_parent}/{name}")
        self._waiting: list[subprocess.Popen[str]] = []

    # The bundle

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.spec["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        section: dict[str, Any] = self.spec["linux"]
        return section

    def namespace(self, kind: str, path: str | None = None) -> None:
        """Lists a namespace, in the place of what was there of its type."""
        self.without_namespace(kind)
        self.linux["namespaces"].append({"type": kind} | ({"path": path} if path else {}))

    def without_namespace(self, *kinds: str) -> None:
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] not in kinds]

    def user_namespace(self, host: int = 100000, size: int = 65536) -> None:
        self.namespace("user")
        mapping = {"containerID": 0, "hostID": host, "size": size}
        self.linux["uidMappings"], self.linux["gidMappings"] = [mapping], [dict(mapping)]

    def mount(self, destination: str, kind: str, source: str, *options: str, **more: Any) -> None:
        entry = {"destination": destination, "type": kind, "source": source, "options": [*options]}
        self.spec["mounts"].append(entry | more)

    def directory(self, name: str, *files: str) -> str:
        """A directory of the host's, in the bundle, with files whose content is their name."""
        path = f"{self.bundle}/{name}"
        os.makedirs(path)
        for file in files:
            os.makedirs(os.path.dirname(f"{path}/{file}"), exist_ok=True)
            with open(f"{path}/{file}", "w") as opened:
                opened.write(file)
        return path

    def save(self) -> None:
        with open(f"{self.bundle}/config.json", "w") as file:
            json.dump(self.spec, file, indent=1)

    # Commands: `attempt` answers whatever came of it, the others insist on success

    def attempt(self, command: str, *options: str, stdin: str = "", **more: Any) -> Done:
        if command in ("create", "run"):
            self.save()
            options = ("--bundle", self.bundle, *options)
        return self.runtime.call(command, *options, self.id, stdin=stdin, **more)

    def must(self, command: str, *options: str, **more: Any) -> Done:
        done = self.attempt(command, *options, **more)
        assert done.code == 0, (command, done)
        return done

    def create(self, *options: str, **more: Any) -> None:
        self.must("create", *options, **more)

    def start(self) -> None:
        self.must("start")

    def started(self, *args: str) -> Container:
        """Running, in the background: by default until it is killed, and it takes notice of SIGTERM."""
        self.process["args"] = [*args] or ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 60 & wait $!; done"]
        self.create()
        self.start()
        return self

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.must("state").out)
        return state

    def exists(self) -> bool:
        return self.attempt("state").code == 0

    def kill(self, sign: str = "KILL") -> None:
        """`runtime kill ID SIGNAL`: the signal comes last, so not by `must`."""
        done = self.runtime.call("kill", self.id, sign)
        assert done.code == 0, done

    def stopped(self) -> Container:
        """Killed, and seen to be."""
        descriptor = os.pidfd_open(self.state()["pid"])
        self.kill("KILL")
        select.select([descriptor], [], [])
        os.close(descriptor)
        self.wait("stopped")
        return self

    def wait(self, status: str) -> None:
        until(lambda: self.state()["status"] == status)

    def run(self, *args: str, **more: Any) -> Done:
        """`runtime run`, to the end of the process."""
        if args:
            self.process["args"] = [*args]
        return self.attempt("run", **more)

    def sh(self, script: str) -> str:
        done = self.run("sh", "-ec", script)
        assert done.code == 0, done
        return done.out

    def python(self, code: str) -> Any:
        """What a program told, as JSON: by `tell(value)`, or by `attempt(function, …)`, which tells `ok` or the errno."""
        done = self.run(*PYTHON, f"{PRELUDE}{code}")
        assert done.code == 0, done
        return json.loads(done.out)

    def report(self, *args: str) -> dict[str, Any]:
        """What the probe sees (tests/conformance/probe.py)."""
        done = self.run(PROBE, *args)
        assert done.code == 0, done
        return reported(done.out)

    def exec(self, *args: str, options: Iterable[str] = (), **more: Any) -> Done:
        return self.runtime.call("exec", *options, self.id, *args, **more)

    def exec_process(self, process: dict[str, Any], *options: str) -> Done:
        path = f"{self.bundle}/process.json"
        with open(path, "w") as file:
            json.dump({"cwd": "/", "env": [PATH], "user": {"uid": 0, "gid": 0}} | process, file)
        return self.runtime.call("exec", "--process", path, *options, self.id)

    def refused(self) -> str:
        """`create` fails, says something, and leaves no container; the message."""
        done = self.attempt("create")
        assert done.code != 0, done
        assert not self.exists(), "a container that could not be created is there"
        assert (done.err + done.out).strip(), "an error without a word"
        return done.err + done.out

    # The host's view

    def mounts(self) -> list[str]:
        """Mount points of this namespace below the bundle, without the root that the suite itself made."""
        with open("/proc/self/mountinfo") as file:
            targets = [line.split()[4] for line in file]
        return sorted(target for target in targets if target.startswith(f"{self.bundle}/") and target != self.rootfs)

    def cgroups(self) -> list[str]:
        return [path for path in self.runtime.cgroups() if f"/{self.id}" in path]

    def cgroup(self, controller: str) -> str:
        """The container's directory in the hierarchy that has the controller."""
        tree = next(tree for tree in self.runtime.trees if controller in tree.controllers)
        return f"{tree.path}{self.linux['cgroupsPath']}"

    def setting(self, controller: str, name: str) -> str:
        with open(f"{self.cgroup(controller)}/{name}") as file:
            return file.read().strip()

    def is_kept(self) -> bool:
        """Whether the runtime keeps something of that name: mini-runtime, runc and crun have a directory each."""
        return self.id in (os.listdir(self.runtime.root) if os.path.isdir(self.runtime.root) else ())

    def close(self) -> None:
        if self.is_kept():
            self.attempt("delete", "--force")
        for path in self.cgroups():
            if os.path.isdir(path):
                _empty(path)
                os.rmdir(path)
        for path in reversed(self.mounts()):
            linux.umount2(path, linux.MNT_DETACH)
        linux.umount2(self.rootfs, linux.MNT_DETACH)
        shutil.rmtree(self.bundle)


Containers = Callable[[], Container]


def until(condition: Callable[[], Found | Literal[False]], seconds: float = 60) -> Found:
    """Waits for what a container does meanwhile, so long at most; what `condition` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{seconds} s have gone"
        time.sleep(0.01)
    return found


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal, or has blocked it, to read it (proc_pid_status(5))."""
    with open(f"/proc/{pid}/status") as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigCgt:", "SigBlk:"))]
    return any(mask & 1 << number - 1 for mask in masks)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def reported(out: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(out)
    return report


def install_probe(template: str) -> None:
    os.makedirs(os.path.dirname(template + PROBE), exist_ok=True)
    shutil.copy(f"{CHECKOUT}/tests/conformance/probe.py", template + PROBE)
    os.chmod(template + PROBE, 0o755)


def _spec(cgroup: str) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs"},
        "process": {
            "args": ["true"],
            "cwd": "/",
            "env": [PATH],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {name: [*CAPABILITIES] for name in ("bounding", "effective", "permitted")},
        },
        "mounts": copy.deepcopy(MOUNTS),
        "linux": {"cgroupsPath": cgroup, "namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def processes(cgroup: str) -> list[int]:
    with open(f"{cgroup}/cgroup.procs") as file:
        return [int(line) for line in file]


def _empty(cgroup: str) -> None:
    for pid in processes(cgroup):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(cgroup))


def _file(content: str = "") -> IO[str]:
    file = tempfile.TemporaryFile("w+", errors="replace")
    file.write(content)
    file.seek(0)
    return file


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
