"""Mount options as data: which words are whose, and which of two wins."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine import host, linux
from engine.errors import Unsupported
from engine.runtime import mounts
from engine.runtime.mounts import Plan

RO, NOSUID, NODEV, NOEXEC = (
    linux.MOUNT_ATTR_RDONLY,
    linux.MOUNT_ATTR_NOSUID,
    linux.MOUNT_ATTR_NODEV,
    linux.MOUNT_ATTR_NOEXEC,
)
ATIME, NOATIME, STRICTATIME = linux.MOUNT_ATTR__ATIME, linux.MOUNT_ATTR_NOATIME, linux.MOUNT_ATTR_STRICTATIME


def parse(*options: str, kind: str = "tmpfs") -> Plan:
    return mounts.parse({"destination": "/x", "type": kind, "source": "x", "options": list(options)})


@pytest.mark.parametrize(
    ("options", "set_", "clear"),
    [
        ((), 0, 0),
        (("nosuid", "nodev", "noexec"), NOSUID | NODEV | NOEXEC, 0),
        (("ro", "rw"), 0, RO),
        (("rw", "ro"), RO, 0),
        (("nosuid", "suid", "dev"), 0, NOSUID | NODEV),
        (("noatime",), NOATIME, ATIME),
        (("noatime", "relatime"), 0, ATIME),
        (("relatime", "strictatime", "nodiratime"), STRICTATIME | linux.MOUNT_ATTR_NODIRATIME, ATIME),
        (("strictatime", "noatime"), NOATIME, ATIME),
        (("noatime", "atime"), 0, ATIME),
        (("nosymfollow",), linux.MOUNT_ATTR_NOSYMFOLLOW, 0),
        (("defaults", "", "silent"), 0, 0),
    ],
)
def test_attributes(options: tuple[str, ...], set_: int, clear: int) -> None:
    plan = parse(*options)
    assert (plan.set, plan.clear) == (set_, clear)
    assert (plan.set_all, plan.clear_all, plan.propagation, plan.bind) == (0, 0, [], False)


def test_setting_an_access_time_mode_always_clears_the_field() -> None:
    """mount_setattr(2) answers EINVAL otherwise."""
    for word in ("noatime", "relatime", "strictatime"):
        for others in ((), ("ro",), ("rw",), ("noatime",), ("strictatime", "nodev")):
            assert parse(*others, word).clear & ATIME == ATIME
            assert parse(word, *others).clear & ATIME == ATIME


@pytest.mark.parametrize(
    ("options", "set_all", "clear_all"),
    [(("rro",), RO, 0), (("rro", "rnosuid"), RO | NOSUID, 0), (("rro", "rrw"), 0, RO), (("rnoatime",), NOATIME, ATIME)],
)
def test_recursive_attributes(options: tuple[str, ...], set_all: int, clear_all: int) -> None:
    plan = parse(*options, kind="bind")
    assert (plan.set_all, plan.clear_all) == (set_all, clear_all)
    assert (plan.set, plan.clear) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "options", "bind", "recursive"),
    [
        ("bind", (), True, False),
        ("bind", ("rbind",), True, True),
        ("bind", ("bind",), True, False),
        ("none", ("rbind",), True, True),
        ("tmpfs", ("nodev",), False, False),
    ],
)
def test_bind(kind: str, options: tuple[str, ...], bind: bool, recursive: bool) -> None:
    plan = parse(*options, kind=kind)
    assert (plan.bind, plan.recursive) == (bind, recursive)


def test_propagation_in_its_order() -> None:
    assert parse("rslave", "shared").propagation == [(linux.MS_SLAVE, True), (linux.MS_SHARED, False)]
    assert parse("runbindable", "rprivate").propagation == [(linux.MS_UNBINDABLE, True), (linux.MS_PRIVATE, True)]


def test_what_is_no_word_of_ours_is_the_file_systems() -> None:
    plan = parse("mode=755", "size=64k", "newinstance", "lowerdir+=/a", "lowerdir+=/b", "x=a=b", "uid=", "rootmode=1")
    assert plan.data == [
        ("mode", "755"),
        ("size", "64k"),
        ("newinstance", None),
        ("lowerdir+", "/a"),
        ("lowerdir+", "/b"),
        ("x", "a=b"),
        ("uid", ""),
        ("rootmode", "1"),
    ]


def test_flags_of_the_super_block_go_to_it_as_well() -> None:
    plan = parse("ro", "sync", "lazytime", "mand")
    assert plan.data == [("ro", None), ("sync", None), ("lazytime", None), ("mand", None)]
    assert plan.set == RO


def test_copy_up_is_no_option_of_tmpfs() -> None:
    plan = parse("tmpcopyup", "size=1m")
    assert plan.copy_up
    assert plan.data == [("size", "1m")]


@pytest.mark.requires("linux")
def test_a_long_lowerdir_becomes_one_value_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [f"/layers/{n:064}" for n in range(10)]
    long, short = ":".join(layers), ":".join(layers[:2])
    monkeypatch.setattr(host, "kernel_version", lambda: (6, 5))
    with mounts._ShortLists([("lowerdir", long), ("lowerdir", short), ("index", "off")], []) as data:
        assert data == [*[("lowerdir+", layer) for layer in layers], ("lowerdir", short), ("index", "off")]


@pytest.mark.requires("linux")
def test_before_linux_6_5_a_long_lowerdir_becomes_descriptors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "kernel_version", lambda: (6, 1))
    layers = [tmp_path / f"{n:064}" for n in range(80)]
    for layer in layers:
        layer.mkdir()
    before, opened = os.getcwd(), list[int]()
    try:
        with mounts._ShortLists([("lowerdir", ":".join(map(str, layers[:60])))], opened) as data:
            ((_, value),) = data
            assert value is not None
            assert len(value) <= 255
            assert [os.path.realpath(name) for name in value.split(":")] == [str(layer) for layer in layers[:60]]
        assert os.getcwd() == before
        with (
            pytest.raises(Unsupported, match="overlay of 80 directories"),
            mounts._ShortLists([("lowerdir", ":".join(map(str, layers)))], opened),
        ):
            pass
        assert os.getcwd() == before
    finally:
        for fd in opened:
            os.close(fd)


def test_faults_name_source_target_and_reason() -> None:
    bind = mounts.fault({"destination": "/data", "type": "bind", "source": "/srv"}, OSError(errno.EPERM, "x"))
    assert (bind.message, bind.errno, bind.path) == ("cannot mount /srv at /data: operation not permitted", 1, "/data")
    kernel = OSError(errno.EINVAL, "fsconfig: Invalid argument (overlay: bad 'x')")
    overlay = mounts.fault({"destination": "/", "type": "overlay", "source": "overlay"}, kernel)
    assert overlay.message == "cannot mount overlay at /: invalid argument (overlay: bad 'x')"
    assert overlay.hint is None
    old = mounts.fault({"destination": "/", "type": "proc", "source": "proc"}, OSError(errno.ENOSYS, "x"))
    assert old.hint and "mini needs Linux 5.12" in old.hint
