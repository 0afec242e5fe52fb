"""A container in a user namespace, new or joined: its root is somebody without rights on the host; and made by such a somebody."""

from __future__ import annotations

import os
import re
import resource
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import linux
from engine.errors import RuntimeFault
from engine.runtime import idmap
from engine.runtime.cgroups.manager import Cgroup, detect
from engine.runtime.process.userns import map_ids
from tests.support.process import Box

pytestmark = pytest.mark.requires("linux", "root")

FIRST, COUNT = 100_000, 65536
RANGES = [{"containerID": 0, "hostID": FIRST, "size": COUNT}]
ALL = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_NET_ADMIN",
    "CAP_SYS_TIME",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_DAC_OVERRIDE",
]


def may_raise_limits() -> bool:
    return bool(linux.capget()[0] >> 24 & 1)


def mapped(box: Box) -> Box:
    """A root that belongs to the container's root, as whoever uses user namespaces has to bring it along."""
    template = linux.open_tree(linux.AT_FDCWD, box.template, linux.OPEN_TREE_CLONE)
    idmap.apply(template, [(0, FIRST, COUNT)], [(0, FIRST, COUNT)], False, box.template)
    box.rootfs = template
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = RANGES
    return box


@pytest.fixture
def userbox(box: Box, template: str, tmp_path: Path) -> Iterator[Box]:
    """With a root of its own to write to, and that nobody else may reach."""
    copy = tmp_path / "private" / "root"
    shutil.copytree(template, copy, symlinks=True)
    for name in (copy.parent, tmp_path):
        name.chmod(0o700)
    box.template = str(copy)
    mapped(box)
    yield box
    if isinstance(box.rootfs, int):
        os.close(box.rootfs)


def again(box: Box) -> Box:
    """A detached mount is used up by a container."""
    assert isinstance(box.rootfs, int)
    os.close(box.rootfs)
    template = linux.open_tree(linux.AT_FDCWD, box.template, linux.OPEN_TREE_CLONE)
    idmap.apply(template, [(0, FIRST, COUNT)], [(0, FIRST, COUNT)], False, box.template)
    box.rootfs = template
    return box


# --- a new one -------------------------------------------------------------------------------------------------------


def test_root_is_somebody_else_on_the_host(userbox: Box) -> None:
    out = userbox.sh(
        "id -u; id -g; id -G; cat /proc/self/uid_map /proc/self/gid_map; echo > /file; stat -c %u:%g /file"
    )
    uid, gid, groups, uid_map, gid_map, owner = out.splitlines()
    assert (uid, gid, groups, owner) == ("0", "0", "0", "0:0")
    assert uid_map.split() == gid_map.split() == ["0", str(FIRST), str(COUNT)]
    first = again(userbox).start("sleep", "60")
    info = os.stat(f"/proc/{first.pid}")
    assert (info.st_uid, info.st_gid) == (FIRST, FIRST)
    with open(f"/proc/{first.pid}/status") as file:
        status = file.read()
    assert re.search(r"^Groups:\s*$", status, re.M), "the caller's groups are gone"


def test_it_owns_the_other_namespaces(userbox: Box) -> None:
    """What root of a user namespace may do in others is what they are owned for: mount, set names, and set the network up."""
    userbox.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), ALL)
    userbox.spec["domainname"] = "inside"
    script = """
        mkdir -p /mnt /p; mount -t tmpfs none /mnt; mount -t proc none /p; hostname other; hostname; cat /proc/sys/kernel/domainname
        ls /p | grep -c '^1$'; unshare -p -f true; unshare -C true; echo fine"""
    assert userbox.sh(script).split() == ["other", "inside", "1", "fine"]


def test_it_has_no_rights_on_the_host(userbox: Box, tmp_path: Path) -> None:
    """All capabilities in there do not reach a file of the host's root, a sysctl or another's process."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    userbox.mount("/secret", "bind", str(secret), "bind")
    userbox.process["capabilities"] = {name: [*ALL, "CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    userbox.linux["readonlyPaths"] = []
    script = """
        cat /secret || echo no file; chown 0 /secret || echo no owner; echo x > /proc/sys/kernel/core_pattern || echo no sysctl
        mknod /sda b 8 0 || echo no device; umount /secret || echo no unmount"""
    out = userbox.run("sh", "-c", script).out
    for word in ("no file", "no owner", "no sysctl", "no device"):
        assert word in out
    assert (secret.stat().st_uid, secret.read_text()) == (0, "secret")


def test_the_hosts_devices_are_bound(userbox: Box) -> None:
    out = userbox.sh(
        "echo x > /dev/null; head -c1 /dev/zero | wc -c; stat -c %t:%T /dev/null /dev/tty; readlink /dev/stdin"
    )
    assert out.split() == ["1", "1:3", "5:0", "/proc/self/fd/0"]


def test_a_device_is_what_it_was_listed_as(userbox: Box) -> None:
    """Whatever the host's of that name is."""
    userbox.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 8, "fileMode": 0o640, "gid": 4}]
    assert userbox.sh("stat -c %t:%T:%a:%u:%g /dev/kmsg; head -c1 /dev/kmsg | wc -c").split() == ["1:8:640:0:4", "1"]


