"""Archives between mini and Docker: images keep their ID and DiffIDs, and both make the same of the same input."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support import layers
from tests.support.conformance import until
from tests.support.docker import Docker
from tests.support.runner import Mini, run_command

pytestmark = pytest.mark.requires("docker", "netns")
NAMES = ["host", "alpine", "busybox"]


def name_of(both: Both, key: str) -> str:
    if key not in both.names:
        pytest.skip(f"no ../shared/images to make {key} of")
    return both.names[key]


def identity(engine: Any, name: str) -> tuple[str, list[str]]:
    (image,) = engine.run("image", "inspect", name).json()
    return image["Id"], image["RootFS"]["Layers"]


@pytest.mark.parametrize("key", NAMES)
def test_mini_save_docker_load(both: Both, key: str, tmp_path: Path) -> None:
    name = name_of(both, key)
    before = identity(both.mini, name)
    both.mini.run("save", "-o", f"{tmp_path}/x.tar", name)
    both.docker.run("rmi", name)
    loaded = both.docker.run("load", "-q", "-i", f"{tmp_path}/x.tar")
    assert loaded.out == f"Loaded image: {name}"
    assert identity(both.docker, name) == before
    assert both.docker.run("run", "--rm", name, "sh", "-c", "echo ran").out == "ran"


@pytest.mark.parametrize("key", NAMES)
def test_docker_save_mini_load(both: Both, key: str, tmp_path: Path) -> None:
    """Through a pipe, as people type it."""
    name = name_of(both, key)
    before = identity(both.docker, name)
    both.docker.run("save", "-o", f"{tmp_path}/x.tar", name)
    both.mini.run("rmi", name)
    environ = {**both.mini.environ, "ARCHIVE": f"{tmp_path}/x.tar"}
    mini = both.mini.run("--version").args[0]
    loaded = run_command(["sh", "-c", f'cat "$ARCHIVE" | {mini} load'], environ)
    assert loaded.out == both.docker.run("load", "-i", f"{tmp_path}/x.tar").out == f"Loaded image: {name}"
    assert identity(both.mini, name) == before
    assert both.mini.run("run", "--rm", "--network", "none", name, "sh", "-c", "echo ran").out == "ran"


def test_several_images_with_layers_in_common(both: Both, tmp_path: Path) -> None:
    """Docker links a layer that another image in the archive has."""
    name = name_of(both, "host")
    root = both.docker.run("create", name, "true").out
    both.docker.run("commit", "-m", "nothing", "-c", "CMD id", root, "derived:1")
    both.docker.run("rm", root)
    both.docker.run("save", "-o", f"{tmp_path}/x.tar", name, "derived:1")
    both.mini.run("rmi", name)
    assert sorted(both.mini.run("load", "-i", f"{tmp_path}/x.tar").lines) == sorted(
        f"Loaded image: {n}" for n in (name, "derived:1")
    )
    for image in (name, "derived:1"):
        assert identity(both.mini, image) == identity(both.docker, image)
    both.docker.run("rmi", "derived:1")
    both.mini.run("save", "-o", f"{tmp_path}/y.tar", name, "derived:1")
    assert both.docker.run("load", "-i", f"{tmp_path}/y.tar").code == 0
    assert identity(both.mini, "derived:1") == identity(both.docker, "derived:1")
    both.mini.run("rmi", "derived:1")
    both.docker.run("rmi", "derived:1")


@pytest.mark.parametrize("key", NAMES)
def test_image_inspect_and_history(both: Both, key: str) -> None:
    name = name_of(both, key)
    (ours,), (theirs,) = (engine.run("image", "inspect", name).json() for engine in (both.mini, both.docker))
    assert list(ours) == list(theirs)
    for field in ("Size", "VirtualSize", "GraphDriver", "Metadata"):  # of the store, not of the image
        del ours[field], theirs[field]
    assert ours == theirs
    template = "{{.ID}}|{{.CreatedSince}}|{{.CreatedBy}}|{{.Comment}}"
    for options in (["--no-trunc", "--format", template], ["--format", template], ["-q"], ["-q", "--no-trunc"]):
        shown = [engine.run("history", *options, name).out for engine in (both.mini, both.docker)]
        assert shown[0] == shown[1]
    heads = [engine.run("history", name).lines[0].split() for engine in (both.mini, both.docker)]
    assert heads[0] == heads[1]


CHANGES = [
    ['CMD ["sh", "-c", "echo $A"]', "ENV A=1"],
    ["ENTRYPOINT exec top -b"],
    ['ENV A=\'x y\' B="$A z\\"" C=a\\ b', "ENV D=$A$B${C:-d}${E:-f}${A:+g}", "ENV F the rest = of it", "ENV A=2"],
    ["LABEL one=1 \"two three\"='4 5'", "LABEL one=2"],
    ["EXPOSE 80 53/udp", "EXPOSE 8000-8002/tcp"],
    ['VOLUME ["/a", "/b c"]', "VOLUME /d /e"],
    ["WORKDIR /srv", "WORKDIR sub/../app", "USER 1000:100"],
    ["ONBUILD RUN make", "ONBUILD COPY . /"],
    ["HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 --start-period=2s CMD curl -f localhost"],
    ['HEALTHCHECK CMD ["true"]'],
    ["HEALTHCHECK NONE"],
    ["ENV A=b", "VOLUME /x/$A", "EXPOSE 1$A"],
    ["RUN true"],
    ["ENV A"],
    ["ENV A=1 B"],
    ["EXPOSE 0x50"],
]


@pytest.mark.parametrize("changes", CHANGES, ids=[" ".join(c)[:40] for c in CHANGES])
def test_import_with_changes(both: Both, changes: list[str], tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(layers.archive(layers.directory("etc"), layers.file("etc/motd", b"hello\n")))
    options = [word for change in changes for word in ("-c", change)]
    engines: tuple[Mini | Docker, ...] = (both.mini, both.docker)
    results = [
        engine.run("import", "-m", "by hand", *options, f"{tmp_path}/root.tar", "imported:1", check=False)
        for engine in engines
    ]
    assert results[0].code == results[1].code, results
    if results[0].code:
        return
    found = []
    for engine, result in zip(engines, results, strict=True):
        (image,) = engine.run("image", "inspect", result.out).json()
        found.append({key: image[key] for key in ("Config", "RootFS", "Comment", "Architecture", "Os", "RepoTags")})
        engine.run("rmi", "imported:1")
    assert found[0] == found[1]


def test_import_from_a_pipe_says_the_same(both: Both) -> None:
    data = layers.archive(layers.file("x", b"x"))
    for engine in (both.mini, both.docker):
        image = engine.run("import", "-", input=data).out
        (found,) = engine.run("image", "inspect", image).json()
        assert (found["Comment"], found["RepoTags"]) == ("Imported from -", [])
        engine.run("rmi", image)


def listing(data: bytes) -> dict[str, tuple[Any, ...]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            m.name: (m.type, oct(m.mode & 0o7777), m.uid, m.gid, m.size, m.linkname, int(m.mtime) if m.isreg() else 0)
            for m in tar.getmembers()
        }


@pytest.mark.parametrize("running", [True, False])
def test_export(both: Both, running: bool, tmp_path: Path) -> None:
    """The same image and the same changes give the same tar, but for what each engine puts in by itself."""
    name = name_of(both, "host")
    script = "echo new >/srv/new; rm /etc/motd; ln /srv/new /srv/linked; ln -s new /srv/sym; mknod /srv/null c 1 3; "
    script += "echo not >/data/exported; mkdir /srv/dir; chmod 1700 /srv/dir; chown 7:8 /srv/dir; touch -d @5 /srv/new; echo done; "
    found = []
    for engine in (both.mini, both.docker):
        tail = "sleep 60" if running else "true"
        container = engine.run("run", "-d", "--network", "none", "-v", "/data", name, "sh", "-c", script + tail).out
        if running:
            until(lambda engine=engine, container=container: "done" in engine.run("logs", container).out)  # type: ignore[misc]
        else:
            engine.run("wait", container)
        engine.run("export", "-o", f"{tmp_path}/x.tar", container)
        found.append(listing((tmp_path / "x.tar").read_bytes()))
        engine.run("rm", "-f", "-v", container)
    ours, theirs = found
    own = {".dockerenv"} | {p for p in {*ours, *theirs} if p.startswith("dev/")}
    own |= {"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "dev", "proc", "sys"}
    different = {k: (ours.get(k), theirs.get(k)) for k in {*ours, *theirs} - own if ours.get(k) != theirs.get(k)}
    assert different == {}
    assert "srv/linked" in ours and "data" in ours and "data/exported" not in ours
    assert not [p for p in ours if p.startswith(("proc/", "sys/"))]


def test_what_is_exported_can_be_imported(both: Both, tmp_path: Path) -> None:
    name = name_of(both, "host")
    for source, target in ((both.mini, both.docker), (both.docker, both.mini)):
        container = source.run("create", "--network", "none", name, "true").out
        source.run("export", "-o", f"{tmp_path}/x.tar", container)
        image = target.run("import", "-c", "ENV PATH=/bin:/usr/bin", f"{tmp_path}/x.tar").out
        assert target.run("run", "--rm", "--network", "none", image, "cat", "/srv/index.html").out
        target.run("rmi", image)
        source.run("rm", container)


@pytest.mark.parametrize(
    "arguments", [["save", "nosuch"], ["export", "nosuch"], ["load", "-i", "/nosuch"], ["import", "/nosuch"]]
)
def test_failures(both: Both, arguments: list[str]) -> None:
    ours, theirs = (engine.run(*arguments, check=False) for engine in (both.mini, both.docker))
    assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout)


@pytest.mark.parametrize("command", ["save", "export"])
def test_no_archive_goes_to_a_terminal(both: Both, command: str) -> None:
    terminal = both.mini.terminal(command, "x")
    try:
        terminal.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        assert terminal.wait() == 1
    finally:
        terminal.close()
