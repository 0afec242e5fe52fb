"""config-linux.md, "Default Filesystems", "Devices", "Masked Paths", "Readonly Paths", "Sysctl"; runtime-linux.md's symlinks."""

from __future__ import annotations

import os
import stat

import pytest

from tests.support.conformance import Container

# Default Filesystems


@pytest.mark.parametrize(
    ("path", "kind"), [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")]
)
def test_default_file_systems(container: Container, path: str, kind: str) -> None:
    """Default Filesystems: "The following filesystems SHOULD be made available in each container's filesystem"."""
    assert {mount["target"]: mount["type"] for mount in container.report()["mounts"]}[path] == kind


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ],
)
def test_symbolic_links(container: Container, path: str, target: str) -> None:
    """runtime-linux.md, Dev symbolic links: "runtimes MUST create the following symlinks if the source file exists"."""
    assert container.report()["dev"][path]["target"] == target


def test_a_new_devpts_is_its_own(container: Container) -> None:
    """Default Devices: "`/dev/ptmx`. A bind-mount or symlink of the container's `/dev/pts/ptmx`"."""
    assert container.python("import os; os.open('/dev/ptmx', os.O_RDWR); tell(os.listdir('/dev/pts'))") == ["0", "ptmx"]


# Default Devices


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/dev/null", [1, 3]),
        ("/dev/zero", [1, 5]),
        ("/dev/full", [1, 7]),
        ("/dev/random", [1, 8]),
        ("/dev/urandom", [1, 9]),
        ("/dev/tty", [5, 0]),
    ],
)
def test_default_devices(container: Container, path: str, number: list[int]) -> None:
    """Default Devices: "the runtime MUST also supply"."""
    found = container.report()["dev"][path]
    assert (found["type"], found["device"], found["mode"], found["owner"]) == ("c", number, 0o666, [0, 0])


def test_ptmx(container: Container) -> None:
    found = container.report()["dev"]["/dev/ptmx"]
    assert found["target"] in ("pts/ptmx", "/dev/pts/ptmx") or found["device"] == [5, 2]


def test_no_console_without_a_terminal(container: Container) -> None:
    """Default Devices: "`/dev/console` is set up if `terminal` is enabled"."""
    assert "/dev/console" not in container.report()["dev"]


def test_default_devices_can_be_opened(container: Container) -> None:
    names = ("null", "zero", "full", "random", "urandom")
    assert container.python(f"tell([outcome(open, f'/dev/{{name}}', 'r+b', 0) for name in {names}])") == ["ok"] * 5


def test_a_device_of_the_hosts_is_not_there(container: Container) -> None:
    assert not [path for path, found in container.report()["dev"].items() if found["type"] == "b"]


# Devices


