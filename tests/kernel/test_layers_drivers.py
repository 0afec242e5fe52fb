"""Both storage drivers, mounted by a real kernel, show the same root: what was expected by hand, and what tar makes of it."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine import linux
from engine.errors import IntegrityError, LayerError, StoreError, UsageError
from engine.paths import Paths
from engine.storage.drivers import DirectoryDriver, Driver, ErofsDriver, choose
from engine.storage.layers import chain_ids
from tests.support import layers
from tests.support.layers import archive, directory, file, hard_link, opaque, symlink, whiteout
from tests.support.requirements import SHARED_IMAGES

pytestmark = pytest.mark.requires("linux", "root", "overlay")
EROFS = pytest.mark.requires("erofs")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "store"))


@pytest.fixture(params=[pytest.param(ErofsDriver, marks=EROFS), DirectoryDriver], ids=["erofs", "directory"])
def driver(request: pytest.FixtureRequest, paths: Paths) -> Driver:
    kind: type[Driver] = request.param
    return kind(paths)


def show(driver: Driver, *stack: bytes) -> dict[bytes, dict[str, Any]]:
    diff_ids = layers.store(driver, stack)
    driver.prepare(diff_ids)
    return layers.shown(driver.paths, driver, diff_ids)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CAPABILITY = b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # cap_net_bind_service, effective and permitted
ACL = b"\2\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little", signed=True)
    for tag, perm, who in ((1, 7, -1), (2, 5, 1000), (4, 5, -1), (16, 5, -1), (32, 0, -1))
)
LOWEST = archive(
    directory("./", mode=0o755, uid=0, gid=0, mtime=1000),
    directory("etc", mode=0o2750, uid=3, gid=4, mtime=2000),
    file("etc/passwd", b"root\n", mtime=-3),
    file("etc/gone", b"gone"),
    directory("opaque", mode=0o711, uid=8),
    file("opaque/old", b"old"),
    directory("opaque/sub"),
    file("opaque/sub/old", b"old"),
    directory("whole"),
    file("whole/file", b"x"),
    file("root-level", b"x"),
    file("ping", b"P" * 3000, [(b"SCHILY.xattr.security.capability", CAPABILITY)], mode=0o755),
    file("links/one", b"linked", uid=5),
    hard_link("links/two", "links/one"),
    hard_link("links/three", "links/one"),
    file("becomes-dir", b"file"),
    directory("becomes-file"),
    file("becomes-file/inside", b"x"),
    symlink("becomes-implied", "etc"),
    layers.entry("dev/null", layers.CHAR, rdev=(1, 3), mode=0o666, gid=6),
    layers.entry("dev/sda", layers.BLOCK, rdev=(8, 300), mode=0o660),
    layers.entry("fifo", layers.FIFO, [("mtime", "5.123456789")], mode=0o622, uid=1),
    symlink("link", "etc/passwd", uid=7, gid=8, mtime=4000),
    file(b"not-\xff-utf8", b"bytes"),
    file("acl", b"acl", [(b"SCHILY.xattr.system.posix_acl_access", ACL)], mode=0o750),
    file("hostile", b"", [("SCHILY.xattr.trusted.overlay.redirect", "/etc/passwd"), ("SCHILY.xattr.user.ok", "1")]),
    directory("hostile-dir", [("SCHILY.xattr.trusted.overlay.opaque", "y")]),
)
MIDDLE = archive(
    file("etc/new", b"implied parent", [("mtime", "1700000000.987654321")], mode=0o4755, uid=70000),
    whiteout("etc/gone"),
    file("opaque/sub/new", b"new"),
    file("opaque/new", b"new"),
    opaque("opaque"),  # behind its siblings
    whiteout("whole"),
    whiteout("root-level"),
    hard_link("links/four", "links/two"),  # into the layer below
    whiteout("links/three"),
    directory("becomes-dir", mode=0o700),
    file("becomes-dir/inside", b"x"),
    file("becomes-file", b"now a file"),
    file("becomes-implied/x", b"x"),
)
TOP = archive(
    directory("whole", mode=0o1777, mtime=99),
    file("whole/again", b"again"),
    hard_link("passwd-too", "/etc/passwd"),
    symlink("inside", "/etc"),
    file("inside/followed", b"f"),
    opaque("hostile-dir"),
)


def _expected() -> dict[bytes, dict[str, Any]]:
    def about(mode: int, uid: int = 0, gid: int = 0, mtime: int = 0, **more: Any) -> dict[str, Any]:
        return {"mode": oct(mode), "owner": (uid, gid), "mtime": mtime, "xattrs": {}} | more

    def reg(data: bytes, mode: int = 0o644, *args: int, nlink: int = 1, **more: Any) -> dict[str, Any]:
        return about(0o100000 | mode, *args, size=len(data), sha256=sha(data), nlink=nlink, **more)

    def folder(mode: int = 0o755, *args: int, **more: Any) -> dict[str, Any]:
        return about(0o040000 | mode, *args, **more)

    seconds = 10**9
    passwd, linked = reg(b"root\n", 0o644, 0, 0, -3 * seconds, nlink=2), reg(b"linked", 0o644, 5, nlink=3)
    return {
        b".": folder(0o755, 0, 0, 1000 * seconds),
        b"etc": folder(0o2750, 3, 4, 2000 * seconds),
        b"etc/passwd": passwd,
        b"passwd-too": passwd,
        b"etc/new": reg(b"implied parent", 0o4755, 70000, 0, 1700000000987654321),
        b"etc/followed": reg(b"f"),
        b"inside": about(0o120777, nlink=1, target=b"/etc"),
        b"opaque": folder(0o711, 8),
        b"opaque/new": reg(b"new"),
        b"opaque/sub": folder(),
        b"opaque/sub/new": reg(b"new"),
        b"whole": folder(0o1777, 0, 0, 99 * seconds),
        b"whole/again": reg(b"again"),
        b"ping": reg(b"P" * 3000, 0o755, xattrs={"security.capability": CAPABILITY}),
        b"links": folder(),
        b"links/one": linked,
        b"links/two": linked,
        b"links/four": linked,
        b"becomes-dir": folder(0o700),
        b"becomes-dir/inside": reg(b"x"),
        b"becomes-file": reg(b"now a file"),
        b"becomes-implied": folder(),
        b"becomes-implied/x": reg(b"x"),
        b"dev": folder(),
        b"dev/null": about(0o020666, 0, 6, nlink=1, rdev=(1, 3)),
        b"dev/sda": about(0o060660, nlink=1, rdev=(8, 300)),
        b"fifo": about(0o010622, 1, 0, 5123456789, nlink=1, rdev=(0, 0)),
        b"link": about(0o120777, 7, 8, 4000 * seconds, nlink=1, target=b"etc/passwd"),
        b"not-\xff-utf8": reg(b"bytes"),
        b"acl": reg(b"acl", 0o750, xattrs={"system.posix_acl_access": ACL}),
        b"hostile": reg(b"", xattrs={"user.ok": b"1"}),
        b"hostile-dir": folder(),
    }


def test_what_a_container_sees(driver: Driver) -> None:
    assert show(driver, LOWEST, MIDDLE, TOP) == _expected()


def test_a_capability_is_effective(driver: Driver, paths: Paths) -> None:
    cat = os.path.realpath("/bin/cat")
    data = Path(cat).read_bytes()
    diff_ids = layers.store(
        driver, [archive(file("cat", data, [(b"SCHILY.xattr.security.capability", CAPABILITY)], mode=0o755))]
    )
    with layers.mounted(driver, diff_ids, f"{paths.root}/here") as place:
        done = subprocess.run(
            ["./cat", "/proc/self/status"], cwd=place, user=65534, group=65534, extra_groups=[],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    effective = next(line for line in done.stdout.splitlines() if line.startswith("CapEff:"))
    assert int(effective.split()[1], 16) == 1 << 10


@pytest.mark.requires("shared-images")
@pytest.mark.parametrize("name", ["alpine-minirootfs-3.20.3-x86_64", "busybox-musl-amd64-rootfs"])
def test_real_images_equal_tar(driver: Driver, tmp_path: Path, name: str) -> None:
    with gzip.open(f"{SHARED_IMAGES}/{name}.tar.gz") as compressed:
        tar = compressed.read()
    (tmp_path / "x.tar").write_bytes(tar)
    plain = tmp_path / "plain"
    plain.mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "x.tar", "--numeric-owner", "-C", plain], check=True)
    expected = layers.scan(str(plain))
    found = show(driver, tar)
    assert len(found) > 400
    assert found == expected


@pytest.mark.parametrize(
    "segments",
    [
        [(0, b"x" * 4096), (1 << 20, b"y" * 512), (5 << 20, b"z" * 300)],  # at blocks: the index points into the tar
        [(5, b"a" * 100), (5000, b"b" * 70000), (5 << 20, b"c")],  # between them: copied
        [],
    ],
)
def test_sparse_files(driver: Driver, segments: list[tuple[int, bytes]]) -> None:
    size = (5 << 20) + (300 if len(segments) == 3 and segments[0][0] == 0 else 4097)
    content = bytearray(size)
    for offset, data in segments:
        content[offset : offset + len(data)] = data
    numbers = ",".join(f"{offset},{len(data)}" for offset, data in segments)
    records = [("GNU.sparse.map", numbers), ("GNU.sparse.size", str(size)), ("GNU.sparse.name", "sparse")]
    stored = file("stored", b"".join(data for _, data in segments), records)
    found = show(driver, archive(stored, hard_link("too", "sparse"), file("after", b"a")))
    assert found[b"sparse"] == found[b"too"]
    assert (found[b"sparse"]["size"], found[b"sparse"]["sha256"]) == (size, sha(bytes(content)))


@EROFS
def test_a_file_of_9_gib_and_one_behind_it(paths: Paths) -> None:
    """In the index alone. The tar is a hole for the most part, under a digest that is not its own: nobody reads it all."""
    driver, size = ErofsDriver(paths), 9 * 2**30 + 5
    diff_id = "sha256:" + "0" * 64
    os.makedirs(paths.layers)
    with open(paths.layer(diff_id), "xb") as tar:
        tar.write(layers.header("big", size=size))
        tar.seek(512 + size - 3)
        tar.write(b"end" + bytes(-size % 512) + archive(file("behind", b"behind")))
    with layers.mounted(driver, [diff_id], f"{paths.root}/here") as place:
        with open(f"{place}/big", "rb") as big:
            big.seek(-5, os.SEEK_END)
            assert big.read() == b"\0\0end" and big.tell() == size
        assert Path(place, "behind").read_bytes() == b"behind"


@EROFS
def test_large_extended_attributes(paths: Paths) -> None:
    """As large as Linux allows, over many blocks of an index; ext4 and other file systems hold less."""
    driver, value = ErofsDriver(paths), bytes(range(256)) * 255
    found = show(driver, archive(file("x", b"data", [(b"SCHILY.xattr.user.big", value)]), file("y")))
    assert found[b"x"]["xattrs"] == {"user.big": value} and found[b"x"]["sha256"] == sha(b"data")


@pytest.mark.parametrize("number", [60, pytest.param(200, marks=pytest.mark.requires("lowerdir+"))])
def test_many_layers(driver: Driver, number: int) -> None:
    stack = [archive(file(f"f{n}", b"%d" % n), file("last", b"%d" % n), whiteout(f"f{n - 2}")) for n in range(number)]
    found = show(driver, *stack)
    assert set(found) == {b".", b"last", b"f%d" % (number - 2), b"f%d" % (number - 1)}
    assert found[b"last"]["sha256"] == sha(b"%d" % (number - 1))


def test_the_same_layer_twice(driver: Driver) -> None:
    empty = archive()
    found = show(driver, empty, archive(file("x", b"1")), empty, archive(file("x", b"2")), empty)
    assert found[b"x"]["sha256"] == sha(b"2")


def test_a_name_twice_in_a_layer(driver: Driver) -> None:
    """The last entry counts, and what it replaced in its own layer has replaced the lower layer's already."""
    lower = archive(directory("d"), file("d/lower"), file("f", b"lower"))
    upper = archive(file("d"), directory("d"), file("d/upper"), directory("f"), file("f", b"1"), file("f", b"2"))
    found = show(driver, lower, upper)
    assert set(found) == {b".", b"d", b"d/upper", b"f"}
    assert found[b"f"]["sha256"] == sha(b"2")


