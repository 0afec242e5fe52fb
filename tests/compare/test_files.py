"""Files of containers through both engines: `cp` by a table of its cases, `diff`, and what `commit` makes."""

from __future__ import annotations

import difflib
import io
import os
import pprint
import re
import stat
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.compare.conftest import Both
from tests.support.docker import Docker
from tests.support.runner import Mini, Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker")

Engine = Docker | Mini

# In the container: /src (a file, a directory, links), /dst, a volume, a read-only one.
PREPARE = """
rm -rf /src /dst /dstlink /dangling /nowhere /vol/*; mkdir -p /src/sub /dst/full; echo x > /src/x; echo y > /src/sub/y
ln -s x /src/lx; ln -s sub /src/ls; ln -s /dst /dstlink
ln -s /etc/passwd /src/abs; ln -s /nowhere /dangling; ln /src/x /src/hard; chown 5:6 /src/x; chmod 640 /src/x
touch -d @1000000000 /src/x /src/sub/y; echo old > /dst/old; echo in > /dst/full/in; echo v > /vol/v
"""


class Case(NamedTuple):
    """`cp WORDS`, where BOX is the container and a relative path is below the test's directory; then /dst and the directory."""

    words: list[str]
    running: bool = True
    stdin: bytes | None = None


def _tar(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mode, info.mtime = len(data), 7, 8, 0o604, 1_000_000_000
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


TO_CONTAINER = [
    "f BOX:/dst", "f BOX:/dst/", "f BOX:/dst/new", "f BOX:/dst/nodir/", "f BOX:/nodir/x", "f BOX:/dst/old",
    "f BOX:/dst/full", "f BOX:/dstlink", "f BOX:/dstlink/", "f BOX:/dangling", "f BOX:dst/relative", "f BOX:", "f/ BOX:/dst",
    "f BOX:/dst/old/", "f BOX:/dst/old/x", "d BOX:/dst", "d/ BOX:/dst", "d/. BOX:/dst", "d BOX:/dst/new", "d/. BOX:/dst/new",
    "d BOX:/dst/old", "d/. BOX:/dst/old", "d BOX:/dangling", "nosuch BOX:/dst", "sl BOX:/dst/", "-L sl BOX:/dst/", "dl BOX:/dst",
    "dl/ BOX:/dst/new", "-L dl BOX:/dst/new", "dang BOX:/dst", "-L dang BOX:/dst", "-a f BOX:/dst", "f BOX:/vol/", "f BOX:/ro/",
    "full BOX:/dst", "- BOX:/dst/nodir", "- BOX:/dst/old", "f nosuch:/dst", "f f", "BOX:/f BOX:/g", "- -",
]  # fmt: skip
FROM_CONTAINER = [
    "BOX:/src new", "BOX:/src d", "BOX:/src/ d", "BOX:/src/. d", "BOX:/src/. new", "BOX:/src f", "BOX:/src/x .", "BOX:/src/x new",
    "BOX:/src/x nodir/", "BOX:/src/x nodir/y", "BOX:/src/x f", "BOX:/src/x sl", "BOX:/src/x dang", "BOX:/src/sub dl",
    "BOX:/src/lx .", "-L BOX:/src/lx .", "BOX:/src/ls .", "BOX:/src/ls/ .", "-L BOX:/src/ls new", "BOX:/src/abs .",
    "-L BOX:/src/abs new", "BOX:/nosuch .", "BOX:/src/nosuch/x .", "BOX:/src/x/ .", "BOX:/src/x/y .", "BOX:/etc/motd new",
    "BOX:/vol new", "BOX:/vol/v .", "BOX:src/x new", "BOX:/src/x /dev/null", "nosuch:/x .",
]  # fmt: skip
STOPPED = [
    "f BOX:/dst/new", "d BOX:/dst", "f BOX:/dangling", "f BOX:/vol/", "f BOX:/ro/", "f BOX:/nodir/x",
    "BOX:/src new", "BOX:/src/. d", "BOX:/vol new", "BOX:/nosuch .", "-L BOX:/src/ls new",
]  # fmt: skip
STREAMS = ["/src", "/src/", "/src/.", "/src/x", "/src/lx", "/src/ls", "/src/ls/", "/src/sub/..", "/vol", "/src/abs"]

CASES = [
    *[Case(line.split(" ")) for line in TO_CONTAINER + FROM_CONTAINER],
    *[Case(line.split(" "), False) for line in STOPPED],
    Case(["-", "BOX:/dst"], True, _tar(("a", b"1"), ("old", b"2"), ("deep/er", b"3"))),
    Case(["-", "BOX:/dst"], False, _tar(("./a", b"1"), ("/absolute", b"2"))),
    Case(["-", "BOX:/dst"], True, _tar(("full", b"a file for a directory"))),
    Case(["-", "BOX:/dst"], True, _tar(("../../out", b"x"))),
    Case(["-", "BOX:/dst"], True, b"no tar at all\n"),
    Case(["-", "BOX:/dst"], True, b""),
]
# Where they differ on purpose, each with its reason.
DIFFERENT = {
    # Docker 20.10's answer comes with the path of its own store on the host; mini's with that in the container
    "BOX:/src/x/ .",
    "BOX:/src/x/y .",
    # Docker names what a link of the host's points to; mini the link
    "-L dang BOX:/dst",
}


@pytest.fixture(scope="module")
def boxes(engines: Both) -> Any:
    """In each engine a container that runs, and is prepared anew for each case; one that is stopped is made for each."""
    for engine in (engines.docker, engines.mini):
        engine.run("run", "-d", "--name", "running", *OPTIONS, engines.names["host"], "sleep", "6000")
    yield engines
    for engine in (engines.docker, engines.mini):
        engine.run("rm", "-f", "-v", "running", "stopped", check=False)


OPTIONS = ["--network", "none", "-v", "/vol", "-v", "rovol:/ro:ro"]


def _prepare(engine: Engine, image: str, running: bool) -> str:
    """The container's name."""
    if running:
        engine.run("exec", "running", "sh", "-c", PREPARE)
        return "running"
    engine.run("rm", "-f", "-v", "stopped", check=False)
    engine.run("run", "--name", "stopped", *OPTIONS, image, "sh", "-c", PREPARE)
    return "stopped"


def _work(directory: Path) -> None:
    (directory / "d/sub").mkdir(parents=True)
    (directory / "d/a").write_text("a\n")
    (directory / "f").write_text("f\n")
    (directory / "full").write_text("a file called like a directory\n")
    for name, target in (("sl", "f"), ("dl", "d"), ("dang", "missing")):
        os.symlink(target, directory / name)
    os.chown(directory / "f", 1000, 1001)
    os.chmod(directory / "f", 0o640)
    for name in ("f", "d/a", "full"):
        os.utime(directory / name, (1_100_000_000, 1_100_000_000))


def _tree(directory: Path) -> dict[str, tuple[Any, ...]]:
    found = {}
    for path in sorted(directory.rglob("*")):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        text: Any = os.readlink(path) if stat.S_ISLNK(info.st_mode) else ""
        if stat.S_ISREG(info.st_mode):
            text = (path.read_text(), int(info.st_mtime) if info.st_mtime < 1_500_000_000 else "now")
        found[str(path.relative_to(directory))] = (
            kind,
            oct(stat.S_IMODE(info.st_mode)),
            info.st_uid,
            info.st_gid,
            text,
        )
    return found


def _members(data: bytes) -> dict[str, tuple[Any, ...]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        # which of two names of one file is the link, depends on the order, which is not compared
        return {
            m.name: (m.isdir(), m.issym(), oct(m.mode & 0o7777), m.uid, m.gid, m.linkname if m.issym() else "")
            for m in tar.getmembers()
        }


def _told(result: Result, directory: Path) -> dict[str, object]:
    """Exit code, stdout, and the words of the error: without who says it, and the client's log of its own."""
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith("time=")]
    first = re.sub(r"^(mini: |Error response from daemon: )+", "", lines[0]) if lines else ""
    first = first.removeprefix("Error processing tar file(exit status 1): ").replace(str(directory), "DIR")
    return {"code": result.code, "stdout": result.stdout, "stderr": re.sub(r"\b(running|stopped)\b", "BOX", first)}


def _run(engine: Engine, image: str, case: Case, directory: Path) -> dict[str, object]:
    _work(directory)
    box = _prepare(engine, image, case.running)
    words = [word.replace("BOX", box) for word in case.words]
    told = _told(engine.run("cp", *words, input=case.stdin, cwd=str(directory), check=False), directory)
    after = _members(engine.run("cp", f"{box}:/dst/.", "-").stdout.encode("utf-8", "surrogateescape"))
    return {**told, "container": after, "host": _tree(directory)}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{' '.join(c.words)} {'running' if c.running else 'stopped'}")
def test_cp(boxes: Both, case: Case, tmp_path: Path) -> None:
    found = []
    for name, engine in (("docker", boxes.docker), ("mini", boxes.mini)):
        (tmp_path / name).mkdir()
        found.append(_run(engine, boxes.names["host"], case, tmp_path / name))
    if (
        " ".join(case.words) in DIFFERENT
        or case.stdin == b"no tar at all\n"
        or (case.stdin and b"../../out" in case.stdin)
    ):
        for one in found:
            one["stderr"] = bool(one["stderr"])
    _same(*found)


def _same(docker: object, mini: object) -> None:
    theirs, ours = (pprint.pformat(value, width=110).splitlines() for value in (docker, mini))
    difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=0, lineterm=""))
    assert not difference, "\n".join(difference)