def test_standard_output_can_be_opened(userbox: Box) -> None:
    for uid in (0, 33):
        userbox.process["user"] = {"uid": uid, "gid": uid}
        assert again(userbox).sh("echo hi > /dev/stdout") == "hi\n"


def test_sources_in_directories_that_it_cannot_reach(userbox: Box, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "file").write_text("found")
    hidden.chmod(0o755)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    userbox.mount("/data", "bind", str(hidden), "rbind", "ro", "nosuid", "noatime")
    out = userbox.sh("cat /data/file; grep ' /data ' /proc/self/mountinfo")
    assert out.startswith("found") and " ro,nosuid,noatime " in out


def test_masked_and_read_only(userbox: Box) -> None:
    userbox.spec["root"]["readonly"] = True
    out = userbox.run("sh", "-c", "cat /proc/keys; ls /sys/firmware; echo > /proc/sys/kernel/x; echo > /file").out
    assert "Read-only file system" in out and "/file" in out


def test_the_hosts_sysfs_where_the_network_is_the_hosts(userbox: Box) -> None:
    userbox.linux["namespaces"] = [entry for entry in userbox.linux["namespaces"] if entry["type"] != "network"]
    out = userbox.sh("ls /sys/kernel | head -1; grep ' /sys ' /proc/self/mountinfo; touch /sys/x 2>&1 || true")
    assert " ro,nosuid,nodev,noexec," in out and "Read-only file system" in out


def test_limits_and_scores(userbox: Box) -> None:
    userbox.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 600, "hard": 700}]
    userbox.process["oomScoreAdj"] = 500
    out = userbox.sh("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj")
    assert out.split() == ["600", "700", "500"]


@pytest.mark.skipif(not may_raise_limits(), reason="needs CAP_SYS_RESOURCE")
def test_a_limit_that_only_the_host_may_raise(userbox: Box) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard - 1))
    userbox.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]
    assert userbox.sh("ulimit -Hn") == f"{hard}\n"


def test_time_offsets(userbox: Box) -> None:
    userbox.linux["namespaces"].append({"type": "time"})
    userbox.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 86400, "nanosecs": 5}}
    out = userbox.sh("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime")
    assert out.split()[:6] == ["monotonic", "86400", "5", "boottime", "1000000", "0"]
    assert int(out.split()[6]) >= 1_000_000 + time.clock_gettime(time.CLOCK_BOOTTIME) - 100


def test_kernel_parameters_of_its_network(userbox: Box) -> None:
    userbox.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "7", "kernel.msgmax": "9000"}
    out = userbox.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax")
    assert out.split() == ["7", "9000"]


def test_a_cgroup_of_its_own(userbox: Box) -> None:
    cgroup = Cgroup(detect(), f"/mini-test-userns/{os.getpid()}")
    cgroup.create()
    userbox.options["cgroup"] = cgroup
    try:
        first = userbox.start("sleep", "60")
        assert cgroup.pids() == [first.pid]
        out = userbox.exec(first, "cat", "/proc/self/cgroup").out
        assert {line.rpartition(":")[2] for line in out.splitlines()} == {"/"}
    finally:
        userbox.close()
        cgroup.delete()


def test_its_cgroup_where_the_cgroup_namespace_is_the_hosts(userbox: Box) -> None:
    if not detect().v2:
        pytest.skip("needs a hierarchy of cgroup v2")
    userbox.linux["namespaces"] = [entry for entry in userbox.linux["namespaces"] if entry["type"] != "cgroup"]
    userbox.mount("/mnt", "cgroup2", "cgroup", "ro", "nosuid", "nodev", "noexec")
    with pytest.raises(RuntimeFault, match="cannot mount cgroup2 at /mnt: operation not permitted"):
        userbox.create("true")
    again(userbox)
    cgroup = Cgroup(detect(), f"/mini-test-userns/{os.getpid()}")
    cgroup.create()
    shown = f"{detect().v2}{cgroup.path}"
    os.makedirs(shown, exist_ok=True)  # on a hybrid host the runtime has nothing to do there
    userbox.options["cgroup"] = cgroup
    try:
        assert userbox.sh("stat -c %i /mnt; ls /mnt/cgroup.procs").split() == [
            str(os.stat(shown).st_ino),
            "/mnt/cgroup.procs",
        ]
    finally:
        userbox.close()
        cgroup.delete()
        if os.path.isdir(shown):
            os.rmdir(shown)
            os.rmdir(os.path.dirname(shown))


