"""config.md, "Specification version" and "Root"; config-linux.md, "Rootfs Mount Propagation"."""

from __future__ import annotations

import os

import pytest

from engine import linux
from tests.support.conformance import Container

# Specification version


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2", "1.0.2-dev"])
def test_versions_that_it_is_compatible_with(container: Container, version: str) -> None:
    """Specification version: a configuration of 1.0 "is compatible with all runtimes that support any 1.0 or later"."""
    container.spec["ociVersion"] = version
    assert container.run("true").code == 0


KNOWS_LESS = pytest.mark.differs(crun="knows 1.0 and 1.1 alone")


@pytest.mark.parametrize(
    "version", ["1.1.0", *(pytest.param(v, marks=KNOWS_LESS) for v in ("1.2.0", "1.2.1", "1.3.0"))]
)
def test_newer_versions(container: Container, version: str) -> None:
    """The same, of later ones: runtimes of 1.0 may take them as well; containerd 2.2 writes 1.3."""
    container.spec["ociVersion"] = version
    assert container.run("true").code == 0


ANY_VERSION = pytest.mark.differs(runc="looks at no version")


@ANY_VERSION
@pytest.mark.parametrize("version", ["one", "", "1", "2.0.0", "0.9.0"])
def test_versions_that_are_none(container: Container, version: str) -> None:
    """Specification version: "`ociVersion` (string, REQUIRED) MUST be in SemVer v2.0.0 format", and of a major one it knows."""
    container.spec["ociVersion"] = version
    container.refused()


@ANY_VERSION
def test_a_version_is_required(container: Container) -> None:
    del container.spec["ociVersion"]
    container.refused()


# root


def test_the_root_is_the_bundles(container: Container) -> None:
    """Root: "`path` is either an absolute path or a relative path to the bundle"."""
    with open(f"{container.upper}/here", "w"):
        pass
    assert "/here" in container.report()["root"]


def test_an_absolute_root(container: Container) -> None:
    container.spec["root"]["path"] = container.rootfs
    with open(f"{container.upper}/here", "w"):
        pass
    assert "/here" in container.report()["root"]


def test_a_root_that_is_a_plain_directory(container: Container) -> None:
    """Not a mount point of its own: what pivot_root(2) demands is the runtime's business."""
    plain = f"{container.rootfs}/inner"
    os.mkdir(plain)
    for name in ("usr", "lib", "lib64", "bin", "proc", "dev", "sys"):
        if os.path.islink(f"{container.rootfs}/{name}"):
            os.symlink(os.readlink(f"{container.rootfs}/{name}"), f"{plain}/{name}")
        else:
            os.makedirs(f"{plain}/{name}")
    container.spec["root"]["path"] = "rootfs/inner"
    container.mount("/usr", "bind", f"{container.runtime.template}/usr", "rbind", "ro")
    assert "/etc" not in container.report()["root"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_must_be_a_directory(container: Container, kind: str) -> None:
    """Root: "A directory MUST exist at the path declared by the field"."""
    container.spec["root"]["path"] = "nowhere" if kind == "missing" else "config.json"
    container.refused()


def test_a_root_is_required(container: Container) -> None:
    """Root: "On all other platforms, this field is REQUIRED"."""
    del container.spec["root"]
    container.refused()


@pytest.mark.parametrize("readonly", [True, False, None])
def test_a_readonly_root(container: Container, readonly: bool | None) -> None:
    """Root: "If true then the root filesystem MUST be read-only inside the container, defaults to false"."""
    if readonly is not None:
        container.spec["root"]["readonly"] = readonly
    assert container.python("attempt(os.mkdir, '/new')") == ("EROFS" if readonly else "ok")


def test_a_readonly_root_has_writable_mounts(container: Container) -> None:
    """The same: only the root is."""
    container.spec["root"]["readonly"] = True
    container.mount("/tmp", "tmpfs", "tmpfs")
    assert container.python("attempt(os.mkdir, '/tmp/new')") == "ok"


def test_a_readonly_root_lets_devices_be_written(container: Container) -> None:
    container.spec["root"]["readonly"] = True
    assert container.sh("echo > /dev/null && echo done") == "done\n"


def test_the_root_is_all_there_is(container: Container) -> None:
    """No way out: `..` of the root is the root, and the host's mounts are gone."""
    found = container.report()
    assert not [mount for mount in found["mounts"] if mount["target"].startswith(container.runtime.directory)]
    assert container.runtime.directory not in str([mount["target"] for mount in found["mounts"]])


# rootfsPropagation


LEAVES_IT = pytest.mark.differs(runc="leaves the root private")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("shared", "shared:", marks=LEAVES_IT),
        pytest.param("rshared", "shared:", marks=LEAVES_IT),
        ("slave", ""),
        ("private", ""),
        ("rprivate", ""),
        pytest.param("unbindable", "unbindable", marks=LEAVES_IT),
    ],
)
def test_propagation_of_the_root(container: Container, given: str, expected: str) -> None:
    """Rootfs Mount Propagation: "Its value is either `shared`, `slave`, `private` or `unbindable`"."""
    container.linux["rootfsPropagation"] = given
    root = next(mount for mount in container.report()["mounts"] if mount["target"] == "/")
    found = " ".join(root["propagation"])
    if given == "slave":
        assert "shared:" not in found
    else:
        assert found.startswith(expected) if expected else found == ""


@pytest.mark.differs(crun="takes any for private")
def test_propagation_nonsense(container: Container) -> None:
    """Valid values: "Runtimes MUST generate an error when invalid or unsupported values are encountered"."""
    container.linux["rootfsPropagation"] = "nonsense"
    container.refused()


def test_nothing_reaches_the_host(container: Container) -> None:
    """The container's mounts are its own: not one appears in the runtime's namespace."""
    container.process["capabilities"]["bounding"] += ["CAP_SYS_ADMIN"]
    for name in ("effective", "permitted"):
        container.process["capabilities"][name] = container.process["capabilities"]["bounding"]
    linux.mount(None, container.rootfs, None, linux.MS_SHARED)
    container.started("sh", "-c", "mount -t tmpfs inside /mnt && touch /mounted; exec sleep 60")
    container.wait("running")
    assert container.mounts() == []


@pytest.mark.differs(runc="makes the root's mount private", crun="makes the root's mount private")
def test_a_slave_root_sees_the_hosts_mounts(container: Container) -> None:
    """Rootfs Mount Propagation: "`slave`: the rootfs mount receives propagation events from the host"."""
    linux.mount(None, container.rootfs, None, linux.MS_SHARED)
    container.linux["rootfsPropagation"] = "slave"
    container.started()
    linux.mount("tmpfs", f"{container.rootfs}/mnt", "tmpfs")
    assert "tmpfs /mnt " in container.exec("cat", "/proc/self/mounts").out


def test_a_private_root_sees_none(container: Container) -> None:
    """Rootfs Mount Propagation: "`private`: the rootfs mount doesn't receive mount propagation events from the host"."""
    linux.mount(None, container.rootfs, None, linux.MS_SHARED)
    container.linux["rootfsPropagation"] = "private"
    container.started()
    linux.mount("tmpfs", f"{container.rootfs}/mnt", "tmpfs")
    found = container.exec("cat", "/proc/self/mounts").out
    assert " /proc " in found and " /mnt " not in found
