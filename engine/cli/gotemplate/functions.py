"""The functions of templates: Go's (text/template/funcs.go) and Docker's (docker/cli, templates/templates.go).

A function is (types of its parameters, whether the last may come often or not at all, what does it). "value" and "any" take
everything. What goes wrong in one is a ValueError in Go's words.
"""

from __future__ import annotations

from engine.cli.gotemplate import printing
from engine.cli.gotemplate.values import (
    MISSING,
    List,
    Map,
    Nil,
    Pointer,
    as_bytes,
    as_text,
    is_true,
    length,
    type_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Function = tuple[tuple[str, ...], bool, Callable[..., Any]]

_HTML = {0: "\ufffd", 34: "&#34;", 38: "&amp;", 39: "&#39;", 60: "&lt;", 62: "&gt;"}
_JS = {ord(c): f"\\u{ord(c):04X}" for c in "<>&="} | {ord(c): "\\" + c for c in "\\'\""}
_JS |= {n: f"\\u{n:04X}" for n in range(0x20)}
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
_BASIC = {bool: "bool", int: "int", float: "float", str: "string"}


def indirect(value: Any) -> Any:
    return value.value if isinstance(value, Pointer) else value


def _index(item: Any, *keys: Any) -> Any:
    if item is None or item is MISSING:
        raise ValueError("index of untyped nil")
    for key in keys:
        item = indirect(item)
        if isinstance(item, Nil) or item is None:
            raise ValueError("index of nil pointer")
        if isinstance(item, str):
            data = as_bytes(item)
            item = data[_place(key, len(data), "string")]
        elif isinstance(item, list):
            item = item[_place(key, len(item), "slice")]
        elif isinstance(item, dict):
            _check_key(key)
            item = item.get(key, _zero(item))
        else:
            raise ValueError(f"can't index item of type {type_of(item)}")
    return item


def _zero(mapping: dict[str, Any]) -> Any:
    return mapping.zero() if isinstance(mapping, Map) else None


def _check_key(key: Any) -> None:
    if key is None or key is MISSING:
        raise ValueError("value is nil; should be of type string")
    if type(key) is not str:
        raise ValueError(f"value has type {type_of(key)}; should be string")


def _place(index: Any, limit: int, kind: str = "") -> int:
    """An index as a number; of one that is just behind the end, Go's own library complains (`kind`)."""
    if index is None or index is MISSING:
        raise ValueError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise ValueError(f"cannot index slice/array with type {type_of(index)}")
    if not 0 <= index <= limit:
        raise ValueError(f"index out of range: {int(index)}")
    if kind and index == limit:
        raise ValueError(f"reflect: {kind} index out of range")
    return int(index)


def _slice(item: Any, *indexes: Any) -> Any:
    item = indirect(item)
    if item is None or item is MISSING:
        raise ValueError("slice of untyped nil")
    if len(indexes) > 3:
        raise ValueError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, str | list):
        raise ValueError(f"can't slice item of type {type_of(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise ValueError("cannot 3-index slice a string")
    whole: Any = as_bytes(item) if isinstance(item, str) else item
    bounds = [0, len(whole)]
    for position, index in enumerate(indexes):
        bounds[position : position + 1] = [_place(index, len(whole))]
    for low, high in zip(bounds, bounds[1:], strict=False):
        if low > high:
            raise ValueError(f"invalid slice index: {low} > {high}")
    part = whole[bounds[0] : bounds[1]]
    if isinstance(item, str):
        return as_text(part)
    if isinstance(item, List):
        part = List(part)
        part.go_type = item.go_type
    return part


def _len(item: Any) -> int:
    item = indirect(item)
    if item is None or item is MISSING:
        raise ValueError("len of nil pointer" if item is None else "reflect: call of reflect.Value.Type on zero Value")
    if isinstance(item, Nil):
        raise ValueError("len of nil pointer")
    if isinstance(item, str):
        return length(item)
    if isinstance(item, dict | list):
        return len(item)
    raise ValueError(f"len of type {type_of(item)}")


def _call(function: Any, *arguments: Any) -> Any:
    if function is None or function is MISSING:
        raise ValueError("call of nil")
    raise ValueError(f"non-function of type {type_of(function)}")


# comparisons


def _kind(value: Any) -> str:
    """ "bool", "int", "float", "string", or "" for what has no order."""
    return next((name for basic, name in _BASIC.items() if isinstance(value, basic)), "")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _equal(a: Any, b: Any) -> bool:
    kind = _kind(a)
    if kind != _kind(b):
        if not (_is_nothing(a) or _is_nothing(b)):
            raise ValueError("incompatible types for comparison")
        return False
    if kind:
        return bool(a == b)
    if _is_nil(a) or _is_nil(b):
        return _is_nil(a) == _is_nil(b)
    if isinstance(b, dict | list):
        raise ValueError(f"non-comparable type {printing.text_of(b)}: {type_of(b)}")
    return a is b


def _is_nothing(value: Any) -> bool:
    return value is None or value is MISSING


def _is_nil(value: Any) -> bool:
    return _is_nothing(value) or isinstance(value, Nil) or getattr(value, "is_nil", False)


def _lt(a: Any, b: Any) -> bool:
    kind, other = _kind(a), _kind(b)
    if not kind or not other:
        raise ValueError("invalid type for comparison")
    if kind != other:
        raise ValueError("incompatible types for comparison")
    if kind == "bool":
        raise ValueError("invalid type for comparison")
    return as_bytes(a) < as_bytes(b) if kind == "string" else bool(a < b)


def _le(a: Any, b: Any) -> bool:
    return _lt(a, b) or _equal(a, b)


# texts


def _together(values: Sequence[Any]) -> str:
    """The operands as Print has them."""
    return printing.sprint(["<no value>" if value is MISSING else value for value in values])


def urlquery(*values: Any) -> str:
    data = as_bytes(_together(values))
    return "".join(chr(c) if c in _UNRESERVED else "+" if c == 32 else f"%{c:02X}" for c in data)


def _js(*values: Any) -> str:
    text = _together(values).translate(_JS)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in text)


