"""JSON without `re`, signals without `enum`: what every command needs, for 6 ms less of imports.

`json` imports re, and `signal` imports enum, for conveniences that are not used here; what does their work are the C modules
under them, `_json` and `_signal`. Where an interpreter has no `_json`, or another one (it is CPython's own affair), `json` itself
is used.
docs/decisions/0002 has the measurement.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
    from typing import Any
else:
    import _signal as signal  # noqa: F401

_BLANKS = " \t\n\r"


class _Rules:
    """What `_json.make_scanner` asks of a json.JSONDecoder: the values of the default one."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


def _unknown(value: object) -> Any:
    raise TypeError(f"not JSON: {type(value).__name__}")


try:
    import _json

    _scan: Any = _json.make_scanner(_Rules())  # type: ignore[arg-type]
    quote = _json.encode_basestring_ascii
    _encode = _json.make_encoder(None, _unknown, quote, None, ":", ",", False, False, False)
except (ImportError, AttributeError, TypeError):
    import json

    quote = json.encoder.encode_basestring_ascii
    _scan = None


def dumps(value: Any) -> bytes:
    """Compact JSON, ASCII only, as `json.dumps` writes it with these separators. TypeError, ValueError (NaN) as there."""
    if _scan is None:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return "".join(_encode(value, 0)).encode()


def loads(data: bytes | str) -> Any:
    """JSON's value. ValueError where it is none, or not in UTF-8."""
    text = data if isinstance(data, str) else data.decode()
    if _scan is None:
        return json.loads(text)
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        value, end = _scan(text, start)
    except StopIteration as e:
        raise ValueError(f"no JSON at character {e.value}") from None
    except SystemError:
        # for what ends within a string, say, the C module raises an exception of json.decoder, which need not be imported
        raise ValueError("no JSON: cut or damaged") from None
    if text[end:].strip(_BLANKS):
        raise ValueError(f"more after the JSON at character {end}")
    return value
