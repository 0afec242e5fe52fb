"""Go's values as a template sees them, and their types.

A bool, int, float or str is Go's bool, int, float64 or string; a dict a map[string]interface {}, a list an []interface {}, as JSON
gives them; None an interface that holds nothing. What has another type is one of the classes here, whose `go_type` says which.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class _Missing:
    """Go's zero reflect.Value: what a map has for a key that it lacks."""

    go_type = "<nil>"


MISSING = _Missing()


class Int(int):
    """An integer of another type than int."""

    go_type: str


class String(str):
    """A named string type, which is no `string` to a function that wants one."""

    go_type: str


class List(list):  # type: ignore[type-arg]
    """A slice; `is_nil` where JSON shows null."""

    go_type: str
    is_nil = False


class Map(dict):  # type: ignore[type-arg]
    """A map with keys of strings. Another key than those there gives `zero()`."""

    go_type: str
    is_nil = False
    methods: Mapping[str, tuple[int, Callable[..., Any]]] = {}

    @staticmethod
    def zero() -> Any:
        return ""


class Nil:
    """A nil pointer of a type; `fields` are those of the struct that it could point to."""

    __slots__ = ("fields", "go_type")

    def __init__(self, go_type: str, fields: frozenset[str] = frozenset()) -> None:
        self.go_type, self.fields = go_type, fields


class Pointer:
    """A pointer to what is no struct; a struct that is pointed to has a type with a star."""

    __slots__ = ("go_type", "value")

    def __init__(self, go_type: str, value: Any) -> None:
        self.go_type, self.value = go_type, value


class Struct:
    """Fields in order, methods (with the number of arguments, all of them strings), and how JSON shows it.

    `embedded` are the fields whose own are promoted. `text` is what fmt prints where the type has a String method.
    """

    __slots__ = ("embedded", "fields", "go_type", "json", "methods", "text")

    def __init__(
        self,
        go_type: str,
        fields: Mapping[str, Any],
        methods: Mapping[str, tuple[int, Callable[..., Any]]] | None = None,
        json: Callable[[], str] | None = None,
        embedded: tuple[str, ...] = (),
        text: str | None = None,
    ) -> None:
        self.go_type, self.fields, self.methods = go_type, fields, methods or {}
        self.json, self.embedded, self.text = json, embedded, text

    def get(self, name: str) -> Any:
        """A field, also of an embedded struct; MISSING if there is none."""
        if name in self.fields:
            return self.fields[name]
        for inner in self.embedded:
            if isinstance(self.fields[inner], Struct) and (found := self.fields[inner].get(name)) is not MISSING:
                return found
        return MISSING


def number(go_type: str, value: int) -> Int:
    made = Int(value)
    made.go_type = go_type
    return made


def string(go_type: str, value: str) -> String:
    made = String(value)
    made.go_type = go_type
    return made


def numbers_as_text(value: Any) -> Any:
    """JSON as Go's decoder gives it with UseNumber: a number is a string of the type json.Number."""
    if isinstance(value, dict):
        return {key: numbers_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers_as_text(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return string("json.Number", str(value))
    return value


_TYPES = {bool: "bool", int: "int", float: "float64", str: "string", dict: "map[string]interface {}"}
_TYPES |= {list: "[]interface {}", type(None): "<nil>"}


def type_of(value: Any) -> str:
    """Go's name of the value's type."""
    found: str = getattr(value, "go_type", None) or _TYPES[type(value)]
    return found


def is_pointer(value: Any) -> bool:
    return isinstance(value, Nil | Pointer) or (isinstance(value, Struct) and value.go_type.startswith("*"))


def is_true(value: Any) -> bool:
    """What `if` goes by: not false, 0, nil, or empty."""
    if isinstance(value, Nil) or value is MISSING:
        return False
    return isinstance(value, Struct | Pointer) or bool(value)


def length(text: str) -> int:
    """Of a string, in bytes."""
    return len(as_bytes(text))


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def as_text(data: bytes) -> str:
    """What is no UTF-8 stays what it is (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")