@pytest.mark.parametrize("running", [True, False])
def test_cp_to_a_stream(boxes: Both, running: bool) -> None:
    found = []
    for engine in (boxes.docker, boxes.mini):
        box = _prepare(engine, boxes.names["host"], running)
        streams = {path: engine.run("cp", f"{box}:{path}", "-").stdout for path in STREAMS}
        found.append({path: _members(data.encode("utf-8", "surrogateescape")) for path, data in streams.items()})
    _same(*found)


CHANGES = [
    "true",
    "echo x > /srv/new",
    "echo x >> /etc/passwd; rm /etc/group",
    "chmod 700 /home; chown 1:2 /usr",
    "touch /etc/passwd; touch -d @5 /opt",
    "rm -r /opt",
    "rm -r /opt; mkdir /opt",
    "rm -r /opt; echo now a file > /opt",
    "rm /etc/motd; mkdir -p /etc/motd/x",
    "mkdir -p /a/b/c; ln -s /x /a/l; mknod /a/n c 1 3; ln /etc/passwd /a/hard",
    "mv /srv /moved",
    "cp -a /srv /copy; rm -r /srv/site",
    "echo x > /dev/shm/x; echo y > /vol/y; echo z > /tmp/z",
]


@pytest.mark.parametrize("script", CHANGES)
def test_diff_and_commit(both: Both, script: str) -> None:
    """The list that `diff` shows, and what a container of the image that `commit` makes has."""
    found = []
    for engine in (both.docker, both.mini):
        options = ["--network", "none", "-v", "/vol", "-w", "/work"]
        container = engine.run("run", "-d", *options, both.names["host"], "sh", "-c", script).out
        engine.run("wait", container)
        differences = sorted(engine.run("diff", container).lines)
        image = engine.run("commit", "-a", "me", "-m", "text", "-c", "ENV A=b", container, "made:1").out
        (inspected,) = engine.run("image", "inspect", image).json()
        told = {key: inspected[key] for key in ("Author", "Comment", "Architecture", "Os", "RepoTags", "RepoDigests")}
        for key in ("Config", "ContainerConfig"):
            told[key] = {name: v for name, v in inspected[key].items() if name != "Hostname"}
        told["layers"] = len(inspected["RootFS"]["Layers"])
        history = engine.run("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", image).lines
        again = engine.run("create", "--network", "none", "made:1", "true").out
        tree = _exported(engine, again)
        engine.run("rm", "-v", container, again)
        engine.run("rmi", "made:1")
        found.append({"diff": differences, **told, "history": history, "tree": tree})
    _same(*found)


def _exported(engine: Engine, container: str) -> dict[str, tuple[Any, ...]]:
    own = re.compile(r"(dev|proc|sys)(/.*)?|\.dockerenv|etc/(hosts|hostname|resolv\.conf|mtab)|etc")
    members = _members(engine.run("export", container).stdout.encode("utf-8", "surrogateescape"))
    return {name: value for name, value in members.items() if not own.fullmatch(name)}


@pytest.mark.parametrize(
    "words", [["diff", "nosuch"], ["commit", "nosuch"], ["commit", "nosuch", "BAD"], ["diff"], ["commit"], ["cp", "x"]]
)
def test_failures(both: Both, words: list[str]) -> None:
    ours, theirs = (engine.run(*words, check=False) for engine in (both.mini, both.docker))
    assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout)
