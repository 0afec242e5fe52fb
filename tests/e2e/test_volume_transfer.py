"""`volume export` and `import`: all of a volume, nothing beside it, and never half of it."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_killed import mend
from tests.kernel.test_copyup import listing, make_tree
from tests.support.images import Image
from tests.support.killer import Killer, points
from tests.support.runner import Mini

pytestmark = [pytest.mark.requires("linux", "root", "netns"), pytest.mark.timeout(300)]

POINTS = 12


def data(mini: Mini, volume: str) -> Path:
    return Path(mini.run("volume", "inspect", "-f", "{{.Mountpoint}}", volume).out)


def tar(*members: tuple[str, Any]) -> bytes:
    """Of (name, content): bytes for a file, None for a directory, ("link", target), ("hard", target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.uid, info.gid, info.mode, info.mtime = 7, 8, 0o640, 1_000_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o750
            elif isinstance(content, tuple):
                info.type = tarfile.SYMTYPE if content[0] == "link" else tarfile.LNKTYPE
                info.linkname = content[1]
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


# --- the demonstration of the README


def test_a_volume_outlives_its_container(mini: Mini, fresh_mini: Mini, image: Image, tmp_path: Path) -> None:
    """Written in one container, which is removed, read in another; exported, imported elsewhere, and the same there."""
    write = "echo 'volumes outlive containers' > /notes/first; mkdir -m 1770 /notes/d; chown 5:6 /notes/d; chmod 4711 /notes/first"
    mini.run("run", "--rm", "-v", "notes:/notes", image.name, "sh", "-c", write)
    assert mini.run("ps", "-aq").out == ""
    read = ["run", "--rm", "-v", "notes:/notes", image.name, "cat", "/notes/first"]
    assert mini.run(*read).out == "volumes outlive containers"
    mini.run("volume", "export", "notes", "-o", str(tmp_path / "notes.tar"))
    fresh_mini.run("pull", "-q", image.name)
    fresh_mini.run("volume", "create", "notes")
    fresh_mini.run("volume", "import", "notes", str(tmp_path / "notes.tar"))
    assert fresh_mini.run(*read).out == "volumes outlive containers"
    assert listing(data(fresh_mini, "notes")) == listing(data(mini, "notes"))


# --- everything, and back


def test_one_of_everything(mini: Mini, tmp_path: Path) -> None:
    """Owners, modes, times, attributes, links, devices, holes, names that are no UTF-8; and those of the volume itself."""
    for name in ("from", "to"):
        mini.run("volume", "create", name)
    make_tree(data(mini, "from"))
    os.removexattr(data(mini, "from") / "deep", "trusted.overlay.opaque")
    mini.run("volume", "export", "from", "-o", str(tmp_path / "tar"))
    assert (tmp_path / "tar").stat().st_size < 1 << 20, "4 MiB of hole are in it"
    mini.run("volume", "import", "to", str(tmp_path / "tar"))
    assert listing(data(mini, "to")) == listing(data(mini, "from"))
    assert (data(mini, "to") / "sparse").stat().st_blocks < 100
    seen = subprocess.run(["tar", "-tvf", tmp_path / "tar"], capture_output=True, check=True).stdout
    assert b" ./\n" in seen and b"deep/er/file" in seen


def test_gnu_tar_reads_it_and_writes_it(mini: Mini, tmp_path: Path) -> None:
    for name in ("from", "to"):
        mini.run("volume", "create", name)
    make_tree(data(mini, "from"))
    os.removexattr(data(mini, "from") / "deep", "trusted.overlay.opaque")
    (tmp_path / "out").mkdir()
    mini.run("volume", "export", "from", "-o", str(tmp_path / "tar"))
    options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-p"]
    subprocess.run(["tar", *options, "-xf", tmp_path / "tar", "-C", tmp_path / "out"], check=True)
    assert listing(tmp_path / "out") == listing(data(mini, "from"))
    again: list[str | Path] = [
        *options,
        "--format=pax",
        "--sparse",
        "-cf",
        tmp_path / "again",
        "-C",
        tmp_path / "out",
        ".",
    ]
    subprocess.run(["tar", *again], check=True)
    mini.run("volume", "import", "to", str(tmp_path / "again"))
    assert listing(data(mini, "to")) == listing(data(mini, "from"))


def test_pipes_and_compression(mini: Mini) -> None:
    for name in ("one", "two"):
        mini.run("volume", "create", name)
    (data(mini, "one") / "file").write_text("content")
    exported = subprocess.run(
        ["./mini", "volume", "export", "one"], env=mini.environ, capture_output=True, check=True
    ).stdout
    mini.run("volume", "import", "two", "-", input=gzip.compress(exported))
    assert (data(mini, "two") / "file").read_text() == "content"


def test_a_merge_as_podmans(mini: Mini) -> None:
    """What has the same name is replaced, whatever it was; two directories become one; the rest stays."""
    mini.run("volume", "create", "old")
    top = data(mini, "old")
    for name in ("dir/kept", "dir/same", "kept", "becomes-dir", "becomes-file/full/of/it"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("old")
    (top / "link").symlink_to("dir")
    members = [("dir", None), ("dir/same", b"new"), ("becomes-dir", None), ("becomes-dir/x", b"new"), ("link", b"new")]
    mini.run("volume", "import", "old", "-", input=tar(*members, ("becomes-file", b"new")))
    found = {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}
    assert found == {
        "dir/kept": "old", "dir/same": "new", "kept": "old", "becomes-dir/x": "new", "becomes-file": "new", "link": "new",
    }  # fmt: skip
    assert not (top / "link").is_symlink()
    assert stat.S_IMODE((top / "dir").stat().st_mode) == 0o750 and (top / "dir/same").stat().st_uid == 7
    assert stat.S_IMODE(top.stat().st_mode) == 0o755, "the archive says nothing of the volume itself"


def test_a_volume_that_a_container_has(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--network", "none", "-v", "live:/v", host_image.name, "sleep", "60")
    mini.run("exec", container, "sh", "-c", "echo written > /v/there")
    mini.run("volume", "import", "live", "-", input=tar(("./", None), ("new", b"imported")))
    assert (
        mini.run("exec", container, "sh", "-c", "cat /v/there /v/new; stat -c %a:%u /v").out == "written\nimported750:7"
    )


def test_a_tmpfs_volume(mini: Mini, host_image: Image) -> None:
    """Beside its directory nothing can be staged, since no rename(2) leads into another file system."""
    mini.run("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "memory")
    container = mini.detached("--network", "none", "-v", "memory:/v", host_image.name, "sleep", "60")
    mini.run("volume", "import", "memory", "-", input=tar(("a", b"1"), ("d", None), ("d/b", b"2")))
    assert mini.run("exec", container, "sh", "-c", "cd /v; find . -type f | sort; ls -A").lines == [
        "./a",
        "./d/b",
        "a",
        "d",
    ]
    assert tarfile.open(fileobj=io.BytesIO(mini.run("volume", "export", "memory").stdout.encode())).getnames() == [
        ".", "a", "d", "d/b",
    ]  # fmt: skip


# --- hostile archives, and none


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", b"x")],
        [("a/../../escaped", b"x")],
        [("link", ("link", "{outside}")), ("link/escaped", b"x")],
        [("link", ("link", "../../../../../../../../../..{outside}")), ("link/escaped", b"x")],
        [("one", ("link", "..")), ("two", ("link", "one/..")), ("two/escaped", b"x")],
        [("secret", ("hard", "{outside}/secret"))],
        [("d", ("link", "{outside}")), ("secret", ("hard", "d/secret"))],
        [("/{outside}/escaped", b"x")],
        [("d", ("link", "{outside}")), ("d", None), ("d/escaped", b"x")],
    ],
)
def test_nothing_gets_out_of_the_volume(mini: Mini, tmp_path: Path, members: list[tuple[str, Any]]) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("of the host")
    mini.run("volume", "create", "box")
    (data(mini, "box") / "mine").write_text("mine")
    before = listing(tmp_path / "outside"), sorted(os.listdir(f"{mini.root}/volumes")), sorted(os.listdir(mini.root))

    def real(text: str) -> str:
        return text.format(outside=tmp_path / "outside")

    named = [(real(n), (c[0], real(c[1])) if isinstance(c, tuple) else c) for n, c in members]
    result = mini.run("volume", "import", "box", "-", input=tar(*named), check=False)
    after = listing(tmp_path / "outside"), sorted(os.listdir(f"{mini.root}/volumes")), sorted(os.listdir(mini.root))
    assert after == before
    top = data(mini, "box")
    assert all(not p.is_file() or p.is_symlink() or p.read_text() != "of the host" for p in top.rglob("*"))
    if result.code:
        assert os.listdir(top) == ["mine"]
    assert sorted(os.listdir(top.parent)) == ["_data", "volume.json"]


def test_an_export_of_what_a_container_swaps_meanwhile(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """CVE-2023-0778: a container replaces a directory of the volume by a link to the host's while it is exported."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("of the host")
    swap = f"""
import ctypes, os
os.mkdir("/v/dir"); open("/v/dir/file", "w").write("of the volume"); os.symlink({str(tmp_path / "victim")!r}, "/v/link")
libc = ctypes.CDLL(None)
print("ready", flush=True)
while True:
    libc.renameat2(-100, b"/v/dir", -100, b"/v/link", 2)
"""
    attacker = mini.detached("--network", "none", "-v", "raced:/v", host_image.name, "python3", "-c", swap)
    while "ready" not in mini.run("logs", attacker).out:
        time.sleep(0.02)
    for _ in range(20):
        archive = mini.run("volume", "export", "raced").stdout
        assert "of the host" not in archive and "./" in archive


def test_an_image_whose_mount_point_is_a_link(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """CVE-2022-23648: the volume is filled with what the link leads to in the container, and not on the host."""
    (tmp_path / "secret").write_text("of the host")
    script = f"ln -s {tmp_path} /data; ln -s ../../../../..{tmp_path} /above"
    mini.run("run", "--name", "maker", "--network", "none", host_image.name, "sh", "-c", script)
    made = mini.run("commit", "maker", "links:1").out
    try:
        for path in ("/data", "/above"):
            volume = path[1:]
            mini.run(
                "run", "--rm", "--network", "none", "-v", f"{volume}:{path}", "links:1", "touch", f"{path}/written"
            )
            assert os.listdir(data(mini, volume)) == ["written"]
        assert os.listdir(tmp_path) == ["secret"]
    finally:
        mini.run("rm", "maker")
        mini.run("rmi", "-f", made)


def test_an_image_whose_passwd_is_a_fifo(mini: Mini, host_image: Image) -> None:
    """CVE-2024-9676: whoever reads it to find the user would wait for ever, with whatever locks it holds."""
    script = "import os; os.unlink('/etc/passwd'); os.mkfifo('/pipe'); os.symlink('/pipe', '/etc/passwd')"
    mini.run("run", "--name", "maker", "--network", "none", host_image.name, "python3", "-c", script)
    made = mini.run("commit", "maker", "pipe:1").out
    try:
        command = ["run", "--rm", "--network", "none", "-u", "user", "-v", "waits:/v", "pipe:1", "true"]
        result = mini.run(*command, check=False, timeout=30)
        assert result.code == 125 and "/etc/passwd is not a regular file" in result.stderr
        mini.run("volume", "rm", "waits", timeout=30)
    finally:
        mini.run("rm", "maker")
        mini.run("rmi", "-f", made)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"", "the archive is empty"),
        (b"no tar at all\n" * 100, "the tar is damaged"),
        (tar(("a", b"x" * 2000))[:1000], "the tar ends"),
        (tar(("a", b"x"), ("../b", b"x")), "leads out of the destination"),
        (gzip.compress(tar(("a", b"x" * 2000)))[:60], "is damaged"),
    ],
)
def test_a_failure_leaves_the_volume_as_it_was(mini: Mini, archive: bytes, reason: str) -> None:
    mini.run("volume", "create", "safe")
    (data(mini, "safe") / "a").write_text("old")
    result = mini.run("volume", "import", "safe", "-", input=archive, check=False)
    assert result.code == 1 and reason in result.stderr
    assert (data(mini, "safe") / "a").read_text() == "old"
    assert sorted(os.listdir(data(mini, "safe").parent)) == ["_data", "volume.json"]


def test_what_is_not_there(mini: Mini, tmp_path: Path) -> None:
    """As Podman: import makes no volume."""
    mini.run("volume", "create", "there")
    for command, reason in (
        (["export", "nosuch", "-o", str(tmp_path / "x")], "get nosuch: no such volume"),
        (["import", "nosuch", "-"], "get nosuch: no such volume"),
        (["import", "there", str(tmp_path / "x")], f"open {tmp_path}/x: no such file or directory"),
        (["export", "there", "-o", str(tmp_path / "no/x")], "invalid output path"),
    ):
        result = mini.run("volume", *command, check=False)
        assert result.code == 1 and reason in result.stderr
    assert mini.run("volume", "ls", "-q").lines == ["there"]
    assert os.listdir(tmp_path) == []


def test_a_volume_is_not_removed_while_it_is_exported(mini: Mini, tmp_path: Path) -> None:
    mini.run("volume", "create", "busy")
    (data(mini, "busy") / "large").write_bytes(os.urandom(4 << 20))
    os.mkfifo(tmp_path / "fifo")
    export = threading.Thread(target=lambda: mini.run("volume", "export", "busy", "-o", str(tmp_path / "fifo")))
    export.start()
    with open(tmp_path / "fifo", "rb") as reader:
        archive = reader.read(1 << 20)
        assert "volume is in use" in mini.run("volume", "rm", "busy", check=False).stderr
        archive += reader.read()
    export.join()
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert members.getmember("large").size == 4 << 20
    mini.run("volume", "rm", "busy")


# --- killed


def test_an_import_killed_at_any_step(fresh_mini: Mini) -> None:
    """The volume has all of the archive or nothing of it, once it is repaired or imported into again."""
    mini = fresh_mini
    archive = f"{mini.root}/in.tar"
    mini.run("volume", "create", "source")
    make_tree(data(mini, "source"))
    os.removexattr(data(mini, "source") / "deep", "trusted.overlay.opaque")
    mini.run("volume", "export", "source", "-o", archive)
    wanted = listing(data(mini, "source"))
    complete = empty = 0
    with Killer(mini.environ) as killer:
        mini.run("volume", "create", "killed")
        total = killer.run(0, "volume", "import", "killed", archive)
        for step in points(total, POINTS):
            mini.run("volume", "rm", "killed")
            mini.run("volume", "create", "killed")
            killer.run(step, "volume", "import", "killed", archive)
            mend(mini, step)
            assert sorted(os.listdir(data(mini, "killed").parent)) == ["_data", "volume.json"]
            found = listing(data(mini, "killed"))
            if list(found) == ["."]:
                empty += 1
            else:
                complete += 1
                # whoever goes on does not know any more what the times of the directories were
                assert {n: (*e[:4], *e[5:]) for n, e in found.items()} == {
                    n: (*e[:4], *e[5:]) for n, e in wanted.items()
                }
    assert complete and empty


def test_a_start_finishes_what_an_import_left(fresh_mini: Mini, host_image: Image) -> None:
    """Killed when all is staged: the container that starts next sees all of it."""
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)
    mini.run("volume", "create", "half")
    top = data(mini, "half")
    (top / "a").write_text("old\n")
    (top.parent / "imported/d").mkdir(parents=True)
    (top.parent / "imported/a").write_text("new\n")
    assert "filling it was cut short" in mini.run("fsck", check=False).stdout
    assert mini.run("run", "--rm", "--network", "none", "-v", "half:/v", host_image.name, "cat", "/v/a").out == "new"
    assert sorted(os.listdir(top)) == ["a", "d"] and sorted(os.listdir(top.parent)) == ["_data", "volume.json"]
