"""Where everything lies: the only module that knows the shape of the data root.

ROOT/                        data root: `var/` of a checkout, /var/lib/mini installed, --root DIR, MINI_ROOT; mode 0711
├─ blobs/sha256/HEX          manifests and configs, verbatim, by digest
├─ images/HEX.json           one record an image, by image ID (the config's digest)
├─ tags/NAME                 one file a reference (percent-quoted), holding the image ID it points to
├─ layers/sha256/HEX.tar     a layer's verbatim uncompressed tar; HEX is its DiffID and its sha256
├─ indexes/sha256/HEX.erofs  the merged index over an image's layers; HEX is the chain ID               (driver erofs)
├─ trees/sha256/HEX/         a layer unpacked; HEX is the chain ID of the layers up to it           (driver directory)
├─ driver                    the storage driver that the data root was first used with
├─ containers/ID/            config.json state.json container.log hosts hostname resolv.conf upper/ work/ rootfs/
├─ names/NAME                a container's name, reserved; holds its ID
├─ volumes/NAME/             volume.json and _data/
├─ networks/NAME/            network.json, leases/IP, endpoints/CONTAINER
├─ cache/                    can be derived again: compiled seccomp filters, what layers were compressed to
├─ events.jsonl, .1          what happened, one event a line
├─ registry/                 what `mini registry serve` serves
├─ downloads/                layers on their way in, and what has arrived of those that were cut
├─ quarantine/               what `fsck --repair` found damaged, under the time when it did
└─ locks/                    flock files

RUN/                         gone at the next boot: /run/mini installed, ROOT/run elsewhere
├─ images/HEX/               mount point of an image's index, one for all its containers
├─ containers/ID/            attach.sock exec.sock
└─ volumes/NAME/ID           container ID runs and has the volume
"""

from __future__ import annotations

import os

INSTALLED_ROOT = "/var/lib/mini"
INSTALLED_RUN = "/run/mini"


def checkout_root() -> str | None:
    """The top of the source checkout that this module runs from, or None where mini is installed."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return top if os.path.exists(os.path.join(top, "pyproject.toml")) else None


class Paths:
    """The paths under one data root; all of them `str`. Pure: touches no file."""

    __slots__ = ("root", "run")

    def __init__(self, root: str, run: str | None = None) -> None:
        self.root = os.path.abspath(root)
        if run is None:
            run = INSTALLED_RUN if self.root == INSTALLED_ROOT else os.path.join(self.root, "run")
        self.run = os.path.abspath(run)

    @classmethod
    def default(cls, root: str | None, environ: dict[str, str] | os._Environ[str]) -> Paths:
        """`--root` if given, else MINI_ROOT, else the checkout's var/, else /var/lib/mini (a user: ~/.local/share/mini)."""
        chosen = root or environ.get("MINI_ROOT")
        if not chosen:
            checkout = checkout_root()
            if checkout:
                chosen = os.path.join(checkout, "var")
            elif os.geteuid() == 0:
                chosen = INSTALLED_ROOT
            else:
                chosen = os.path.join(environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "mini")
        return cls(chosen)

    # images and layers

    @property
    def blobs(self) -> str:
        return f"{self.root}/blobs/sha256"

    def blob(self, digest: str) -> str:
        return f"{self.blobs}/{_hex(digest)}"

    @property
    def images(self) -> str:
        return f"{self.root}/images"

    def image(self, image_id: str) -> str:
        return f"{self.images}/{_hex(image_id)}.json"

    @property
    def tags(self) -> str:
        return f"{self.root}/tags"

    @property
    def layers(self) -> str:
        return f"{self.root}/layers/sha256"

    def layer(self, diff_id: str) -> str:
        return f"{self.layers}/{_hex(diff_id)}.tar"

    @property
    def indexes(self) -> str:
        return f"{self.root}/indexes/sha256"

    def index(self, chain_id: str) -> str:
        return f"{self.indexes}/{_hex(chain_id)}.erofs"

    @property
    def trees(self) -> str:
        return f"{self.root}/trees/sha256"

    def tree(self, chain_id: str) -> str:
        return f"{self.trees}/{_hex(chain_id)}"

    @property
    def driver(self) -> str:
        return f"{self.root}/driver"

    def image_mount(self, chain_id: str) -> str:
        return f"{self.run}/images/{_hex(chain_id)}"

    @property
    def downloads(self) -> str:
        return f"{self.root}/downloads"

    @property
    def quarantine(self) -> str:
        return f"{self.root}/quarantine"

    # containers

    @property
    def containers(self) -> str:
        return f"{self.root}/containers"

    def container(self, container_id: str) -> str:
        return f"{self.containers}/{container_id}"

    @property
    def names(self) -> str:
        return f"{self.root}/names"

    def name(self, name: str) -> str:
        return f"{self.names}/{name}"

    def container_run(self, container_id: str) -> str:
        return f"{self.run}/containers/{container_id}"

    # volumes, networks, the rest

    @property
    def volumes(self) -> str:
        return f"{self.root}/volumes"

    def volume(self, name: str) -> str:
        return f"{self.volumes}/{name}"

    @property
    def volumes_run(self) -> str:
        return f"{self.run}/volumes"

    def volume_run(self, name: str) -> str:
        """One file a container that has the volume mounted, by its ID."""
        return f"{self.volumes_run}/{name}"

    @property
    def networks(self) -> str:
        return f"{self.root}/networks"

    def network(self, name: str) -> str:
        return f"{self.networks}/{name}"

    def leases(self, network: str) -> str:
        """The directory that `runtime.network.ipam` works on."""
        return f"{self.networks}/{network}/leases"

    def endpoints(self, network: str) -> str:
        """The directory that `runtime.network.endpoints` works on."""
        return f"{self.networks}/{network}/endpoints"

    @property
    def cache(self) -> str:
        return f"{self.root}/cache"

    @property
    def compressed(self) -> str:
        """One file a layer that was pushed, named by the DiffID's hex: what it was compressed to."""
        return f"{self.root}/cache/compressed"

    @property
    def registry(self) -> str:
        """What `mini registry serve` serves; its shape is that of `engine.images.registry_store`."""
        return f"{self.root}/registry"

    @property
    def events(self) -> str:
        return f"{self.root}/events.jsonl"

    def lock(self, name: str) -> str:
        """A flock file; `name` is a plain word such as `images` or `mount-HEX`."""
        return f"{self.root}/locks/{name}"


def _hex(digest: str) -> str:
    """The hex half of `sha256:HEX`, checked: a digest becomes a file name here, so nothing else may pass (CVE-2024-3727)."""
    algorithm, _, value = digest.partition(":")
    if not value:
        algorithm, value = "sha256", algorithm
    if algorithm != "sha256" or len(value) != 64 or value.strip("0123456789abcdef"):
        raise ValueError(f"not a sha256 digest: {digest!r}")
    return value