@pytest.mark.parametrize("kind", ["c", "u"])
def test_a_device(container: Container, kind: str) -> None:
    """Devices: "`devices` (array of objects, OPTIONAL) lists devices that MUST be available in the container"."""
    container.linux["devices"] = [
        {"path": "/dev/fuse", "type": kind, "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 29}
    ]
    found = container.report()["dev"]["/dev/fuse"]
    assert (found["type"], found["device"], found["mode"], found["owner"]) == ("c", [10, 229], 0o640, [5, 29])


def test_a_block_device(container: Container) -> None:
    """Devices: "`type` (string, REQUIRED) - type of device: `c`, `b`, `u` or `p`"."""
    container.linux["devices"] = [{"path": "/dev/disk", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600}]
    found = container.report()["dev"]["/dev/disk"]
    assert (found["type"], found["device"]) == ("b", [7, 200])


def test_a_fifo(container: Container) -> None:
    """Devices: "`major, minor` (int64, REQUIRED unless `type` is `p`)"."""
    container.linux["devices"] = [{"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]
    found = container.report()["dev"]["/dev/pipe"]
    assert (found["type"], found["mode"]) == ("p", 0o622)


@pytest.mark.parametrize("path", ["/dev/deep/er/device", "/opt/device"])
def test_a_device_anywhere(container: Container, path: str) -> None:
    """Devices: "The path MAY be anywhere in the container filesystem, notably outside of `/dev`"."""
    container.linux["devices"] = [{"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    assert container.sh(f"echo x > {path}; stat -c %F {path}") == "character special file\n"


def test_the_mode_is_not_masked(container: Container) -> None:
    """Devices: "`fileMode`" is the mode, whatever the caller's umask."""
    container.linux["devices"] = [{"path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o777}]
    old = os.umask(0o077)
    try:
        assert container.report()["dev"]["/dev/own"]["mode"] == 0o777
    finally:
        os.umask(old)


@pytest.mark.differs(runc="leaves what is there", crun="leaves what is there")
def test_a_device_where_something_else_is(container: Container) -> None:
    """Devices: "If a file already exists at `path` that does not match the requested device, … MUST generate an error"."""
    with open(f"{container.upper}/own", "w"):
        pass
    container.linux["devices"] = [{"path": "/own", "type": "c", "major": 1, "minor": 3}]
    container.refused()


@pytest.mark.differs(crun="takes it for a character device")
def test_a_device_of_no_kind(container: Container) -> None:
    container.linux["devices"] = [{"path": "/dev/own", "type": "x", "major": 1, "minor": 3}]
    container.refused()


def test_a_device_is_not_made_through_a_symlink(container: Container) -> None:
    """A path is one "inside container": a link of the image's does not lead out."""
    outside = container.directory("outside")
    os.symlink(outside, f"{container.upper}/link")
    container.linux["devices"] = [{"path": "/link/device", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    container.attempt("create")
    assert os.listdir(outside) == []


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/dev/tty", (5, 0)),
        pytest.param("/dev/null", (1, 3), marks=pytest.mark.differs(runc="denies it to itself, then")),
    ],
)
def test_a_default_device_that_is_listed(container: Container, path: str, number: tuple[int, int]) -> None:
    """It is the same; without `fileMode` that of the default one."""
    container.linux["devices"] = [{"path": path, "type": "c", "major": number[0], "minor": number[1]}]
    found = container.report()["dev"][path]
    assert (found["device"], found["mode"]) == ([*number], 0o666)


def test_ptmx_that_is_listed(container: Container) -> None:
    """Default Devices: /dev/ptmx stays the container's own."""
    container.linux["devices"] = [{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]
    assert container.python("os.open('/dev/ptmx', os.O_RDWR); tell(os.listdir('/dev/pts'))") == ["0", "ptmx"]


MAPPED = pytest.mark.differs(
    runc="binds the host's device of that name", crun="masks its mode, or wants the host's device"
)


@pytest.mark.parametrize("host", [None, pytest.param(0, marks=MAPPED), pytest.param(100000, marks=MAPPED)])
@pytest.mark.parametrize("kind", ["b", "c"])
def test_a_device_of_any_name(container: Container, kind: str, host: int | None) -> None:
    """Devices: mode and owner as they are given, in a user namespace as well, and where the host has none of that name."""
    if host is not None:
        container.user_namespace(host, 65536)
    container.linux["devices"] = [
        {"path": "/dev/own", "type": kind, "major": 1, "minor": 5, "uid": 10, "gid": 11, "fileMode": 0o157}
    ]
    found = container.report()["dev"]["/dev/own"]
    assert (found["type"], found["device"]) == (kind, [1, 5])
    assert (found["mode"], found["owner"]) == (0o157, [10, 11])


def test_the_hosts_dev(container: Container) -> None:
    """Bound into the container, it has the host's devices, and the rules of the cgroup hold for them."""
    container.mount("/dev", "bind", "/dev", "rbind", "rw")
    container.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    assert container.python("tell([outcome(open, path, 'rb') for path in ('/dev/null', '/dev/kmsg')])") == [
        "ok",
        "EPERM",
    ]


# Masked Paths


def test_a_masked_file(container: Container) -> None:
    """Masked Paths: "will mask over the provided paths inside the container so that they cannot be read"."""
    container.linux["maskedPaths"] = ["/etc/passwd"]
    assert container.python("tell(open('/etc/passwd').read())") == ""


def test_a_masked_directory(container: Container) -> None:
    container.linux["maskedPaths"] = ["/usr/local"]
    script = "tell([os.listdir('/usr/local'), outcome(os.mkdir, '/usr/local/new')])"
    assert container.python(script) == [[], "EROFS"]


def test_a_masked_path_that_is_missing(container: Container) -> None:
    container.linux["maskedPaths"] = ["/no/such/path"]
    assert container.run("true").code == 0


def test_masked_paths_of_proc(container: Container) -> None:
    container.linux["maskedPaths"] = ["/proc/uptime", "/proc/version", "/proc/bus", "/sys/kernel"]
    assert container.sh("cat /proc/uptime /proc/version; ls -A /proc/bus /sys/kernel | grep -v :$ | cat") == "\n"


@pytest.mark.parametrize("kind", ["maskedPaths", "readonlyPaths"])
def test_a_path_that_is_a_symlink_out(container: Container, kind: str) -> None:
    """Nothing of the host's is changed by what an image has at a masked path (CVE-2025-31133's kind)."""
    outside = container.directory("outside", "file")
    os.symlink(f"{outside}/file", f"{container.upper}/link")
    container.linux[kind] = ["/link"]
    container.attempt("run")
    with open(f"{outside}/file") as file:
        assert file.read() == "file"
    assert container.mounts() == []


# Readonly Paths


def test_a_readonly_directory(container: Container) -> None:
    """Readonly Paths: "will set the provided paths as readonly inside the container"."""
    container.linux["readonlyPaths"] = ["/usr/local"]
    script = "tell([outcome(os.mkdir, '/usr/local/new'), outcome(os.mkdir, '/usr/new')])"
    assert container.python(script) == ["EROFS", "ok"]


def test_a_readonly_file(container: Container) -> None:
    container.linux["readonlyPaths"] = ["/etc/passwd"]
    assert container.python("attempt(open, '/etc/passwd', 'a')") == "EROFS"


def test_a_readonly_path_that_is_missing(container: Container) -> None:
    container.linux["readonlyPaths"] = ["/no/such/path"]
    assert container.run("true").code == 0


def test_a_readonly_path_of_proc(container: Container) -> None:
    container.linux["readonlyPaths"] = ["/proc/sys"]
    assert container.python("attempt(open, '/proc/sys/net/ipv4/ip_forward', 'w')") == "EROFS"


def test_a_readonly_path_stays_readable(container: Container) -> None:
    container.linux["readonlyPaths"] = ["/etc"]
    assert "root" in container.sh("cat /etc/passwd")


def test_a_path_that_is_masked_and_readonly(container: Container) -> None:
    container.linux["readonlyPaths"] = container.linux["maskedPaths"] = ["/usr/local"]
    assert container.python("tell(os.listdir('/usr/local'))") == []


NODES = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "p": stat.S_IFIFO}


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("how", ["maskedPaths", "readonlyPaths"])
def test_a_path_of_any_type(container: Container, how: str, kind: str) -> None:
    """Block and character devices and FIFOs are masked, or read-only, as files are."""
    os.mknod(f"{container.upper}/node", NODES[kind] | 0o666, os.makedev(1, 3))
    container.linux[how] = ["/node"]
    found = container.python(
        "it = os.stat('/node')\ntell([stat.S_IFMT(it.st_mode), outcome(os.chmod, '/node', 0o600)])"
    )
    assert found[0] == (stat.S_IFCHR if how == "maskedPaths" else NODES[kind])
    assert found[1] == ("EROFS" if how == "readonlyPaths" else found[1])


@pytest.mark.parametrize("how", ["maskedPaths", "readonlyPaths"])
def test_a_path_below_another_of_them(container: Container, how: str) -> None:
    """A directory, and directories and files in it, all at once."""
    os.makedirs(f"{container.upper}/top/sub")
    for path in ("top/file", "top/sub/file", "file"):
        with open(f"{container.upper}/{path}", "w") as file:
            file.write("secret")
    paths = ["/top", "/file", "/top/sub", "/top/file", "/top/sub/file"]
    container.linux[how] = paths
    if how == "maskedPaths":
        script = "tell([os.listdir('/top'), open('/file').read()])"
        assert container.python(script) == [[], ""]
    else:
        script = f"tell([outcome(os.utime, path) for path in {paths}])"
        assert container.python(script) == ["EROFS"] * 5


@pytest.mark.differs(runc="takes it from the root", crun="takes it from the root")
@pytest.mark.parametrize("how", ["maskedPaths", "readonlyPaths"])
def test_a_relative_path(container: Container, how: str) -> None:
    """Masked Paths, Readonly Paths: "The values MUST be absolute paths in the container namespace"."""
    container.linux[how] = ["etc/passwd"]
    container.refused()


@pytest.mark.parametrize("how", ["maskedPaths", "readonlyPaths"])
def test_a_path_that_is_a_symlink_to_itself(container: Container, how: str) -> None:
    """Nothing that can be masked is there: an error, or nothing is done."""
    os.symlink("../loop", f"{container.upper}/loop")
    container.linux[how] = ["/loop"]
    done = container.run("readlink", "/loop")
    assert done.code != 0 or done.out == "../loop\n"


def test_what_is_masked_stays_masked(container: Container) -> None:
    """Whoever is root inside cannot unmount it, without CAP_SYS_ADMIN."""
    container.linux["maskedPaths"] = ["/usr/local", "/etc/passwd"]
    script = "tell([outcome(call, 'umount2', path, 2) for path in (b'/usr/local', b'/etc/passwd')])"
    assert container.python(script) == ["EPERM", "EPERM"]


# Sysctl


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.core.somaxconn", "321"),
        ("net.ipv4.ip_local_port_range", "30000\t30100"),
        ("kernel.msgmax", "9000"),
        ("kernel.shmmax", "12345678"),
        ("fs.mqueue.msg_max", "20"),
        ("kernel.domainname", "example.test"),
        ("net/ipv4/ip_forward", "1"),
    ],
)
def test_sysctl(container: Container, name: str, value: str) -> None:
    """Sysctl: "`sysctl` (object, OPTIONAL) allows kernel parameters to be modified at runtime for the container"."""
    container.linux["sysctl"] = {name: value}
    assert container.sh(f"cat /proc/sys/{name.replace('.', '/')}") == f"{value}\n"


@pytest.mark.parametrize(
    "name", ["vm.swappiness", "kernel.pid_max", "nonsense.name", "kernel.nonsense", "fs.nonsense", "kernel.hostname"]
)
def test_a_sysctl_of_the_hosts(container: Container, name: str) -> None:
    """One that no namespace has would change the host: refused."""
    container.linux["sysctl"] = {name: "1000"}
    container.refused()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("network", "net.ipv4.ip_forward"),
        ("network", "net.ipv4.ping_group_range"),
        ("ipc", "kernel.msgmax"),
        ("ipc", "fs.mqueue.queues_max"),
        ("uts", "kernel.domainname"),
    ],
)
def test_a_sysctl_of_a_namespace_that_is_the_hosts(container: Container, kind: str, name: str) -> None:
    """The same, where the container shares the host's namespace."""
    container.without_namespace(kind)
    container.spec["mounts"] = [entry for entry in container.spec["mounts"] if entry["destination"] != "/sys"]
    path = f"/proc/sys/{name.replace('.', '/')}"
    with open(path) as file:
        value = file.read().strip()
    container.linux["sysctl"] = {name: value}
    container.refused()


# The container's files are its own


def test_what_it_makes_is_its_users(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.sh("echo > /tmp/mine")
    it = os.stat(f"{container.upper}/tmp/mine")
    assert (it.st_uid, it.st_gid, stat.S_IMODE(it.st_mode)) == (1000, 1000, 0o644)


def test_proc_is_of_its_pid_namespace(container: Container) -> None:
    assert container.sh("cat /proc/1/cmdline | tr '\\0' ' '").startswith("sh -ec")
