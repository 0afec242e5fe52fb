"""Volumes through both engines, by tables: what commands say, what is refused and how, what a container has mounted.

Docker 20.10 has neither `volume-subpath` nor `type=image`, and its read-only binds leave what lies below writable.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import pprint
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support.docker import Docker
from tests.support.podman import Podman
from tests.support.runner import Mini, Result

pytestmark = [pytest.mark.requires("linux", "root", "netns", "docker"), pytest.mark.timeout(300)]

Engine = Docker | Mini


def _same(docker: object, mini: object) -> None:
    theirs, ours = (pprint.pformat(value, width=110).splitlines() for value in (docker, mini))
    difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=1, lineterm=""))
    assert not difference, "\n".join(difference)


def _plain(engine: Engine, text: str) -> str:
    """Without what is an engine's own: its name, its data root, IDs, times."""
    root = f"{engine.root}/data" if isinstance(engine, Docker) else engine.root
    text = text.replace(root, "<root>")
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>", text)
    # in Go a map has no order
    text = re.sub(r'(?<="Labels":")[^"]+', lambda labels: ",".join(sorted(labels[0].split(","))), text)
    # what Docker's daemon had no colon or capital for, its later versions have: `invalid filter 'x'`
    return text.replace("Invalid filter", "invalid filter")


def _told(engine: Engine, result: Result) -> dict[str, object]:
    """The code, stdout, and the reason on stderr: the first line of each error, without who says it."""
    reasons = []
    for line in _plain(engine, result.stderr).splitlines():
        reason = re.sub(r"^(docker: |mini: |Error response from daemon: )+", "", line)
        if reason != line or line.startswith("invalid argument"):
            reasons.append(reason)
    return {"code": result.code, "stdout": _plain(engine, result.stdout).splitlines(), "reasons": reasons}


def _both(both: Both, *command: str) -> None:
    _same(*(_told(engine, engine.run(*command, check=False)) for engine in (both.docker, both.mini)))


# --- commands ------------------------------------------------------------------------------------------------------------

# Each is a life of volumes; every step is compared.
COMMANDS = [
    ["volume create plain", "volume inspect plain", "volume ls", "volume ls -q", "volume rm plain", "volume rm plain"],
    ["volume create --label a=b --label c lab", "volume inspect lab", "volume ls --format json", "volume rm lab"],
    ["volume create --opt type=tmpfs --opt device=tmpfs mem", "volume inspect mem", "volume rm mem"],
    ["volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=1 mem", "volume inspect -f '{{json .Options}}' mem"],
    ["volume create same", "volume create --label x=y same", "volume inspect -f '{{json .Labels}}' same"],
    ["volume create same", "volume create --opt type=tmpfs --opt device=tmpfs same", "volume inspect same"],
    ["volume create --opt type=tmpfs bad"],
    ["volume create --opt device=tmpfs bad"],
    ["volume create --opt o=bind bad"],
    ["volume create --opt o=bind --opt device=/tmp bad"],
    ["volume create --opt foo=bar bad"],
    ["volume create --opt size=10m bad"],
    ["volume create --opt size=xx bad"],
    ["volume create --opt size=0 nolimit", "volume inspect nolimit"],
    ["volume create --opt type=none --opt device=/nosuch --opt o=bind later", "volume inspect later"],
    ["volume create -d nfs other"],
    ["volume create a"],
    ["volume create a/b"],
    ["volume create .hidden"],
    ["volume create -- -dash"],
    ["volume create one", "volume rm nosuch one nosuch2"],
    ["volume rm -f nosuch"],
    ["volume inspect nosuch"],
    ["volume create one", "volume inspect one nosuch"],
    ["volume create one", "volume ls -q --filter dangling=true", "volume ls -q --filter dangling=0"],
    ["volume create one", "volume create two", "volume ls -q --filter name=tw", "volume ls -q --filter name=^on"],
    ["volume create one", "volume create two", "volume ls -q -f name=one -f name=two", "volume ls -q -f name=one -f dangling=1"],
    ["volume create --label a=b lab", "volume ls -q -f label=a", "volume ls -q -f label=a=b", "volume ls -q -f label=a=c"],
    ["volume create one", "volume ls -q -f driver=local", "volume ls -q -f driver=loc"],
    ["volume ls -f dangling=xx"],
    ["volume ls -f foo=bar"],
    ["volume prune -f --filter foo=bar"],
    ["volume create one", "volume ls --format '{{.Name}}|{{.Driver}}|{{.Scope}}|{{.Status}}|{{.Links}}|{{.Size}}|{{.Mountpoint}}'"],
]  # fmt: skip


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda commands: commands[-1])
def test_commands(both: Both, commands: list[str]) -> None:
    for command in commands:
        _both(both, *shlex.split(command))


