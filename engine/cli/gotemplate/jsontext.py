"""JSON as Go's encoding/json writes it: compact, maps by key, what is no UTF-8 replaced; without importing json (and re)."""

from __future__ import annotations

from engine.cli.gotemplate.printing import text_of
from engine.cli.gotemplate.values import Pointer, Struct, as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ESCAPES = {n: f"\\u{n:04x}" for n in range(0x20)}
_ESCAPES |= {ord(c): "\\" + c for c in '"\\'}
_ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_HTML = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-6, 1e21


def compact(value: Any, escape_html: bool = False) -> str:
    """The text. With `escape_html` as json.Marshal does it, without as an Encoder whose SetEscapeHTML is off."""
    if isinstance(value, str):
        return str(value) if getattr(value, "go_type", "") == "json.Number" else _string(value, escape_html)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Pointer):
        return compact(value.value, escape_html)
    if isinstance(value, Struct):
        if value.json is not None:
            return value.json()
        pairs = ((name, field) for name, field in value.fields.items())
    elif isinstance(value, dict):
        if getattr(value, "is_nil", False):
            return "null"
        pairs = ((key, value[key]) for key in sorted(value, key=as_bytes))
    elif isinstance(value, list):
        if getattr(value, "is_nil", False):
            return "null"
        return "[" + ",".join(compact(item, escape_html) for item in value) + "]"
    else:
        return "null"
    return "{" + ",".join(f"{_string(str(k), escape_html)}:{compact(v, escape_html)}" for k, v in pairs) + "}"


def _string(text: str, escape_html: bool) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return '"' + text.translate(_ESCAPES | _HTML if escape_html else _ESCAPES) + '"'


def _float(value: float) -> str:
    if value == 0 or _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        whole = format(value, ".17g") if "e" in repr(value) else repr(value)
        return whole.removesuffix(".0")
    return text_of(value)
