"""What layers mean when they are put on each other: the rules that both storage drivers share."""

from __future__ import annotations

import stat
import tempfile

import pytest

from engine.errors import LayerError
from engine.storage.tar import read_entries
from engine.storage.tree import Node, Tree
from tests.support import layers
from tests.support.layers import archive, directory, file, hard_link, opaque, symlink, whiteout


def merge(*stack: list[bytes]) -> Tree:
    tree = Tree()
    for members in stack:
        with tempfile.TemporaryFile() as opened:
            opened.write(archive(*members))
            opened.flush()
            tree.apply(read_entries(opened.fileno()))
    return tree


def paths(tree: Tree) -> set[str]:
    """All paths, directories with a slash at their end."""
    found = set()
    pending = [("", tree.root)]
    for prefix, node in pending:
        for name, child in (node.children or {}).items():
            path = prefix + name.decode(errors="backslashreplace")
            if child.children is not None:
                path += "/"
                pending.append((path, child))
            found.add(path)
    return found


def at(tree: Tree, path: str) -> Node:
    node = tree.root
    for part in path.encode().split(b"/"):
        assert node.children is not None
        node = node.children[part]
    return node


def test_whiteouts_hide_lower_layers() -> None:
    below = [file("gone"), file("kept"), directory("d"), file("d/gone"), file("d/kept"), directory("e"), file("e/f")]
    tree = merge(below, [whiteout("gone"), whiteout("d/gone"), whiteout("e"), whiteout("never-was")])
    assert paths(tree) == {"kept", "d/", "d/kept"}


@pytest.mark.parametrize("first", [True, False], ids=["marker first", "marker last"])
def test_an_opaque_directory_hides_what_is_below_but_not_its_own_layer(first: bool) -> None:
    below = [directory("d", uid=5), file("d/old"), directory("d/s"), file("d/s/old"), file("beside")]
    own = [file("d/new"), file("d/s/new")]
    tree = merge(below, [opaque("d"), *own] if first else [*own, opaque("d")])
    assert paths(tree) == {"beside", "d/", "d/new", "d/s/", "d/s/new"}
    assert at(tree, "d").uid == 5  # no entry names it: what the lower layer says


@pytest.mark.parametrize("first", [True, False], ids=["whiteout first", "whiteout last"])
def test_a_whiteout_hides_nothing_of_its_own_layer(first: bool) -> None:
    below = [directory("d"), file("d/old"), file("f", b"old")]
    hide, own = [whiteout("d"), whiteout("f")], [directory("d", uid=7), file("d/new"), file("f", b"new!")]
    tree = merge(below, hide + own if first else own + hide)
    assert paths(tree) == {"d/", "d/new", "f"}
    assert (at(tree, "d").uid, at(tree, "f").size) == (7, 4)


def test_an_opaque_root() -> None:
    tree = merge([file("a"), directory("d"), file("d/x")], [opaque(""), file("d/y")])
    assert paths(tree) == {"d/", "d/y"}


def test_a_character_device_0_0_is_a_whiteout() -> None:
    tree = merge([file("a"), file("b")], [layers.entry("a", layers.CHAR), layers.entry("c", layers.CHAR)])
    assert paths(tree) == {"b"}


def test_files_of_aufs_mean_nothing() -> None:
    aufs = [file(".wh..wh.aufs"), directory(".wh..wh.plnk"), file(".wh..wh.plnk/12.34"), directory(".wh..wh.orph")]
    assert paths(merge([*aufs, file("a"), file("x.wh..wh.y")])) == {"a", "x.wh..wh.y"}


def test_implied_parents_keep_the_lower_layers_attributes() -> None:
    tree = merge([directory("srv", mode=0o2750, uid=3, gid=4, mtime=99)], [file("srv/new/file")])
    srv, new = at(tree, "srv"), at(tree, "srv/new")
    assert (srv.mode & 0o7777, srv.uid, srv.gid, srv.mtime_ns) == (0o2750, 3, 4, 99 * 10**9)
    assert (new.mode & 0o7777, new.uid, new.gid, new.mtime_ns) == (0o755, 0, 0, 0)


def test_a_directory_replaces_the_attributes_of_a_directory_and_keeps_its_content() -> None:
    xattr = [("SCHILY.xattr.user.a", "1")]
    tree = merge([directory("d", xattr, uid=1), file("d/f")], [directory("d", mode=0o700, uid=2)])
    assert paths(tree) == {"d/", "d/f"}
    assert (at(tree, "d").mode & 0o7777, at(tree, "d").uid, at(tree, "d").xattrs) == (0o700, 2, None)


def test_files_and_directories_replace_each_other() -> None:
    below = [directory("a"), file("a/x"), file("b"), symlink("c", "a"), directory("d"), file("d/x")]
    tree = merge(below, [file("a"), directory("b"), file("b/y"), directory("c"), symlink("d", "b")])
    assert paths(tree) == {"a", "b/", "b/y", "c/", "d"}


def test_the_root_has_attributes() -> None:
    tree = merge([directory("./", mode=0o555, uid=1, mtime=5)], [file("x")])
    assert (tree.root.mode & 0o7777, tree.root.uid, tree.root.mtime_ns) == (0o555, 1, 5 * 10**9)
    assert paths(merge([symlink(".", "x"), file("/"), hard_link("./.", "x"), file("x")])) == {"x"}


