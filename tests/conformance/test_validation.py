"""config.md, "Annotations", "Extensibility", "Valid values"; config-linux.md, "IntelRdt", "Mount Label", "Personality"."""

from __future__ import annotations

import copy
import os
import platform
from typing import Any

import pytest

from tests.support.conformance import Container

# Extensibility


@pytest.mark.parametrize(
    "where",
    [(), ("process",), ("process", "user"), ("root",), ("linux",), ("mounts", 0), ("linux", "namespaces", 0)],
    ids=str,
)
def test_an_unknown_property(container: Container, where: tuple[str | int, ...]) -> None:
    """Extensibility: "not generating errors if they encounter an unknown property"."""
    target: Any = container.spec
    for step in where:
        target = target[step]
    target["x-unknown"] = {"of": ["any", "kind"]}
    assert container.run("true").code == 0


OTHERS: dict[str, Any] = {
    "windows": {"layerFolders": ["layer"]},
    "solaris": {},
    "vm": {"kernel": {"path": "/kernel"}},
    "zos": {},
    "freebsd": {},
}


@pytest.mark.parametrize("section", OTHERS)
def test_other_platforms(container: Container, section: str) -> None:
    """Platform-specific configuration: what is of other platforms is an unknown property here."""
    container.spec[section] = OTHERS[section]
    assert container.run("true").code == 0


def test_any_annotation(container: Container) -> None:
    """Annotations: "Runtimes MUST handle unknown annotation keys like any other unknown property"."""
    container.spec["annotations"] = {"org.opencontainers.unknown": "1", "com.example": "", "a/b": "ü"}
    container.create()
    assert container.state()["annotations"].items() >= container.spec["annotations"].items()


# Valid values: a value of the wrong type is not one


NO_LOOK = pytest.mark.differs(runc="does not look", crun="does not look")
LAX = pytest.mark.differs(crun="takes it for absent, or for a string")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.args", "true"),
        ("process.args", [1]),
        ("process.env", {"A": "b"}),
        ("process.cwd", 5),
        pytest.param("process.terminal", "yes", marks=LAX),
        pytest.param("process.user", "root", marks=LAX),
        pytest.param("process.user.uid", "0", marks=LAX),
        ("process.user.uid", -1),
        ("process.user.gid", 2**32),
        ("process.user.additionalGids", ["5"]),
        pytest.param("process.rlimits", {"type": "RLIMIT_NOFILE"}, marks=LAX),
        ("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": "1", "hard": "1"}]),
        pytest.param("process.capabilities", ["CAP_KILL"], marks=LAX),
        pytest.param("process.noNewPrivileges", "true", marks=LAX),
        pytest.param("process.oomScoreAdj", "5", marks=LAX),
        ("process.oomScoreAdj", 1001),
        ("root.path", 5),
        pytest.param("root.readonly", "true", marks=LAX),
        pytest.param("hostname", 5, marks=LAX),
        ("mounts", {}),
        ("mounts.0.destination", 5),
        pytest.param("mounts.0.options", "ro", marks=LAX),
        pytest.param("linux.namespaces", {"pid": {}}, marks=LAX),
        ("linux.namespaces.0", "pid"),
        pytest.param("linux.sysctl", ["net.ipv4.ip_forward=1"], marks=LAX),
        pytest.param("linux.maskedPaths", "/proc/kcore", marks=LAX),
        pytest.param("linux.readonlyPaths", {"path": "/proc"}, marks=LAX),
        pytest.param("linux.cgroupsPath", 5, marks=LAX),
        pytest.param("linux.devices", {"path": "/dev/fuse"}, marks=LAX),
        pytest.param("linux.resources", [], marks=LAX),
        pytest.param("linux.resources", {"memory": {"limit": "64m"}}, marks=LAX),
        pytest.param("linux.resources", {"pids": {"limit": "5"}}, marks=LAX),
        pytest.param("linux.resources", {"devices": [{"allow": "false"}]}, marks=LAX),
        pytest.param("linux.resources", {"devices": [{"allow": False, "access": "rx"}]}, marks=NO_LOOK),
        ("linux.resources", {"devices": [{"allow": False, "type": "x", "access": "r"}]}),
        pytest.param("linux.resources", {"cpu": {"shares": -1}}, marks=LAX),
        ("linux.resources", {"unified": {"cgroup.max.depth": 5}}),
        ("linux.seccomp", {"defaultAction": 5}),
        pytest.param("linux.rootfsPropagation", 5, marks=LAX),
        pytest.param("hooks", [], marks=LAX),
        pytest.param("hooks", {"poststop": {"path": "/bin/true"}}, marks=LAX),
        ("annotations", {"key": 5}),
        pytest.param("annotations", ["key"], marks=LAX),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value),
)
def test_a_value_of_the_wrong_type(container: Container, path: str, value: Any) -> None:
    """Valid values: "Runtimes MUST generate an error when invalid or unsupported values are encountered"."""
    put(container, path, value)
    assert container.attempt("run").code != 0


def put(container: Container, path: str, value: Any) -> None:
    *steps, last = path.split(".")
    target: Any = container.spec
    for step in steps:
        target = target[int(step)] if step.isdigit() else target[step]
    if isinstance(target, list):
        target[int(last)] = value
    else:
        target[last] = value


