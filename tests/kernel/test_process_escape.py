"""Ways out of a container, tried from the inside; what is asserted is the host's side."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.demo import hostimage
from engine.errors import RuntimeFault
from tests.support import requirements
from tests.support.conformance import until
from tests.support.process import Box

pytestmark = pytest.mark.requires("linux", "root")

LAUNCHER = f"{requirements.CHECKOUT}/tests/support/launcher.py"


# --- the interpreter (CVE-2019-5736) -----------------------------------------------------------------------------------

# Run by the host's Python in the container: opens its own binary, makes room for it to be written by executing something
# else, and tries for as long as mini may still be executing it.
OVERWRITE = """
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(fd, True)
code = '''if True:
    import os, time, errno
    for attempt in range(600):
        try:
            os.write(os.open("/proc/self/fd/%d", os.O_WRONLY), b"#!/bin/sh\\\\necho owned\\\\n")
            answer = "written"
        except OSError as e:
            answer = errno.errorcode[e.errno]
        if answer != "ETXTBSY":
            break
        time.sleep(0.05)
    open("/answer.tmp", "w").write(answer)
    os.rename("/answer.tmp", "/answer")
''' % fd
os.execv("/usr/bin/python3", ["python3", "-c", code])
"""


class Interpreter:
    """A copy of the Python that the image has too, which finds its library where the original does."""

    def __init__(self, directory: Path) -> None:
        original = os.path.realpath(shutil.which("python3", path=hostimage.PATH) or sys.executable)
        (directory / "bin").mkdir(parents=True)
        self.path = str(directory / "bin" / "python3")
        shutil.copy(original, self.path)
        (directory / "pyvenv.cfg").write_text(f"home = {os.path.dirname(original)}\n")
        self._before = self._digest()

    def _digest(self) -> bytes:
        return hashlib.sha256(Path(self.path).read_bytes()).digest()

    def is_unchanged(self) -> bool:
        return self._digest() == self._before

    def launch(self, mode: str, what: str, *args: str) -> str:
        command = [self.path, "-I", LAUNCHER, requirements.CHECKOUT, mode, what, *args]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    return Interpreter(tmp_path / "host")


class Hostile:
    """A container made by `interpreter`, which outlives its launcher as a child of nobody."""

    def __init__(self, box: Box, interpreter: Interpreter, mode: str, *args: str) -> None:
        box.process["args"] = list(args)
        self._answer = f"{box.upper}/answer"
        self.file = f"{box.directory}/wanted.json"
        with open(self.file, "w") as file:
            json.dump({"spec": box.spec, "rootfs": box.rootfs}, file)
        self.pid = int(interpreter.launch(mode, "run", self.file))
        self._pidfd = os.pidfd_open(self.pid)

    def answer(self) -> str:
        until(lambda: os.path.exists(self._answer))
        return Path(self._answer).read_text()

    def close(self) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self._pidfd)


@pytest.fixture
def hostile(box: Box, interpreter: Interpreter) -> Iterator[list[Hostile]]:
    made: list[Hostile] = []
    yield made
    for container in made:
        container.close()


@pytest.mark.parametrize(("mode", "answer"), [("protect", "EROFS"), ("trust", "written")])
@pytest.mark.parametrize("way", ["script", "link"])
def test_the_interpreter_as_entrypoint(
    box: Box, interpreter: Interpreter, hostile: list[Hostile], way: str, mode: str, answer: str
) -> None:
    """An image that has the host's Python executed within it. Without the protection the attack works: so it is one."""
    if way == "script":
        box.write("attack", f"#!/proc/self/exe\n{OVERWRITE}")
        args = ["/attack"]
    else:
        os.symlink("/proc/self/exe", f"{box.upper}/attack")
        args = ["/attack", "-c", OVERWRITE]
    container = Hostile(box, interpreter, mode, *args)
    hostile.append(container)
    assert container.answer() == answer
    assert interpreter.is_unchanged() == (mode == "protect")


