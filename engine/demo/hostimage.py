"""An image made from this host's own programs and their libraries: something real to run without a network.

Three layers, which between them have what layers can do to each other:

    base      a shell, the usual programs and the shared libraries they need; users; /tmp
    python    an interpreter with as much of its library as `http.server` and `urllib.request` import; `fetch URL`
    changes   one file removed (a whiteout), one directory emptied and refilled (an opaque one), one file replaced,
              one given a second name (a hard link)

The tars depend on nothing but the host's files: the same host gives the same digests.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from typing import Any, NamedTuple

from engine.errors import Unsupported
from engine.host import architecture, is_linux

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENV = [f"PATH={PATH}", "IMAGE=host"]

NEEDED = ("sh", "cat", "chmod", "echo", "env", "id", "ls", "mkdir", "rm", "sleep", "true", "false")
OPTIONAL = (
    "bash", "chgrp", "chown", "cp", "cut", "date", "dd", "df", "dirname", "find", "getent", "grep", "head", "hostname",
    "ip", "kill", "ln", "mknod", "mktemp", "mount", "mv", "nproc", "printf", "ps", "pwd", "readlink", "rmdir", "sed",
    "seq", "setpriv", "sort", "stat", "stty", "sync", "tail", "tee", "test", "timeout", "touch", "tr", "tty", "umount",
    "uname", "unshare", "wc", "whoami", "xargs",
)  # fmt: skip

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
user:x:1000:1000:user:/home/user:/bin/sh
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
audio:x:29:user
staff:x:50:user
user:x:1000:
nogroup:x:65534:
"""
MOTD = "an image made from this host's own files\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
# What curl(1) would be for; it waits for a server that is only just starting.
FETCH = """\
#!/usr/bin/python3
import sys, time, urllib.error, urllib.request
for attempt in range(100):
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
            sys.stdout.buffer.write(answer.read())
        break
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ConnectionRefusedError) or attempt == 99:
            sys.exit(f"fetch: {error.reason}")
        time.sleep(0.1)
"""
_TIME = "2024-01-01T00:00:00Z"

# No ssl: it would bring 5 MB of libcrypto, and the standard library does without it.
_PYTHON_PROBE = """\
import sys
sys.modules.update(dict.fromkeys(("ssl", "_ssl", "_hashlib")))
import argparse, contextlib, http.server, mimetypes, runpy, socket, urllib.request
import ctypes, fcntl, json, resource, signal, struct, subprocess, threading, time
import encodings.ascii, encodings.latin_1, encodings.idna, encodings.utf_8
for module in list(sys.modules.values()):
    for name in ("__file__", "__cached__"):
        print(getattr(module, name, None) or "")
"""


class HostImage(NamedTuple):
    """`layers`: paths of uncompressed tars, lowest first. `config`: an OCI image config, DiffIDs included."""

    layers: list[str]
    config: dict[str, Any]


def build(directory: str) -> HostImage:
    """Writes the layers into `directory` (made where missing). Raises Unsupported where the host lacks a program."""
    if not is_linux():
        raise Unsupported("an image of the host's programs can only be made on Linux")
    os.makedirs(directory, exist_ok=True)
    base = _Layer()
    _add_base(base)
    python = _Layer(below=base)
    _add_python(python)
    changes = _Layer(below=python)
    _add_changes(changes)
    paths = []
    for name, layer in (("base", base), ("python", python), ("changes", changes)):
        path = os.path.join(directory, f"{name}.tar")
        layer.write(path)
        paths.append(path)
    return HostImage(paths, _config([_digest(path) for path in paths]))