def test_terminal(userbox: Box) -> None:
    userbox.process["terminal"] = True
    first = userbox.start("sh", "-c", "stat -c %u:%g $(tty); tty; exec sleep 60")
    seen = b""
    while b"pts/0" not in seen:
        seen += os.read(first.console, 100)
    assert seen.split() == [b"0:5", b"/dev/pts/0"]


@pytest.mark.parametrize(
    "uids, message",
    [
        (
            [{"containerID": 0, "hostID": 1, "size": 9}, {"containerID": 5, "hostID": 100, "size": 9}],
            "cannot write the uid_map",
        ),
        ([{"containerID": 1, "hostID": 1, "size": 9}], "cannot become root of the user namespace: invalid argument"),
    ],
)
def test_maps_that_cannot_be(userbox: Box, uids: list[dict[str, int]], message: str) -> None:
    userbox.linux["uidMappings"] = uids
    with pytest.raises(RuntimeFault, match=message):
        userbox.create("true")


# --- exec, and one that is joined --------------------------------------------------------------------------------------


def test_exec_joins_it(userbox: Box) -> None:
    first = userbox.start("sleep", "60")
    out = userbox.exec(first, "sh", "-c", "id -u; readlink /proc/self/ns/user; echo hi > /dev/stdout").out
    assert out.split() == ["0", os.readlink(f"/proc/{first.pid}/ns/user"), "hi"]
    out = userbox.exec(first, "sh", "-c", "id -u; echo hi > /dev/stdout", user={"uid": 33, "gid": 33}).out
    assert out.split() == ["33", "hi"]
    limits = [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 700}]
    assert userbox.exec(first, "sh", "-c", "ulimit -n; ulimit -Hn", rlimits=limits).out.split() == ["9", "700"]


def test_exec_has_a_terminal(userbox: Box) -> None:
    first = userbox.start("sleep", "60")
    second = userbox.spawn(first, "sh", "-c", "stat -c %u:%g $(tty); exec sleep 60", terminal=True)
    second.start()
    assert os.read(second.console, 100).split() == [b"0:5"]


def test_one_is_joined_by_its_path(userbox: Box, box: Box) -> None:
    """As a pod's containers are: all namespaces of the first but that of mounts."""
    first = userbox.start("sleep", "60")
    for entry in userbox.linux["namespaces"]:
        if entry["type"] in ("user", "network", "ipc", "uts", "pid"):
            entry["path"] = f"/proc/{first.pid}/ns/{'net' if entry['type'] == 'network' else entry['type']}"
    out = again(userbox).sh("id -u; readlink /proc/self/ns/user /proc/self/ns/net /proc/self/ns/pid; cat /proc/1/comm")
    assert out.split() == [
        "0",
        *(os.readlink(f"/proc/{first.pid}/ns/{name}") for name in ("user", "net", "pid")),
        "sleep",
    ]