DENY_OPEN_TREE = f"""if True:
    import os, struct, sys
    sys.path.insert(0, {requirements.CHECKOUT!r})
    from engine import linux
    lines = (0x20, 0, 0, 0), (0x15, 0, 1, 428), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)
    linux.seccomp_set_filter(b"".join(struct.pack("HBBI", *line) for line in lines))
    os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("kernel", ["with mount_setattr", "before Linux 5.12"])
def test_executing_again(interpreter: Interpreter, kernel: str) -> None:
    """It finds its library, its arguments and its environment again, and does it once."""
    script = (
        f"import sys; sys.path.insert(0, {requirements.CHECKOUT!r})\n"
        "from engine.runtime.process import protect\n"
        "protect.ensure_protected(sys.orig_argv)\n"
        "import json, os\n"
        "print(protect.is_protected(), sys.executable, sys.argv[1:], sys.flags.isolated, os.environ['KEPT'],\n"
        "    [name for name in os.environ if 'MINI' in name], os.readlink('/proc/self/exe'))\n"
    )
    command = [interpreter.path, "-I", "-c", script, "a", "b c"]
    if kernel != "with mount_setattr":
        command = [sys.executable, "-c", DENY_OPEN_TREE, *command]
    environ = {name: value for name, value in os.environ.items() if "MINI" not in name} | {"KEPT": "yes"}
    result = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    expected = f"True {interpreter.path} ['a', 'b c'] 1 yes []"
    assert result.stdout.startswith(expected), result.stderr
    assert ("/memfd:" in result.stdout) == (kernel == "before Linux 5.12")


# Run as the container's first process: waits for whoever joins, and tries everything that /proc shows of it.
LIE_IN_WAIT = """if True:
    import errno, os, re, time

    def privileges(pid):
        status = open(f"/proc/{pid}/status").read()
        return int(re.search(r"CapPrm:\\s*(\\w+)", status)[1], 16) | int(re.search(r"CapBnd:\\s*(\\w+)", status)[1], 16)

    target = tuple(map(int, os.environ["INTERPRETER"].split()))
    reached, seen, kept = set(), set(), []
    own = os.stat("/")
    granted = privileges("self")

    def look(pid, name):
        path = f"/proc/{pid}/{name}"
        if name in ("cwd", "root"):
            if not os.path.samestat(os.stat(path), own):
                seen.add("ESCAPED")
        elif name in ("fd", "map_files"):
            for entry in os.listdir(path):
                os.stat(f"{path}/{entry}")
                if os.path.isdir(f"{path}/{entry}"):
                    seen.add("ESCAPED")
        else:
            fd = os.open(path, os.O_RDONLY)
            try:
                if name == "exe":
                    met = os.fstat(fd)
                    if (met.st_dev, met.st_ino) != target:
                        return False
                    seen.add("met")
                    kept.append(os.dup(fd))
            finally:
                os.close(fd)
        return b"launcher" in open(f"/proc/{pid}/cmdline", "rb").read()

    while not os.path.exists("/shared/enough"):
        if seen & {"met", "EACCES", "EPERM"}:
            open("/shared/met", "w").close()
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or pid == "1":
                continue
            try:
                if privileges(pid) & ~granted:
                    seen.add("PRIVILEGED")
            except OSError:
                pass
            for name in ("exe", "mem", "cwd", "root", "fd", "map_files", "environ"):
                try:
                    if look(pid, name):
                        reached.add(name)
                except OSError as e:
                    if name == "exe":
                        seen.add(errno.errorcode[e.errno])
    for fd in kept:  # nobody executes it any more, so it is busy no longer
        try:
            os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
            seen.add("WRITABLE")
        except OSError as e:
            seen.add(errno.errorcode[e.errno])
    open("/answer.tmp", "w").write(" ".join(sorted(reached)) + "|" + " ".join(sorted(seen)))
    os.rename("/answer.tmp", "/answer")
    time.sleep(60)