# --- what is refused -------------------------------------------------------------------------------------------------------

MOUNTS = [
    "type=bind,src=/nosuch,dst=/x",
    "type=bind,src=/tmp,dst=/x,bind-propagation=foo",
    "type=bind,src=/tmp,dst=/x,bind-recursive=foo",
    "type=bind,src=/tmp,dst=/x,bind-recursive=writable",
    "type=bind,src=/tmp,dst=/x,bind-recursive=readonly",
    "type=bind,src=/tmp,dst=/x,bind-recursive=readonly,ro",
    "type=bind,src=/tmp,dst=/x,bind-nonrecursive=maybe",
    "type=bind,src=/tmp,dst=/x,bind-create-src",
    "type=bind,src=/tmp,dst=/x,volume-nocopy",
    "type=bind,src=/tmp,dst=/x,readonly=maybe",
    "type=bind,src=/tmp,dst=/x,foo",
    "type=bind,src=/tmp,dst=/x,foo=bar",
    "type=bind, src=/tmp,dst=/x",
    "type=bind,src=/tmp",
    "type=bind,src=/tmp,dst=/",
    "type=bind,src=/tmp,dst=x",
    "type=bind,dst=/x",
    "type=bind,src=h,dst=/x",
    "type=volume,src=v,dst=/x",
    "type=volume,src=a/b,dst=/x",
    "type=volume,dst=/x,ro",
    "type=volume,src=vv,dst=/x,bind-propagation=rslave",
    "type=volume,src=vv,dst=/x,tmpfs-size=1m",
    "type=volume,src=vv,dst=/x,image-subpath=a",
    "type=volume,src=vv,dst=/x,volume-opt=foo=bar",
    "type=volume,src=vv,dst=/x,volume-opt=type=tmpfs",
    "type=tmpfs,src=x,dst=/x",
    "type=tmpfs,dst=/x,tmpfs-size=foo",
    "type=tmpfs,dst=/x,tmpfs-mode=9",
    "type=tmpfs,dst=x",
    "type=foo,dst=/x",
    "type=,dst=/x",
    "",
]
VOLUMES = [
    "vr:/x:rprivate", "/tmp:/x:nocopy", "vr:/x:ro,ro", "vr:/x:foo", "vr:/x:", "rel/path:/x", "vr:x", ":/x", "/x:ro",
    "vr:/x:ro:z", "/tmp:/:ro", "vr:/x:rro", "~/h:/x", "",
]  # fmt: skip
FROM = ["nosuch", "donor:foo", "donor:rslave", "donor:nocopy", ":ro", ""]
TOGETHER = [
    ["-v", "v9:/x", "-v", "v8:/x"],
    ["-v", "v9:/x", "--mount", "dst=/x"],
    ["-v", "v9:/x", "--tmpfs", "/x"],
    ["--mount", "type=tmpfs,dst=/x", "--mount", "type=bind,src=/tmp,dst=/x"],
]
REFUSED = [
    *[["--mount", text] for text in MOUNTS],
    *[["-v", text] for text in VOLUMES],
    *[["--volumes-from", text] for text in FROM],
    *TOGETHER,
]


@pytest.fixture(scope="module")
def donors(engines: Both) -> Iterator[Both]:
    for engine in (engines.docker, engines.mini):
        engine.run("create", "--name", "donor", "--network", "none", engines.names["host"], "true")
    yield engines
    for engine in (engines.docker, engines.mini):
        engine.run("rm", "-v", "donor", check=False)


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_refusals(donors: Both, options: list[str]) -> None:
    try:
        _both(donors, "run", "--rm", "--network", "none", *options, donors.names["host"], "true")
    finally:
        for engine in (donors.docker, donors.mini):
            engine.remove_volumes()


