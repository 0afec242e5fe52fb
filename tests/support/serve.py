"""`mini registry serve` as a process."""

from __future__ import annotations

import signal
from typing import IO

from tests.support.runner import Mini


class Serving:
    """Serves `root` on a free port of loopback, until `stop`. `address` is HOST:PORT as references have it."""

    def __init__(self, mini: Mini, root: str, *options: str) -> None:
        self.root = root
        self.process = mini.start("registry", "serve", "--root", root, "--port", "0", *options)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith(f"serving {root} on http://"), (line, _rest(self.process.stderr))
        self.url = line.split()[-1]
        self.address = self.url.removeprefix("http://")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, what it said on stderr). Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def _rest(stream: IO[str] | None) -> str:
    return stream.read() if stream else ""
