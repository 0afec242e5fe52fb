"""config.md, "Mounts" and "Linux mount options"."""

from __future__ import annotations

import os
from typing import Any

import pytest

from engine import linux
from tests.support.conformance import Container


def mounted(container: Container, target: str) -> dict[str, Any]:
    """The topmost mount there, as the container sees it."""
    found: dict[str, Any] = [mount for mount in container.report()["mounts"] if mount["target"] == target][-1]
    return found


def content(container: Container, path: str) -> str:
    return container.sh(f"cat {path}")


# What is mounted, where, and in which order


@pytest.mark.parametrize("kind", ["tmpfs", "proc", "sysfs", "mqueue", "devpts"])
def test_types(container: Container, kind: str) -> None:
    """POSIX-platform Mounts: "`type` (string, OPTIONAL) … filesystem types supported by the kernel"."""
    container.mount("/mnt", kind, kind)
    assert mounted(container, "/mnt")["type"] == kind


def test_a_type_that_the_kernel_does_not_know(container: Container) -> None:
    container.mount("/mnt", "nonsense", "nonsense")
    container.refused()


def test_a_destination_is_made(container: Container) -> None:
    container.mount("/new/directory", "tmpfs", "tmpfs")
    assert mounted(container, "/new/directory")["type"] == "tmpfs"


def test_mounts_are_made_in_order(container: Container) -> None:
    """Mounts: "The runtime MUST mount entries in the listed order"."""
    first, second = container.directory("first", "file"), container.directory("second", "other")
    container.mount("/mnt", "bind", first, "rbind")
    container.mount("/mnt", "bind", second, "rbind")
    assert container.sh("ls /mnt") == "other\n"


def test_mounts_are_made_in_order_of_depth_or_not(container: Container) -> None:
    """The same: an outer one that comes later hides an inner one."""
    container.mount("/mnt/inner", "tmpfs", "tmpfs")
    container.mount("/mnt", "tmpfs", "tmpfs")
    assert container.sh("ls -A /mnt; echo end") == "end\n"


def test_a_mount_inside_a_mount(container: Container) -> None:
    container.mount("/mnt", "tmpfs", "tmpfs")
    container.mount("/mnt/a/b", "bind", container.directory("source", "file"), "rbind")
    assert content(container, "/mnt/a/b/file") == "file"


@pytest.mark.parametrize("destination", ["mnt", "mnt/new"])
def test_a_relative_destination(container: Container, destination: str) -> None:
    """Mounts: "it MAY be a relative path, in which case it MUST be interpreted as relative to "/""."""
    container.process["cwd"] = "/usr"
    container.mount(destination, "tmpfs", "tmpfs")
    assert mounted(container, f"/{destination}")["type"] == "tmpfs"


def test_a_destination_is_required(container: Container) -> None:
    container.spec["mounts"].append({"type": "tmpfs", "source": "tmpfs"})
    container.refused()


# Bind mounts


def test_a_directory_is_bound(container: Container) -> None:
    """Mounts: "A mount is a bind mount if it has either `bind` or `rbind` in the options"."""
    container.mount("/mnt", "bind", container.directory("source", "file"), "bind")
    assert content(container, "/mnt/file") == "file"


@pytest.mark.parametrize("kind", ["none", "bind", ""])
def test_the_type_of_a_bind_mount_is_a_dummy(container: Container, kind: str) -> None:
    """POSIX-platform Mounts: "For bind mounts …, the type is a dummy, often "none""."""
    container.mount("/mnt", kind, container.directory("source", "file"), "rbind")
    if not kind:
        del container.spec["mounts"][-1]["type"]
    assert content(container, "/mnt/file") == "file"


def test_a_source_relative_to_the_bundle(container: Container) -> None:
    """Mounts: "Path values for bind mounts are either absolute or relative to the bundle"."""
    container.directory("source", "file")
    container.mount("/mnt", "bind", "source", "rbind")
    assert content(container, "/mnt/file") == "file"


def test_a_file_is_bound_on_a_file(container: Container) -> None:
    container.mount("/etc/passwd", "bind", f"{container.directory('source', 'file')}/file", "bind")
    assert content(container, "/etc/passwd") == "file"


