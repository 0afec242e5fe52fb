"""A command killed with SIGKILL just before its n-th change of something: a file, a mount, a link, a process."""

from __future__ import annotations

import mmap
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from tests.support.requirements import CHECKOUT

# Audit hooks (PEP 578) are called before what they tell of, and are there in every process that is forked. The counter lies in
# memory that all of them share: a descriptor would not outlive a monitor's clean-up. System calls by ctypes have no event.
_PROGRAM = """
import mmap, os, sys
with open({counter!r}, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 8)
def step():
    count = int.from_bytes(memory[:8], "little") + 1
    memory[:8] = count.to_bytes(8, "little")
    if count == {at}:
        os.kill(os.getpid(), 9)
CHANGES = set("os.rename os.remove os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod os.chown os.utime os.setxattr "
              "os.fork socket.sendto socket.bind socket.connect".split())
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def hook(event, args):
    if event in CHANGES or event == "open" and args[2] and args[2] & WRITING and args[0] != {counter!r}:
        step()
sys.argv = {argv!r}
sys.path += {path!r}
import engine.linux
call = engine.linux._call
def counted(name, *args, **more):
    step()
    return call(name, *args, **more)
engine.linux._call = counted
from {entry} import main
sys.addaudithook(hook)
main()
"""


class Killer:
    """Runs commands, each killed at a step, whichever of its processes makes it. A context manager.

    `entry` is the module of the command line's `main`, `interpreter` a Python that is protected already where need be.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        name: str = "mini",
        entry: str = "engine.cli.start",
        interpreter: str = sys.executable,
    ) -> None:
        self._environ, self._name, self._entry, self._interpreter = environ, name, entry, interpreter
        self._file = tempfile.NamedTemporaryFile()
        self._file.write(bytes(8))
        self._file.flush()
        self._memory = mmap.mmap(self._file.fileno(), 8)

    def run(self, at: int, *argv: str) -> int:
        """Runs the command; whichever of its processes makes the step number `at` is killed. Returns the steps that were made.

        With `at` 0 nobody is. Waits for the command itself only.
        """
        self._memory[:8] = bytes(8)
        path = [CHECKOUT, *(p for p in sys.path if p.endswith("site-packages"))]
        program = _PROGRAM.format(
            counter=self._file.name, at=at, argv=[self._name, *argv], path=path, entry=self._entry
        )
        null = subprocess.DEVNULL
        command = [self._interpreter, "-I", "-S", "-c", program]
        subprocess.run(command, env=self._environ, stdin=null, stdout=null, stderr=null, timeout=60)
        return int.from_bytes(self._memory[:8], "little")

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()
        self._file.close()


def points(total: int, wanted: int) -> list[int]:
    """`wanted` of the steps 1 to `total`, evenly, from a chance beginning: with many runs, all of them."""
    stride = max(1, total // wanted)
    return list(range(random.randint(1, stride), total + 1, stride))
