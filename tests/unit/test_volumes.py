"""Volumes: Docker's names, texts and reading of `-v`; made and removed as one step."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Conflict, NotFound, UsageError
from engine.paths import Paths
from engine.storage import volume_driver
from engine.storage.volume_option import check_duplicates, parse_volume_option, parse_volume_options
from engine.storage.volumes import Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(Paths(str(tmp_path / "root")))


# --- the store -------------------------------------------------------------------------------------------------------


def test_create_and_inspect(volumes: Volumes) -> None:
    volume = volumes.create("data", {"purpose": "test"})
    found = volumes.inspect("data")
    assert found.pop("CreatedAt").endswith("Z")
    assert found == {
        "Driver": "local",
        "Labels": {"purpose": "test"},
        "Mountpoint": volumes.paths.volume("data") + "/_data",
        "Name": "data",
        "Options": None,
        "Scope": "local",
    }
    assert volume.path == found["Mountpoint"] and not volume.anonymous
    assert stat.S_IMODE(os.stat(volume.path).st_mode) == 0o755


def test_the_umask_does_not_reach_a_volume(volumes: Volumes) -> None:
    before = os.umask(0o077)
    try:
        path = volumes.create("data").path
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755


def test_host_users_cannot_reach_into_volumes(volumes: Volumes) -> None:
    """CVE-2021-41091: a set-uid file in a volume must not be reachable by its path."""
    volumes.create("data")
    assert stat.S_IMODE(os.stat(volumes.paths.volumes).st_mode) & 0o077 == 0


def test_an_existing_volume_is_returned_as_it_is(volumes: Volumes) -> None:
    first = volumes.create("data", {"a": "b"})
    Path(first.path, "file").write_text("x")
    again = volumes.create("data", {"c": "d"})
    assert again.labels == {"a": "b"} and again.created == first.created
    assert os.listdir(again.path) == ["file"]


def test_anonymous(volumes: Volumes) -> None:
    one, two = volumes.create(), volumes.create(None)
    assert one.name != two.name and len(one.name) == 64 and not one.name.strip("0123456789abcdef")
    assert volumes.get(one.name).anonymous
    assert volumes.inspect(one.name)["Labels"] == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize("name", ["a/b", ".hidden", "-x", "_x", "a b", "a:b", "../x", "ä" * 2, "a\n", "x" * 256])
def test_bad_names(volumes: Volumes, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        volumes.create(name)
    assert caught.value.message == (
        f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" '
        "are allowed. If you intended to pass a host directory, use absolute path"
    )
    with pytest.raises(NotFound):
        volumes.get(name)
    with pytest.raises(NotFound):
        volumes.remove(name)


def test_a_name_of_one_letter(volumes: Volumes) -> None:
    with pytest.raises(UsageError, match="^create a: volume name is too short, names should be at least two alphanum"):
        volumes.create("a")


def test_another_driver(volumes: Volumes) -> None:
    with pytest.raises(NotFound, match='plugin "nfs" not found'):
        volumes.create("data", driver="nfs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": "bar"}, 'invalid option: "foo"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "x"}, 'missing required option: "type"'),
        ({"o": "bind"}, 'missing required option: "device"'),
        ({"device": "x", "o": "bind"}, 'missing required option: "type"'),
        ({"size": "xx"}, "invalid size: 'xx'"),
        ({"size": "1.2.3m"}, "invalid size: '1.2.3m'"),
        ({"size": ""}, "invalid size: ''"),
    ],
)
def test_options_that_are_refused(volumes: Volumes, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(f"create data: {message}")):
        volumes.create("data", options=options)
    assert volumes.list_() == []


def test_options(volumes: Volumes) -> None:
    volume = volumes.create("data", options={"type": "tmpfs", "o": "size=1m", "device": "tmpfs"})
    assert volume.needs_mount
    assert list(volumes.inspect("data")["Options"].items()) == [
        ("device", "tmpfs"),
        ("o", "size=1m"),
        ("type", "tmpfs"),
    ]
    assert not volumes.create("plain", options={"size": "0"}).needs_mount


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1024", 1024), ("10m", 10 << 20), ("1.5KiB", 1536), ("2g", 2 << 30), ("1TB", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert volume_driver.quota({"size": text}) == size


def test_what_options_say_to_mount() -> None:
    """The host of an NFS share is looked up, which mount(8) would do and the kernel does not."""
    options = {"type": "nfs", "device": ":/export", "o": "addr=127.0.0.1,ro,vers=4"}
    assert volume_driver.mount("/v", options) == {
        "destination": "/v",
        "type": "nfs",
        "source": ":/export",
        "options": ["addr=127.0.0.1", "ro", "vers=4"],
    }


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("", ""),
        ("bind", ", flags: 0x1000"),
        ("rbind,ro,nosuid", ", flags: 0x5003"),
        ("ro,ro,size=1m,defaults", ", flags: 0x1, data: size=1m"),
        ("user=me,password=secret", ", data: user=me,password=********"),
    ],
)
def test_a_failure_in_dockers_words(words: str, shown: str) -> None:
    text = volume_driver.failure("/v", {"type": "x", "device": "/d", "o": words}, "no such device")
    assert text == f"error while mounting volume '/v': failed to mount local volume: mount /d:/v{shown}: no such device"


def test_list_is_by_name(volumes: Volumes) -> None:
    assert volumes.list_() == []
    for name in ("zoo", "ant", "bee"):
        volumes.create(name)
    assert [v.name for v in volumes.list_()] == ["ant", "bee", "zoo"]


def test_remove(volumes: Volumes) -> None:
    Path(volumes.create("data").path, "file").write_text("x")
    with pytest.raises(Conflict) as caught:
        volumes.remove("data", ["c" * 64, "d" * 64])
    assert caught.value.message == f"remove data: volume is in use - [{'c' * 64}, {'d' * 64}]"
    with pytest.raises(Conflict):
        volumes.remove("data", ["c" * 64], force=True)
    volumes.remove("data", {})
    with pytest.raises(NotFound, match="^get data: no such volume$"):
        volumes.get("data")
    with pytest.raises(NotFound, match="^get data: no such volume$"):
        volumes.remove("data")
    volumes.remove("data", force=True)
    assert os.listdir(volumes.paths.volumes) == []


# --- killed, and at once ---------------------------------------------------------------------------------------------

STEPS = ("open", "write", "mkdir", "chmod", "fsync", "rename", "unlink", "rmdir")


def killed_at(step: int, operation: Callable[[], object]) -> bool:
    """Does it in a child that is killed before its `step`-th system call on files. False: it was over before."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        operation()
    finally:
        os._exit(0)