def test_null_is_as_absent(container: Container) -> None:
    """What Go programs write for what is not set."""
    container.spec["annotations"] = container.spec["hooks"] = container.linux["seccomp"] = None
    container.linux["devices"] = container.linux["resources"] = container.process["rlimits"] = None
    container.spec["mounts"][0] = copy.deepcopy(container.spec["mounts"][0]) | {"options": None}
    assert container.run("true").code == 0


# What would be read up to the null character, or not at all, is an error

THE_END = pytest.mark.differs(crun="takes it to be the end")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("hostname", "a\0b", marks=NO_LOOK),
        pytest.param("process.args", ["true", "a\0b"], marks=THE_END),
        ("process.env", ["A=b\0c"]),
        pytest.param("linux.maskedPaths", ["/etc\0/passwd"], marks=THE_END),
        pytest.param("linux.cgroupsPath", "/a\0b", marks=THE_END),
        pytest.param("mounts.0.source", "proc\0", marks=THE_END),
    ],
)
def test_a_null_character(container: Container, path: str, value: Any) -> None:
    """Valid values: the same."""
    put(container, path, value)
    assert container.attempt("run").code != 0


@pytest.mark.differs(runc="ignores it", crun="ignores it")
@pytest.mark.parametrize("option", ["size=5", "nonsense"])
def test_a_file_systems_option_of_a_bind_mount(container: Container, option: str) -> None:
    """Create: "If the runtime cannot apply a property …, it MUST generate an error": mount(2) ignores it."""
    container.mount("/mnt", "bind", container.directory("from"), "bind", option)
    container.refused()


@pytest.mark.differs(runc="ignores it")
def test_a_copy_of_what_is_below_is_for_tmpfs(container: Container) -> None:
    """Mounts: "`tmpcopyup` copy up the contents to a tmpfs"."""
    container.mount("/mnt", "proc", "proc", "tmpcopyup")
    container.refused()


@pytest.mark.differs(runc="ignores one of them")
def test_one_thing_by_two_names(container: Container) -> None:
    """Domainname, and `kernel.domainname`: one of them would be ignored."""
    container.spec["domainname"] = "one"
    container.linux["sysctl"] = {"kernel.domainname": "other"}
    container.refused()


# IntelRdt

RUNC_IGNORES = pytest.mark.differs(runc="ignores it")


@pytest.mark.differs(crun="ignores it")
@pytest.mark.skipif(os.path.isdir("/sys/fs/resctrl"), reason="this kernel has resctrl")
@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, marks=RUNC_IGNORES),
        pytest.param({"closID": "guaranteed"}, marks=RUNC_IGNORES),
        {"l3CacheSchema": "L3:0=7f0"},
        {"memBwSchema": "MB:0=20"},
    ],
    ids=str,
)
def test_intel_rdt(container: Container, value: dict[str, str]) -> None:
    """IntelRdt: "If no mounted `resctrl` pseudo-filesystem is available …, the runtime MUST generate an error"."""
    container.linux["intelRdt"] = value
    container.refused()


# LSM labels

SELINUX = os.path.exists("/sys/fs/selinux/enforce")
APPARMOR = os.path.isdir("/sys/kernel/security/apparmor")


@pytest.mark.skipif(APPARMOR, reason="this kernel has AppArmor")
def test_apparmor_that_is_not_there(container: Container) -> None:
    """Create: "If the runtime cannot apply a property …, it MUST generate an error"."""
    container.process["apparmorProfile"] = "profile"
    assert container.attempt("run").code != 0


@pytest.mark.skipif(SELINUX, reason="this kernel has SELinux")
@pytest.mark.parametrize("where", ["process", pytest.param("mounts", marks=pytest.mark.differs(crun="ignores it"))])
def test_selinux_that_is_not_there(container: Container, where: str) -> None:
    """The same of `selinuxLabel` and `mountLabel`."""
    label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"
    if where == "process":
        container.process["selinuxLabel"] = label
    else:
        container.linux["mountLabel"] = label
    assert container.attempt("run").code != 0


# Personality

NO_FLAGS = pytest.mark.differs(runc="ignores personality", crun="ignores its flags")
NO_PERSONALITY = pytest.mark.differs(runc="ignores personality, of specification 1.1")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only here is the name known")
@pytest.mark.parametrize(
    ("domain", "expected"),
    [pytest.param("LINUX32", ("i686", 8), marks=NO_PERSONALITY), ("LINUX", ("x86_64", 0))],
)
def test_personality(container: Container, domain: str, expected: tuple[str, int]) -> None:
    """Personality: "`LINUX32` will set the `uname` system call to show a 32 bit CPU type, such as `i686`"."""
    container.linux["personality"] = {"domain": domain}
    found = container.report()
    assert (found["machine"], found["personality"] & 0xFF) == expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"domain": "LINUX64"}, marks=NO_PERSONALITY),
        pytest.param({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}, marks=NO_FLAGS),
        pytest.param({}, marks=NO_PERSONALITY),
    ],
    ids=str,
)
def test_personality_nonsense(container: Container, value: dict[str, Any]) -> None:
    """Personality: "Currently no flag values are supported"."""
    container.linux["personality"] = value
    assert container.attempt("run").code != 0
