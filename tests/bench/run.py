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

from tests.bench.engines import Engines, run
from tests.support.runner import Mini

ENGINES = ("mini", "docker", "podman", "runc")
ROUNDS = 3
_NAME = "bench"


def main(runs: int) -> None:
    engines = Engines()
    try:
        for engine in engines.programs:
            engines.run(engine, "run", "-d", "--name", _NAME, engines.image, "sleep", "100000")
        print("| milliseconds | " + " | ".join(ENGINES) + " |")
        print("|---|" + "---:|" * len(ENGINES))
        for what, arguments in _rows(engines.image).items():
            commands = {engine: [*program, *arguments] for engine, program in engines.programs.items()}
            if "none" in arguments and shutil.which("runc"):
                commands["runc"] = _bundle(engines.mini, engines.image, engines.work)
            measured = [
                {e: _measure(command, engines.environ, runs) for e, command in commands.items()} for _ in range(ROUNDS)
            ]
            medians = {engine: min(one[engine] for one in measured) for engine in commands}
            cells = [f"{medians[engine]:.0f}" if engine in medians else "" for engine in ENGINES]
            print(f"| {what} | " + " | ".join(cells) + " |", flush=True)
    finally:
        engines.close()


def _rows(name: str) -> dict[str, list[str]]:
    return {
        "`run --rm`, on its bridge": ["run", "--rm", name, "true"],
        "`run --rm --network none`": ["run", "--rm", "--network", "none", name, "true"],
        "`exec`": ["exec", _NAME, "true"],
        "`ps`": ["ps"],
    }


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


def _measure(command: list[str], environ: dict[str, str], runs: int) -> float:
    """The median in milliseconds, after three runs that warm everything up."""
    if not shutil.which("hyperfine"):
        times = []
        for number in range(runs + 3):
            begin = time.perf_counter()
            run(command, environ)
            if number >= 3:
                times.append(time.perf_counter() - begin)
        return 1000 * statistics.median(times)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        hyperfine = ["hyperfine", "-N", "--warmup", "3", "--runs", str(runs), "--export-json", report.name]
        run([*hyperfine, shlex.join(command)], environ)
        return 1000 * float(json.load(report)["results"][0]["median"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
