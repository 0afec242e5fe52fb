"""Work in a process of its own, for what would stay with this one: a monitor lives as long as its container.

Making a bridge imports pyroute2, 20 MB that are needed once; compiling a filter loads libseccomp, 4 MB.
"""

from __future__ import annotations

import os

from engine import lean
from engine.errors import MiniError, RuntimeFault
from engine.runtime import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def run(work: Callable[[], object]) -> None:
    """Does `work` in a child, and waits for it. Raises its MiniError here; RuntimeFault for anything else that it raised."""
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            work()
            os.write(write, b"{}")
        except MiniError as e:
            os.write(write, lean.dumps(attach.error_payload(e)))
        except BaseException as e:
            text = f"{type(e).__name__}: {e}"
            os.write(write, lean.dumps(attach.error_payload(RuntimeFault("apart", text, getattr(e, "errno", 0) or 0))))
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise RuntimeFault("apart", "the process that did it was killed")
    if failure := lean.loads(answer):
        raise attach.error_from_payload(failure)
