"""What an OCI runtime costs, side by side: mini-runtime, crun, runc; `run` of a bundle that is there, `true`, no network.

    sudo .venv/bin/python -m tests.bench.runtime [RUNS]     prints a Markdown table: milliseconds, and mini-runtime's ratio

The runtimes take turns, so that whatever else the machine does meets all of them; trust the ratios, not the times. The root is
the host's own programs. In namespaces of its own; there /sys/fs/cgroup/unified is unmounted, since crun takes no hybrid host.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from engine import linux
from engine.runtime.oci_cli.example import example
from tests.support.isolation import isolate
from tests.support.process import make_template
from tests.support.requirements import CHECKOUT

_UNIFIED = "/sys/fs/cgroup/unified"


def main(runs: int) -> None:
    isolate()
    if os.path.exists(f"{_UNIFIED}/cgroup.procs"):
        linux.umount2(_UNIFIED)
    directory = tempfile.mkdtemp(prefix="mini-bench-")
    try:
        programs = {name: path for name in ("crun", "runc") if (path := shutil.which(name))}
        programs["mini-runtime"] = f"{CHECKOUT}/mini-runtime"
        bundle = _bundle(directory)
        commands = {
            name: [path, "--root", f"{directory}/{name}", "run", "--bundle", bundle, "bench"]
            for name, path in programs.items()
        }
        _print(_measure(commands, runs))
    finally:
        shutil.rmtree(directory)


def _bundle(directory: str) -> str:
    spec = example()
    spec["ociVersion"] = "1.0.2"  # what crun and runc of Debian 12 know
    spec["process"] |= {"args": ["true"], "terminal": False}
    spec["root"]["path"] = make_template(directory)
    with open(f"{directory}/config.json", "w") as file:
        json.dump(spec, file)
    return directory


def _measure(commands: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Sorted times in milliseconds; three rounds before them warm everything up."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 3):
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            if number >= 3:
                times[name].append(1000 * (time.perf_counter() - begin))
    return {name: sorted(values) for name, values in times.items()}


def _print(times: dict[str, list[float]]) -> None:
    print("| `run` of a bundle | fastest | median | mini-runtime takes |")
    print("|---|---:|---:|---:|")
    ours = statistics.median(times["mini-runtime"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {values[0]:.1f} | {median:.1f} | {ours / median:.2f} × |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
