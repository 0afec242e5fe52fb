"""Options of `run` that are read before anything is made: mounts, devices, logs, limits."""

from __future__ import annotations

from typing import Any

import pytest

from engine.containers import hostdevices, limits, logoptions
from engine.containers.options import CreateOptions
from engine.errors import Unsupported, UsageError
from engine.storage import mount_option


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("dst=/x", {"Type": "volume", "Target": "/x"}),
        ("type=BIND,source=./a,target=/x,ro", {"Type": "bind", "Source": "/cwd/./a", "Target": "/x", "ReadOnly": True}),
        ("src=v,destination=/x,readonly=0", {"Type": "volume", "Source": "v", "Target": "/x", "ReadOnly": False}),
        (
            "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1770",
            {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}},
        ),
        ('"dst=/a,b"', {"Type": "volume", "Target": "/a,b"}),
        (
            "src=v,dst=/x,volume-nocopy,volume-label=a=b,volume-driver=local",
            {"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}}},
        ),
    ],
)
def test_mounts(value: str, expected: dict[str, Any]) -> None:
    assert mount_option.parse(value, "/cwd") == expected


def test_a_volume_needs_no_driver_but_has_no_options() -> None:
    with pytest.raises(Unsupported, match="volume-subpath"):
        mount_option.parse("src=v,dst=/x,volume-subpath=y", "/")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:/dev/b:rm", ("/dev/a", "/dev/b", "rm")),
    ],
)
def test_devices(value: str, expected: tuple[str, str, str]) -> None:
    assert tuple(hostdevices.parse(value).values()) == expected


@pytest.mark.parametrize("value", ["/dev/a:/dev/b:x", "/dev/a:/dev/b:rr", "a:b:c:d", "", "/dev/a:b"])
def test_devices_that_are_refused(value: str) -> None:
    with pytest.raises(UsageError):
        hostdevices.parse(value)


def test_device_rules() -> None:
    rule = {"allow": True, "type": "c", "major": 42, "minor": -1, "access": "rwm"}
    assert hostdevices.parse_rule("c 42:* rwm") == rule
    for bad in ("x 1:2 r", "c 1 r", "c 1:2", "c 1:2 rx", "c -1:2 r", "c 1:2:3 r", "c 1:2 r r"):
        with pytest.raises(UsageError):
            hostdevices.parse_rule(bad)


def test_directories_of_devices(tmp_path: Any) -> None:
    """One that has none is none."""
    with pytest.raises(UsageError, match="not a device node"):
        hostdevices.nodes({"PathOnHost": str(tmp_path), "PathInContainer": "/dev/x", "CgroupPermissions": "r"})
    (null,) = hostdevices.nodes({"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"})
    assert (null["path"], null["type"], null["access"]) == ("/dev/x", "c", "r")


def test_logs() -> None:
    assert logoptions.limits(logoptions.log_config("", ["max-size=10k", "max-file=5"])) == (10_000, 5)
    assert logoptions.limits(logoptions.log_config("", ["max-size=-1"]))[0] > 1 << 60
    assert logoptions.log_config("none", []) == {"Type": "none", "Config": {}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpuset_cpus": "0-99999"}, "Requested CPUs are not available"),
        ({"cpuset_cpus": "0-"}, "invalid format"),
        ({"memory_swappiness": 101}, "Valid memory swappiness range is 0-100"),
        ({"pid": "container:"}, "invalid PID mode"),
        ({"network": "container:x", "dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
        ({"storage_opt": ["size=1g"]}, "storage-opt"),
    ],
)
def test_limits(options: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, Unsupported), match=message):
        limits.check(CreateOptions(image="x", **options))