def test_a_file_is_bound_where_nothing_is(container: Container) -> None:
    """The destination is made of the source's kind."""
    container.mount("/new/place", "bind", f"{container.directory('source', 'file')}/file", "bind")
    assert content(container, "/new/place") == "file"


def test_a_source_that_is_missing(container: Container) -> None:
    container.mount("/mnt", "bind", f"{container.bundle}/nowhere", "rbind")
    container.refused()


def test_a_directory_cannot_be_bound_on_a_file(container: Container) -> None:
    container.mount("/etc/passwd", "bind", container.directory("source"), "rbind")
    container.refused()


def test_bind_takes_no_submounts(container: Container) -> None:
    """Linux mount options: `bind` is a bind mount, `rbind` a "Recursive bind mount"."""
    container.mount("/mnt", "bind", _with_submount(container), "bind")
    assert container.sh("ls -A /mnt/sub; ls /mnt/file") == "/mnt/file\n"


def test_rbind_takes_submounts(container: Container) -> None:
    container.mount("/mnt", "bind", _with_submount(container), "rbind")
    assert container.sh("ls /mnt/sub") == "inner\n"


def _with_submount(container: Container) -> str:
    """A directory with a tmpfs mounted in it, which has a file."""
    source = container.directory("source", "file")
    os.mkdir(f"{source}/sub")
    linux.mount("tmpfs", f"{source}/sub", "tmpfs")
    with open(f"{source}/sub/inner", "w"):
        pass
    return source


# Options of mount(8)


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_options_that_are_seen(container: Container, kind: str, option: str) -> None:
    """Linux mount options: MUST, "Corresponds to mount(8) (filesystem-independent)"."""
    if kind == "bind":
        container.mount("/mnt", "bind", container.directory("source"), "rbind", option)
    else:
        container.mount("/mnt", "tmpfs", "tmpfs", option)
    assert option in mounted(container, "/mnt")["options"]


NEVER_CLEARED = pytest.mark.differs(crun="a flag that was set stays")


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        pytest.param(("ro", "rw"), "ro", marks=NEVER_CLEARED),
        pytest.param(("nosuid", "suid"), "nosuid", marks=NEVER_CLEARED),
        pytest.param(("nodev", "dev"), "nodev", marks=NEVER_CLEARED),
        pytest.param(("noexec", "exec"), "noexec", marks=NEVER_CLEARED),
        pytest.param(("noatime", "atime"), "noatime", marks=NEVER_CLEARED),
        pytest.param(("nodiratime", "diratime"), "nodiratime", marks=NEVER_CLEARED),
        (("strictatime",), "relatime"),
    ],
)
def test_options_that_undo_others(container: Container, options: tuple[str, ...], absent: str) -> None:
    """The same: mount(8) goes from left to right."""
    container.mount("/mnt", "tmpfs", "tmpfs", *options)
    assert absent not in mounted(container, "/mnt")["options"]


@pytest.mark.parametrize("option", ["sync", "dirsync", "lazytime"])
def test_options_of_the_file_system(container: Container, option: str) -> None:
    container.mount("/mnt", "tmpfs", "tmpfs", option)
    found = mounted(container, "/mnt")
    assert option in found["data"] + found["options"]


PASSED_ON = pytest.mark.differs(crun="passes it to the file system, which refuses it")


@pytest.mark.parametrize(
    "option",
    [
        "async",
        pytest.param("defaults", marks=pytest.mark.differs(runc="passes it to the file system, which refuses it")),
        pytest.param("iversion", marks=PASSED_ON),
        pytest.param("loud", marks=PASSED_ON),
        pytest.param("noiversion", marks=PASSED_ON),
        "nolazytime",
        "norelatime",
        "nostrictatime",
        pytest.param("silent", marks=PASSED_ON),
    ],
)
def test_options_that_are_accepted(container: Container, option: str) -> None:
    """The same, of those that show nowhere: they are not passed on as the file system's data."""
    container.mount("/mnt", "tmpfs", "tmpfs", option)
    assert mounted(container, "/mnt")["type"] == "tmpfs"


