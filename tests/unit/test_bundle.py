"""From a container's config to the OCI runtime spec."""

from __future__ import annotations

from typing import Any

import pytest

from engine.containers import bundle, config, sharing
from engine.containers.options import CreateOptions
from engine.context import Context
from engine.errors import UsageError
from engine.oci.users import User
from engine.paths import Paths
from engine.runtime import defaults

ROOT = User(0, 0, [0], "/root", "root")


def spec(**options: Any) -> dict[str, Any]:
    wanted = CreateOptions(image="x", command=["sh", "-c", "true"], **options)
    settings = config.container_config(wanted, {}, "ab" * 32, {})
    ctx = Context(Paths("/x"), {})
    inspect = {
        "Path": "sh",
        "Args": ["-c", "true"],
        "Config": settings,
        "HostConfig": config.host_config(wanted, sharing.modes(ctx, wanted)),
        "Mounts": options.pop("mounts_data", []),
    }
    shared = sharing.at_start(ctx, "c", inspect["HostConfig"])
    return dict(bundle.build(inspect, "/c", ROOT, "/mini/x", None, shared))


def test_default_capabilities_are_dockers_fourteen() -> None:
    """CapEff 00000000a80425fb, CapInh and CapAmb empty (CVE-2022-24769)."""
    caps = spec()["process"]["capabilities"]
    number = {name: n for n, name in enumerate(defaults.ALL_CAPABILITIES)}
    assert sum(1 << number[c] for c in caps["effective"]) == 0xA80425FB
    assert caps["bounding"] == caps["permitted"] == caps["effective"]
    assert caps["inheritable"] == caps["ambient"] == []


@pytest.mark.parametrize(
    ("options", "has", "has_not"),
    [
        ({"cap_add": ["SYS_ADMIN"]}, {"CAP_SYS_ADMIN", "CAP_CHOWN"}, {"CAP_SYS_TIME"}),
        ({"cap_drop": ["chown"]}, {"CAP_KILL"}, {"CAP_CHOWN"}),
        ({"cap_add": ["ALL"], "cap_drop": ["SYS_ADMIN"]}, {"CAP_SYS_TIME"}, {"CAP_SYS_ADMIN"}),
        ({"cap_drop": ["ALL"], "cap_add": ["CAP_KILL"]}, {"CAP_KILL"}, {"CAP_CHOWN"}),
        ({"privileged": True}, {"CAP_SYS_ADMIN", "CAP_SYS_RAWIO"}, set()),
    ],
)
def test_capabilities_added_and_dropped(options: dict[str, Any], has: set[str], has_not: set[str]) -> None:
    found = set(spec(**options)["process"]["capabilities"]["bounding"])
    assert has <= found
    assert not has_not & found


def test_unknown_capability_is_refused() -> None:
    with pytest.raises(UsageError, match='invalid CapAdd: unknown capability: "CAP_NOSUCH"'):
        spec(cap_add=["NOSUCH"])


def test_environment_order() -> None:
    env = spec(env=["A=1", "PATH=/x"], tty=True)["process"]["env"]
    assert env == ["PATH=/x", f"HOSTNAME={'ab' * 6}", "TERM=xterm", "A=1", "HOME=/root"]


def test_an_empty_home_becomes_the_users() -> None:
    assert spec(env=["HOME="])["process"]["env"][-1] == "HOME=/root"
    assert "HOME=/elsewhere" in spec(env=["HOME=/elsewhere"])["process"]["env"]


def test_host_network_shares_the_namespace() -> None:
    kinds = {n["type"] for n in spec(networks=["host"])["linux"]["namespaces"]}
    assert kinds == {"pid", "ipc", "uts", "mount", "cgroup"}
    assert {n["type"] for n in spec()["linux"]["namespaces"]} == kinds | {"network"}


def test_read_only_makes_the_host_files_read_only_too() -> None:
    def options(found: dict[str, Any]) -> list[str]:
        return next(m["options"] for m in found["mounts"] if m["destination"] == "/etc/hosts")

    assert "ro" in options(spec(read_only=True))
    assert "ro" not in options(spec())


def test_a_users_mount_replaces_a_default_one() -> None:
    found = [m for m in spec(tmpfs=["/dev/shm:size=1m"])["mounts"] if m["destination"] == "/dev/shm"]
    assert len(found) == 1
    assert "size=1m" in found[0]["options"]
    assert "noexec" in found[0]["options"]


@pytest.mark.parametrize(
    ("path", "said"),
    [("/dev/null", "/dev/null is not a block device"), ("/dev/nosuch", "stat /dev/nosuch: no such file")],
)
def test_the_rate_is_of_a_block_device(path: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        spec(device_read_bps=[{"Path": path, "Rate": 1}])


def test_limits_become_resources() -> None:
    found = spec(memory=64 << 20, cpus=0.5, pids_limit=10, cpuset_cpus="0")["linux"]["resources"]
    assert found["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert found["cpu"] == {"quota": 50000, "period": 100000, "cpus": "0"}
    assert found["pids"] == {"limit": 10}
    assert "memory" not in spec()["linux"]["resources"]


def test_privileged_lifts_masks_and_filter() -> None:
    found = spec(privileged=True)["linux"]
    assert found["maskedPaths"] == found["readonlyPaths"] == []
    assert bundle.seccomp_choice(config.host_config(CreateOptions(privileged=True))) is None
    assert bundle.seccomp_choice(config.host_config(CreateOptions())) == "default"


@pytest.mark.parametrize(
    ("option", "choice"),
    [
        ("seccomp=unconfined", None),
        ("seccomp:unconfined", None),
        ("seccomp=/p.json", "/p.json"),
        ("no-new-privileges", "default"),
    ],
)
def test_security_options(option: str, choice: str | None) -> None:
    assert bundle.seccomp_choice(config.host_config(CreateOptions(security_opt=[option]))) == choice


def test_unknown_security_option_is_refused() -> None:
    with pytest.raises(UsageError):
        bundle.seccomp_choice(config.host_config(CreateOptions(security_opt=["nosuch=1"])))


@pytest.mark.parametrize(
    ("name", "number"), [("TERM", 15), ("SIGKILL", 9), ("15", 15), ("rtmin+1", 35), ("sigusr1", 10)]
)
def test_signals(name: str, number: int) -> None:
    assert bundle.signal_number(name) == number


@pytest.mark.parametrize("name", ["", "0", "99", "NOSUCH", "SIG_IGN", "RTMIN+99"])
def test_bad_signals(name: str) -> None:
    with pytest.raises(UsageError, match="Invalid signal"):
        bundle.signal_number(name)
