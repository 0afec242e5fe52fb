"""Which paths `cp` reads and writes: Docker's rules, as a table."""

from __future__ import annotations

import pytest

from engine.containers import copyrules
from engine.errors import UsageError


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("c:/x", ("c", "/x")),
        ("c:x", ("c", "x")),
        ("c:", ("c", "")),
        ("x", ("", "x")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("..:b", ("", "..:b")),
        ("c:/a:b", ("c", "/a:b")),
        ("-", ("", "-")),
    ],
)
def test_a_colon_parts_container_and_path(argument: str, expected: tuple[str, str]) -> None:
    assert copyrules.split_argument(argument) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x", "/cwd/x"), (".", "/cwd/."), ("./", "/cwd/"), ("x/", "/cwd/x/"), ("x/.", "/cwd/x/."), ("/", "/"), ("/.", "/."),
        ("//x//y", "/x/y"), ("../x", "/x"), ("/../x", "/x"), ("x/..", "/cwd"),
    ],
)  # fmt: skip
def test_what_a_trailing_slash_says_is_kept(path: str, expected: str) -> None:
    assert copyrules.absolute(path, "/cwd") == expected


@pytest.mark.parametrize(
    ("path", "name", "parts"),
    [
        ("/a/b", "b", ("/a", "b")),
        ("/a/b/", "b", ("/a/b/", "")),
        ("/a/b/.", ".", ("/a/b/.", "")),
        ("/a", "a", ("/", "a")),
        ("/", "", ("/", "")),
        ("/.", ".", ("/.", "")),
    ],
)
def test_names(path: str, name: str, parts: tuple[str, str]) -> None:
    assert copyrules.last_name(path) == name
    assert copyrules.split(path) == parts


@pytest.mark.parametrize(
    ("name", "is_directory", "path", "kind", "expected"),
    [
        ("f", False, "/d", "directory", ("/d", "f")),
        ("f", False, "/d/x", "file", ("/d", "x")),
        ("f", False, "/d/x", "missing", ("/d", "x")),
        ("f", False, "/x", "missing", ("/", "x")),
        ("d", True, "/e", "directory", ("/e", "d")),
        (".", True, "/e", "directory", ("/e", ".")),
        ("", True, "/e", "directory", ("/e", ".")),
        ("d", True, "/e/new/", "missing", ("/e", "new")),
        (".", True, "/e/new", "missing", ("/e", "new")),
    ],
)
def test_where_it_goes(name: str, is_directory: bool, path: str, kind: str, expected: tuple[str, str]) -> None:
    assert copyrules.target(name, is_directory, path, kind) == expected


@pytest.mark.parametrize(
    ("is_directory", "path", "kind", "message"),
    [(True, "/d/x", "file", "cannot copy directory"), (False, "/d/x/", "missing", "no such directory")],
)
def test_what_is_refused(is_directory: bool, path: str, kind: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        copyrules.target("x", is_directory, path, kind)
