"""What flows through containers' networks, side by side: mini, Docker and Podman, measured by iperf3 in one run.

    sudo .venv/bin/python -m tests.bench.network [SECONDS]    prints a Markdown table: Gbit/s over TCP at the receiver,
                                                          medians of ROUNDS rounds, the engines in turn

iperf3 is the host's, in the containers' network namespaces (nsenter), so that the path alone differs. "Another host" is a network
namespace at the end of a veth pair. In namespaces of its own: nothing reaches a network. Trust the ratios, not the numbers.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from tests.bench.engines import Engines, run

ROUNDS = 5
_INNER, _OUTER = (
    5201,
    15201,
)  # iperf3's in the containers, and where they are published, each engine's one after the other
_HERE, _THERE = "192.0.2.1", "192.0.2.2"


class Paths:
    """A container of each engine with an iperf3 server and a published port, another host, and the ways between them."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.pids: dict[str, str] = {}
        self.addresses: dict[str, str] = {}
        self.gateways: dict[str, str] = {}
        self.ports = {engine: _OUTER + number for number, engine in enumerate(engines.programs)}
        self._servers: list[subprocess.Popen[bytes]] = []
        self._other = _other_host()
        self._serve([])
        for engine, port in self.ports.items():
            self._start(engine, port)
        # Docker drops what is forwarded and not its own
        subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=True)
        time.sleep(1)

    def _start(self, engine: str, port: int) -> None:
        name = "iperf"
        words = ["run", "-d", "--name", name, "-p", f"{port}:{_INNER}", self.engines.image, "sleep", "100000"]
        self.engines.run(engine, *words)
        (found,) = json.loads(self.engines.run(engine, "inspect", name))
        network = found["NetworkSettings"]
        one = network if network.get("IPAddress") else next(iter(network["Networks"].values()))
        self.pids[engine] = str(found["State"]["Pid"])
        self.addresses[engine], self.gateways[engine] = one["IPAddress"], one["Gateway"]
        self._serve(["nsenter", "-t", self.pids[engine], "-n"])

    def _serve(self, where: list[str]) -> None:
        command = [*where, "iperf3", "-s", "-p", str(_INNER)]
        self._servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def command(self, path: str, engine: str) -> list[str]:
        inside = ["nsenter", "-t", self.pids[engine], "-n"]
        outside = ["nsenter", "-t", str(self._other.pid), "-n"]
        where, address, port = {
            "container → host": (inside, self.gateways[engine], _INNER),
            "host → container": ([], self.addresses[engine], _INNER),
            "another host → published port": (outside, _HERE, self.ports[engine]),
            "localhost → published port": ([], "127.0.0.1", self.ports[engine]),
        }[path]
        return [*where, "iperf3", "-c", address, "-p", str(port)]

    def close(self) -> None:
        for process in (*self._servers, self._other):
            process.kill()
            process.wait()


PATHS = ("container → host", "host → container", "another host → published port", "localhost → published port")


def _other_host() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 100000"], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    here = f"ip link add far0 type veth peer name far1 netns {process.pid}; ip address add {_HERE}/24 dev far0; ip link set far0 up"
    there = f"ip address add {_THERE}/24 dev far1; ip link set far1 up"
    subprocess.run(["sh", "-ec", here], check=True)
    subprocess.run(["nsenter", "-t", str(process.pid), "-n", "sh", "-ec", there], check=True)
    return process


def main(seconds: int) -> None:
    engines = Engines()
    try:
        paths = Paths(engines)
        try:
            print("| Gbit/s | " + " | ".join(engines.programs) + " |")
            print("|---|" + "---:|" * len(engines.programs))
            for path in PATHS:
                rates: dict[str, list[float]] = {engine: [] for engine in engines.programs}
                for _ in range(ROUNDS):
                    for engine in engines.programs:
                        rates[engine].append(_rate(paths.command(path, engine), seconds))
                cells = [f"{statistics.median(rates[engine]):.1f}" for engine in engines.programs]
                print(f"| {path} | " + " | ".join(cells) + " |", flush=True)
        finally:
            paths.close()
            for engine in engines.programs:
                engines.run(engine, "rm", "-f", "iperf")
    finally:
        engines.close()


def _rate(command: list[str], seconds: int) -> float:

    report = json.loads(run([*command, "-J", "-t", str(seconds)], dict(os.environ)))
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