"""


@pytest.mark.parametrize("ptrace", [False, True])
def test_exec_into_a_container_that_waits_for_it(
    box: Box, interpreter: Interpreter, hostile: list[Hostile], ptrace: bool
) -> None:
    """By default nothing of the joining process can be looked at. With CAP_SYS_PTRACE it can: then its binary is read-only,
    and it never holds a privilege, a root, a directory or a descriptor that the container does not have."""
    if ptrace:
        for names in box.process["capabilities"].values():
            names.append("CAP_SYS_PTRACE")
    shared = Path(box.directory) / "shared"
    shared.mkdir()
    box.mount("/shared", "bind", str(shared), "rbind")
    info = os.stat(interpreter.path)
    box.process["env"] = [f"PATH={hostimage.PATH}", f"INTERPRETER={info.st_dev} {info.st_ino}"]
    container = Hostile(box, interpreter, "protect", "python3", "-c", LIE_IN_WAIT)
    hostile.append(container)
    launches = 0
    # the kernel may let nobody look at the right moment
    while launches < 20 or not (shared / "met").exists() and launches < 300:
        interpreter.launch("protect", "exec", container.file, str(container.pid))
        launches += 1
    (shared / "enough").touch()
    reached, seen = (set(words.split()) for words in container.answer().split("|"))
    assert interpreter.is_unchanged()
    assert seen.isdisjoint({"WRITABLE", "ESCAPED", "PRIVILEGED"})
    if ptrace:
        assert {"met", "EROFS"} <= seen
    else:
        assert "EACCES" in seen or "EPERM" in seen, "the attacker met nobody: this proves nothing"
        assert "met" not in seen and reached == set()


def test_nothing_is_imported_from_the_container(box: Box) -> None:
    """An image with mini's own modules, and the standard library's, at the places where the host has them."""
    for directory in (requirements.CHECKOUT, os.path.dirname(os.__file__)):
        for name in ("engine/__init__", "traceback", "subprocess", "linecache", "encodings/idna", "shutil"):
            box.write(f"{directory[1:]}/{name}.py", "open('/imported', 'w').close()\n")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    for args in (["true"], ["nosuch"], ["/etc/motd"]):
        try:
            box.run(*args)
        except RuntimeFault:
            pass
    assert not os.path.exists(f"{box.upper}/imported")


# --- descriptors and the working directory (CVE-2024-21626) ------------------------------------------------------------


def test_no_descriptor_of_the_host(box: Box) -> None:
    """Not even one that the caller forgot to close, and not as its own program or directory."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        out = box.sh("ls -l /proc/self/fd; ls -d /proc/self/fd/[0-9]*/etc 2>/dev/null || true")
        assert [line.partition("-> ")[2] for line in out.splitlines() if "-> /" in line] in (
            ["/dev/null", "/proc/1/fd"],
            ["/dev/null", *[line.partition("-> ")[2] for line in out.splitlines() if "-> /proc/" in line]],
        )
        first = box.start("sleep", "60")
        for number in range(3, 12):
            box.process["cwd"] = f"/proc/self/fd/{number}"
            with pytest.raises(RuntimeFault):
                box.create("pwd")
            with pytest.raises(RuntimeFault):
                box.spawn(first, "pwd")
    finally:
        os.close(leak)


def test_the_hosts_dev_null_is_not_handed_in(box: Box) -> None:
    before = os.stat("/dev/null")
    box.sh("chmod 600 /proc/self/fd/0; chown 7:7 /proc/self/fd/0")  # standard input is the host's, as given
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)


# --- symlinks in the root (CVE-2019-19921, CVE-2021-30465, CVE-2025-31133, -52565, -52881) ----------------------------------


@pytest.fixture
def host_directory(tmp_path: Path) -> Path:
    """Where each link of a hostile image points to: as an absolute path it exists on the host only."""
    directory = tmp_path / "of-the-host"
    directory.mkdir()
    (directory / "file").write_text("the host's")
    return directory


def _is_untouched(directory: Path) -> bool:
    return sorted(os.listdir(directory)) == ["file"] and (directory / "file").read_text() == "the host's"


def _replace(box: Box, name: str, target: str) -> None:
    path = f"{box.upper}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


@pytest.mark.parametrize("depth", ["", "../../../../../../../../../.."])
def test_dev_is_a_link(box: Box, host_directory: Path, depth: str) -> None:
    _replace(box, "dev", f"{depth}{host_directory}")
    before = Path("/proc/self/mountinfo").read_text()
    box.process["terminal"] = True
    process = box.create("sh", "-c", "echo > /dev/x")
    process.start()
    process.wait()
    process.close()
    assert _is_untouched(host_directory)
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_or_sys_is_a_link(box: Box, host_directory: Path, name: str) -> None:
    _replace(box, name, str(host_directory))
    with pytest.raises(RuntimeFault, match=f"at /{name}: it is a symbolic link, not a directory"):
        box.create("true")
    assert _is_untouched(host_directory)


