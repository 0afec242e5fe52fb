"""config.md, "Mounts": what a mount has of its source's flags and mode, sources of any kind, and destinations of any kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from engine import linux
from tests.support.conformance import Container

FLAGS = {
    "ro": linux.MS_RDONLY, "nosuid": linux.MS_NOSUID, "nodev": linux.MS_NODEV, "noexec": linux.MS_NOEXEC,
    "noatime": linux.MS_NOATIME,
}  # fmt: skip

NEW_FLAGS = "takes no flag but those that are asked for"


def each(names: Iterable[Any], words: str, **differs: str) -> list[Any]:
    """As parameters: those that `words` names are marked."""
    return [
        pytest.param(name, marks=pytest.mark.differs(**differs)) if str(name) in words.split() else name
        for name in names
    ]


def mounted(container: Container, target: str) -> dict[str, Any]:
    """The topmost mount there, as the container sees it."""
    found: dict[str, Any] = [mount for mount in container.report()["mounts"] if mount["target"] == target][-1]
    return found


def source_with(container: Container, *flags: str) -> str:
    """A directory of the host's that is a mount point with these flags."""
    source = container.directory("source", "file")
    linux.mount("tmpfs", source, "tmpfs")
    linux.mount(None, source, None, linux.MS_REMOUNT | linux.MS_BIND | sum(FLAGS[flag] for flag in flags))
    return source


def place(container: Container, path: str, kind: str) -> None:
    """Makes a mount point in the root, where the container's own root could not."""
    os.makedirs(os.path.dirname(f"{container.upper}{path}"), exist_ok=True)
    if kind == "directory":
        os.mkdir(f"{container.upper}{path}")
    else:
        os.mknod(f"{container.upper}{path}")


# Flags of the source


@pytest.mark.parametrize("flag", each(FLAGS, "ro nosuid nodev noexec", crun=NEW_FLAGS))
def test_a_bind_mount_keeps_the_flags_of_its_source(container: Container, flag: str) -> None:
    """mount(8): without options but `bind`, a bind mount is as its source is."""
    container.mount("/mnt", "bind", source_with(container, flag), "bind")
    assert flag in mounted(container, "/mnt")["options"]


@pytest.mark.differs(runc="keeps those of the source")
@pytest.mark.parametrize(("flag", "option"), [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")])
def test_an_option_takes_a_flag_of_the_source_away(container: Container, flag: str, option: str) -> None:
    """Linux mount options: `rw`, `suid`, `dev`, `exec`, "Corresponds to mount(8)"."""
    container.mount("/mnt", "bind", source_with(container, flag), "bind", option)
    assert flag not in mounted(container, "/mnt")["options"]


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param("ro", marks=pytest.mark.differs(crun=NEW_FLAGS)),
        "nosuid",
        pytest.param("nodev", marks=pytest.mark.differs(runc=NEW_FLAGS, crun=NEW_FLAGS)),
        pytest.param("noexec", marks=pytest.mark.differs(runc=NEW_FLAGS, crun=NEW_FLAGS)),
        pytest.param("noatime", marks=pytest.mark.differs(crun="does not set nosuid, then")),
    ],
)
def test_what_the_host_forbids_stays_forbidden(container: Container, flag: str) -> None:
    """mount_namespaces(7): a user namespace's mounts keep the flags that were set outside it, whatever else is asked for."""
    container.user_namespace()
    container.mount("/mnt", "bind", source_with(container, flag), "bind", "nosuid")
    assert {flag, "nosuid"} <= {*mounted(container, "/mnt")["options"]}


@pytest.mark.differs(crun=NEW_FLAGS)
@pytest.mark.parametrize("flag", ["nosuid", "nodev", "noexec"])
def test_a_readonly_path_keeps_its_flags(container: Container, flag: str) -> None:
    """Readonly Paths: read-only besides what it was."""
    container.mount("/mnt", "bind", container.directory("source", "file"), "rbind", flag)
    container.linux["readonlyPaths"] = ["/mnt", "/mnt/file"]
    found = {mount["target"]: mount["options"] for mount in container.report()["mounts"]}
    assert {"ro", flag} <= {*found["/mnt"]} and {"ro", flag} <= {*found["/mnt/file"]}


@pytest.mark.differs(crun=NEW_FLAGS)
@pytest.mark.parametrize("flag", ["nosuid", "nodev", "noexec"])
def test_a_readonly_path_of_proc_keeps_its_flags(container: Container, flag: str) -> None:
    container.spec["mounts"][0] = container.spec["mounts"][0] | {"options": [flag]}
    container.linux["readonlyPaths"] = ["/proc/bus"]
    assert {"ro", flag} <= {*mounted(container, "/proc/bus")["options"]}


def test_a_readonly_dev(container: Container) -> None:
    """`ro` of /dev, where the runtime makes devices and links first."""
    container.spec["mounts"][1]["options"].append("ro")
    script = "tell([outcome(os.mkdir, '/dev/new'), os.path.exists('/dev/null'), os.path.islink('/dev/fd')])"
    assert container.python(script) == ["EROFS", True, True]


def test_a_readonly_tmpfs(container: Container) -> None:
    container.mount("/mnt", "tmpfs", "tmpfs", "ro", "mode=711")
    found = mounted(container, "/mnt")
    assert "ro" in found["options"] and "mode=711" in found["data"]