def _split(text: str, separator: str) -> List:
    found = List(text.split(separator) if separator else text)
    found.go_type = "[]string"
    return found


def _title(text: str) -> str:
    """strings.Title: what begins a word becomes upper case; letters, digits, underscores and apostrophes do not end one."""
    out, before = [], " "
    for c in text:
        out.append(c if before.isalnum() or before in "_'" else c.upper() if len(c.upper()) == 1 else c)
        before = c
    return "".join(out)


def _pad(text: str, left: int, right: int) -> str:
    if not text:
        return text
    if min(left, right) < 0:
        raise ValueError("strings: negative Repeat count")
    if max(left, right) > 1_000_000:
        raise ValueError("strings: Repeat output length overflow")
    return " " * left + text + " " * right


def _truncate(text: str, size: int) -> str:
    data = as_bytes(text)
    if size < 0:
        raise ValueError(f"runtime error: slice bounds out of range [:{size}]")
    return as_text(data[:size])


def _json(value: Any) -> str:
    from engine.cli.gotemplate import jsontext

    return jsontext.compact(value)


FUNCTIONS: Mapping[str, Function] = {
    "and": (("value", "value"), True, lambda *values: next((v for v in values if not is_true(v)), values[-1])),
    "or": (("value", "value"), True, lambda *values: next((v for v in values if is_true(v)), values[-1])),
    "not": (("value",), False, lambda value: not is_true(value)),
    "call": (("value", "value"), True, _call),
    "html": (("any",), True, lambda *values: _together(values).translate(_HTML)),
    "index": (("value", "value"), True, _index),
    "slice": (("value", "value"), True, _slice),
    "js": (("any",), True, _js),
    "len": (("value",), False, _len),
    "print": (("any",), True, lambda *values: printing.sprint(values)),
    "printf": (("string", "any"), True, lambda format, *values: printing.sprintf(format, values)),
    "println": (("any",), True, lambda *values: printing.sprintln(values)),
    "urlquery": (("any",), True, urlquery),
    "eq": (("value", "value"), True, _eq),
    "ne": (("value", "value"), False, lambda a, b: not _equal(a, b)),
    "lt": (("value", "value"), False, _lt),
    "le": (("value", "value"), False, _le),
    "gt": (("value", "value"), False, lambda a, b: not _le(a, b)),
    "ge": (("value", "value"), False, lambda a, b: not _lt(a, b)),
    "json": (("any",), False, _json),
    "split": (("string", "string"), False, _split),
    "join": (("[]string", "string"), False, lambda texts, separator: separator.join(texts)),
    "title": (("string",), False, _title),
    "lower": (("string",), False, lambda text: text.lower()),
    "upper": (("string",), False, lambda text: text.upper()),
    "pad": (("string", "int", "int"), False, _pad),
    "truncate": (("string", "int"), False, _truncate),
}
NAMES = frozenset(FUNCTIONS)
# For the header of a table, which is made by the same template from the columns' titles: they stay whole.
HEADER_FUNCTIONS: Mapping[str, Function] = {
    **FUNCTIONS,
    **{name: (("string",), False, lambda text: text) for name in ("json", "title", "lower", "upper")},
    **{name: (("string", "any"), False, lambda text, _: text) for name in ("split", "join", "truncate")},
}
