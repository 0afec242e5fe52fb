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

from tests.bench import big_image
from tests.support import isolation, push
from tests.support.docker import Docker
from tests.support.images import DebianRegistry
from tests.support.runner import Mini, run_command


def main(rounds: int) -> None:
    isolation.isolate()
    work = tempfile.mkdtemp(prefix="mb", dir="/tmp")
    registry = DebianRegistry(f"{work}/registry")
    docker, mini = Docker(), Mini()
    podman = ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run"]
    try:
        name = f"{registry.address}/library/big"
        _push(registry.url, f"{work}/layers")
        runners: dict[str, Callable[..., object]] = {
            "mini": lambda *a: mini.run(*a, timeout=600),
            "docker": lambda *a: docker.run(*a, timeout=600),
        }
        if shutil.which("podman"):
            runners["podman"] = lambda *a: run_command([*podman, *a], dict(os.environ), timeout=600)
        best: dict[tuple[str, str], float] = {}
        for _ in range(rounds):
            for engine, run in runners.items():
                extra = ["--tls-verify=false"] if engine == "podman" else []
                for what, arguments in (("pull", ["pull", "-q", *extra, name]), ("rmi", ["rmi", name])):
                    os.sync()
                    begin = time.monotonic()
                    run(*arguments)
                    took = time.monotonic() - begin
                    best[engine, what] = min(took, best.get((engine, what), took))
                    print(f"{engine} {what}: {took:.2f} s", file=sys.stderr)
        _print(best, list(runners))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"\npeak memory of the largest client process: {peak / 1024:.0f} MB")
    finally:
        docker.close()
        mini.close()
        registry.close()
        if shutil.which("podman"):
            subprocess.run([*podman, "system", "reset", "-f"], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


def _push(url: str, directory: str) -> None:
    layers: list[bytes | str | os.PathLike[str]] = [*big_image.build(directory)]
    push.push_image(url, "library/big", "latest", layers, {"Cmd": ["true"]})
    shutil.rmtree(directory)


def _print(best: dict[tuple[str, str], float], engines: list[str]) -> None:
    print(f"| | {' | '.join(engines)} |")
    print("|---|" + "---|" * len(engines))
    for what in ("pull", "rmi"):
        ratios = {e: f" (×{best[e, what] / best['mini', what]:.1f})" for e in engines if e != "mini"}
        cells = [f"{best[e, what]:.2f} s{ratios.get(e, '')}" for e in engines]
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
