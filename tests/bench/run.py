"""What starting a container costs, side by side: mini, Docker, Podman and a bare OCI runtime; `true` in alpine.

    sudo .venv/bin/python -m tests.bench.run [RUNS]        prints a Markdown table: medians in milliseconds,
                                                       of the quietest of three rounds of RUNS each

Alpine is that of ../shared/images, or the image of the host's programs where that is not. Needs docker.io; podman, runc
and hyperfine are used where they are. In namespaces of its own: nothing reaches a network. Trust the ratios, not the times.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from engine import linux
from tests.support import isolation
from tests.support.docker import Docker
from tests.support.images import DebianRegistry, Images
from tests.support.leaks import directories, hierarchies
from tests.support.runner import PROGRAM, Mini

ENGINES = ("mini", "docker", "podman", "runc")
ROUNDS = 3
_NAME = "bench"
_CNI_STATE = "/var/lib/cni"
# Nothing of podman's is shared with the machine's own; a limit it cannot raise here is set to what it is.
_PODMAN_CONFIG = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[network]
network_config_dir = "{work}/podman-networks"
"""


def main(runs: int) -> None:
    isolation.isolate()
    work = tempfile.mkdtemp(prefix="mb", dir="/tmp")
    registry = DebianRegistry(work)
    docker, mini = Docker(), Mini()
    environ = {**mini.environ, "DOCKER_HOST": docker.environ["DOCKER_HOST"]}
    environ["CONTAINERS_CONF"] = f"{work}/containers.conf"
    try:
        images = Images(registry)
        image = images.get("alpine") or images.get("host")
        assert image is not None
        name = f"{registry.address}/library/{image.name}"
        programs = {"mini": [PROGRAM], "docker": ["docker"]}
        if shutil.which("podman"):
            programs["podman"] = _podman(work)
        for engine, program in programs.items():
            insecure = ["--tls-verify=false"] if engine == "podman" else []
            _run([*program, "pull", "-q", *insecure, name], environ)
            _run([*program, "run", "-d", "--name", _NAME, name, "sleep", "100000"], environ)
        print("| milliseconds | " + " | ".join(ENGINES) + " |")
        print("|---|" + "---:|" * len(ENGINES))
        for what, arguments in _rows(name).items():
            commands = {engine: [*program, *arguments] for engine, program in programs.items()}
            if "none" in arguments and shutil.which("runc"):
                commands["runc"] = _bundle(mini, name, work)
            rounds = [{e: _measure(command, environ, runs) for e, command in commands.items()} for _ in range(ROUNDS)]
            medians = {engine: min(one[engine] for one in rounds) for engine in commands}
            cells = [f"{medians[engine]:.0f}" if engine in medians else "" for engine in ENGINES]
            print(f"| {what} | " + " | ".join(cells) + " |", flush=True)
    finally:
        docker.close()
        _close_podman(work, environ)
        mini.close()
        registry.close()
        shutil.rmtree(work, ignore_errors=True)


def _rows(name: str) -> dict[str, list[str]]:
    return {
        "`run --rm`, on its bridge": ["run", "--rm", name, "true"],
        "`run --rm --network none`": ["run", "--rm", "--network", "none", name, "true"],
        "`exec`": ["exec", _NAME, "true"],
        "`ps`": ["ps"],
    }


def _podman(work: str) -> list[str]:
    """With the state of its network plug-ins on a file system of this mount namespace, which goes with it."""
    with open(f"{work}/containers.conf", "w") as file:
        file.write(_PODMAN_CONFIG.format(work=work))
    if not os.path.ismount(_CNI_STATE):
        os.makedirs(_CNI_STATE, exist_ok=True)
        linux.mount("tmpfs", _CNI_STATE, "tmpfs")
    return ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run"]


def _close_podman(work: str, environ: dict[str, str]) -> None:
    if shutil.which("podman"):
        subprocess.run([*_podman(work), "rm", "-f", "-t", "0", _NAME], env=environ, capture_output=True)
        linux.umount2(_CNI_STATE, linux.MNT_DETACH)
        if not os.listdir(_CNI_STATE):
            os.rmdir(_CNI_STATE)
        time.sleep(1)  # its monitor, which nothing waits for, is still in there
        for tree in hierarchies():
            parent = f"{tree.path}/libpod_parent"
            for path in [*directories(parent), parent]:
                try:
                    os.rmdir(path)
                except OSError:
                    pass


def _bundle(mini: Mini, name: str, work: str) -> list[str]:
    """`runc run` of a bundle that is there, as the floor: no image, no network, no layers to mount."""
    bundle = f"{work}/bundle"
    if not os.path.exists(bundle):
        os.makedirs(f"{bundle}/rootfs")
        container = mini.detached(name, "sleep", "100000")
        root = f"/proc/{mini.inspect(container)['State']['Pid']}/root"
        copy = f"tar -C {root} --one-file-system -c . | tar -C {bundle}/rootfs -x"
        subprocess.run(["sh", "-c", copy], check=True, stderr=subprocess.DEVNULL)
        mini.run("rm", "-f", container)
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        with open(f"{bundle}/config.json") as file:
            spec = json.load(file)
        spec["process"] |= {"args": ["true"], "terminal": False, "rlimits": []}
        with open(f"{bundle}/config.json", "w") as file:
            json.dump(spec, file)
    return ["runc", "--root", f"{work}/runc", "run", "--bundle", bundle, _NAME]


def _run(command: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")


def _measure(command: list[str], environ: dict[str, str], runs: int) -> float:
    """The median in milliseconds, after three runs that warm everything up."""
    if not shutil.which("hyperfine"):
        times = []
        for number in range(runs + 3):
            begin = time.perf_counter()
            _run(command, environ)
            if number >= 3:
                times.append(time.perf_counter() - begin)
        return 1000 * statistics.median(times)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        hyperfine = ["hyperfine", "-N", "--warmup", "3", "--runs", str(runs), "--export-json", report.name]
        _run([*hyperfine, shlex.join(command)], environ)
        return 1000 * float(json.load(report)["results"][0]["median"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