def test_noexec_is_in_force(container: Container) -> None:
    source = container.directory("source", "program")
    os.chmod(f"{source}/program", 0o755)
    container.mount("/mnt", "bind", source, "bind", "noexec")
    assert container.python("attempt(os.execv, '/mnt/program', ['program'])") == "EACCES"


def test_nodev_is_in_force(container: Container) -> None:
    container.mount("/mnt", "tmpfs", "tmpfs", "nodev")
    script = "os.mknod('/mnt/null', 0o666 | stat.S_IFCHR, os.makedev(1, 3))\nattempt(open, '/mnt/null')"
    assert container.python(script) == "EACCES"


def test_ro_is_in_force_and_the_source_is_not_touched(container: Container) -> None:
    source = container.directory("source", "file")
    container.mount("/mnt", "bind", source, "rbind", "ro")
    assert container.python("attempt(os.unlink, '/mnt/file')") == "EROFS"
    os.unlink(f"{source}/file")


def test_a_bind_mount_is_writable(container: Container) -> None:
    source = container.directory("source")
    container.mount("/mnt", "bind", source, "rbind", "rw")
    container.sh("echo written > /mnt/new")
    with open(f"{source}/new") as file:
        assert file.read() == "written\n"


@pytest.mark.differs(crun="knows no nosymfollow")
def test_nosymfollow(container: Container) -> None:
    """Linux mount options: `nosymfollow`, SHOULD."""
    source = container.directory("source", "file")
    os.symlink("file", f"{source}/link")
    container.mount("/mnt", "bind", source, "rbind", "nosymfollow")
    assert container.python("attempt(open, '/mnt/link')") == "ELOOP"


@pytest.mark.parametrize(
    ("data", "found"),
    [("size=4096k", "size=4096k"), ("mode=0711", "mode=711"), ("uid=7", "uid=7"), ("nr_inodes=9", "nr_inodes=9")],
)
def test_options_of_a_tmpfs(container: Container, data: str, found: str) -> None:
    """Linux mount options: "Runtimes SHOULD treat unknown options as filesystem-specific ones"."""
    container.mount("/mnt", "tmpfs", "tmpfs", "nosuid", data)
    assert found in mounted(container, "/mnt")["data"]


def test_an_option_that_nobody_knows(container: Container) -> None:
    """The same: the file system refuses it."""
    container.mount("/mnt", "tmpfs", "tmpfs", "nonsense")
    container.refused()


def test_remount(container: Container) -> None:
    """Linux mount options: `remount`, MUST."""
    container.mount("/mnt", "tmpfs", "tmpfs")
    container.mount("/mnt", "tmpfs", "tmpfs", "remount", "ro")
    found = mounted(container, "/mnt")
    assert "ro" in found["options"] + found["data"]


# Recursive options (mount_setattr(2))


WRONG_FLAG = pytest.mark.differs(crun="asks mount_setattr(2) for what it does not take")


@pytest.mark.parametrize(
    "option",
    [
        "rro",
        "rnosuid",
        "rnodev",
        "rnoexec",
        pytest.param("rnoatime", marks=WRONG_FLAG),
        pytest.param("rnodiratime", marks=WRONG_FLAG),
    ],
)
def test_recursive_options(container: Container, option: str) -> None:
    """Linux mount options: "Recursive `ro`", SHOULD, "need kernel 5.12 or later"."""
    container.mount("/mnt", "bind", _with_submount(container), "rbind", option)
    found = {mount["target"]: mount["options"] for mount in container.report()["mounts"]}
    assert option[1:] in found["/mnt"] and option[1:] in found["/mnt/sub"]


def test_ro_is_not_recursive(container: Container) -> None:
    """The reason for `rro`: `ro` is of the topmost mount alone."""
    container.mount("/mnt", "bind", _with_submount(container), "rbind", "ro")
    assert container.python("attempt(os.unlink, '/mnt/sub/inner')") == "ok"


