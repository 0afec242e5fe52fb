"""Commands that take several names: each is tried, each failure is one line, any failure is exit code 1."""

from __future__ import annotations

import sys

from engine.errors import MiniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def each(
    names: Iterable[str], act: Callable[[str], object], echo: bool = False, forgiven: type[MiniError] | None = None
) -> int:
    """Calls `act` for every name; with `echo` prints the name after success. A `forgiven` error is said and not counted."""
    code = 0
    for name in names:
        try:
            act(name)
        except MiniError as e:
            sys.stdout.flush()
            print(
                f"mini: {e.message}", *(f"  {line}" for line in (e.hint or "").splitlines()), sep="\n", file=sys.stderr
            )
            if not (forgiven and isinstance(e, forgiven)):
                code = 1
        else:
            if echo:
                print(name, flush=True)
    return code
