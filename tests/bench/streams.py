"""What flows through a container's streams, side by side: mini, Docker and Podman; MB/s of `cat`, both ways.

    sudo .venv/bin/python -m tests.bench.streams [MB] [ROUNDS]     prints a Markdown table, the best of ROUNDS;
                                                                   "cut" where what came out was never what went in

Alpine is that of ../shared/images, or the image of the host's programs where that is not. Needs docker.io; podman is used
where it is. In namespaces of its own: nothing reaches a network. Trust the ratios, not the numbers.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import time

from tests.bench.engines import Engines

_NAME = "bench"
_LINE = '%09d the quick brown fox jumps over the lazy dog; she said "žluťoučký kůň"\n'.encode()


def main(megabytes: int = 100, rounds: int = 3) -> None:
    engines = Engines()
    try:
        size = megabytes * 1_000_000
        sources = {kind: f"{engines.work}/{kind}" for kind in ("random", "text")} | {"nothing": os.devnull}
        digests = {kind: _write(sources[kind], kind, size) for kind in ("random", "text")}
        print("| MB/s | " + " | ".join(engines.programs) + " |")
        print("|---|" + "---:|" * len(engines.programs))
        for what, (before, source, arguments) in _rows(engines.image, size).items():
            best = dict.fromkeys(engines.programs, 0.0)
            for _ in range(rounds):
                for engine, program in engines.programs.items():
                    if before:
                        _flow([*program, *before], engines.environ, sources["text"])
                    seconds, digest = _flow([*program, *arguments], engines.environ, sources[source])
                    if digest == digests.get(source, digests["text"]):
                        best[engine] = max(best[engine], size / seconds / 1e6)
                    if before:
                        engines.run(engine, "rm", "-f", _NAME)
            cells = [f"{rate:.0f}" if rate else "cut" for rate in best.values()]
            print(f"| {what} | " + " | ".join(cells) + " |", flush=True)
    finally:
        engines.close()


def _rows(image: str, size: int) -> dict[str, tuple[list[str], str, list[str]]]:
    """What is measured: a command before it, which gets the text; what goes in; the command."""
    cat = ["run", "-i", "--rm", "--network", "none"]
    before = ["run", "-d", "--network", "none", "--name", _NAME]
    logged = ["run", "-i", "--network", "none", "--name", _NAME, "--log-opt", "max-size=2g", image, "cat"]
    return {
        "`run -i … cat`, random bytes": ([], "random", [*cat, image, "cat"]),
        "`run -i … cat`, text": ([], "text", [*cat, image, "cat"]),
        "the same, random, `--log-driver none`": ([], "random", [*cat, "--log-driver", "none", image, "cat"]),
        "the same, text, `--log-driver none`": ([], "text", [*cat, "--log-driver", "none", image, "cat"]),
        "`exec -i … cat`, random bytes": ([*before, image, "sleep", "100000"], "random", ["exec", "-i", _NAME, "cat"]),
        "`attach`, text": ([*before, "-i", image, "head", "-c", f"{size}"], "text", ["attach", _NAME]),
        "`logs`, text": (logged, "nothing", ["logs", _NAME]),
    }


def _write(path: str, kind: str, size: int) -> str:
    """A file of so many bytes, random ones or text (some of it beyond ASCII); its SHA-256."""
    piece = b"".join(_LINE % n for n in range(size // len(_LINE % 0) + 1)) if kind == "text" else os.urandom(size)
    with open(path, "wb") as file:
        file.write(piece[:size])
    return hashlib.sha256(piece[:size]).hexdigest()


def _flow(command: list[str], environ: dict[str, str], source: str) -> tuple[float, str]:
    """(seconds, SHA-256 of stdout) of the command with a file as its stdin."""
    with open(source, "rb") as stdin, tempfile.TemporaryFile() as stdout:
        begin = time.perf_counter()
        done = subprocess.run(command, env=environ, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
        seconds = time.perf_counter() - begin
        if done.returncode != 0:
            raise SystemExit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")
        stdout.seek(0)
        return seconds, hashlib.file_digest(stdout, "sha256").hexdigest()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