# --- what a container has mounted ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A shared mount that both engines have: made before Docker's mount namespace is, it would be Docker's own copy."""
    directory = tmp_path_factory.mktemp("bind")
    (directory / "below").mkdir()
    (directory / "file").write_text("x")
    yield directory


MOUNTED = [
    ["-v", "vol:/x"], ["-v", "vol:/x:ro"], ["-v", "vol:/x:nocopy"], ["-v", "vol:/x:z"], ["-v", "/x"],
    ["-v", "{}:/x"], ["-v", "{}:/x:ro"], ["-v", "{}:/x:rprivate"], ["-v", "{}:/x:private"], ["-v", "{}:/x:cached,ro"],
    ["-v", "{}:/x:Z"], ["-v", "{}/file:/x"], ["-v", "{}/made/by/v:/x"],
    ["--mount", "type=bind,src={},dst=/x"], ["--mount", "type=bind,src={},dst=/x,ro"],
    ["--mount", "type=bind,src={},dst=/x,bind-propagation=private"], ["--mount", "type=bind,src={},dst=/x,bind-nonrecursive"],
    ["--mount", "type=bind,src={},dst=/x,consistency=cached"], ["--mount", "type=bind,src={},dst=/x,readonly=F"],
    ["--mount", "TYPE=bind,SRC={},DST=/x"], ["--mount", "type=bind,src={},dst=/y,dst=/x"],
    ["--mount", "dst=/x"], ["--mount", "src=vol,dst=/x"], ["--mount", "src=vol,dst=/x,ro"],
    ["--mount", "src=lab,dst=/x,volume-label=a=b,volume-label=c"], ["--mount", "src=vol,dst=/x,volume-driver=local,volume-nocopy"],
    ["--mount", "src=mem,dst=/x,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m"],
    ["--mount", "type=tmpfs,dst=/x"], ["--mount", "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1770"],
    ["--mount", "type=tmpfs,dst=/x,ro"], ["--tmpfs", "/x:size=64k,mode=700"],
]  # fmt: skip


def _mounted(engine: Engine, image: str, options: list[str]) -> dict[str, Any]:
    """As the container sees it, as `inspect` has it, and what became of the volume."""
    engine.run("create", "--name", "box", "--network", "none", *options, image, "grep", " /x ", "/proc/self/mountinfo")
    line = engine.run("start", "-a", "box").out
    fields, _, source = line.partition(" - ")
    root, place, flags = fields.split(" ")[3:6]
    kind, _, superblock = source.split(" ")
    point = json.loads(_plain(engine, engine.run("inspect", "-f", "{{json .Mounts}}", "box").out))
    volumes = [
        json.loads(engine.run("volume", "inspect", "-f", "{{json .}}", v).out)
        for v in engine.run("volume", "ls", "-q").lines
    ]
    engine.run("rm", "-v", "box")
    # tmpfs shows as kibibytes what Docker rounds
    options_of = sorted(superblock.split(",")) if kind == "tmpfs" else []
    return {
        "mountinfo": (_plain(engine, root).replace("<root>", "").rpartition("/volumes/")[2], place, sorted(flags.split(",")), kind),
        "superblock": [o for o in options_of if o.startswith(("size", "mode", "uid"))],
        "inspect": point,
        "volumes": [(_plain(engine, v["Name"]), _labels(v), v["Options"]) for v in volumes],
    }  # fmt: skip


def _labels(volume: dict[str, Any]) -> dict[str, str] | None:
    """Without the one that Docker gives anonymous volumes since 23."""
    return {k: v for k, v in (volume["Labels"] or {}).items() if k != "com.docker.volume.anonymous"} or None


@pytest.mark.parametrize("options", MOUNTED, ids=" ".join)
def test_mounted(both: Both, shared: Path, options: list[str]) -> None:
    words = [option.format(shared) for option in options]
    _same(*(_mounted(engine, both.names["host"], words) for engine in (both.docker, both.mini)))