def test_one_is_joined_with_the_mounts_that_it_owns(userbox: Box) -> None:
    holder = subprocess.Popen(
        ["unshare", "--user", "--mount", "sh", "-c", "echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout and holder.stdout.readline()
        map_ids(holder.pid, RANGES, RANGES)
        paths = {"user": f"/proc/{holder.pid}/ns/user", "mount": f"/proc/{holder.pid}/ns/mnt"}
        for entry in userbox.linux["namespaces"]:
            if entry["type"] in paths:
                entry["path"] = paths[entry["type"]]
        first = userbox.start("sleep", "60")
        out = userbox.exec(
            first, "sh", "-c", "id -u; readlink /proc/self/ns/user /proc/self/ns/mnt; ls /proc/1/root/"
        ).out
        assert out.split()[:3] == ["0", *(os.readlink(path) for path in paths.values())]
        assert "private" not in out and "etc" in out
        first.abandon()
    finally:
        holder.communicate(b"")


def test_a_failure_leaves_nothing(userbox: Box) -> None:
    userbox.mount("/data", "bind", "/nosuch", "bind")
    with pytest.raises(RuntimeFault, match="cannot mount /nosuch at /data: no such file or directory"):
        userbox.create("true")


# --- made by a user -----------------------------------------------------------------------------------------------------

USER = 1517


def as_user(work: Callable[[str], None]) -> str:
    """Runs `work(directory)` as a user whom this mount namespace's /etc/passwd and /etc/subuid know. What it raises, or `ok`."""
    directory = tempfile.mkdtemp(prefix="mini-user-", dir="/tmp")
    os.chown(directory, USER, USER)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "died"
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
            lines = {
                "passwd": f"somebody:x:{USER}:{USER}::/:/bin/sh",
                "group": f"somebody:x:{USER}:",
                "subuid": "somebody:200000:65536",
                "subgid": "somebody:200000:65536",
            }
            for name, line in lines.items():
                with open(f"{directory}/{name}", "w") as file, open(f"/etc/{name}") as old:
                    file.write(old.read() + line + "\n")
                linux.mount(f"{directory}/{name}", f"/etc/{name}", None, linux.MS_BIND)
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            linux.prctl(linux.PR_SET_DUMPABLE, 1)  # as after a login, which executes a program
            work(directory)
            said = "ok"
        except BaseException as e:
            said = f"{type(e).__name__}: {e} {getattr(e, 'hint', '')}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    os.waitpid(pid, 0)
    shutil.rmtree(directory)
    return said


@pytest.fixture
def public(template: str) -> Iterator[str]:
    """The template where every user reaches it."""
    directory = tempfile.mkdtemp(prefix="mini-template-", dir="/tmp")
    os.chmod(directory, 0o755)
    root = f"{directory}/root"
    shutil.copytree(template, root, symlinks=True)
    yield root
    shutil.rmtree(directory)


def rootless(directory: str, public: str, ranges: list[dict[str, int]]) -> Box:
    os.mkdir(f"{directory}/box")
    box = Box(public, f"{directory}/box")
    box.rootfs[0]["options"].append("userxattr")  # type: ignore[index]
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = ranges
    for m in box.spec["mounts"]:
        m["options"] = [word for word in m["options"] if not word.startswith("gid=")]
    return box


def test_a_user_maps_its_own_id(public: str) -> None:
    def work(directory: str) -> None:
        box = rootless(directory, public, [{"containerID": 0, "hostID": USER, "size": 1}])
        out = box.sh(
            "id -u; cat /proc/self/setgroups; echo > /file; echo hi > /dev/stdout; hostname; echo x > /dev/null"
        )
        assert out.split() == ["0", "deny", "hi", "box"], out
        first = box.start("sleep", "60")
        assert box.exec(first, "sh", "-c", "id -u; echo hi > /dev/stdout").out.split() == ["0", "hi"]
        box.process["user"]["additionalGids"] = [5]
        with pytest.raises(RuntimeFault, match="cannot become user 0:0: operation not permitted"):
            box.exec(first, "true")
        box.close()
        assert os.stat(f"{box.upper}/file").st_uid == USER

    assert as_user(work) == "ok"


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="needs newuidmap (apt install uidmap)")
def test_a_user_maps_its_subordinate_ids(public: str) -> None:
    ranges = [{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 65536}]

    def work(directory: str) -> None:
        box = rootless(directory, public, ranges)
        box.process["user"] = {"uid": 33, "gid": 33, "additionalGids": [44]}
        os.mkdir(f"{box.upper}/data")
        os.chmod(f"{box.upper}/data", 0o777)
        box.linux["namespaces"].append({"type": "time"})
        box.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
        out = box.sh("id -u; id -G; cat /proc/self/uid_map; grep boottime /proc/self/timens_offsets; echo > /data/file")
        assert out.split() == "33 33 44 0 1517 1 1 200000 65536 boottime 1000000 0".split(), out
        first = box.start("sleep", "60")
        assert box.exec(first, "sh", "-c", "id -G; echo hi > /dev/stdout").out.split() == ["33", "44", "hi"]
        box.close()
        assert os.stat(f"{box.upper}/data/file").st_uid == 200032

    assert as_user(work) == "ok"


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="needs newuidmap (apt install uidmap)")
def test_a_user_maps_no_others_ids(public: str) -> None:
    def work(directory: str) -> None:
        rootless(directory, public, [{"containerID": 0, "hostID": 0, "size": 9}]).create("true")

    said = as_user(work)
    assert said.startswith("RuntimeFault: newuidmap: ") and "/etc/subuid says which ids a user may map" in said