@pytest.mark.parametrize("destination", ["/proc", "/proc/", "/x/../proc", "/link", "/proc/sys", "/link/self/attr"])
def test_nothing_is_mounted_over_proc(box: Box, host_directory: Path, destination: str) -> None:
    """CVE-2019-16884: a volume there (an image's VOLUME) would stand for what the kernel tells and asks."""
    _replace(box, "link", "/proc")
    box.mount(destination, "bind", str(host_directory), "rbind")
    with pytest.raises(RuntimeFault, match=f"cannot mount {host_directory} at {destination}: it is inside /proc"):
        box.create("true")
    box.spec["mounts"][-1] = {"destination": destination, "type": "tmpfs", "source": "tmpfs"}
    with pytest.raises(RuntimeFault, match=f"cannot mount tmpfs at {destination}: it is inside /proc"):
        box.create("true")


def test_some_files_of_proc_may_be_replaced(box: Box, host_directory: Path) -> None:
    box.mount("/proc/uptime", "bind", str(host_directory / "file"), "rbind", "ro")
    assert box.run("cat", "/proc/uptime").out == "the host's"
    box.spec["mounts"][-1] = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
    assert box.run("cat", "/proc/1/comm").out.strip() == Path("/proc/1/comm").read_text().strip()


def test_mount_points_are_links(box: Box, host_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "one").write_text("bound")
    _replace(box, "data", str(host_directory))
    _replace(box, "etc/hosts", f"{host_directory}/new")
    _replace(box, "work", f"../../../..{host_directory}/deeper")
    box.mount("/data", "bind", str(tmp_path / "source"), "rbind")
    box.mount("/etc/hosts", "bind", str(tmp_path / "one"), "rbind")
    box.process["cwd"] = "/work"
    assert box.sh("cat /etc/hosts; touch /data/x; touch x; pwd").endswith(f"{host_directory}/deeper\n")
    assert "x" in os.listdir(tmp_path / "source")
    assert _is_untouched(host_directory)


def test_masked_and_read_only_paths_are_links(box: Box, host_directory: Path) -> None:
    _replace(box, "masked-file", f"{host_directory}/file")
    _replace(box, "masked-directory", str(host_directory))
    _replace(box, "fixed", str(host_directory))
    box.linux["maskedPaths"] += ["/masked-file", "/masked-directory"]
    box.linux["readonlyPaths"] += ["/fixed"]
    box.run("true")
    assert _is_untouched(host_directory)
    (host_directory / "still-writable").touch()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_masks_are_not_made_of_a_false_null_device(box: Box, host_directory: Path, kind: str) -> None:
    """CVE-2025-31133: what is bound over a masked file must be the null device, or nothing runs."""
    if kind == "link":
        _replace(box, "dev/null", "/proc/sys/kernel/core_pattern")
    else:
        box.write("dev/null", "x")
    box.spec["mounts"] = [m for m in box.spec["mounts"] if not m["destination"].startswith("/dev")]
    box.linux["maskedPaths"] = ["/etc/motd"]
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    with pytest.raises(RuntimeFault):
        box.sh("echo owned > /etc/motd")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


def test_the_console_is_a_link(box: Box, host_directory: Path) -> None:
    """CVE-2025-52565: the pty must not be bound over what a link names."""
    _replace(box, "dev/console", "/proc/sys/kernel/hostname")
    box.spec["mounts"] = [m for m in box.spec["mounts"] if m["destination"] != "/dev"]
    box.process["terminal"] = True
    with pytest.raises(RuntimeFault, match="too many levels of symbolic links"):
        box.create("true")


def test_kernel_parameters_are_not_written_through_the_image(box: Box, host_directory: Path) -> None:
    """CVE-2025-52881: a /proc of the image's own making is not where sysctls go."""
    box.spec["mounts"] = [m for m in box.spec["mounts"] if m["destination"] != "/proc"]
    box.linux["maskedPaths"] = box.linux["readonlyPaths"] = []
    _replace(box, "proc/sys/kernel/msgmax", f"{host_directory}/file")
    box.linux["sysctl"] = {"kernel.msgmax": "4096"}
    box.run("true")
    assert _is_untouched(host_directory)


def test_restrictions_hold_for_root(box: Box) -> None:
    box.mount("/nodev", "tmpfs", "tmpfs", "nodev")
    script = """
        for path in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity; do
            (echo 0 > $path) 2>/dev/null && echo WROTE $path
        done
        umount /proc/sys 2>/dev/null && echo UNMOUNTED
        mount -o remount,rw /sys 2>/dev/null && echo REMOUNTED
        mknod /nodev/zero c 1 5 && head -c 1 /nodev/zero 2>/dev/null && echo OPENED
        cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c
        ls /sys/firmware | wc -l
    """
    assert box.run("sh", "-c", script).out.split() == ["0", "0"]
