"""What a pull costs, side by side: mini, Docker and Podman, the same image from the same registry on the same disk.

    sudo .venv/bin/python -m tests.bench.pull [ROUNDS]        prints a Markdown table: the best of each, and the ratios

The image is `big_image` (about 90,000 files and 2 GB in 4 layers). Needs docker.io, docker-registry and, where it is to be
compared, podman. In namespaces of its own: nothing reaches a network.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from engine.containers import lifecycle, records
from engine.context import Context
from engine.oci.runtime import Mount
from engine.paths import Paths
from engine.runtime import mounts
from tests.bench import big_image
from tests.support import isolation, push
from tests.support.docker import Docker
from tests.support.images import DebianRegistry
from tests.support.runner import Mini, Result, run_command


def main(rounds: int) -> None:
    isolation.isolate()
    work = tempfile.mkdtemp(prefix="mb", dir="/tmp")
    os.mkdir(f"{work}/registry")
    registry = DebianRegistry(f"{work}/registry")
    docker, mini, directory = Docker(), Mini(), Mini({"MINI_STORAGE_DRIVER": "directory"})
    podman = ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run"]
    try:
        name = f"{registry.address}/library/big"
        _push(registry.url, f"{work}/layers")
        engines: dict[str, Callable[..., Result]] = {
            "mini": lambda *a: mini.run(*a, timeout=900),
            "mini, directory driver": lambda *a: directory.run(*a, timeout=900),
            "docker": lambda *a: docker.run(*a, timeout=900),
        }
        if shutil.which("podman"):
            engines["podman"] = lambda *a: run_command([*podman, *a], dict(os.environ), timeout=900)
        reads = {"mini": lambda: _read_mini(mini, name), "docker": lambda: _read_docker(docker, name)}
        best: dict[tuple[str, str], float] = {}
        engines["mini"]("pull", "-q", name)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        engines["mini"]("rmi", name)
        for _ in range(rounds):
            for engine, run in engines.items():
                extra = ["--tls-verify=false"] if engine == "podman" else []
                steps: list[tuple[str, Callable[[], object]]] = [
                    ("pull", lambda run=run, extra=extra: run("pull", "-q", *extra, name)),  # type: ignore[misc]
                    ("rmi", lambda run=run: run("rmi", name)),  # type: ignore[misc]
                ]
                if engine in reads:
                    steps.insert(1, ("read all of it, cold", reads[engine]))
                for what, step in steps:
                    _note(best, engine, what, step)
        _print(best, list(engines))
        print(f"\npeak memory of `mini pull`: {peak / 1024:.0f} MB")
    finally:
        for one in (docker, mini, directory, registry):
            one.close()
        if shutil.which("podman"):
            subprocess.run([*podman, "system", "reset", "-f"], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


def _note(best: dict[tuple[str, str], float], engine: str, what: str, step: Callable[[], object]) -> None:
    os.sync()
    if "cold" in what:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    begin = time.monotonic()
    measured = step()
    took = measured if isinstance(measured, float) else time.monotonic() - begin
    best[engine, what] = min(took, best.get((engine, what), took))
    print(f"{engine} {what}: {took:.2f} s", file=sys.stderr)


def _push(url: str, directory: str) -> None:
    layers: list[bytes | str | os.PathLike[str]] = [*big_image.build(directory)]
    push.push_image(url, "library/big", "latest", layers, {"Cmd": ["true"]})
    shutil.rmtree(directory)


def _read_mini(mini: Mini, name: str) -> float:
    """Seconds for reading every file of a container's root, which is mounted as a start mounts it."""
    container = mini.run("create", name).out
    ctx = Context(Paths(mini.root), {})
    root = lifecycle.mount_root(ctx, records.find(ctx.paths, container))
    try:
        return _read(f"/proc/self/fd/{root}/.")
    finally:
        os.close(root)
        mini.run("rm", container)


def _read_docker(docker: Docker, name: str) -> float:
    """The same through overlay2: its directories, stacked by us as the daemon does."""
    container = docker.run("create", name).out
    data = docker.run("inspect", container).json()[0]["GraphDriver"]["Data"]
    options = [f"lowerdir={data['LowerDir']}", f"upperdir={data['UpperDir']}", f"workdir={data['WorkDir']}"]
    mount: Mount = {"destination": "/", "type": "overlay", "options": options}
    root = mounts.detached(mount, mounts.parse(mount))
    try:
        return _read(f"/proc/self/fd/{root}/.")
    finally:
        os.close(root)
        docker.run("rm", container)


def _read(root: str) -> float:
    begin = time.monotonic()
    for directory, _, files in os.walk(root):
        for file in files:
            path = f"{directory}/{file}"
            if not os.path.islink(path):
                with open(path, "rb", buffering=0) as opened:
                    while opened.read(1 << 20):
                        pass
    return time.monotonic() - begin


def _print(best: dict[tuple[str, str], float], engines: list[str]) -> None:
    print(f"| | {' | '.join(engines)} |")
    print("|---|" + "---:|" * len(engines))
    for what in ("pull", "read all of it, cold", "rmi"):
        cells = []
        for engine in engines:
            took = best.get((engine, what))
            ratio = "" if engine == "mini" or took is None else f" (×{took / best['mini', what]:.1f})"
            cells.append("" if took is None else f"{took:.2f} s{ratio}")
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