def test_killed_at_every_step_a_volume_is_whole_or_not_there(volumes: Volumes) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        killed = killed_at(step, lambda: volumes.create("data", {"a": "b"}))
        if volumes.list_():
            assert volumes.get("data").labels == {"a": "b"} and os.listdir(volumes.get("data").path) == []
        volumes.create("data")
        (Path(volumes.get("data").path) / "below").mkdir()
        (Path(volumes.get("data").path) / "below/file").write_text("x")
        killed = killed_at(step, lambda: volumes.remove("data")) or killed
        if volumes.list_():
            assert (Path(volumes.get("data").path) / "below/file").read_text() == "x"
            volumes.remove("data")
        volumes.sweep()
        assert os.listdir(volumes.paths.volumes) == []
    assert step > 8


def test_one_name_made_and_removed_by_many_at_once(volumes: Volumes) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            code = 1
            try:
                for _ in range(25):
                    assert volumes.create("data").name == "data"
                    volumes.remove("data", force=True)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(c, 0)[1] for c in children] == [0, 0, 0, 0]
    assert os.listdir(volumes.paths.volumes) == []


# --- -v --------------------------------------------------------------------------------------------------------------


def brief(value: str) -> tuple[str, str, str, set[str], str]:
    """Type, source, destination, the flags that are set, propagation."""
    mount = parse_volume_option(value, "/cwd")
    flags = {k for k in ("readonly", "nocopy") if mount[k]} | ({mount["relabel"]} - {""})
    assert mount["create_source"] == (mount["type"] == "bind")
    return mount["type"], mount["source"], mount["destination"], flags, mount["propagation"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data", ("volume", "", "/data", set(), "")),
        ("name:/data", ("volume", "name", "/data", set(), "")),
        ("name:/data:ro", ("volume", "name", "/data", {"readonly"}, "")),
        ("name:/data:nocopy,ro", ("volume", "name", "/data", {"readonly", "nocopy"}, "")),
        ("/host:/data", ("bind", "/host", "/data", set(), "rprivate")),
        ("/host/../other//:/data/./x/", ("bind", "/other", "/data/x", set(), "rprivate")),
        ("//host:/data", ("bind", "/host", "/data", set(), "rprivate")),
        ("./here:/data:rw,z", ("bind", "/cwd/here", "/data", {"z"}, "rprivate")),
        (".:/data:Z", ("bind", "/cwd", "/data", {"Z"}, "rprivate")),
        ("/host:/data:rslave,ro", ("bind", "/host", "/data", {"readonly"}, "rslave")),
        ("/host:/data:cached", ("bind", "/host", "/data", set(), "rprivate")),
        ("/host:/data:delegated,shared", ("bind", "/host", "/data", set(), "shared")),
    ],
)
def test_reading(value: str, expected: tuple[str, str, str, set[str], str]) -> None:
    assert brief(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "invalid empty volume spec"),
        ("a::/b", "invalid spec: a::/b: empty section between colons"),
        (":/b", "invalid spec: :/b: empty section between colons"),
        ("/a:/b:ro:z", "invalid spec: /a:/b:ro:z: too many colons"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:wo", "invalid mode: wo"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        ("/a:/b:shared,slave", "invalid mode: shared,slave"),
        ("data:x", "invalid volume specification: 'data:x': invalid mount config for type \"volume\": "
         "invalid mount path: 'x' mount path must be absolute"),
        ("data", "invalid volume specification: 'data': invalid mount config for type \"volume\": "
         "invalid mount path: 'data' mount path must be absolute"),
        ("/a:/b/..", "invalid volume specification: '/a:/b/..': invalid mount config for type \"bind\": "
         "invalid specification: destination can't be '/'"),
        ("/a:/b:nocopy", "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": "
         "field VolumeOptions must not be specified"),
        ("data:/b:shared", "invalid volume specification: 'data:/b:shared': invalid mount config for type \"volume\": "
         "field BindOptions must not be specified"),
        ("d:/b", "create d: volume name is too short, names should be at least two alphanumeric characters"),
        ("~/d:/b", 'create ~/d: "~/d" includes invalid characters for a local volume name, only '
         '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'),
    ],
)  # fmt: skip
def test_refusals_in_dockers_words(value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_volume_option(value, "/cwd")
    assert caught.value.message == message


def test_two_of_one_destination() -> None:
    assert [m["destination"] for m in parse_volume_options(["/b", "data:/a"], "/")] == ["/b", "/a"]
    with pytest.raises(UsageError, match="^Duplicate mount point: /a$"):
        parse_volume_options(["data:/a", "/host:/x/../a/"], "/")
    with pytest.raises(UsageError, match="^Duplicate mount point: /x$"):
        check_duplicates(["/x", "/y", "/x"])