def test_names_are_cleaned() -> None:
    tree = merge([file("./a//b/./c"), file("/absolute"), file("x/../y"), file(b"\xff\n"), file("..z"), file("d/.e")])
    assert paths(tree) == {"a/", "a/b/", "a/b/c", "absolute", "y", "\\xff\n", "..z", "d/", "d/.e"}


@pytest.mark.parametrize("name", ["..", "../x", "/../x", "a/../../x", "./../x"])
def test_names_that_lead_out_are_refused(name: str) -> None:  # CVE-2014-9356
    for member in (file(name), whiteout(name), directory(name), symlink(name, "t"), hard_link("h", name)):
        with pytest.raises(LayerError):
            merge([file("x"), member])


@pytest.mark.parametrize("target", ["/etc", "etc", "../../../etc", "/x/../etc", "loop/../etc"])
def test_a_symlink_of_the_same_layer_is_followed_inside_the_image(target: str) -> None:
    tree = merge([directory("loop"), symlink("link", target), file("link/passwd")])
    assert paths(tree) >= {"etc/", "etc/passwd", "link"}


def test_a_symlink_of_a_lower_layer_is_replaced() -> None:
    """As where each layer is unpacked by itself, which is what Docker and containerd do."""
    tree = merge([symlink("bin", "usr/bin"), file("usr/bin/sh")], [file("bin/tool")])
    assert paths(tree) == {"bin/", "bin/tool", "usr/", "usr/bin/", "usr/bin/sh"}


def test_symlinks_that_lead_nowhere() -> None:
    with pytest.raises(LayerError, match="too many symlinks"):
        merge([symlink("a", "b"), symlink("b", "a"), file("a/x")])
    deep = "/".join(["d" * 100] * 20)
    with pytest.raises(LayerError, match="too long for a kernel"):
        merge([symlink("a", deep), file("a/x"), symlink(f"{deep}/b", f"/a/{deep}"), file(f"{deep}/b/x")])
    with pytest.raises(LayerError, match="which is a file"):
        merge([file("a"), file("a/b")])
    with pytest.raises(LayerError, match="target of 0 bytes"):
        merge([symlink("a", "")])


def test_hard_links() -> None:
    tree = merge([file("a", b"x"), hard_link("d/b", "./a"), symlink("s", "a"), hard_link("t", "/s")])
    assert at(tree, "a") is at(tree, "d/b") and at(tree, "a").nlink == 2
    assert at(tree, "t") is at(tree, "s") and stat.S_ISLNK(at(tree, "t").mode)


def test_hard_links_to_a_lower_layer_and_names_that_go() -> None:
    lowest = [file("a", b"x"), hard_link("b", "a"), directory("d"), hard_link("d/c", "a")]
    tree = merge(lowest, [hard_link("e", "b"), whiteout("d")])
    assert at(tree, "e") is at(tree, "a") and at(tree, "a").nlink == 3
    tree = merge(lowest, [file("a", b"other")], [hard_link("b", "a")])
    assert at(tree, "d/c").nlink == 1 and at(tree, "a").nlink == 2 and at(tree, "a").size == 5


@pytest.mark.parametrize(
    ("target", "why"), [("missing", "does not exist"), ("d", "is a directory"), ("a/b", "not exist")]
)
def test_hard_links_to_nothing(target: str, why: str) -> None:
    with pytest.raises(LayerError, match=f"'h' names '{target}'.*{why}"):
        merge([directory("d"), file("a"), hard_link("h", target)])
    with pytest.raises(LayerError):
        merge([file("gone")], [whiteout("gone"), hard_link("h", "gone")])


def test_extended_attributes_that_a_layer_may_not_have() -> None:
    names = ["security.capability", "user.kept", "trusted.kept", "system.posix_acl_access", "trusted.overlay.opaque"]
    names += ["user.overlay.redirect", "trusted.overlay.", "system.nfs4_acl", "lustre.lov", "user.", "nodots"]
    records = [(f"SCHILY.xattr.{name}", "v") for name in names]
    tree = merge([file("f", b"", records), layers.entry("s", layers.FIFO, records)])
    kept = {b"security.capability", b"trusted.kept", b"system.posix_acl_access", b"user.kept"}
    assert set(at(tree, "f").xattrs or {}) == kept
    assert set(at(tree, "s").xattrs or {}) == kept - {b"user.kept"}  # no file system has user.* on these
    with pytest.raises(LayerError, match="more than 65536 bytes"):
        merge([file("f", b"", [("SCHILY.xattr.user.a", "x" * 65536)])])


@pytest.mark.parametrize("name", [".wh.", "d/.wh..", ".wh..."])
def test_whiteouts_of_nothing(name: str) -> None:
    with pytest.raises(LayerError, match="whiteout of nothing"):
        merge([directory("d"), file(name)])


def test_names_too_long_for_a_file_system() -> None:
    for member in (file("n" * 256), file("n" * 256 + "/x"), directory("n" * 256)):
        with pytest.raises(LayerError, match="256 bytes"):
            merge([member])
    assert len(paths(merge([file("n" * 255)]))) == 1


def test_a_deep_tree_needs_no_recursion() -> None:
    deep = "/".join("d" * 2000)
    tree = merge([file(f"{deep}/f")], [whiteout("d")])
    assert paths(tree) == set()
