"""Commands that take several names: each is tried, each failure is one line, any failure is exit code 1."""

from __future__ import annotations

import sys

from engine.errors import MiniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# As many as Docker's command line has under way.
_AT_ONCE = 50


def each(
    names: Sequence[str],
    act: Callable[[str], object],
    echo: bool = False,
    forgiven: type[MiniError] | None = None,
    at_once: bool = False,
) -> int:
    """Calls `act` for every name; with `echo` prints the name after success. A `forgiven` error is said and not counted.

    `at_once`: for several names side by side, in threads, for what waits more than it works. What is printed keeps their order.
    """

    def attempt(name: str) -> MiniError | None:
        try:
            act(name)
        except MiniError as e:
            return e
        return None

    code = 0
    outcomes = _side_by_side(attempt, names) if at_once and len(names) > 1 else map(attempt, names)
    for name, error in zip(names, outcomes, strict=True):
        if error:
            sys.stdout.flush()
            lines = (f"  {line}" for line in (error.hint or "").splitlines())
            print(f"mini: {error.message}", *lines, sep="\n", file=sys.stderr)
            if not (forgiven and isinstance(error, forgiven)):
                code = 1
        elif echo:
            print(name, flush=True)
    return code


def _side_by_side(attempt: Callable[[str], MiniError | None], names: Sequence[str]) -> Iterator[MiniError | None]:
    """The outcomes in the order of the names, each as soon as it is there. Raises here what `attempt` raised."""
    import threading

    outcomes: dict[int, MiniError | BaseException | None] = {}
    done = [threading.Event() for _ in names]
    pending = iter(range(len(names)))

    def work() -> None:
        for number in pending:
            try:
                outcomes[number] = attempt(names[number])
            except BaseException as e:
                outcomes[number] = e
            done[number].set()

    for _ in range(min(_AT_ONCE, len(names))):
        # daemons: Ctrl-C, which the first thread gets, does not wait for them
        threading.Thread(target=work, daemon=True).start()
    for number, event in enumerate(done):
        event.wait()
        outcome = outcomes[number]
        if outcome is not None and not isinstance(outcome, MiniError):
            raise outcome
        yield outcome
