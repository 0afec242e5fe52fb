"""Options of `run` that are read before anything is made: mounts, devices, logs, limits."""

from __future__ import annotations

from typing import Any

import pytest

from engine.containers import hostdevices, limits
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
            "src=v,dst=/x,volume-nocopy,volume-label=a=b,volume-label==c,volume-subpath=a/b",
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/x",
                "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}, "Subpath": "a/b"},
            },
        ),
        (
            "src=v,dst=/x,volume-driver=local,volume-opt=type=tmpfs,volume-opt=o=size=1m",
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/x",
                "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "o": "size=1m"}}},
            },
        ),
        (
            "type=image,src=alpine,dst=/x,image-subpath=etc",
            {"Type": "image", "Source": "alpine", "Target": "/x", "ImageOptions": {"Subpath": "etc"}},
        ),
        (
            "type=bind,src=/a,dst=/x,idmap=match-user",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/x",
                "BindOptions": {"IDMapping": {"Source": "match-user"}},
            },
        ),
        (
            "type=bind,src=/a,dst=/x,idmap=uids=0-1000-1#1-2000-10;gids=5-6-7,bind-recursive=disabled",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/x",
                "BindOptions": {
                    "IDMapping": {"UIDs": [[0, 1000, 1], [1, 2000, 10]], "GIDs": [[5, 6, 7]]},
                    "NonRecursive": True,
                },
            },
        ),
    ],
)
def test_mounts(value: str, expected: dict[str, Any]) -> None:
    assert mount_option.parse(value, "/cwd") == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "EOF"),
        ("type=,dst=/x", "type is required"),
        ("type=bind,src=/a", "target is required"),
        ("type=bind,dst=/x,foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,dst=/x,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
        ("type=image,dst=/x,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'image'"),
        ("type=volume,dst=/x,image-subpath=a", "cannot mix 'image-*' options with mount type 'volume'"),
        ("dst=/x,idmap=match-user", "cannot mix 'bind-*' options with mount type 'volume'"),
        ("type=bind,dst=/x,bind-recursive=writable", "option 'bind-recursive=writable' requires 'readonly'"),
        ("type=bind,dst=/x,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate' to be specified"),
        *[
            (f"type=bind,dst=/x,idmap={text}", f"invalid value for idmap: {text}")
            for text in (
                "",
                "yes",
                "uids=0-1-1",
                "uids=0-1;gids=0-1-1",
                "uids=0-1-0;gids=0-1-1",
                "uids=0-1-1;uids=0-1-1",
            )
        ],
    ],
)
def test_mounts_that_are_refused(value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        mount_option.parse(value, "/cwd")
    assert caught.value.message.startswith(f'invalid argument "{value}" for "--mount" flag: ')
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("dst=/x,ro", "must not set ReadOnly mode when using anonymous volumes"),
        ("dst=/x,volume-subpath=a", "must not set Subpath when using anonymous volumes"),
        *[
            (f"src=v,dst=/x,volume-subpath={path}", "subpath must be a relative path within the volume")
            for path in ("/a", "..", "../a", "a/../../b", "a/../..")
        ],
        ("type=image,dst=/x", "field Source must not be empty"),
        ("type=image,src=i,dst=/x,image-subpath=../a", "subpath must be a relative path within the volume"),
        ("type=bind,src=a,dst=/x", "invalid mount path: 'a' mount path must be absolute"),
        ("type=tmpfs,src=a,dst=/x", "field Source must not be specified"),
        ("type=foo,dst=/x", "mount type unknown"),
    ],
)
def test_mounts_that_the_daemon_refuses(value: str, message: str) -> None:
    mount = mount_option.parse(value, "/cwd")
    with pytest.raises(UsageError) as caught:
        mount_option.check(mount)
    assert caught.value.message == f'invalid mount config for type "{mount["Type"]}": {message}'


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpuset_cpus": "0-99999"}, "Requested CPUs are not available"),
        ({"cpuset_cpus": "0-"}, "invalid format"),
        ({"memory_swappiness": 101}, "Valid memory swappiness range is 0-100"),
        ({"pid": "container:"}, "invalid PID mode"),
        ({"networks": ["container:x"], "dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
        ({"storage_opt": ["size=1g"]}, "storage-opt"),
    ],
)
def test_limits(options: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, Unsupported), match=message):
        limits.check(CreateOptions(image="x", **options))
