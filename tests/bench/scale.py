"""What many containers cost, side by side: listing them, starting and removing many at once, the memory of their monitors.

    sudo .venv/bin/python -m tests.bench.scale [at-once] [memory] [listing]        prints Markdown tables (default: all)

Needs docker.io; podman is used where it is. In namespaces of its own. Trust the ratios, not the times.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from subprocess import DEVNULL, PIPE

from engine.containers import records, usecases
from engine.containers.options import CreateOptions
from engine.context import Context
from engine.paths import Paths
from engine.times import timestamp
from tests.bench.engines import Engines
from tests.support import leaks

ROUNDS = 3
RUNNING = 100
STOPPED = (100, 300, 1000, 2000)
_SLEEP = ("sleep", "100000")


def main(wanted: list[str]) -> None:
    engines = Engines()
    try:
        print("load average:", *os.getloadavg(), flush=True)
        if "at-once" in wanted:
            for count in (20, 50):
                _at_once(engines, count)
        if "memory" in wanted or "listing" in wanted:
            _memory(engines)
        if "listing" in wanted:
            _listing(engines)
        print("load average:", *os.getloadavg(), flush=True)
    finally:
        engines.close()


# --- many at once -------------------------------------------------------------------------------------------------


def _at_once(engines: Engines, count: int) -> None:
    """`run -d` so many times at once, then `rm -f` of all by one command: the best of the rounds, engines taking turns."""
    starts: dict[str, float] = {}
    removals: dict[str, float] = {}
    for _ in range(ROUNDS):
        for engine, program in engines.programs.items():
            begin = time.perf_counter()
            command = [*program, "run", "-d", engines.image, *_SLEEP]
            running = [
                subprocess.Popen(command, env=engines.environ, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
                for _ in range(count)
            ]
            done = [one.communicate() for one in running]
            _note(starts, engine, begin)
            if any(one.returncode for one in running):
                raise SystemExit(f"{engine}: {[error for _, error in done if error]}")
            ids = [out.strip() for out, _ in done]
            begin = time.perf_counter()
            engines.run(engine, "rm", "-f", *(["-t", "0"] if engine == "podman" else []), *ids)
            _note(removals, engine, begin)
    _table(f"{count} at once, seconds", list(starts))
    _row("`run -d`, on its bridge", [f"{starts[engine]:.2f}" for engine in starts])
    _row("`rm -f` of all", [f"{removals[engine]:.2f}" for engine in starts])


def _note(best: dict[str, float], engine: str, begin: float) -> None:
    best[engine] = min(best.get(engine, 1e9), time.perf_counter() - begin)


# --- memory --------------------------------------------------------------------------------------------------------


def _memory(engines: Engines) -> None:
    """Of what stays with each container while many run: the proportional set size, in which shared pages count once."""
    for engine in engines.programs:
        for _ in range(RUNNING):
            engines.run(engine, "run", "-d", engines.image, *_SLEEP)
    _table(f"memory with {RUNNING} running, MB", ["mean", "max", "once for all"])
    ours = set(leaks.processes(engines.mini))
    _memory_row("mini: its monitor", lambda pid: pid in ours and _comm(pid) == "mini-monitor")
    _memory_row("docker: containerd-shim", _is("containerd-shim", engines.docker.root), ("dockerd", "containerd"))
    _memory_row("podman: conmon", _is("conmon", engines.work))


def _memory_row(what: str, wanted: Callable[[int], bool], daemons: tuple[str, ...] = ()) -> None:
    sizes = [_pss(pid) for pid in _pids() if wanted(pid)]
    shared = sum(_pss(pid) for pid in _pids() if _comm(pid) in daemons)
    assert len(sizes) == RUNNING, f"{what}: {len(sizes)} processes"
    _row(what, [f"{sum(sizes) / len(sizes):.2f}", f"{max(sizes):.2f}", f"{shared:.0f}" if shared else ""])


def _is(comm: str, directory: str) -> Callable[[int], bool]:
    """Whether a process has the name, and the directory in its command line."""

    def test(pid: int) -> bool:
        return _comm(pid).startswith(comm[:15]) and directory in _read(pid, "cmdline")

    return test


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _comm(pid: int) -> str:
    return _read(pid, "comm").strip()


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}") as file:
            return file.read()
    except OSError:
        return ""


def _pss(pid: int) -> float:
    """proc_pid_smaps(5): Pss, in MB."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# --- listing -------------------------------------------------------------------------------------------------------


def _listing(engines: Engines) -> None:
    """With those that run, and more and more that are stopped. Docker's takes turns at the smallest count only."""
    one = engines.run("mini", "ps", "-lq", "--no-trunc").strip()
    commands = {
        "`ps`": ["ps"],
        "`ps -a`": ["ps", "-a"],
        "`ps -aq`": ["ps", "-aq"],
        "`ps -a --filter status=exited`": ["ps", "-a", "--filter", "status=exited"],
        "`inspect NAME`": ["inspect", "scale-1"],
        "`inspect`, by a prefix of the ID": ["inspect", one[:12]],
    }
    _table(f"milliseconds, with {RUNNING} running and so many stopped", list(commands))
    for engine in engines.programs:
        for number in range(STOPPED[0]) if engine != "mini" else ():
            engines.run(engine, "create", "--name", f"scale-{number}", engines.image, "true")
    for count in STOPPED:
        _make_stopped(engines, count)
        for engine in engines.programs if count == STOPPED[0] else ("mini",):
            one = engines.run(engine, "ps", "-q").split()[0]
            commands["`inspect`, by a prefix of the ID"][1] = one
            _row(f"{engine}, {count}", [f"{_best(engines, engine, line):.0f}" for line in commands.values()])
    ids = engines.run("mini", "ps", "-aq", "--no-trunc").split()
    begin = time.perf_counter()
    engines.run("mini", "rm", "-f", *ids)
    print(f"\n`mini rm -f` of all {len(ids)}: {time.perf_counter() - begin:.2f} s", flush=True)


def _make_stopped(engines: Engines, count: int) -> None:
    """Created by the library, each with the state of one that has ended: a process for each would take minutes."""
    context = Context(Paths(engines.mini.root), dict(engines.mini.environ))
    have = len(os.listdir(context.paths.names)) - RUNNING
    for number in range(have, count):
        name = usecases.create(context, CreateOptions(image=engines.image, command=["true"], name=f"scale-{number}"))
        now = timestamp()
        state = records.new_state() | {"Status": "exited", "StartedAt": now, "FinishedAt": now}
        records.find(context.paths, name).save_state(state)


def _best(engines: Engines, engine: str, line: list[str]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        engines.run(engine, *line)
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


def _table(title: str, columns: list[str]) -> None:
    print("\n| " + " | ".join([title, *columns]) + " |")
    print("|---|" + "---:|" * len(columns), flush=True)


def _row(what: str, cells: list[str]) -> None:
    print("| " + " | ".join([what, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["at-once", "memory", "listing"])
