"""What a command imports, in its own process and in all that it forks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.requirements import CHECKOUT

# sys.addaudithook sees the imports of this process and of all that it forks; the re-execution runs the program again.
_PROGRAM = """
import os, sys
def note(event, args):
    if event == "import":
        try:
            fd = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        os.write(fd, args[0].encode() + b"\\n")
        os.close(fd)
sys.addaudithook(note)
sys.argv = {argv!r}
sys.path.append({checkout!r})
from {entry} import main
main()
"""


def imports_of(log: Path, entry: str, *argv: str, environ: Mapping[str, str] | None = None) -> set[str]:
    """Of the command line whose `main` is in the module `entry`, and of a monitor that it may leave behind: that goes on noting
    in `log`."""
    program = _PROGRAM.format(log=str(log), argv=list(argv), checkout=CHECKOUT, entry=entry)
    command = [sys.executable, "-I", "-S", "-c", program]
    errors = log.with_name(f"{log.name}.stderr")  # not a pipe: what `create` leaves behind holds it
    with errors.open("w") as file:
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file, timeout=60
        )
    assert (done.returncode, errors.read_text()) == (0, "")
    return set(log.read_text().split())
