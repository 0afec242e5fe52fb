"""What a process finds when init has made it a container's, and what the host has left when that failed."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import host, linux
from engine.errors import CommandNotExecutable, CommandNotFound, RuntimeFault
from engine.runtime import rootfs
from engine.runtime.cgroups.manager import Cgroup, detect
from tests.support.process import Box

pytestmark = pytest.mark.requires("linux", "root")

NAMESPACES = ("pid", "ipc", "uts", "mnt", "net", "cgroup")


def mount_table(text: str) -> list[tuple[str, str, str]]:
    """(target, type, options) of each line of a mountinfo, the mount's options only."""
    rows = []
    for line in text.splitlines():
        left, right = line.split(" - ")
        rows.append((left.split()[4], right.split()[0], left.split()[5]))
    return rows


# --- what the program finds ------------------------------------------------------------------------------------------


def test_namespaces_are_its_own(box: Box) -> None:
    out = box.sh(f"echo $$; hostname; cd /proc/self/ns; readlink {' '.join(NAMESPACES)}; ls /sys/class/net")
    pid, hostname, *links = out.split()
    assert (pid, hostname) == ("1", "box")
    assert links[len(NAMESPACES) :] == ["lo"] or "lo" in links[len(NAMESPACES) :]
    for name, link in zip(NAMESPACES, links, strict=False):
        assert link.startswith(name) and link != os.readlink(f"/proc/self/ns/{name}")


