"""A systemd journal of a test's own: the real systemd-journald, started by hand, over tmpfs that hide the host's."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

_DAEMON = "/lib/systemd/systemd-journald"
_SOCKET = "/run/systemd/journal/socket"
_PLACES = ("/run/systemd", "/run/log")
# no limit of the rate, and nothing of the kernel's
_CONFIG = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n" + "".join(
    f"ForwardTo{where}=no\n" for where in ("Console", "Wall", "Syslog", "KMsg")
)


class Journal:
    """In this process's mount namespace, which must be private (tests/support/isolation.py), or in that of `pid`."""

    def __init__(self, pid: int | None = None) -> None:
        self._enter = ["nsenter", "--target", str(pid), "--mount", "--"] if pid else []
        made = [f"mkdir -p {place} && mount -t tmpfs journal {place}" for place in _PLACES]
        made += [
            "mkdir -p /run/systemd/journald.conf.d /run/systemd/journal",
            "cat > /run/systemd/journald.conf.d/test.conf",
        ]
        subprocess.run([*self._enter, "sh", "-ec", "\n".join(made)], input=_CONFIG.encode(), check=True)
        self._daemon = subprocess.Popen(
            [*self._enter, _DAEMON], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while subprocess.run([*self._enter, "test", "-S", _SOCKET]).returncode:
            assert time.monotonic() < deadline and self._daemon.poll() is None
            time.sleep(0.05)

    def entries(self, container_id: str) -> list[dict[str, Any]]:
        """A container's, all that were sent until now, as `journalctl -o json` has them."""
        self.sync()
        command = [*self._enter, "journalctl", "-a", "-q", "-o", "json", f"CONTAINER_ID_FULL={container_id}"]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        return [json.loads(line) for line in said.splitlines()]

    def sync(self) -> None:
        """What was sent until now is in its files."""
        subprocess.run([*self._enter, "journalctl", "--sync"], check=True)

    def close(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(20)
        for place in _PLACES:
            subprocess.run([*self._enter, "umount", "-l", place], check=False)
