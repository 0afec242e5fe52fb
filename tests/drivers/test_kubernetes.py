"""What a kubelet does: pods and their containers through containerd's CRI, with mini-runtime as the handler of a RuntimeClass.

containerd runs the configuration that docs/kubernetes.md shows; a CNI plugin makes the pod's network.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.demo import hostimage
from tests.drivers.conftest import PROGRAM
from tests.support import cri, leaks
from tests.support.containerd import Containerd
from tests.support.images import Images
from tests.support.push import push_image
from tests.support.requirements import CHECKOUT, CNI_PLUGINS

pytestmark = pytest.mark.requires("linux", "root", "netns", "overlay", "ctr", "runc", "cni", "docker-registry")

HANDLERS = ("runc", "mini")
BRIDGE = "mtcni0"
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.215.0.0/24"}]]},
        }
    ],
}
RUNNING, EXITED = 1, 2  # ContainerState
CONTAINER_MODE = 1  # NamespaceMode: PIDs of the container's own, as kubelets have it by default


class Kubelet(NamedTuple):
    containerd: Containerd
    image: str
    state: str
    """The runtimes' directory: each has its containers in one called after its handler."""

    def call(self, method: str, message: cri.Message) -> dict[int, list[Any]]:
        return cri.call(self.containerd.socket, f"RuntimeService/{method}", message)

    def pod(self, handler: str) -> Pod:
        """A sandbox of its own, with a network."""
        options = [(2, CONTAINER_MODE)]
        linux = [(1, f"{self.containerd.cgroup_parent}/pod"), (2, [(1, options)])]
        metadata = [(1, f"pod-{handler}"), (2, f"uid-{handler}"), (3, "default")]
        config = [(1, metadata), (2, "podhost"), (3, f"{self.containerd.root}/logs"), (8, linux)]
        sandbox = self.call("RunPodSandbox", [(1, config), (2, handler)])[1][0].decode()
        return Pod(self, sandbox, config)


class Pod(NamedTuple):
    kubelet: Kubelet
    id: str
    config: cri.Message

    def start(self, name: str, script: str) -> str:
        """A container that runs; its ID."""
        resources = [(1, 100000), (2, 50000), (4, 64 << 20), (5, 500)]
        linux = [(1, resources), (2, [(3, [(2, CONTAINER_MODE)])])]
        command = [(3, word) for word in ("sh", "-c", script)]
        config = [(1, [(1, name)]), (2, [(1, self.kubelet.image)]), *command, (11, name), (15, linux)]
        made = self.kubelet.call("CreateContainer", [(1, self.id), (2, config), (3, self.config)])[1][0].decode()
        self.kubelet.call("StartContainer", [(1, made)])
        assert self.status(made)[0] == RUNNING
        return str(made)

    def status(self, container: str) -> tuple[int, int]:
        """(state, exit code)."""
        status = cri.decode(self.kubelet.call("ContainerStatus", [(1, container)])[1][0])
        return status.get(3, [0])[0], status.get(7, [0])[0]

    def exec(self, container: str, *command: str) -> tuple[int, str, str]:
        """ExecSync: exit code, stdout, stderr."""
        done = self.kubelet.call("ExecSync", [(1, container), *((2, word) for word in command), (3, 60)])
        return done.get(3, [0])[0], done.get(1, [b""])[0].decode(), done.get(2, [b""])[0].decode()

    def log(self, name: str) -> str:
        return Path(self.kubelet.containerd.root, "logs", name).read_text()

    def remove(self) -> None:
        self.kubelet.call("StopPodSandbox", [(1, self.id)])
        self.kubelet.call("RemovePodSandbox", [(1, self.id)])


@pytest.fixture(scope="module")
def kubelet(images: Images, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    directory = tmp_path_factory.mktemp("cri")
    base = hostimage.build(str(directory))
    settings = {"Env": hostimage.ENV, "Cmd": ["sleep", "infinity"]}
    push_image(images.registry.url, "library/pause", "1", list(base.layers[:1]), settings)
    pause = f"{images.registry.address}/library/pause:1"
    containerd = Containerd(_configuration(directory, pause))
    try:
        for name in (image, pause):
            containerd.run("-n", "k8s.io", "image", "pull", "--plain-http", name)
        _await_image(containerd, image)
        yield Kubelet(containerd, image, str(directory))
        containerd.remove_containers()
        assert {os.path.basename(path) for path in leaks.cgroups(containerd.cgroup_parent)} == {"pod"}  # the kubelet's
    finally:
        containerd.close()
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)