@pytest.mark.parametrize("mode", ["shared", "rshared", "slave", "rslave"])
@pytest.mark.parametrize("form", ["-v {}:/x:{}", "--mount type=bind,src={},dst=/x,bind-propagation={}"])
def test_a_private_source(both: Both, tmp_path: Path, mode: str, form: str) -> None:
    """The reason; Docker removes the container that could not start, as mini does."""
    words = form.format(tmp_path, mode).split(" ")
    _both(both, "run", "--rm", "--network", "none", *words, both.names["host"], "true")


# --- copy-up, volumes-from, events ---------------------------------------------------------------------------------------------

WALK = """
import os, sys
for top, directories, files in os.walk(sys.argv[1]):
    directories.sort()
    for name in [".", *sorted(directories + files)]:
        path = os.path.join(top, name)
        info = os.lstat(path)
        link = os.readlink(path) if os.path.islink(path) else ""
        size = 0 if os.path.isdir(path) else info.st_size
        print(path, oct(info.st_mode), info.st_uid, info.st_gid, size, int(info.st_mtime), link)
"""


@pytest.mark.parametrize("path", ["/srv", "/home/user", "/etc", "/tmp", "/run", "/var", "/nosuch"])
@pytest.mark.parametrize(
    "options", [["-v", "vol:{}"], ["-v", "{}"], ["-v", "vol:{}:nocopy"], ["--mount", "src=vol,dst={}"]]
)
def test_copy_up(both: Both, path: str, options: list[str]) -> None:
    """Owners, modes, sizes, links, and the times of files; those of directories, Docker 20.10 does not keep."""
    found = []
    for engine in (both.docker, both.mini):
        words = [option.format(path) for option in options]
        command = [both.names["host"], "python3", "-c", WALK, path]
        lines = engine.run("run", "--rm", "--network", "none", *words, *command).lines
        # /etc has the files that engines bind there; an empty volume has the time of its making
        own = ("hostname", "hosts", "resolv.conf", "mtab")
        kept = [line.split(" ") for line in lines if os.path.basename(line.split(" ")[0]) not in own]
        found.append([f if f[1].startswith("0o1") else [*f[:5], *f[6:]] for f in kept])
    _same(*found)


@pytest.mark.parametrize("mode", ["", ":ro", ":rw", ":z"])
def test_volumes_from(both: Both, tmp_path: Path, mode: str) -> None:
    found = []
    for engine in (both.docker, both.mini):
        # Docker 20.10 takes a tmpfs of the other's for a volume, and finds none
        donor = ["-v", "one:/one", "-v", "two:/two:ro", "-v", "/three", "-v", f"{tmp_path}:/bind"]
        engine.run("run", "--name", "giver", "--network", "none", *donor, both.names["host"], "true")
        script = "grep -E ' /(one|two|three|bind) ' /proc/self/mountinfo | cut -d' ' -f5,6 | sort"
        taker = ["--name", "taker", "--network", "none", "--volumes-from", f"giver{mode}", "-v", "own:/one"]
        lines = engine.run("run", *taker, both.names["host"], "sh", "-c", script).lines
        point = json.loads(_plain(engine, engine.run("inspect", "-f", "{{json .Mounts}}", "taker").out))
        engine.run("rm", "-v", "taker", "giver")
        left = engine.run("volume", "ls", "-q").lines
        engine.remove_volumes()
        found.append((lines, sorted(point, key=lambda p: str(p["Destination"])), left))
    _same(*found)


def test_references(both: Both) -> None:
    """Who has a volume, running or not, keeps it; `rm -v` and `--rm` take what has no name."""
    for command in (
        "create --name one --network none -v used:/u -v /anonymous IMAGE true",
        "create --name two --network none -v used:/v:ro IMAGE true",
        "volume rm used", "volume rm -f used", "volume ls -q -f dangling=true", "rm one", "volume rm used",
        "rm -v two", "volume rm used", "volume rm used",
        "run --rm --network none -v /anonymous -v named:/n IMAGE true", "volume inspect -f {{.Name}} named",
    ):  # fmt: skip
        told = []
        for engine in (both.docker, both.mini):
            words = [both.names["host"] if word == "IMAGE" else word for word in command.split(" ")]
            told.append(_told(engine, engine.run(*words, check=False)))
        for answer in told:
            answer["stdout"] = [line for line in answer["stdout"] if line != "<ID>"]  # type: ignore[attr-defined]
        _same(*told)


