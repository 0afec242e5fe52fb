"""Which networks `network ls` shows: Docker's filters (moby, daemon/network/filter.go)."""

from __future__ import annotations

from engine.containers.listing import matches
from engine.errors import UsageError
from engine.runtime.network.model import DRIVERS
from engine.system import networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.context import Context
    from engine.runtime.network.model import Network

    Test = Callable[[Network], bool]

_TRUE, _FALSE = ("true", "1"), ("false", "0")


class Filters:
    """`--filter NAME=VALUE`. Of one name any value may match (of `label`, all must); all names must."""

    def __init__(self, ctx: Context, given: Sequence[str]) -> None:
        """Raises UsageError in Docker's words."""
        self._ctx = ctx
        tests: dict[str, Callable[[str], Test]] = {
            "dangling": self._dangling,
            "driver": lambda text: lambda network: network.driver == text,
            "id": lambda text: lambda network: matches(text, network.id),
            "label": _label,
            "name": lambda text: lambda network: matches(text, network.name),
            "scope": lambda text: lambda _: text == "local",
            "type": _type,
        }
        self._tests: dict[str, list[Test]] = {}
        for text in given:
            name, _, value = text.partition("=")
            if name not in tests:
                raise UsageError(f"Invalid filter '{name}'", f"the filters are {', '.join(tests)}")
            self._tests.setdefault(name, []).append(tests[name](value))

    def match(self, network: Network) -> bool:
        return all(
            (all if name == "label" else any)(test(network) for test in tests) for name, tests in self._tests.items()
        )

    def _dangling(self, text: str) -> Test:
        if text not in _TRUE + _FALSE:
            raise UsageError('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')

        def test(network: Network) -> bool:
            dangling = network.name not in DRIVERS and not networks.users(self._ctx, network)
            return dangling == (text in _TRUE)

        return test


def _label(text: str) -> Test:
    key, equals, value = text.partition("=")
    return lambda network: key in network.labels and (not equals or network.labels[key] == value)


def _type(text: str) -> Test:
    if text not in ("custom", "builtin"):
        raise UsageError(f"invalid filter: 'type'='{text}'")
    return lambda network: (network.name in DRIVERS) == (text == "builtin")
