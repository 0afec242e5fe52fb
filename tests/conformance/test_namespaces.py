"""config-linux.md, "Namespaces", "User namespace mappings", "Offset for Time Namespace"; config.md, "Hostname", "Domainname"."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.conformance import MOUNTS, PROBE, Container, Containers, reported

# The type in a configuration, and the file in /proc/PID/ns.
KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "user": "user"}
NO_TIME = pytest.mark.differs(runc="knows no time namespaces", crun="ends without a word in a time namespace")


@pytest.fixture
def other() -> Iterator[str]:
    """/proc/PID/ns of a process in namespaces of its own."""
    command = ["unshare", "--net", "--ipc", "--uts", "--pid", "--fork", "--cgroup", "--kill-child", "sh", "-c"]
    with subprocess.Popen(
        [*command, "hostname other; echo $$; exec sleep 600"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline()
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            child = file.read().split()[0]
        yield f"/proc/{child}/ns"
        process.kill()


# New ones


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "user"])
def test_a_new_namespace(container: Container, kind: str) -> None:
    """Namespaces: "If `path` is not specified, the runtime MUST create a new container namespace of type `type`"."""
    assert container.report()["namespaces"][KINDS[kind]] != os.readlink(f"/proc/self/ns/{KINDS[kind]}")


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "user", "time"])
def test_a_namespace_that_is_not_listed(container: Container, kind: str) -> None:
    """Namespaces: "If a namespace type is not specified …, the container MUST inherit the runtime namespace of that type"."""
    container.without_namespace(kind)
    if kind == "network":
        container.spec["mounts"] = [entry for entry in container.spec["mounts"] if entry["destination"] != "/sys"]
    name = KINDS.get(kind, kind)
    assert container.report()["namespaces"][name] == os.readlink(f"/proc/self/ns/{name}")


def test_the_hosts_pid_namespace(container: Container) -> None:
    """The same, of PIDs: the program has one of the host's."""
    container.without_namespace("pid")
    found = container.report()
    assert found["namespaces"]["pid"] == os.readlink("/proc/self/ns/pid")
    assert found["ids"]["pid"] > 1


def test_a_new_network_has_loopback_alone(container: Container) -> None:
    """Namespaces: "`network` the container will have its own network stack"; kernels add links, but not up (tunl0, sit0)."""
    script = (
        "tell([name for _, name in socket.if_nameindex() if int(open(f'/sys/class/net/{name}/flags').read(), 16) & 1])"
    )
    assert container.python(script) == ["lo"]


def test_loopback_is_up(container: Container) -> None:
    """What every program expects of it, and runtimes do."""
    container.python(
        "server = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(server.getsockname(), 5)\ntell('ok')"
    )


def test_a_new_pid_namespace_sees_its_own(container: Container) -> None:
    """Namespaces: "`pid` processes inside the container will only be able to see other processes inside the same"."""
    assert container.python("tell([name for name in os.listdir('/proc') if name.isdigit()])") == ["1"]


def test_a_new_cgroup_namespace_hides_the_path(container: Container) -> None:
    """Namespaces: "`cgroup` the container will have an isolated view of the cgroup hierarchy".

    Beside the controllers of version 1, runtimes leave a named hierarchy and the unified one alone.
    """
    lines = container.report()["cgroup"]
    others = [line for line in lines if ":name=" not in line and not line.startswith("0::")]
    assert {line.split(":", 2)[2] for line in others or lines} == {"/"}


# Joined ones


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_a_namespace_by_path(container: Container, other: str, kind: str) -> None:
    """Namespaces: "The runtime MUST place the container process in the namespace associated with that `path`"."""
    container.namespace(kind, f"{other}/{KINDS[kind]}")
    assert container.report()["namespaces"][KINDS[kind]] == os.readlink(f"{other}/{KINDS[kind]}")


def test_a_pid_namespace_by_path(container: Container, other: str) -> None:
    container.namespace("pid", f"{other}/pid")
    found = container.report()
    assert found["namespaces"]["pid"] == os.readlink(f"{other}/pid")
    assert found["ids"]["pid"] > 1