def test_events(both: Both) -> None:
    found = []
    for engine in (both.docker, both.mini):
        since = f"{time.time():.6f}"
        engine.run("volume", "create", "--label", "a=b", "made")
        options = ["--name", "box", "--network", "none", "-v", "made:/m:ro", "-v", "by-v:/v"]
        engine.run("run", *options, both.names["host"], "true")
        engine.run("start", "-a", "box")
        engine.run("rm", "box")
        engine.run("volume", "rm", "made", "by-v")
        command = ["events", "--since", since, "--until", f"{time.time() + 0.1:.6f}", "--filter", "type=volume"]
        lines = engine.run(*command, "--format", "{{json .}}").lines
        events = [json.loads(_plain(engine, line)) for line in lines]
        # volumes are made, mounted and unmounted in the order of a map
        told = [(e["Action"], e["Actor"]["ID"], e["Actor"]["Attributes"]) for e in events]
        steps = [[step for step in told if step[1] == name] for name in ("made", "by-v")]
        # Docker 20.10 tells of a creation once more when a container first uses the volume
        found.append([[step for step, _ in itertools.groupby(of_one)] for of_one in steps])
    _same(*found)


def test_a_mount_that_fails(both: Both) -> None:
    """The words; the code is Docker's 127 for whatever says "no such file", mini's 125 for what is not about the program."""
    told = []
    for engine in (both.docker, both.mini):
        engine.run("volume", "create", "-o", "type=none", "-o", "device=/nosuch", "-o", "o=bind", "bad")
        command = ["run", "--rm", "--network", "none", "-v", "bad:/x", both.names["host"], "true"]
        told.append(_told(engine, engine.run(*command, check=False)) | {"code": 0})
    _same(*told)


def test_a_device_that_is_none(both: Both) -> None:
    _both(both, "volume", "create", "-o", "type=nosuchfs", "-o", "device=x", "-o", "o=ro,noatime", "bad")
    _both(both, "run", "--rm", "--network", "none", "-v", "bad:/x", both.names["host"], "true")


@pytest.mark.requires("podman")
def test_podmans_archive(both: Both, tmp_path: Path) -> None:
    """`volume export` and `import` are Podman's: tar(1) sees the same in both, and each reads the other's."""
    mini, podman = both.mini, Podman()
    try:
        for engine, name in ((mini, "mine"), (podman, "theirs")):
            engine.run("volume", "create", name)
            top = engine.run("volume", "inspect", "-f", "{{.Mountpoint}}", name).out
            script = (
                "mkdir -p d/e; echo x > d/e/f; ln d/e/f d/e/g; ln -s e d/l; chown 5:6 d/e/f; chmod 4711 d/e; mkfifo p"
            )
            script += "; chmod 644 d/e/f p; chmod 755 d; find . -exec touch -h -d @1000000000 {} +"
            subprocess.run(["sh", "-c", script], cwd=top, check=True)
            engine.run("volume", "export", name, "-o", f"{tmp_path}/{name}")
        listed = []
        for name in ("theirs", "mine"):
            command = ["tar", "--numeric-owner", "-tvf", f"{tmp_path}/{name}"]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            listed.append(sorted(line for line in lines if not line.endswith(" ./")))
        _same(*(["\n".join(lines).replace(" ./", " ") for lines in listed]))
        for engine, name in ((mini, "theirs"), (podman, "mine")):
            engine.run("volume", "create", "copy")
            engine.run("volume", "import", "copy", f"{tmp_path}/{name}")
            top = engine.run("volume", "inspect", "-f", "{{.Mountpoint}}", "copy").out
            assert Path(top, "d/e/f").read_text() == "x\n" and os.stat(f"{top}/d/e/g").st_uid == 5
    finally:
        podman.close()
