"""features.md, features-linux.md; and runc's global options: --log, --log-format, --version, spec."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.support.conformance import Container, Runtime

# features

NO_FEATURES = pytest.mark.differs(crun="has no features")


@pytest.fixture
def features(runtime: Runtime) -> dict[str, Any]:
    done = runtime.call("features")
    assert done.code == 0, done
    found: dict[str, Any] = json.loads(done.out)
    return found


@NO_FEATURES
@pytest.mark.parametrize("name", ["ociVersionMin", "ociVersionMax"])
def test_its_versions_are_accepted(features: dict[str, Any], container: Container, name: str) -> None:
    """Specification version: "The runtime MUST accept this value as the `ociVersion` property of config.json"."""
    container.spec["ociVersion"] = features[name]
    assert container.run("true").code == 0


@NO_FEATURES
def test_the_versions_are_in_order(features: dict[str, Any]) -> None:
    """Specification version: "The value MUST NOT be less than the value of the `ociVersionMin` property"."""
    low, high = (
        [int(part) for part in features[name].split("-")[0].split(".")] for name in ("ociVersionMin", "ociVersionMax")
    )
    assert low <= high


@NO_FEATURES
def test_its_hooks(features: dict[str, Any]) -> None:
    """Hooks: "The recognized names of the hooks"."""
    assert {*features["hooks"]} == {
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
    }  # fmt: skip


@pytest.mark.differs(runc="passes `defaults` to the file system, which refuses it")
@NO_FEATURES
def test_its_mount_options_are_recognized(features: dict[str, Any], container: Container) -> None:
    """Mount Options: "The runtime MUST recognize the elements in this array": none is passed to the file system as data."""
    wrong = {"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", "acl", "noacl", "mand", "nomand"}
    for option in sorted({*features["mountOptions"]} - wrong):
        container.spec["mounts"].append(
            {"destination": f"/mnt/{option}", "type": "tmpfs", "source": "tmpfs", "options": [option]}
        )
    assert container.run("true").code == 0


@NO_FEATURES
def test_its_mount_options_are_all_that_must_be(features: dict[str, Any]) -> None:
    """config.md, Linux mount options: those that MUST be implemented."""
    must = (
        "async atime bind dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec noiversion "
        "nolazytime norelatime nostrictatime nosuid private rbind relatime remount ro rprivate rshared rslave runbindable "
        "rw shared silent slave strictatime suid sync unbindable"
    )
    assert {*must.split()} <= {*features["mountOptions"]}


@NO_FEATURES
def test_its_namespaces(features: dict[str, Any], container: Container) -> None:
    """Namespaces: "The runtime MUST recognize the elements in this array"."""
    container.linux["namespaces"] = [{"type": kind} for kind in features["linux"]["namespaces"] if kind != "user"]
    assert container.run("true").code == 0


@NO_FEATURES
def test_its_capabilities(features: dict[str, Any], container: Container) -> None:
    """Capabilities: "The runtime MUST recognize the elements in this array"."""
    assert {"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"} <= {*features["linux"]["capabilities"]}


@NO_FEATURES
@pytest.mark.parametrize("name", ["v1", "v2", "systemd", "systemdUser"])
def test_its_cgroups(features: dict[str, Any], name: str) -> None:
    """Cgroup: "irrelevant to the cgroup version of the host operating system"; what `--systemd-cgroup` asks for is there."""
    assert features["linux"]["cgroup"][name] is True


@NO_FEATURES
@pytest.mark.parametrize(("name", "field"), [("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")])
def test_its_security_modules(features: dict[str, Any], container: Container, name: str, field: str) -> None:
    """AppArmor, SELinux: "represents whether the runtime supports" it, "irrelevant to the availability … on the host"."""
    assert features["linux"][name]["enabled"] is True
    container.process[field] = "nobody-has-loaded-this"
    container.refused()


@NO_FEATURES
@pytest.mark.parametrize("name", ["actions", "operators"])
def test_its_seccomp(features: dict[str, Any], container: Container, name: str) -> None:
    """Seccomp: "The runtime MUST recognize the elements in this array"."""
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}
    for value in features["linux"]["seccomp"][name]:
        if name == "actions":
            entry = {"names": ["mkdir"], "action": value}
        else:
            args = [{"index": 0, "value": 999, "valueTwo": 999, "op": value}]
            entry = {"names": ["mkdir"], "action": "SCMP_ACT_LOG", "args": args}
        if value not in ("SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW"):
            container.linux["seccomp"] = seccomp | {"syscalls": [entry]}
            assert container.run("true").code == 0, value


@NO_FEATURES
def test_features_want_no_container(runtime: Runtime, features: dict[str, Any]) -> None:
    """features.md: "irrelevant to the actual availability of the features in the host"; the same each time."""
    assert json.loads(runtime.call("features").out) == features


# spec


def test_spec(runtime: Runtime) -> None:
    """runc(8): `spec` writes a config.json that runs."""
    directory = f"{runtime.directory}/spec"
    os.mkdir(directory)
    done = runtime.call("spec", "--bundle", directory)
    assert done.code == 0, done
    with open(f"{directory}/config.json") as file:
        spec = json.load(file)
    assert spec["root"]["path"] == "rootfs"
    assert {"pid", "network", "ipc", "uts", "mount"} <= {entry["type"] for entry in spec["linux"]["namespaces"]}
    os.unlink(f"{directory}/config.json")
    os.rmdir(directory)


def test_what_spec_writes_runs(container: Container) -> None:
    done = container.runtime.call("spec", "--bundle", container.bundle)
    assert done.code == 0, done
    with open(f"{container.bundle}/config.json") as file:
        spec = json.load(file)
    spec["process"] |= {"terminal": False, "args": ["echo", "it runs"]}
    spec["linux"]["cgroupsPath"] = container.linux["cgroupsPath"]
    container.spec = spec
    assert container.run().out == "it runs\n"


def test_spec_does_not_overwrite(container: Container) -> None:
    container.save()
    assert container.runtime.call("spec", "--bundle", container.bundle).code != 0


# Errors and logs


def test_an_error_names_the_cause(container: Container) -> None:
    container.mount("/mnt", "bind", "/no/such/source", "rbind")
    assert "/no/such/source" in container.refused()


def _with_log(container: Container, *options: str) -> list[str]:
    """The lines of the log of a create that fails."""
    path = f"{container.bundle}/log"
    container.mount("/mnt", "bind", "/no/such/source", "rbind")
    container.save()
    done = container.runtime.call("--log", path, *options, "create", "--bundle", container.bundle, container.id)
    assert done.code != 0
    with open(path) as file:
        return [line for line in file.read().splitlines() if line]


def test_a_log_file(container: Container) -> None:
    """runc(8): --log: what containerd and CRI-O read when a command has failed."""
    assert "/no/such/source" in "".join(_with_log(container))


def test_a_log_as_json(container: Container) -> None:
    """runc(8): --log-format json: objects of level, msg, time; the last error is what callers show."""
    entries = [json.loads(line) for line in _with_log(container, "--log-format", "json")]
    assert all({"level", "msg", "time"} <= {*entry} for entry in entries)
    assert entries[-1]["level"] == "error" and "/no/such/source" in entries[-1]["msg"]


def test_a_log_of_success_has_no_error(container: Container) -> None:
    path = f"{container.bundle}/log"
    container.process["args"] = ["true"]
    container.save()
    done = container.runtime.call(
        "--log", path, "--log-format", "json", "run", "--bundle", container.bundle, container.id
    )
    assert done.code == 0
    with open(path) as file:
        assert not [line for line in file if json.loads(line)["level"] == "error"]


def test_debug(container: Container) -> None:
    container.save()
    done = container.runtime.call("--debug", "run", "--bundle", container.bundle, container.id)
    assert done.code == 0


@pytest.mark.parametrize("args", [("nonsense",), ("--nonsense", "list"), ("create", "--nonsense", "id")], ids=str)
def test_a_command_that_is_none(runtime: Runtime, args: tuple[str, ...]) -> None:
    done = runtime.call(*args)
    assert done.code != 0 and (done.err + done.out).strip()


@pytest.mark.parametrize(
    "args",
    [pytest.param((), marks=pytest.mark.differs(crun="wants one")),
     pytest.param(("help",), marks=pytest.mark.differs(crun="has no command help"))],
    ids=str,
)  # fmt: skip
def test_help_of_the_whole(runtime: Runtime, args: tuple[str, ...]) -> None:
    """Without a command, global options or not."""
    done = runtime.call(*args)
    assert done.code == 0 and "create" in done.out


@pytest.mark.differs(runc="does not look", crun="does not look")
@pytest.mark.parametrize("command", [("list", "-q"), ("--version",), ("spec", "--help")], ids=str)
def test_nobody_takes_what_it_says(container: Container, command: tuple[str, ...]) -> None:
    """Not to be taken for an answer; and in words of its own."""
    container.create()
    with open("/dev/full", "w") as full:
        done = container.runtime.call(*command, stdout=full)
    assert done.code != 0
    assert done.err.lower().count("no space left on device") == 1 and "Traceback" not in done.err


def test_an_id_that_is_taken(container: Container) -> None:
    """That is what is wrong, though its cgroup is taken as well."""
    container.create()
    for command in ("create", "run"):
        done = container.attempt(command)
        assert done.code != 0 and "already exists" in done.err
    assert container.state()["status"] == "created"


def test_a_signal_without_a_name(container: Container) -> None:
    """As where none is given: TERM."""
    if container.runtime.name == "crun":
        pytest.skip("crun sends none")
    container.started()
    container.kill("")
    container.wait("stopped")


@pytest.mark.parametrize(
    ("interval", "is_one"),
    [*(pytest.param(word, True, marks=pytest.mark.differs(crun="has no events")) for word in ("1m30s", "300000us")),
     ("5", False), ("0s", False)],
)  # fmt: skip
def test_an_interval(container: Container, interval: str, is_one: bool) -> None:
    """runc-events(8): in Go's notation, and more than nothing."""
    container.started()
    done = container.runtime.call("events", "--stats", "--interval", interval, container.id)
    assert (done.code == 0) == is_one


def test_version(runtime: Runtime) -> None:
    """The version of the specification, too, which callers parse."""
    out = runtime.call("--version").out
    assert "spec:" in out


@pytest.mark.parametrize(
    "command", ["create", "start", "kill", "delete", "state", "run", "exec", "list", "update", "spec"]
)
def test_help(runtime: Runtime, command: str) -> None:
    done = runtime.call(command, "--help")
    assert done.code == 0 and command in done.out