@pytest.fixture
def other_mounts() -> Iterator[str]:
    """A mount namespace of its own: a copy of the suite's."""
    command = ["unshare", "--mount", "--propagation", "private", "--kill-child", "--fork", "sh", "-c"]
    with subprocess.Popen([*command, "echo; exec sleep 600"], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        yield f"/proc/{process.pid}/ns/mnt"
        process.kill()


def test_a_mount_namespace_by_path(container: Container, other_mounts: str) -> None:
    """The same, of mounts. The container's root becomes the root there, as in one of its own."""
    container.namespace("mount", other_mounts)
    before = container.mounts()
    found = container.report()
    assert found["namespaces"]["mnt"] == os.readlink(other_mounts)
    assert [entry["target"] for entry in found["mounts"]] == ["/", *(m["destination"] for m in MOUNTS)]
    assert container.mounts() == before


def test_exec_in_a_mount_namespace_by_path(container: Container, other_mounts: str) -> None:
    container.namespace("mount", other_mounts)
    container.started("sleep", "60")
    found = reported(container.exec(PROBE).out)
    assert found["namespaces"]["mnt"] == os.readlink(other_mounts)
    assert found["mounts"][0]["target"] == "/" and found["mounts"][0]["type"] == "overlay"
    assert PROBE.split("/")[1] in {name.strip("/") for name in found["root"]}


@pytest.mark.parametrize("name", ["net", "uts"])
def test_a_path_of_another_type(container: Container, other: str, name: str) -> None:
    """Namespaces: "The runtime MUST generate an error if `path` is not associated with a namespace of type `type`"."""
    container.namespace("ipc", f"{other}/{name}")
    container.refused()


def test_a_path_that_is_no_namespace(container: Container) -> None:
    container.namespace("ipc", "/etc/passwd")
    container.refused()


def test_a_path_that_is_missing(container: Container) -> None:
    container.namespace("ipc", "/no/such/namespace")
    container.refused()


@pytest.mark.differs(crun="takes it relative to the bundle")
def test_a_path_is_absolute(container: Container, other: str) -> None:
    """Namespaces: "This value MUST be an absolute path in the runtime mount namespace"."""
    container.namespace("ipc", os.path.relpath(f"{other}/ipc", container.bundle))
    container.refused()


@pytest.mark.differs(crun="takes the last of them")
def test_a_namespace_twice(container: Container) -> None:
    """Namespaces: "If a `namespaces` field contains duplicated namespaces with same `type`, … MUST generate an error"."""
    container.linux["namespaces"] += [{"type": "uts"}]
    container.refused()


def test_a_namespace_that_nobody_knows(container: Container) -> None:
    container.linux["namespaces"] += [{"type": "nonsense"}]
    container.refused()


# Hostname, Domainname


@pytest.mark.parametrize("name", ["box", "a" * 64, "with.dots.example"])
def test_hostname(container: Container, name: str) -> None:
    """Hostname: "`hostname` (string, OPTIONAL) specifies the container's hostname"."""
    container.spec["hostname"] = name
    assert container.report()["hostname"] == name


def test_hostname_is_not_the_hosts(container: Container) -> None:
    before = os.uname().nodename
    container.spec["hostname"] = "inside"
    container.run("true")
    assert os.uname().nodename == before


def test_hostname_without_a_namespace(container: Container) -> None:
    """Hostname: the runtime's UTS namespace would be changed: refused rather than done."""
    container.without_namespace("uts")
    container.spec["hostname"] = os.uname().nodename
    container.refused()


def test_hostname_too_long(container: Container) -> None:
    container.spec["hostname"] = "a" * 65
    container.refused()


@pytest.mark.differs(runc="ignores domainname, of specification 1.1")
def test_domainname(container: Container) -> None:
    """Domainname: "`domainname` (string, OPTIONAL) specifies the container's domainname"."""
    container.spec["domainname"] = "example.test"
    assert container.report()["domainname"] == "example.test"


# User namespaces


def test_a_user_namespace(container: Container) -> None:
    """User namespace mappings: "`uidMappings` … describes the user namespace uid mappings from the host to the container"."""
    container.user_namespace(100000, 65536)
    found = container.report()
    assert found["namespaces"]["user"] != os.readlink("/proc/self/ns/user")
    assert found["uid_map"] == found["gid_map"] == [["0", "100000", "65536"]]


def test_the_host_sees_the_mapped_ids(container: Container) -> None:
    """User: "`uid` … specifies the user ID in the container namespace"."""
    container.user_namespace(100000, 65536)
    container.process["user"] = {"uid": 5, "gid": 7}
    container.started("sleep", "60")
    it = os.stat(f"/proc/{container.state()['pid']}")
    assert (it.st_uid, it.st_gid) == (100005, 100007)


def test_several_mappings(container: Container) -> None:
    """User namespace mappings: an array."""
    container.user_namespace()
    two = [{"containerID": 0, "hostID": 200000, "size": 10}, {"containerID": 10, "hostID": 300000, "size": 5}]
    container.linux["uidMappings"], container.linux["gidMappings"] = two, two[:1]
    found = container.report()
    assert found["uid_map"] == [["0", "200000", "10"], ["10", "300000", "5"]]
    assert found["gid_map"] == [["0", "200000", "10"]]


def test_root_in_a_user_namespace_owns_the_other_namespaces(container: Container) -> None:
    """So that it can set a host name, and mount (user_namespaces(7))."""
    container.user_namespace()
    for names in container.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    script = "socket.sethostname('mine')\nattempt(call, 'mount', b'tmpfs', b'/mnt', b'tmpfs', 0, None)"
    assert container.python(script) == "ok"


def test_a_user_namespace_has_its_devices(container: Container) -> None:
    """Default Devices, where mknod(2) is not allowed: bound from the host's."""
    container.user_namespace()
    assert container.sh("echo text > /dev/null; head -c 3 /dev/zero | wc -c") == "3\n"


@pytest.mark.parametrize("owned", ["user", "group"])
def test_the_containers_root_owns_nothing_of_the_hosts(container: Container, owned: str) -> None:
    """User namespace mappings: "The runtime SHOULD NOT modify the ownership of referenced filesystems"."""
    container.user_namespace()
    container.run("true")
    it = os.stat(f"{container.rootfs}/etc/passwd")
    assert (it.st_uid if owned == "user" else it.st_gid) == 0


def test_a_user_that_is_not_mapped(container: Container) -> None:
    container.user_namespace(100000, 10)
    container.process["user"] = {"uid": 11, "gid": 0}
    assert container.attempt("run").code != 0


def test_a_user_namespace_wants_mappings(container: Container) -> None:
    """Without them nobody is root there: refused rather than run as nobody."""
    container.namespace("user")
    container.process["args"] = ["id", "-u"]
    done = container.attempt("run")
    assert done.code != 0 or done.out == "0\n"


@pytest.mark.differs(runc="ignores them", crun="ignores them")
def test_mappings_without_a_user_namespace(container: Container) -> None:
    """What cannot be applied is an error (Create)."""
    mapping = [{"containerID": 0, "hostID": 100000, "size": 10}]
    container.linux["uidMappings"], container.linux["gidMappings"] = mapping, mapping
    container.refused()


@pytest.mark.parametrize(
    "host", [100000, pytest.param(200000, marks=pytest.mark.differs(runc="does not look", crun="does not look"))]
)
def test_mappings_of_a_user_namespace_by_path(containers: Containers, host: int) -> None:
    """User namespace mappings: callers repeat those of the namespace; others cannot be applied to it."""
    holder, container = containers(), containers()
    holder.user_namespace(100000)
    holder.started()
    container.user_namespace(host)
    container.namespace("user", f"/proc/{holder.state()['pid']}/ns/user")
    assert (container.run("true").code == 0) == (host == 100000)


@pytest.mark.differs(runc="wants mappings besides")
def test_a_user_namespace_by_path(container: Container) -> None:
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout and holder.stdout.readline()
        path = f"/proc/{holder.pid}/ns/user"
        container.namespace("user", path)
        container.spec["mounts"] = [entry for entry in container.spec["mounts"] if entry["destination"] != "/dev/pts"]
        assert container.report()["namespaces"]["user"] == os.readlink(path)
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("value", [-1, 2**32])
def test_a_mapping_that_is_none(container: Container, value: int) -> None:
    """User namespace mappings: `hostID` is an uint32."""
    container.user_namespace(value, 1)
    container.refused()


def test_the_hosts_network_in_a_user_namespace(container: Container) -> None:
    """Who is root inside sees the host's interfaces, and has no right to them."""
    container.user_namespace()
    container.without_namespace("network")
    container.spec["mounts"] = [entry for entry in container.spec["mounts"] if entry["destination"] != "/sys"]
    assert container.report()["namespaces"]["net"] == os.readlink("/proc/self/ns/net")


# Time namespaces


@NO_TIME
def test_a_time_namespace(container: Container) -> None:
    """Namespaces: "`time` the container will be able to have its own clocks"."""
    container.namespace("time")
    assert container.report()["namespaces"]["time"] != os.readlink("/proc/self/ns/time")


@NO_TIME
@pytest.mark.parametrize("clock", ["monotonic", "boottime"])
def test_time_offsets(container: Container, clock: str) -> None:
    """Offset for Time Namespace: "`timeOffsets` (object, OPTIONAL) sets the offset for Time Namespace"."""
    container.namespace("time")
    container.linux["timeOffsets"] = {clock: {"secs": 1000, "nanosecs": 500}}
    found = container.report()["time_offsets"]
    at = found.index(clock)
    assert found[at : at + 3] == [clock, "1000", "500"]


@NO_TIME
def test_a_negative_time_offset(container: Container) -> None:
    container.namespace("time")
    container.linux["timeOffsets"] = {"monotonic": {"secs": -1}}
    found = container.report()["time_offsets"]
    at = found.index("monotonic")
    assert found[at : at + 3] == ["monotonic", "-1", "0"]


def test_an_offset_of_no_such_clock(container: Container) -> None:
    container.namespace("time")
    container.linux["timeOffsets"] = {"nonsense": {"secs": 1}}
    assert container.attempt("create").code != 0


@pytest.mark.differs(runc="ignores timeOffsets", crun="ignores them")
def test_offsets_without_a_time_namespace(container: Container) -> None:
    container.linux["timeOffsets"] = {"monotonic": {"secs": 1}}
    container.refused()


@NO_TIME
def test_exec_in_a_time_namespace(container: Container) -> None:
    """Its clocks are the container's."""
    container.namespace("time")
    container.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    container.started()
    found = reported(container.exec(PROBE).out)
    assert found["namespaces"]["time"] == os.readlink(f"/proc/{container.state()['pid']}/ns/time")