class _Layer:
    """Entries by their name without the leading slash; written sorted, so that parents come before what is in them."""

    def __init__(self, below: _Layer | None = None) -> None:
        self.entries: dict[str, tarfile.TarInfo] = {}
        self.contents: dict[str, bytes] = {}
        self.sources: dict[str, str] = {}
        self.below = below

    def has(self, name: str) -> bool:
        return name in self.entries or (self.below is not None and self.below.has(name))

    def directory(self, name: str, mode: int = 0o755, owner: int = 0) -> None:
        self._add(name, tarfile.DIRTYPE, mode, owner)

    def file(self, name: str, content: str, mode: int = 0o644) -> None:
        self.contents[name] = content.encode()
        self._add(name, tarfile.REGTYPE, mode).size = len(self.contents[name])

    def symlink(self, name: str, target: str) -> None:
        self._add(name, tarfile.SYMTYPE, 0o777).linkname = target

    def hardlink(self, name: str, target: str) -> None:
        self._add(name, tarfile.LNKTYPE, 0o644).linkname = target

    def host(self, path: str) -> None:
        """The host's file at `path`, with every symbolic link on the way to it, so that a merged /usr stays one."""
        todo = [part for part in path.split("/") if part]
        done: list[str] = []
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                continue
            name = "/".join([*done, part])
            status = os.lstat(f"/{name}")
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(f"/{name}")
                if not self.has(name):
                    self.symlink(name, target)
                done = [] if target.startswith("/") else done
                todo = target.split("/") + todo
            elif stat.S_ISDIR(status.st_mode):
                if not self.has(name):
                    self.directory(name)
                done.append(part)
            elif not self.has(name):
                # Without set-user-ID bits; with its time, by which Python knows whether a compiled module is current.
                entry = self._add(name, tarfile.REGTYPE, status.st_mode & 0o755)
                entry.size, entry.mtime = status.st_size, int(status.st_mtime)
                self.sources[name] = f"/{name}"

    def write(self, path: str) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, entry in sorted(self.entries.items()):
                if name in self.sources:
                    with open(self.sources[name], "rb") as file:
                        tar.addfile(entry, file)
                else:
                    tar.addfile(entry, io.BytesIO(self.contents.get(name, b"")))

    def _add(self, name: str, kind: bytes, mode: int, owner: int = 0) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = kind, mode
        entry.uid = entry.gid = owner
        self.entries[name] = entry
        return entry


def _add_base(layer: _Layer) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.lexists(f"/{name}"):
            layer.host(f"/{name}")
    for name in ("dev", "etc", "home", "mnt", "opt", "proc", "run", "srv", "srv/site", "sys", "usr", "usr/bin", "var"):
        layer.directory(name)
    layer.directory("root", 0o700)
    layer.directory("home/user", owner=1000)
    layer.directory("tmp", 0o1777)
    layer.directory("var/tmp", 0o1777)
    layer.file("etc/passwd", PASSWD)
    layer.file("etc/group", GROUP)
    layer.file("etc/nsswitch.conf", NSSWITCH)
    layer.file("etc/motd", MOTD)
    layer.file("opt/removed", "a later layer removes this\n")
    layer.file("opt/replaced", "the base layer's\n")
    layer.file("srv/site/old.html", "a later layer empties this directory\n")
    layer.file("srv/index.html", "hello from a container\n")
    programs = [_program(name, needed=True) for name in NEEDED] + [_program(name) for name in OPTIONAL]
    _add_with_libraries(layer, [path for path in programs if path])


def _add_python(layer: _Layer) -> None:
    interpreter = _program("python3") or os.path.realpath(sys.executable)
    probe = _ask(interpreter, "-I", "-c", _PYTHON_PROBE)
    if probe.returncode != 0:
        raise Unsupported(f"the host's {interpreter} has an incomplete library", probe.stderr.strip().splitlines()[-1])
    files = sorted({line for line in probe.stdout.splitlines() if os.path.isfile(line)})
    if interpreter != "/usr/bin/python3":
        layer.symlink("usr/bin/python3", interpreter)
    _add_with_libraries(layer, [interpreter, *files])
    layer.directory("usr/local")
    layer.directory("usr/local/bin")
    layer.file("usr/local/bin/fetch", FETCH, 0o755)


def _add_changes(layer: _Layer) -> None:
    layer.file("opt/.wh.removed", "")
    layer.file("opt/replaced", "the top layer's\n")
    # With the file itself, as builders write it: Docker's overlay2 driver finds no link's target in a layer below.
    layer.file("etc/motd", MOTD)
    layer.hardlink("opt/motd", "etc/motd")
    layer.file("srv/site/.wh..wh..opq", "")
    layer.file("srv/site/new.html", "only this is left\n")


def _add_with_libraries(layer: _Layer, files: list[str]) -> None:
    for path in [*files, *_libraries(files)]:
        layer.host(path)


def _libraries(files: list[str]) -> list[str]:
    """The shared libraries, and the loader, of the ELF files among `files`: what ldd(1) resolves on this host."""
    binaries = [path for path in files if _is_elf(path)]
    answer = _ask("ldd", *binaries).stdout
    return sorted(set(re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", answer, re.MULTILINE)))


def _is_elf(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _program(name: str, needed: bool = False) -> str | None:
    path = shutil.which(name, path=PATH)
    if path is None and needed:
        raise Unsupported(f"the host has no `{name}` to make an image of")
    return path


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _config(diff_ids: list[str]) -> dict[str, Any]:
    machine, variant = architecture()
    config: dict[str, Any] = {
        "created": _TIME,
        "architecture": machine,
        "os": "linux",
        "config": {"Env": ENV, "Cmd": ["sh"], "Labels": {"made.by": "mini demo"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": _TIME, "created_by": f"mini demo: {name}"} for name in ("base", "python", "changes")],
    }
    if variant:
        config["variant"] = variant
    return config