# Propagation


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("shared", ["shared"]),
        ("rshared", ["shared"]),
        ("slave", ["master"]),
        ("rslave", ["master"]),
        ("private", []),
        ("rprivate", []),
        ("unbindable", ["unbindable"]),
        ("runbindable", ["unbindable"]),
    ],
)
def test_propagation(container: Container, option: str, expected: list[str]) -> None:
    """Linux mount options: "Bind mount propagation", MUST; of a source that the host shares."""
    source = container.directory("source")
    linux.mount(source, source, None, linux.MS_BIND)
    linux.mount(None, source, None, linux.MS_SHARED)
    container.linux["rootfsPropagation"] = (
        "rslave" if "slave" in option else "rshared" if "shared" in option else "private"
    )
    container.mount("/mnt", "bind", source, "rbind", option)
    found = mounted(container, "/mnt")["propagation"]
    assert sorted({entry.partition(":")[0] for entry in found}) == expected


def test_rslave_brings_the_hosts_later_mounts(container: Container) -> None:
    source = container.directory("source")
    os.mkdir(f"{source}/sub")
    linux.mount(source, source, None, linux.MS_BIND)
    linux.mount(None, source, None, linux.MS_SHARED)
    container.linux["rootfsPropagation"] = "rslave"
    container.mount("/mnt", "bind", source, "rbind", "rslave")
    container.started()
    linux.mount("tmpfs", f"{source}/sub", "tmpfs")
    assert " /mnt/sub " in container.exec("cat", "/proc/self/mounts").out


def test_rprivate_does_not(container: Container) -> None:
    source = container.directory("source")
    os.mkdir(f"{source}/sub")
    linux.mount(source, source, None, linux.MS_BIND)
    linux.mount(None, source, None, linux.MS_SHARED)
    container.mount("/mnt", "bind", source, "rbind", "rprivate")
    container.started()
    linux.mount("tmpfs", f"{source}/sub", "tmpfs")
    found = container.exec("cat", "/proc/self/mounts").out
    assert " /mnt " in found and " /mnt/sub " not in found


# tmpcopyup


def test_tmpcopyup(container: Container) -> None:
    """Linux mount options: "copy up the contents to a tmpfs", MAY."""
    os.makedirs(f"{container.upper}/data/inner")
    with open(f"{container.upper}/data/inner/file", "w") as file:
        file.write("content")
    os.chown(f"{container.upper}/data/inner/file", 5, 29)
    os.chmod(f"{container.upper}/data/inner/file", 0o640)
    container.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "nosuid")
    out = container.sh(
        "cat /data/inner/file; echo; stat -c '%u %g %a' /data/inner/file; echo x > /data/new; grep ' /data ' /proc/mounts"
    )
    lines = out.splitlines()
    assert lines[:2] == ["content", "5 29 640"] and lines[2].startswith("tmpfs /data tmpfs rw,nosuid")
    assert not os.path.exists(f"{container.upper}/data/new")


# Nothing that the image contains leads a mount out of the root


@pytest.mark.differs(crun="does not make what a symlink points to")
@pytest.mark.parametrize("target", ["/../../../../outside", "/outside", "../../../outside"])
def test_a_symlink_is_resolved_in_the_root(container: Container, target: str) -> None:
    """A destination is a "path inside container": a symlink of the image's is followed there (CVE-2019-19921, 2021-30465)."""
    os.symlink(target, f"{container.upper}/link")
    container.mount("/link", "tmpfs", "tmpfs")
    assert mounted(container, "/outside")["type"] == "tmpfs"
    assert container.mounts() == []


def test_a_parent_that_is_a_symlink(container: Container) -> None:
    outside = container.directory("outside")
    os.symlink(outside, f"{container.upper}/link")
    container.mount("/link/inner", "tmpfs", "tmpfs")
    container.run("true")
    assert os.listdir(outside) == []


def test_a_file_is_not_made_through_a_symlink(container: Container) -> None:
    outside = container.directory("outside")
    os.symlink(f"{outside}/file", f"{container.upper}/link")
    container.mount("/link", "bind", f"{container.directory('source', 'file')}/file", "bind")
    container.run("true")
    assert os.listdir(outside) == []


@pytest.mark.parametrize("path", ["proc", "sys"])
def test_proc_and_sys_must_be_directories(container: Container, path: str) -> None:
    """CVE-2019-16884, CVE-2023-27561: /proc as a symlink to a directory of the attacker's."""
    os.rmdir(f"{container.rootfs}/{path}")
    os.symlink("tmp", f"{container.rootfs}/{path}")
    container.refused()
