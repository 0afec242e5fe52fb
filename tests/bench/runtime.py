"""What an OCI runtime costs, side by side: mini-runtime, crun, runc; `run` of a bundle that is there, `true`, no network.

    sudo .venv/bin/python -m tests.bench.runtime [RUNS]     prints a Markdown table: milliseconds, and mini-runtime's ratio

The runtimes take turns, so that whatever else the machine does meets all of them; trust the ratios, not the times, and processor
time (of all the processes that were waited for) before what a clock says. The root is the host's own programs. In namespaces of
its own; there /sys/fs/cgroup/unified is unmounted, since crun takes no hybrid host.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
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


def _measure(commands: dict[str, list[str]], runs: int) -> dict[str, list[tuple[float, float]]]:
    """(time, processor time) in milliseconds of each run; three rounds before them warm everything up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(runs + 3):
        for name, command in commands.items():
            begin = time.perf_counter()
            pid = os.posix_spawn(
                command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)]
            )
            _, status, usage = os.wait4(pid, 0)
            if status:
                raise SystemExit(f"{name}: {os.waitstatus_to_exitcode(status)}")
            if number >= 3:
                wall = time.perf_counter() - begin
                taken[name].append((1000 * wall, 1000 * (usage.ru_utime + usage.ru_stime)))
    return taken


def _print(taken: dict[str, list[tuple[float, float]]]) -> None:
    print(
        "| `run` of a bundle | fastest | median | mini-runtime takes | processor time, least | median | mini-runtime takes |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    ours = [statistics.median(column) for column in zip(*taken["mini-runtime"], strict=True)]
    for name, runs in taken.items():
        cells = []
        for column, own in zip(zip(*runs, strict=True), ours, strict=True):
            median = statistics.median(column)
            cells += [f"{min(column):.1f}", f"{median:.1f}", f"{own / median:.2f} ×"]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nload average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