def test_a_whiteout_in_an_opaque_directory_is_not_listed(driver: Driver) -> None:
    assert set(show(driver, archive(file("d/x")), archive(whiteout("d/x"), opaque("d")))) == {b".", b"d"}


def test_no_layer_at_all(driver: Driver) -> None:
    assert set(show(driver)) == {b"."}


def test_a_container_writes_into_its_upper_directory_alone(driver: Driver, paths: Paths) -> None:
    diff_ids = layers.store(driver, [archive(directory(".", mode=0o1750, uid=3, gid=4), file("a", b"old"))])
    with layers.mounted(driver, diff_ids, f"{paths.root}/here") as place:
        Path(place, "a").write_bytes(b"new")
        os.unlink(f"{place}/a")
        Path(place, "b").write_bytes(b"b")
        upper = f"{paths.container('c-' + driver.name)}/upper"
        assert os.stat(upper).st_mode & 0o7777 == 0o1750 and os.stat(upper).st_uid == 3
        assert sorted(os.listdir(upper)) == ["a", "b"]
    assert not os.path.exists(paths.container("c-" + driver.name) + "/upper")
    assert set(layers.shown(paths, driver, diff_ids)) == {b".", b"a"}


HOSTILE = {
    "a name above the root": file("../escaped"),
    "a whiteout above the root": file("d/../../.wh.escaped"),
    "a link above the root": hard_link("h", "../../etc/passwd"),
    "a link to nothing": hard_link("h", "etc/passwd"),
    "a loop of symlinks": symlink("a", "b") + symlink("b", "a") + file("a/x"),
    "a file as a directory": file("a") + file("a/b"),
    "a negative size": layers.header("x", size=-512),
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_layers_leave_nothing(driver: Driver, paths: Paths, tmp_path: Path, members: bytes) -> None:
    diff_ids = layers.store(driver, [archive(file("fine")), archive(members)])
    for _ in range(2):
        with pytest.raises(LayerError, match=f"layer {diff_ids[1][7:19]}: "):
            driver.prepare(diff_ids)
    assert not driver.is_prepared(diff_ids)
    assert os.listdir(tmp_path) == ["store"]
    for place in (paths.indexes, paths.trees):
        if os.path.isdir(place):
            kinds = {os.path.splitext(name)[1] for name in os.listdir(place)}
            assert kinds <= {"", ".layer"}  # of the directory that is whole, the lower layer's


def test_symlinks_that_lead_out_are_followed_inside(driver: Driver, tmp_path: Path) -> None:
    """umoci's CVE-2021-29136 and its kind: the entry lands in the image, and the host's directory stays empty."""
    outside = tmp_path / "outside"
    outside.mkdir()
    up = "../" * 30
    members = [symlink("abs", str(outside)), file("abs/one"), symlink("rel", f"{up}{outside}"), file("rel/two")]
    found = show(driver, archive(*members), archive(directory("abs/three"), symlink("rel", "x")))
    assert os.listdir(outside) == []
    inside = os.fsencode(str(outside)[1:])
    assert {inside + b"/one", inside + b"/two", b"abs/three"} <= set(found)


def test_a_layer_is_visible_only_when_it_is_whole(driver: Driver, paths: Paths) -> None:
    tar = archive(file("x", b"data"))
    diff_id = "sha256:" + sha(tar)
    with driver.layer_sink(diff_id) as sink:
        sink.write(tar[:100])
        assert not driver.has_layer(diff_id)
    assert os.listdir(paths.downloads) == []
    with pytest.raises(IntegrityError), driver.layer_sink(diff_id) as sink:
        sink.write(tar[:-1])
        sink.commit()
    assert not driver.has_layer(diff_id) and os.listdir(paths.downloads) == []
    with driver.layer_sink(diff_id) as sink:
        sink.write(memoryview(tar))
        sink.commit()
    assert driver.has_layer(diff_id) and driver.layer_size(diff_id) == len(tar)
    with open(paths.layer(diff_id), "rb") as file_:
        assert file_.read() == tar
    driver.remove_layer(diff_id)
    assert not driver.has_layer(diff_id)
    with pytest.raises(StoreError):
        driver.prepare([diff_id])


def test_what_is_derived_is_derived_again(driver: Driver, paths: Paths) -> None:
    diff_ids = layers.store(driver, [archive(file("x")), archive(file("y"))])
    driver.prepare(diff_ids)
    driver.remove_index(chain_ids(diff_ids)[-1])
    assert not driver.is_prepared(diff_ids)
    assert set(layers.shown(paths, driver, diff_ids)) == {b".", b"x", b"y"}


def test_removal_spares_directories_that_others_stand_on(paths: Paths) -> None:
    driver = DirectoryDriver(paths)
    diff_ids = layers.store(driver, [archive(file("x")), archive(file("y"))])
    driver.prepare(diff_ids)
    lower, upper = chain_ids(diff_ids)
    driver.remove_index(lower)  # the image of the lower layer alone goes; another one is built on it
    assert os.path.isdir(paths.tree(lower))
    driver.remove_index(upper)
    driver.remove_layer(diff_ids[1])
    driver.remove_layer(diff_ids[0])
    assert os.listdir(paths.trees) == []


def test_what_a_killed_mini_left_is_swept_up(driver: Driver, paths: Paths) -> None:
    diff_ids = layers.store(driver, [archive(file("x"))])
    os.makedirs(paths.tree(diff_ids[0]) + ".new/half")
    os.makedirs(paths.tree(diff_ids[0]) + ".gone/half")
    os.makedirs(paths.indexes)
    Path(paths.index(diff_ids[0]) + ".tmp").write_bytes(b"half")
    driver.prepare(diff_ids)
    assert set(layers.shown(paths, driver, diff_ids)) == {b".", b"x"}
    own = paths.indexes if driver.name == "erofs" else paths.trees
    assert {os.path.splitext(name)[1] for name in os.listdir(own)} <= {".erofs", "", ".layer"}


def test_where_an_index_cannot_be_mounted_directories_are_the_choice(tmp_path: Path) -> None:
    """tmpfs does not read through the page cache, as EROFS needs it of the file system that has the index."""
    place = tmp_path / "tmpfs"
    place.mkdir()
    linux.mount("tmpfs", str(place), "tmpfs")
    try:
        driver = choose(Paths(str(place / "store")), None)
        assert driver.name == "directory"
        assert set(show(driver, archive(file("x")))) == {b".", b"x"}
    finally:
        linux.umount2(str(place))


@EROFS
def test_a_root_that_may_not_mount_can_still_store(paths: Paths) -> None:
    child = os.fork()
    if not child:
        keep = linux.capget()[1] & ~(1 << 21)  # without CAP_SYS_ADMIN, as in a container
        linux.capset(keep, keep, 0)
        os._exit(choose(paths, None).name != "erofs")
    assert os.waitpid(child, 0)[1] == 0


@EROFS
def test_a_data_root_keeps_its_driver(paths: Paths) -> None:
    assert choose(paths, None).name == "erofs"
    assert os.listdir(paths.indexes) == []
    first = choose(paths, "directory")
    first.prepare(layers.store(first, [archive()]))
    assert choose(paths, None).name == "directory"
    assert choose(paths, "erofs").name == "erofs"
    with pytest.raises(UsageError, match="no such storage driver: btrfs"):
        choose(paths, "btrfs")
