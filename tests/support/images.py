"""The images that end-to-end tests run, in a registry on loopback that is not ours where there is another one."""

from __future__ import annotations

import gzip
import io
import os
import platform
import random
import socket
import subprocess
import tarfile
import tempfile
import time
from typing import Any, NamedTuple, Protocol

import requests

from engine.demo import hostimage
from engine.host import architecture
from tests.support.push import push_image, push_index
from tests.support.requirements import SHARED_IMAGES, program


class Registry(Protocol):
    """`address` is HOST:PORT as references have it, `url` the http address."""

    @property
    def address(self) -> str: ...

    @property
    def url(self) -> str: ...


class DebianRegistry:
    """docker-registry (the reference implementation, from Debian) on a free port of loopback, until `close`.

    `tls` is (certificate, key) files; `htpasswd` a file of who may use it.
    """

    def __init__(self, directory: str, tls: tuple[str, str] | None = None, htpasswd: str | None = None) -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"
        keys = f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else ""
        auth = f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}\n" if htpasswd else ""
        config = os.path.join(directory, "config.yml")
        with open(config, "w") as file:
            file.write(
                f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
                f"http: {{addr: '{self.address}'{keys}}}\n{auth}"
            )
        self._log = open(os.path.join(directory, "log"), "w+")
        command = [program("docker-registry") or "docker-registry", "serve", config]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                raise RuntimeError(f"docker-registry does not answer:\n{self._log.read()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/v2/", timeout=5, verify=False).status_code in (200, 401)
        except (requests.ConnectionError, requests.Timeout):
            return False

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()


def _free_port() -> int:
    """One that no connection gets for its own end (ip(7), ip_local_port_range), so that it stays free until the server has it.

    Who asks for an answer meanwhile would else connect to himself, once in 28,000 times, and have the port.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    while True:
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", random.randrange(first // 2, first)))
            except OSError:
                continue
            return int(free.getsockname()[1])


class Image(NamedTuple):
    """`name` is what a user types (`alpine:3.20`); Docker Hub is mirrored. `digest` is its manifest's."""

    name: str
    digest: str


class Images:
    """What is pushed: `host` always; `alpine` and `busybox` where ../shared/images is.

    And by name only: an index over platforms, and `host` with a hard link to a file of a layer below, which Docker's
    overlay2 driver cannot pull.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.environ = {"MINI_REGISTRY_MIRRORS": f"docker.io={registry.url}"}
        self._images: dict[str, Image] = {}
        with tempfile.TemporaryDirectory() as directory:
            host = hostimage.build(directory)
            pushed = self._push("host", "latest", list(host.layers), host.config["config"])
            linked: list[Any] = [*host.layers, _link("opt/nsswitch.conf", "etc/nsswitch.conf")]
            push_image(registry.url, "library/host", "linked", linked, host.config["config"])
        self.linked_name = "host:linked"
        self.index_name = "host:multi"
        absent = {"descriptor": pushed["descriptor"]}
        this = "linux/" + architecture()[0]
        other = "linux/riscv64" if this != "linux/riscv64" else "linux/amd64"
        push_index(registry.url, "library/host", "multi", [(other, absent), (this, pushed)])
        if os.path.isdir(SHARED_IMAGES) and platform.machine() in ("x86_64", "aarch64"):
            root = {"Cmd": ["/bin/sh"]}
            self._push("alpine", "3.20", [_unpacked(f"alpine-minirootfs-3.20.3-{platform.machine()}.tar.gz")], root)
            if platform.machine() == "x86_64":
                layer = _unpacked("busybox-musl-amd64-rootfs.tar.gz")
                self._push("busybox", "musl", [layer], {"Cmd": ["sh"]}, media="docker")

    def get(self, name: str) -> Image | None:
        return self._images.get(name)

    def all(self) -> list[Image]:
        return list(self._images.values())

    def _push(
        self, name: str, tag: str, layers: list[Any], config: dict[str, Any], media: str = "oci"
    ) -> dict[str, Any]:
        pushed = push_image(self.registry.url, f"library/{name}", tag, layers, config, media=media)
        self._images[name] = Image(f"{name}:{tag}", pushed["manifest_digest"])
        return pushed


def _link(name: str, target: str) -> bytes:
    """A layer with a hard link alone, to a file of a layer below."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as layer:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.LNKTYPE, target
        layer.addfile(entry)
    return tar.getvalue()


def _unpacked(name: str) -> bytes:
    with gzip.open(os.path.join(SHARED_IMAGES, name)) as file:
        return file.read()