def test_mounts_are_dockers(box: Box) -> None:
    table = mount_table(box.run("cat", "/proc/self/mountinfo").out)
    assert [row[:2] for row in table[:1]] == [("/", "overlay")]
    expected = [
        ("/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
        ("/dev", "tmpfs", "rw,nosuid"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec,relatime"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
        ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec,relatime"),
        ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
        ("/proc/sys", "proc", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/keys", "tmpfs", "rw,nosuid"),
        ("/sys/firmware", "tmpfs", "ro,relatime"),
    ]
    assert [row for row in expected if row not in table and os.path.exists(row[0])] == []


def test_devices_and_links(box: Box) -> None:
    out = box.sh("cd /dev; stat -c '%n %t:%T %a %u:%g' null zero full random urandom tty; readlink fd stdin ptmx; ls")
    assert out.splitlines()[:6] == [
        "null 1:3 666 0:0",
        "zero 1:5 666 0:0",
        "full 1:7 666 0:0",
        "random 1:8 666 0:0",
        "urandom 1:9 666 0:0",
        "tty 5:0 666 0:0",
    ]
    assert out.splitlines()[6:9] == ["/proc/self/fd", "/proc/self/fd/0", "pts/ptmx"]
    assert "vda" not in out and "mem" not in out


def test_a_device_of_the_spec(box: Box) -> None:
    device = {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600, "uid": 3, "gid": 4}
    box.linux["devices"] = [device]
    assert box.run("stat", "-c", "%t:%T %a %u:%g", "/dev/net/tun").out == "a:c8 600 3:4\n"


def test_a_fresh_process(box: Box) -> None:
    """Signals as after login, three descriptors, its own session, umask 022."""
    script = """if True:
        import os, re
        status = open("/proc/self/status").read()
        print(re.findall(r"^(?:SigBlk|SigIgn|NoNewPrivs|Seccomp):\\s*(\\w+)", status, re.M), os.getsid(0), oct(os.umask(0)))
        print(sorted(os.listdir("/proc/self/fd"))[:4], os.getcwd(), os.environ["PATH"])
    """
    first, second = box.python(script).splitlines()
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25)
    assert first == "['0000000000000000', '0000000001001000', '0', '0'] 1 0o22"
    assert second.startswith("['0', '1', '2', '3'] / /usr")
    ignored = re.search(r"SigIgn:\s*(\w+)", box.run("cat", "/proc/self/status").out)
    assert ignored and int(ignored[1], 16) == 0


def test_capabilities_of_root_and_of_a_user(box: Box) -> None:
    def sets() -> dict[str, int]:
        out = box.run("cat", "/proc/self/status").out
        return {name: int(value, 16) for name, value in re.findall(r"^Cap(\w+):\s*(\w+)", out, re.M)}

    granted = 0xA80425FB & _own_bounding()
    assert sets() == {"Inh": 0, "Prm": granted, "Eff": granted, "Bnd": granted, "Amb": 0}
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert sets() == {"Inh": 0, "Prm": 0, "Eff": 0, "Bnd": granted, "Amb": 0}
    box.process["capabilities"]["inheritable"] = box.process["capabilities"]["ambient"] = ["CAP_NET_BIND_SERVICE"]
    assert sets() == {"Inh": 1 << 10, "Prm": 1 << 10, "Eff": 1 << 10, "Bnd": granted, "Amb": 1 << 10}


def _own_bounding() -> int:
    with open("/proc/self/status") as file:
        found = re.search(r"CapBnd:\s*(\w+)", file.read())
    assert found
    return int(found[1], 16)


def test_capabilities_that_the_engine_lacks_are_left_out(box: Box) -> None:
    from engine.runtime.defaults import ALL_CAPABILITIES

    box.process["capabilities"] = {name: list(ALL_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    out = box.run("cat", "/proc/self/status").out
    assert f"CapEff:\t{_own_bounding():016x}" in out


def test_user_groups_and_its_stdout(box: Box) -> None:
    box.process["user"] = {"uid": 1234, "gid": 5, "additionalGids": [29, 50], "umask": 0o077}
    out = box.sh("id -u; id -g; id -G; umask; echo reopened > /dev/stdout")
    assert out.split() == ["1234", "5", "5", "29", "50", "0077", "reopened"]


def test_the_callers_groups_do_not_stay(box: Box) -> None:
    before = os.getgroups()
    os.setgroups([0, 4, 27])
    try:
        assert box.run("id", "-G").out == "0\n"
    finally:
        os.setgroups(before)


def test_working_directory_is_made(box: Box) -> None:
    box.process["cwd"] = "/srv/new/place"
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.spec["root"]["readonly"] = True
    assert box.sh("pwd; stat -c '%a %u' .").split() == ["/srv/new/place", "755", "0"]


def test_limits_oom_score_and_no_new_privs(box: Box) -> None:
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]
    box.process["oomScoreAdj"] = 321
    box.process["noNewPrivileges"] = True
    out = box.sh("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status")
    assert out.split() == ["64", "128", "321", "NoNewPrivs:", "1"]


def test_kernel_parameters_of_its_namespaces_only(box: Box) -> None:
    before = Path("/proc/sys/kernel/msgmax").read_text(), Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    box.linux["sysctl"] = {"kernel.msgmax": "4096", "net.ipv4.ip_default_ttl": "33"}
    assert box.sh("cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl").split() == ["4096", "33"]
    after = Path("/proc/sys/kernel/msgmax").read_text(), Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    assert after == before


def _deny(number: int) -> bytes:
    """A filter by which the system call `number` fails with EDOM."""
    instruction = struct.Struct("HBBI")
    load, equal, give = 0x20, 0x15, 0x06
    return b"".join(
        instruction.pack(*line)
        for line in (
            (load, 0, 0, 0),
            (equal, 0, 1, number),
            (give, 0, 0, 0x00050000 | errno.EDOM),
            (give, 0, 0, 0x7FFF0000),
        )
    )


@pytest.mark.parametrize("uid", [0, 1000])
def test_seccomp_filter_without_no_new_privs(box: Box, uid: int) -> None:
    """Loaded with CAP_SYS_ADMIN, which the program does not get; setuid is denied to the program, not to mini."""
    setresuid = {"x86_64": 117, "aarch64": 147}[os.uname().machine]
    box.process["user"] = {"uid": uid, "gid": 0}
    box.options["seccomp"] = (_deny(setresuid), 0)
    script = "import os, errno\ntry: os.setresuid(5, 5, 5)\nexcept OSError as e: print(errno.errorcode[e.errno])\n"
    script += "print([l.split()[1] for l in open('/proc/self/status') if l[:8] in ('Seccomp:', 'NoNewPri')])"
    assert box.python(script).split("\n") == ["EDOM", "['0', '2']", ""]


def test_read_only_root(box: Box) -> None:
    box.spec["root"]["readonly"] = True
    assert box.sh("touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo writable").split() == [
        "refused",
        "writable",
    ]
    assert not os.path.exists(f"{box.upper}/x")


def test_terminal(box: Box) -> None:
    box.process["terminal"] = True
    box.process["consoleSize"] = {"height": 41, "width": 99}
    box.process["user"] = {"uid": 1000, "gid": 1000}
    process = box.create("sh", "-c", "tty; stty size; echo to the tty > /dev/tty; stat -c '%t %u' /dev/console; exit 7")
    assert process.console >= 0
    process.start()
    out = b""
    while True:
        try:
            out += os.read(process.console, 1024)
        except OSError as e:  # the slave's last descriptor is closed
            assert e.errno == errno.EIO
            break
    assert out.decode().split("\r\n") == ["/dev/pts/0", "41 99", "to the tty", "88 1000", ""]
    assert os.waitstatus_to_exitcode(process.wait()) == 7
    process.close()


def test_time_namespace(box: Box) -> None:
    box.linux["namespaces"].append({"type": "time"})
    box.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    ours = float(Path("/proc/uptime").read_text().split()[0])
    theirs = float(box.run("cat", "/proc/uptime").out.split()[0])
    assert 1000000 <= theirs - ours < 1000120
    assert os.readlink("/proc/self/ns/time_for_children") == os.readlink("/proc/self/ns/time").replace("self", "")


def test_joined_network_namespace(box: Box) -> None:
    for entry in box.linux["namespaces"]:
        if entry["type"] == "network":
            entry["path"] = "/proc/self/ns/net"
    assert box.run("readlink", "/proc/self/ns/net").out.strip() == os.readlink("/proc/self/ns/net")


def test_a_mount_namespace_is_joined_that_has_no_cgroups(box: Box) -> None:
    """All that leads into the container, its other namespaces and its cgroup, is found where the caller is."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "--uts", "sh", "-c", "umount -l /sys; hostname other; echo; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout and holder.stdout.readline()
    mounts, uts = f"/proc/{holder.pid}/ns/mnt", f"{box.directory}/uts"
    Path(uts).touch()
    linux.mount(f"/proc/{holder.pid}/ns/uts", uts, None, linux.MS_BIND)  # the holder has an empty file there
    paths = {"mount": {"path": mounts}, "uts": {"path": uts}}
    box.linux["namespaces"] = [entry | paths.get(entry["type"], {}) for entry in box.linux["namespaces"]]
    del box.spec["hostname"]
    cgroup = Cgroup(detect(), f"/mini-test-process/{os.getpid()}")
    cgroup.create()
    box.options["cgroup"] = cgroup
    box.spec["mounts"] = [entry for entry in box.spec["mounts"] if entry["type"] != "cgroup"]
    before = Path("/proc/self/mountinfo").read_text()
    try:
        first = box.start("sleep", "60")
        assert cgroup.pids() == [first.pid]
        out = box.exec(first, "sh", "-c", "readlink /proc/self/ns/mnt; hostname").out
        assert out.split() == [os.readlink(mounts), "other"]
        table = mount_table(box.exec(first, "cat", "/proc/self/mountinfo").out)
        assert table[0][:2] == ("/", "overlay") and len([row for row in table if row[0] == "/proc"]) == 1
        assert Path("/proc/self/mountinfo").read_text() == before
    finally:
        box.close()
        cgroup.delete()
        holder.communicate(b"")
        linux.umount2(uts, 0)


def test_its_own_cgroup(box: Box) -> None:
    cgroup = Cgroup(detect(), f"/mini-test-process/{os.getpid()}")
    cgroup.create()
    box.options["cgroup"] = cgroup
    try:
        first = box.start("sleep", "60")
        assert cgroup.pids() == [first.pid]
        for pid in ("1", "self"):
            out = box.exec(first, "cat", f"/proc/{pid}/cgroup").out
            assert {line.rpartition(":")[2] for line in out.splitlines()} == {"/"}
        table = mount_table(box.exec(first, "cat", "/proc/self/mountinfo").out)
        mounted = [row for row in table if row[1].startswith("cgroup")]
        assert mounted and all("ro" in options.split(",") for _, _, options in mounted)
        box.close()
        assert cgroup.pids() == []
    finally:
        box.close()
        cgroup.delete()


# --- mounts ----------------------------------------------------------------------------------------------------------


def test_bind_mounts(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "file").write_text("content")
    box.mount("/made/for/it", "bind", str(source), "rbind", "ro")
    box.mount("/etc/one", "bind", str(source / "file"), "rbind")
    out = box.sh("cat /etc/one; touch /made/for/it/x 2>&1 | grep -o Read-only; echo more >> /etc/one")
    assert out == "contentRead-only\n"
    assert (source / "file").read_text() == "contentmore\n"
    assert sorted(os.listdir(source)) == ["file", "inner"]


@pytest.mark.parametrize(("option", "below"), [("ro", "writable"), ("rro", "refused")])
def test_read_only_below(box: Box, tmp_path: Path, option: str, below: str) -> None:
    """`ro` leaves what is mounted below writable, as with Docker's `ro,bind-nonrecursive`… and `rro` does not."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    linux.mount("tmpfs", str(source / "inner"), "tmpfs")
    try:
        box.mount("/data", "bind", str(source), "rbind", option)
        out = box.sh(
            "touch /data/x 2>/dev/null || echo refused; touch /data/inner/x 2>/dev/null && echo writable || echo refused"
        )
        assert out.split() == ["refused", below]
    finally:
        linux.umount2(str(source / "inner"), linux.MNT_DETACH)


def test_read_only_dev(box: Box) -> None:
    box.spec["mounts"][1]["options"].append("ro")
    box.process["terminal"] = False
    out = box.sh(
        "ls /dev/null; touch /dev/x 2>/dev/null || echo refused; echo > /dev/null; touch /dev/shm/x && echo writable"
    )
    assert out.split() == ["/dev/null", "refused", "writable"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory on a mount that is shared, as all are on a host with systemd."""
    place = tmp_path / "shared"
    place.mkdir()
    linux.mount("tmpfs", str(place), "tmpfs")
    linux.mount(None, str(place), None, linux.MS_SHARED)
    (place / "rootfs").mkdir()
    (place / "data").mkdir()
    yield place
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (point := line.split()[4]).startswith(str(place)):
            linux.umount2(point, linux.MNT_DETACH)


@pytest.mark.parametrize("propagation", [None, "rshared", "rprivate", "slave"])
def test_a_shared_host_sees_nothing(box: Box, shared: Path, propagation: str | None) -> None:
    if propagation:
        box.linux["rootfsPropagation"] = propagation
    box.spec["root"]["path"] = str(shared / "rootfs")
    box.mount("/data", "bind", str(shared / "data"), "rbind", "rprivate")
    before = Path("/proc/self/mountinfo").read_text()
    first = box.start("sleep", "60")
    assert Path("/proc/self/mountinfo").read_text() == before
    first.abandon()
    assert Path("/proc/self/mountinfo").read_text() == before  # and ending it unmounted nothing


def test_propagation_of_a_bind(box: Box, shared: Path) -> None:
    """`rslave`: what the host mounts later appears. `rshared` with a shared root: what the container mounts appears outside."""
    for names in box.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    box.linux["rootfsPropagation"] = "rshared"
    box.mount("/slave", "bind", str(shared / "data"), "rbind", "rslave")
    box.mount("/shared", "bind", str(shared), "rbind", "rshared")
    first = box.start("sleep", "60")
    linux.mount("tmpfs", str(shared / "data"), "tmpfs")
    (shared / "data/from-the-host").touch()
    assert "from-the-host" in box.exec(first, "ls", "/slave").out
    assert box.exec(first, "mount", "-t", "tmpfs", "none", "/shared/rootfs").code == 0
    assert f"{shared}/rootfs" in Path("/proc/self/mountinfo").read_text()


def test_a_mount_point_that_is_a_dangling_link(box: Box, tmp_path: Path) -> None:
    """/etc/resolv.conf of an image that expects systemd: its target is made, inside."""
    box.write("etc/.keep", "")
    os.symlink("../run/systemd/resolve/stub-resolv.conf", f"{box.upper}/etc/resolv.conf")
    (tmp_path / "resolv").write_text("nameserver 192.0.2.1\n")
    box.mount("/etc/resolv.conf", "bind", str(tmp_path / "resolv"), "rbind", "rprivate")
    assert box.run("cat", "/etc/resolv.conf").out == "nameserver 192.0.2.1\n"
    assert os.path.exists(f"{box.upper}/run/systemd/resolve/stub-resolv.conf")


def test_tmpfs_keeps_the_directorys_mode_and_copies_up(box: Box) -> None:
    box.write("srv/data/inner/file", "here", 0o640)
    os.symlink("inner/file", f"{box.upper}/srv/data/link")
    os.chown(f"{box.upper}/srv/data/inner/file", 7, 8)
    os.chmod(f"{box.upper}/srv/data", 0o751)
    box.mount("/srv/data", "tmpfs", "tmpfs", "tmpcopyup")
    box.mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec")
    box.mount("/fresh", "tmpfs", "tmpfs", "size=1m")
    out = box.sh(
        "stat -c %a /srv/data /tmp /fresh; stat -c '%a %u:%g' /srv/data/inner/file; cat /srv/data/link; rm -r /srv/data/*"
    )
    assert out.split() == ["751", "1777", "1777", "640", "7:8", "here"]
    assert os.path.exists(f"{box.upper}/srv/data/inner/file")


def test_long_paths_of_an_overlay(box: Box, tmp_path: Path) -> None:
    """fsconfig(2) takes 255 bytes a value; these are 300 each."""
    deep = tmp_path / ("d" * 150) / ("e" * 150)
    for name in ("upper", "work"):
        (deep / name).mkdir(parents=True)
    assert isinstance(box.rootfs, list)
    box.rootfs[0]["options"] = [f"lowerdir={box.template}", f"upperdir={deep}/upper", f"workdir={deep}/work"]
    box.sh("echo yes > /written")
    assert (deep / "upper/written").read_text() == "yes\n"


@pytest.mark.parametrize("version", [None, (6, 1)])
def test_many_directories_in_an_overlay(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int] | None
) -> None:
    """Their names together are longer than fsconfig(2) takes, and the directories of old kernels have no `lowerdir+`."""
    if version:
        monkeypatch.setattr(host, "kernel_version", lambda: version)
    layers = [tmp_path / f"{n:064}" for n in range(40)]
    for n, layer in enumerate(layers):
        layer.mkdir()
        (layer / "which").write_text(f"{n}")
    assert isinstance(box.rootfs, list)
    options = box.rootfs[0]["options"]
    lowers = ":".join([*map(str, layers), box.template])
    box.rootfs[0]["options"] = [f"lowerdir={lowers}" if o.startswith("lowerdir=") else o for o in options]
    assert box.sh("cat /which") == "0"


def test_the_root_may_be_a_plain_directory(box: Box, template: str) -> None:
    box.rootfs = []
    box.spec["root"] = {"path": template, "readonly": True}
    assert box.run("cat", "/etc/motd").out.startswith("an image")


def test_nothing_is_mounted_for_the_host(box: Box) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    process = box.start("sleep", "60")
    assert Path("/proc/self/mountinfo").read_text() == before
    assert os.listdir(box.spec["root"]["path"]) == []
    process.abandon()


def test_nothing_of_the_host_is_left_mounted(box: Box) -> None:
    table = mount_table(box.run("cat", "/proc/self/mountinfo").out)
    with open("/proc/self/mountinfo") as file:
        here = {row[0] for row in mount_table(file.read())}
    known = {"/", "/proc", "/dev", "/sys"}
    assert {target for target, _, _ in table if not target.startswith(tuple(known - {"/"})) and target != "/"} == set()
    assert here  # the comparison above is not with nothing


def test_without_pivot_root(box: Box) -> None:
    """The way of an initramfs, which pivot_root(2) cannot replace: in a child, for it cannot be undone."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWNS)
            rootfs.isolate("", box.spec["root"]["path"])
            assert isinstance(box.rootfs, list)
            root = rootfs.assemble(box.rootfs, box.spec["root"]["path"])
            os.fchdir(root)
            rootfs._move_over_root()
            names = " ".join(sorted(os.listdir("/"))) + " " + os.getcwd() + " " + " ".join(os.listdir("/../../proc"))
            os.write(writer, names.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        out = file.read()
    os.waitpid(pid, 0)
    assert out.split()[-1] == "/" and "motd" not in out and "proc" in out.split()


# --- the gate, and failures ------------------------------------------------------------------------------------------


def test_nothing_runs_before_start(box: Box) -> None:
    process = box.create("touch", "/ran")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    assert not os.path.exists(f"{box.upper}/ran")
    process.start()
    assert process.wait() == 0
    assert os.path.exists(f"{box.upper}/ran")
    process.close()


@pytest.mark.parametrize("moment", ["while it mounts", "while it waits"])
def test_it_ends_with_its_parent(box: Box, moment: str) -> None:
    """SIGKILL to whoever makes a container, before the program runs: nothing of it is left running."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:

        def network(pid: int) -> None:
            if moment == "while it mounts":
                os.write(writer, str(pid).encode())
                signal.pause()

        try:
            process = box.create("sleep", "60", network=network)
            os.write(writer, str(process.pid).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as file:
        pidfd = os.pidfd_open(int(file.read(16)))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    ended, _, _ = select.select([pidfd], [], [], 20)
    os.close(pidfd)
    assert ended


def test_exit_and_signal(box: Box) -> None:
    assert box.run("sh", "-c", "exit 3").code == 3
    process = box.start("sleep", "60")
    process.kill(signal.SIGTERM)  # PID 1 without a handler: ignored
    assert os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOHANG) is None
    process.kill(signal.SIGKILL)
    assert os.waitstatus_to_exitcode(process.wait()) == -signal.SIGKILL
    process.kill(signal.SIGKILL)  # harmless: it names the process, not the number
    process.close()


def test_network_runs_beside_init(box: Box) -> None:
    seen: list[str] = []

    def network(pid: int) -> None:
        seen.append(os.readlink(f"/proc/{pid}/ns/net"))

    out = box.run("readlink", "/proc/self/ns/net", network=network).out
    assert [out.strip()] == seen


def _change(path: str, value: Any) -> Callable[[Box], None]:
    """Sets `a.b.c` of the spec."""

    def change(box: Box) -> None:
        *parents, last = path.split(".")
        place: Any = box.spec
        for key in parents:
            place = place[key]
        place[last] = value

    return change


def _mount(destination: str, kind: str, source: str, *options: str) -> Callable[[Box], None]:
    return lambda box: box.mount(destination, kind, source, *options)


FAILURES: list[tuple[str, Callable[[Box], None], type[RuntimeFault], str, str]] = [
    ("source", _mount("/x", "bind", "/no/such", "rbind"), RuntimeFault, "mount", "cannot mount /no/such at /x: no such file"),
    ("type", _mount("/x", "nofs", "none"), RuntimeFault, "mount", "cannot mount nofs at /x: no such device"),
    ("option", _mount("/x", "tmpfs", "tmpfs", "size=abc"), RuntimeFault, "mount", "invalid argument (tmpfs: Bad value for 'size')"),
    ("sysctl", _change("linux.sysctl", {"vm.swappiness": "1"}), RuntimeFault, "sysctl", 'sysctl "vm.swappiness" is not in a'),
    ("sysctl ..", _change("linux.sysctl", {"net/../vm/x": "1"}), RuntimeFault, "sysctl", "is not in a separate kernel namespace"),
    ("rlimit", _change("process.rlimits", [{"type": "X", "soft": 1, "hard": 1}]), RuntimeFault, "rlimit", "no such resource limit"),
    ("uid", _change("process.user", {"uid": 2**32 - 1, "gid": 0}), RuntimeFault, "user", "not a uid: 4294967295"),
    ("uid", _change("process.user", {"uid": 0, "gid": 2**32}), RuntimeFault, "user", "not a gid: 4294967296"),
    ("root", _change("root.path", "/no/such"), RuntimeFault, "rootfs", "cannot use /no/such as a root file system: no such file"),
    ("env", _change("process.env", ["PATH"]), RuntimeFault, "exec", "not an environment variable: 'PATH'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kind", "step", "message"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_failures_say_what_and_leave_nothing(
    box: Box, change: Callable[[Box], None], kind: type[RuntimeFault], step: str, message: str
) -> None:
    change(box)
    with pytest.raises(kind) as caught:
        box.create("true")
    assert message in caught.value.message
    assert caught.value.step == step


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        (["nosuch"], CommandNotFound, 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], CommandNotFound, 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["./etc/motd/x"], CommandNotFound, 'exec: "./etc/motd/x": stat ./etc/motd/x: not a directory'),
        (["/etc/motd"], CommandNotExecutable, 'exec: "/etc/motd": permission denied'),
        (["/etc"], CommandNotExecutable, 'exec: "/etc": is a directory'),
        (["motd"], CommandNotFound, 'exec: "motd": executable file not found in $PATH'),
        ([], CommandNotFound, "no command specified"),
        (["/bad"], CommandNotExecutable, "exec /bad: exec format error"),
        (["/lost"], CommandNotFound, "exec /lost: no such file or directory"),
    ],
)
def test_programs_that_cannot_run(box: Box, args: list[str], kind: type[RuntimeFault], message: str) -> None:
    box.write("bad", "neither a script nor a binary\n")
    box.write("lost", "#!/no/interpreter\n")
    box.process["env"] = ["PATH=/etc:/usr/bin"]
    with pytest.raises(kind) as caught:
        box.create(*args).start()
    assert (caught.value.message, caught.value.exit_code) == (message, 127 if kind is CommandNotFound else 126)


def test_search_is_the_users(box: Box) -> None:
    """What only root may execute is not found by another user."""
    box.write("opt/tool", "#!/bin/sh\necho ran\n", 0o700)
    box.process["env"] = ["PATH=/opt:/usr/bin:/bin"]
    assert box.run("tool").out == "ran\n"
    box.process["user"] = {"uid": 1000, "gid": 1000}
    with pytest.raises(CommandNotFound):
        box.create("tool")
    with pytest.raises(CommandNotExecutable):
        box.create("/opt/tool")


def test_a_network_that_fails(box: Box) -> None:
    def network(pid: int) -> None:
        raise RuntimeFault("network", "no address left")

    with pytest.raises(RuntimeFault, match="no address left"):
        box.create("true", network=network)


def test_an_init_that_fails_while_it_is_given_its_network(box: Box) -> None:
    """Its error is the cause, not that its network namespace is gone."""
    box.mount("/x", "bind", "/no/such/source", "bind")

    def network(pid: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        open(f"/proc/{pid}/ns/net").close()

    with pytest.raises(RuntimeFault, match="/no/such/source"):
        box.create("true", network=network)


def test_an_init_that_is_killed(box: Box) -> None:
    def network(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(RuntimeFault, match="first process was killed by signal 9 before its program ran") as caught:
        box.create("true", network=network)
    assert caught.value.hint and "memory" in caught.value.hint


def test_a_caller_with_threads_cannot_come_back_from_a_time_namespace_and_leaves_nothing(box: Box) -> None:
    """Descriptors and children are counted by this module's fixtures."""
    box.linux["namespaces"].append({"type": "time"})
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeFault, match="cannot fork into the new namespaces: too many users"):
            box.create("true")
    finally:
        done.set()
        thread.join()
        while len(os.listdir("/proc/self/task")) > 1:  # it returns before the kernel has done with the thread
            os.sched_yield()
        # the pytest process itself must not stay in it
        with open("/proc/self/ns/time") as own:
            linux.setns(own.fileno(), linux.CLONE_NEWTIME)