CRUN_RECURSES = pytest.mark.differs(crun="takes what a recursive option is of for a directory")
CRUN_IGNORES = pytest.mark.differs(crun="does not set it in a user namespace")


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("file", "ro"),
        pytest.param("file", "rro", marks=CRUN_RECURSES),
        pytest.param("file", "rnosuid", marks=CRUN_RECURSES),
        ("directory", "ro"),
        ("directory", "rro"),
        ("directory", "rnosuid"),
        *(
            pytest.param(kind, option, marks=CRUN_IGNORES)
            for kind in ("file", "directory")
            for option in ("nosuid", "nodev", "noexec")
        ),
    ],
)
def test_options_in_a_user_namespace(container: Container, kind: str, option: str) -> None:
    """Linux mount options: MUST, in a user namespace as well, of a file as of a directory."""
    container.user_namespace()
    source = container.directory("source", "file")
    place(container, "/mnt/it", kind)
    container.mount("/mnt/it", "bind", source if kind == "directory" else f"{source}/file", "bind", option)
    found = mounted(container, "/mnt/it")["options"]
    assert {"rro": "ro", "rnosuid": "nosuid"}.get(option, option) in found


# The mode of a tmpfs


@pytest.mark.parametrize("mode", each([0o1777, 0o710, 0o755], f"{0o710} {0o755}", crun="makes it 1777"))
def test_a_tmpfs_has_the_mode_of_what_it_hides(container: Container, mode: int) -> None:
    """What images rely on whose /tmp is 1777: without `mode=` it is that of the directory there."""
    os.mkdir(f"{container.upper}/scratch")
    os.chmod(f"{container.upper}/scratch", mode)
    container.mount("/scratch", "tmpfs", "tmpfs", "nosuid")
    assert container.sh("stat -c %a /scratch") == f"{mode:o}\n"


@pytest.mark.parametrize("is_there", each([True, False], "True", runc="makes it that of the directory"))
def test_a_tmpfs_has_the_mode_that_is_given(container: Container, is_there: bool) -> None:
    if is_there:
        os.mkdir(f"{container.upper}/scratch", 0o700)
    container.mount("/scratch", "tmpfs", "tmpfs", "mode=0444")
    assert container.sh("stat -c %a /scratch") == "444\n"


@pytest.mark.differs(runc="masks them")
def test_tmpcopyup_keeps_modes(container: Container) -> None:
    """Whatever the umask of the caller."""
    os.makedirs(f"{container.upper}/data/inner")
    os.chmod(f"{container.upper}/data/inner", 0o777)
    container.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    old = os.umask(0o022)
    try:
        assert container.sh("stat -c %a /data/inner") == "777\n"
    finally:
        os.umask(old)


# Sources of any kind


@pytest.mark.parametrize("option", each(["rw", "ro", "rro"], "rro", crun="takes the source for a directory"))
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_source_that_is_no_file(container: Container, kind: str, option: str) -> None:
    """mount(2), MS_BIND: "a single file", of any type."""
    path = f"{container.bundle}/it"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
    container.mount("/it", "bind", path, "bind", option)
    assert container.sh("stat -c %F /it") == f"{kind}\n"


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_source_that_is_a_symlink(container: Container, kind: str) -> None:
    """mount(2) follows it."""
    source = container.directory("source", "file")
    os.symlink(f"{source}/file" if kind == "file" else source, f"{container.bundle}/link")
    container.mount("/mnt/it", "bind", f"{container.bundle}/link", "bind")
    assert container.sh(f"cat /mnt/it{'' if kind == 'file' else '/file'}") == "file"


@pytest.mark.parametrize("is_link", [False, True])
def test_a_source_that_the_containers_root_cannot_reach(container: Container, is_link: bool) -> None:
    """Who names it is the caller, not a user of the namespace."""
    container.user_namespace()
    source = container.directory("hidden/source", "file")
    os.symlink(source, f"{container.bundle}/hidden/link")
    os.chmod(f"{container.bundle}/hidden", 0)
    path = f"{container.bundle}/hidden/{'link' if is_link else 'source'}"
    for number in (1, 2):
        place(container, f"/mnt/{number}", "directory")
        container.mount(f"/mnt/{number}", "bind", path, "bind", "ro")
    container.started()
    assert container.exec("cat", "/mnt/1/file", "/mnt/2/file").out == "filefile"


# Destinations of any kind


@pytest.mark.parametrize("destination", ["/mnt//a///b", "/mnt/a/b/", "/mnt/./a/b", "/mnt/a/../a/b"])
def test_a_destination_with_needless_parts(container: Container, destination: str) -> None:
    container.mount(destination, "tmpfs", "tmpfs")
    assert mounted(container, "/mnt/a/b")["type"] == "tmpfs"


@pytest.mark.differs(crun="mounts it at no place")
def test_a_destination_that_is_the_root(container: Container) -> None:
    """A bind mount over / comes first, so that the rest is in it."""
    mount = {"destination": "/", "type": "bind", "source": container.runtime.template, "options": ["rbind", "ro"]}
    container.spec["mounts"].insert(0, mount)
    container.spec["mounts"] = [entry for entry in container.spec["mounts"] if entry["destination"] != "/dev/shm"]
    assert container.python("attempt(os.mkdir, '/new')") == "EROFS"


@pytest.mark.differs(crun="does not make what a symlink points to")
def test_a_destination_below_a_symlink_that_leads_nowhere(container: Container) -> None:
    """What it points to is made, inside."""
    os.symlink("/not/there", f"{container.upper}/link")
    container.mount("/link/inner", "bind", container.directory("source", "file"), "bind")
    assert container.sh("cat /not/there/inner/file") == "file"


def test_a_setgid_root(container: Container) -> None:
    """Directories that are made below it."""
    os.chmod(container.rootfs, 0o2755)
    container.mount("/new/place", "tmpfs", "tmpfs")
    assert mounted(container, "/new/place")["type"] == "tmpfs"