def _configuration(directory: Path, pause: str) -> str:
    """The page's, with this checkout's program, and what keeps the test apart from a containerd of the host's."""
    page = Path(CHECKOUT, "docs/kubernetes.md").read_text()
    (config,) = re.findall(r"```toml\nversion = 2\n(.*?)```", page, re.DOTALL)
    NETWORK["plugins"][0]["ipam"]["dataDir"] = f"{directory}/leases"  # type: ignore[index]
    (directory / "net").mkdir()
    (directory / "net/pods.conflist").write_text(json.dumps(NETWORK))
    cri_plugin = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
{config.replace("/usr/local/bin/mini-runtime", PROGRAM)}
    Root = "{directory}/mini"
[{cri_plugin}.containerd.runtimes.runc.options]
    Root = "{directory}/runc"
[{cri_plugin}]
    sandbox_image = "{pause}"
    netns_mounts_under_state_dir = true
    disable_apparmor = true
    restrict_oom_score_adj = true
[{cri_plugin}.cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{directory}/net"
"""


def _await_image(containerd: Containerd, image: str) -> None:
    """CRI hears of images by events."""
    deadline = time.monotonic() + 60
    while not cri.call(containerd.socket, "ImageService/ImageStatus", [(1, [(1, image)])]).get(1):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_pod(kubelet: Kubelet, handler: str) -> None:
    pod = kubelet.pod(handler)
    first = pod.start("first", "echo out; trap 'exit 7' TERM; while :; do sleep 0.05; done")
    second = pod.start("second", "sleep 600")
    assert {pod.id, first, second} <= {*os.listdir(f"{kubelet.state}/{handler}/k8s.io")}
    links = "cd /proc/self/ns; for name in net ipc uts pid mnt; do readlink $name; done"
    ours, theirs = (pod.exec(container, "sh", "-c", links)[1].split() for container in (first, second))
    assert ours[:3] == theirs[:3] and ours[3] != theirs[3] and ours[4] != theirs[4]
    assert ours[0] != os.readlink("/proc/self/ns/net")
    code, out, err = pod.exec(
        first, "sh", "-c", "hostname; cat /proc/self/oom_score_adj; ip -4 -o addr show eth0; echo e >&2; exit 3"
    )
    assert (code, out.split()[:2], " inet 10.215.0." in out, err) == (3, ["podhost", "500"], True, "e\n")
    with pytest.raises(cri.Refused):
        pod.exec(first, "no-such-program")
    assert _limit(kubelet, first) == 64 << 20
    kubelet.call("UpdateContainerResources", [(1, first), (2, [(4, 96 << 20)])])
    assert _limit(kubelet, first) == 96 << 20
    stats = cri.decode(kubelet.call("ContainerStats", [(1, first)])[1][0])
    assert cri.decode(cri.decode(stats[3][0])[2][0])[1][0] > 0  # working set
    kubelet.call("StopContainer", [(1, first), (2, 10)])
    assert pod.status(first) == (EXITED, 7)
    assert "stdout F out\n" in pod.log("first")
    kubelet.call("RemoveContainer", [(1, first)])
    pod.remove()
    assert not [name for name in os.listdir(f"{kubelet.state}/{handler}/k8s.io") if not name.startswith(".")]


def _limit(kubelet: Kubelet, container: str) -> int:
    """Of memory, in the container's cgroup, on the host."""
    for path in leaks.cgroups(kubelet.containerd.cgroup_parent):
        for name in ("memory.limit_in_bytes", "memory.max"):
            if path.endswith(f"/{container}") and os.path.exists(f"{path}/{name}"):
                return int(Path(path, name).read_text())
    raise AssertionError(f"no cgroup of {container}")


def test_a_handler_that_nobody_configured(kubelet: Kubelet) -> None:
    with pytest.raises(cri.Refused):
        kubelet.pod("other")
