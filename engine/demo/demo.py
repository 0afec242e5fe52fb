"""`mini demo`: the main job for real, with nothing reachable.

A registry of ours on loopback holds an image of this host's own programs. It is pulled over HTTP, unpacked and run; a volume
outlives its container, two containers reach each other, a limit bites, and everything is removed again. Every step is the
command that a user would type, run as a process of its own, and its real output. Data root, bridge and cgroups belong to
this run of the demo alone, and go with it, also when it fails or is interrupted.

It works in a network and a mount namespace of its own: so it can neither change nor be stopped by what this host's
firewall allows (Docker, where it runs, has everything dropped that it does not know: docs/networking.md).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from engine import linux
from engine.context import Context
from engine.demo import hostimage, leftovers
from engine.host import require_container_host
from engine.images.registry_store import Content
from engine.images.server import RegistryServer
from engine.paths import Paths
from engine.runtime.network.attach import loopback_up

IMAGE = "demo"
_REPOSITORY = f"library/{IMAGE}"
_OCI = "application/vnd.oci.image"
_COLUMNS = 76  # with what a line begins and ends with: 80


class StepFailed(Exception):
    """A command that had to succeed has not; it has said why."""


def main(context: Context) -> int:
    """Runs the demo; 0 if every step did what it shows. Raises Unsupported where containers cannot run."""
    require_container_host()
    _isolate()
    usual = None if "TMPDIR" in os.environ or not os.path.isdir("/var/tmp") else "/var/tmp"
    directory = tempfile.mkdtemp(prefix="mini-demo-", dir=usual)
    try:
        with RegistryServer(f"{directory}/registry") as server:
            return _Demo(context, directory, server).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _isolate() -> None:
    linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    loopback_up(os.getpid())


class _Demo:
    """The steps, and what they share."""

    def __init__(self, context: Context, directory: str, server: RegistryServer) -> None:
        self.server = server
        self.directory = directory
        self.screen = _Screen(sys.stdout.isatty() and context.environ.get("TERM") != "dumb")
        self.environ = {
            **context.environ,
            "MINI_ROOT": f"{directory}/root",
            "MINI_BRIDGE": "mini-demo",
            "MINI_SUBNET": "172.31.0.0/24",
            "MINI_CGROUP_PARENT": f"/{os.path.basename(directory)}",
            "MINI_REGISTRY_MIRRORS": f"docker.io={server.url}",
        }
        self.context = Context(Paths(f"{directory}/root"), self.environ, context.storage_driver)

    def run(self) -> int:
        try:
            self._serve_image()
            self._pull()
            self._run_it()
            self._keep_a_volume()
            self._talk()
            self._meet_a_limit()
            self._remove()
        except StepFailed:
            print("\nmini demo: this step should have succeeded; what it made is removed", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nmini demo: interrupted; what it made is removed", file=sys.stderr)
            return 130
        finally:
            self._clean_up()
        return 0

    # the steps

    def _serve_image(self) -> None:
        self.screen.heading("An image and a registry, made from this host")
        image = hostimage.build(f"{self.directory}/layers")
        size = _publish(self.server.content, image)
        self.screen.text(
            f"This host's own shell, programs and Python are an image of {len(image.layers)} layers now",
            f"({size / 1e6:.1f} MB compressed), in a registry on loopback that answers for Docker Hub:",
            f"MINI_REGISTRY_MIRRORS={self.environ['MINI_REGISTRY_MIRRORS']}",
        )

    def _pull(self) -> None:
        self.screen.heading("Pull it")
        self._mini("pull", IMAGE)
        self._mini("images")

    def _run_it(self) -> None:
        self.screen.heading("Run it")
        script = 'echo "PID $$ on $(hostname), as $(id -un), from $IMAGE"'
        self._mini("run", "--rm", "--hostname", "box", IMAGE, "sh", "-c", script)
        self.screen.text("It sees its own processes only, and exits as its command does:")
        self._mini("run", "--rm", IMAGE, "sh", "-c", "ls -d /proc/[0-9]*; exit 3", code=3)

    def _keep_a_volume(self) -> None:
        self.screen.heading("A volume outlives its container")
        self._mini("run", "--rm", "-v", "notes:/notes", IMAGE, "sh", "-c", "echo kept > /notes/file")
        self._mini("run", "--rm", "-v", "notes:/notes", IMAGE, "cat", "/notes/file", output="kept\n")
        self.screen.text("As a tar it goes elsewhere, with owners, modes and links:")
        self._mini("volume", "export", "notes", "-o", "notes.tar")
        self._mini("volume", "create", "copy")
        self._mini("volume", "import", "copy", "notes.tar")
        self._mini("run", "--rm", "-v", "copy:/notes:ro", IMAGE, "cat", "/notes/file", output="kept\n")

    def _talk(self) -> None:
        self.screen.heading("Two containers reach each other")
        self._mini("run", "-d", "--name", "web", "-w", "/srv", IMAGE, "python3", "-m", "http.server", "80")
        self._mini("ps", "--format", r"table {{.Names}}\t{{.Image}}\t{{.Command}}\t{{.Status}}")
        address = self._mini("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web", capture=True).strip()
        url = f"http://{address}/index.html"
        self._mini("run", "--rm", IMAGE, "fetch", url, output="hello from a container\n")
        self._mini("logs", "web")

    def _meet_a_limit(self) -> None:
        self.screen.heading("A limit bites")
        script = "for i in 1 2 3 4 5 6; do sleep 1 & done"
        self._mini("run", "--rm", "--pids-limit", "4", IMAGE, "sh", "-c", script, code=2)

    def _remove(self) -> None:
        self.screen.heading("Nothing is left")
        self._mini("rm", "-f", "web")
        self._mini("volume", "rm", "notes", "copy")
        self._mini("rmi", IMAGE)
        leftovers.remove_shared(self.context)
        found = leftovers.find(self.context)
        files = [
            name for name in ("containers", "volumes", "images", "layers", "indexes", "trees") if self._holds(name)
        ]
        for kind, what in {**found, "files": files}.items():
            self.screen.text(f"{kind + ':':11}{', '.join(what) or 'none'}")
        if files or any(found.values()):
            raise StepFailed("something is left")

    def _holds(self, name: str) -> bool:
        return any(files for _, _, files in os.walk(f"{self.context.paths.root}/{name}"))

    # how they are run

    def _mini(self, *args: str, code: int = 0, output: str | None = None, capture: bool = False) -> str:
        """Shows and runs `mini ARGS…`; its output, where it was captured. Raises StepFailed for another end than this."""
        self.screen.command(args)
        capture = capture or output is not None
        done = subprocess.run(
            [*_program(), *args],
            env=self.environ,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            text=True,
        )
        if capture:
            self.screen.output(done.stdout)
        if done.returncode != 0:
            self.screen.note(f"(exit code {done.returncode})")
        if done.returncode != code or (output is not None and done.stdout != output):
            raise StepFailed(args)
        return done.stdout or ""

    def _clean_up(self) -> None:
        """Everything that this demo made, in whatever state it is; quiet after `_remove`, when nothing is there."""
        quiet: dict[str, Any] = {"env": self.environ, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        for listing, removal in ((["ps", "-aq"], ["rm", "-f"]), (["volume", "ls", "-q"], ["volume", "rm"])):
            names = subprocess.run([*_program(), *listing], **quiet).stdout.split()
            if names:
                subprocess.run([*_program(), *removal, *names], **quiet)
        if os.path.isdir(f"{self.context.paths.root}/images"):
            subprocess.run([*_program(), "rmi", "-f", IMAGE], **quiet)
        leftovers.remove_shared(self.context)


class _Screen:
    """Text for 80 columns; colours on a terminal only."""

    def __init__(self, colours: bool) -> None:
        self.colours = colours
        self.step = 0

    def heading(self, text: str) -> None:
        self._print(self._paint("1;36", f"{self._number()}. {text}"), before="" if self.step == 1 else "\n")

    def text(self, *lines: str) -> None:
        self._print("\n".join(f"   {line}" for line in lines))

    def command(self, args: tuple[str, ...]) -> None:
        lines = [""]
        for word in ("mini", *args):
            word = word if _is_plain(word) else f"'{word}'"
            if lines[-1] and len(lines[-1]) + len(word) > _COLUMNS:
                lines.append(f"   {word}")
            else:
                lines[-1] += f" {word}"
        self._print(self._paint("1", "$" + " \\\n ".join(lines)))

    def output(self, text: str) -> None:
        self._print(text, end="")

    def note(self, text: str) -> None:
        self._print(self._paint("2", text))

    def _number(self) -> int:
        self.step += 1
        return self.step

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours else text

    def _print(self, text: str, before: str = "", end: str = "\n") -> None:
        # Flushed, for the command that is shown writes to the same terminal by itself.
        print(f"{before}{text}", end=end, flush=True)


def _is_plain(word: str) -> bool:
    """Whether a shell takes the word as it is."""
    return bool(word) and not set(word) - set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+"
    )


def _program() -> list[str]:
    """This mini once more, started in the way that it was: by a checkout's launcher, or installed."""
    if sys.flags.no_site:
        top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        return [sys.executable, "-I", "-S", os.path.join(top, "__main__.py")]
    return [sys.executable, "-P", "-m", "engine"]


def _publish(content: Content, image: hostimage.HostImage) -> int:
    """Puts the image into the registry as library/demo:latest; the compressed size of its layers in bytes."""
    layers = []
    for path in image.layers:
        with open(path, "rb") as file:
            layers.append(_descriptor(content, f"{_OCI}.layer.v1.tar+gzip", gzip.compress(file.read(), 1, mtime=0)))
    config = _descriptor(content, f"{_OCI}.config.v1+json", json.dumps(image.config).encode())
    media_type = f"{_OCI}.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
    content.put_manifest(_REPOSITORY, "latest", json.dumps(manifest).encode(), media_type)
    return sum(layer["size"] for layer in layers)


def _descriptor(content: Content, media_type: str, data: bytes) -> dict[str, Any]:
    """The descriptor of a blob that is put into the registry."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    upload = content.uploads.new()
    content.uploads.append(upload, [data], 0)
    content.finish_upload(_REPOSITORY, upload, digest)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}
