"""What Go's fmt makes of values: `%v` and its like, Print, Println, Printf (fmt/print.go, fmt/format.go)."""

from __future__ import annotations

from engine.cli.gotemplate.values import MISSING, Nil, Pointer, Struct, as_bytes, is_pointer, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_FLAGS = "+-# 0"
# Widths and precisions above are refused, so that no template eats the memory.
_LARGEST_WIDTH = 1_000_000
_NUMBER_VERBS = {"d": "d", "b": "b", "o": "o", "x": "x", "X": "X"}
_FLOAT_VERBS = "eEfFgG"
_SHORTEST_EXPONENT = 6
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"))
_SMALL_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


class Verb:
    """One `%…` of a format."""

    __slots__ = ("flags", "letter", "precision", "width")

    def __init__(self, letter: str, flags: str = "", width: int = 0, precision: int | None = None) -> None:
        self.letter, self.flags, self.width, self.precision = letter, flags, width, precision

    def pad(self, text: str, is_number: bool = False) -> str:
        if "-" in self.flags:
            return text.ljust(self.width)
        if "0" in self.flags and is_number:
            sign = text[:1] if text[:1] in ("+", "-", " ") else ""
            return sign + text[len(sign) :].rjust(self.width - len(sign), "0")
        return text.rjust(self.width)


_PLAIN = Verb("v")


def text_of(value: Any) -> str:
    """`%v`."""
    return value if type(value) is str else _formatted(value, _PLAIN)


def sprint(values: Sequence[Any]) -> str:
    """Print: a blank between two operands of which neither is a string."""
    out: list[str] = []
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            out.append(" ")
        out.append(text_of(value))
    return "".join(out)


def sprintln(values: Iterable[Any]) -> str:
    return " ".join(text_of(value) for value in values) + "\n"


def sprintf(format: str, values: Sequence[Any]) -> str:
    """Printf. What does not fit is told within the text, as in Go: `%!d(string=x)`."""
    return _Printf(format, values).run()


class _Printf:
    def __init__(self, format: str, values: Sequence[Any]) -> None:
        self._format, self._values = format, values
        self._at = self._used = 0
        self._reordered = False

    def run(self) -> str:
        out = []
        while self._at < len(self._format):
            percent = self._format.find("%", self._at)
            end = len(self._format) if percent < 0 else percent
            out.append(self._format[self._at : end])
            self._at = end + 1
            if percent >= 0:
                out.append(self._verb())
        if self._used < len(self._values) and not self._reordered:
            extra = ", ".join(_with_type(value) for value in self._values[self._used :])
            out.append(f"%!(EXTRA {extra})")
        return "".join(out)

    def _verb(self) -> str:
        start = self._at
        while self._peek() and self._peek() in _FLAGS:
            self._at += 1
        flags = self._format[start : self._at]
        bad = "" if self._index() else "%!(BADINDEX)"
        width = self._size() or 0
        if isinstance(width, str):
            bad = bad or "%!(BADWIDTH)"
            width = 0
        if width < 0:
            flags, width = flags + "-", -width
        precision: int | None = None
        if self._peek() == ".":
            self._at += 1
            bad = bad or ("" if self._index() else "%!(BADINDEX)")
            size = self._size()
            if isinstance(size, str) or (size or 0) < 0:
                bad = bad or "%!(BADPREC)"
                size = 0
            precision = size or 0
        bad = bad or ("" if self._index() else "%!(BADINDEX)")
        letter = self._peek()
        self._at += 1
        if not letter:
            return bad + "%!(NOVERB)"
        if letter == "%":
            return bad + "%"
        if bad == "%!(BADINDEX)":
            return f"%!{letter}(BADINDEX)"
        if self._used >= len(self._values):
            return f"{bad}%!{letter}(MISSING)"
        return bad + _formatted(self._take(), Verb(letter, flags, width, precision))

    def _peek(self) -> str:
        return self._format[self._at : self._at + 1]

    def _take(self) -> Any:
        self._used += 1
        return self._values[self._used - 1]

    def _index(self) -> bool:
        """`[2]`: the next operand is the second. Whether there is one of that number."""
        if self._peek() != "[":
            return True
        inside, closed, _ = self._format[self._at + 1 :].partition("]")
        self._at += len(inside) + 1 + len(closed)
        self._reordered = True
        if not closed or not inside.isdecimal() or not 1 <= int(inside[:9]) <= len(self._values):
            return False
        self._used = int(inside) - 1
        return True

    def _size(self) -> int | str | None:
        """A width or precision: digits, or `*` for an operand; None where there is none, a text where it is bad."""
        if self._peek() == "*":
            self._at += 1
            if self._used >= len(self._values):
                return "bad"
            value = self._take()
            good = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_WIDTH
            return int(value) if good else "bad"
        start = self._at
        while self._peek().isdecimal():
            self._at += 1
        digits = self._format[start : self._at]
        if len(digits) > len(str(_LARGEST_WIDTH)) or (digits and int(digits) > _LARGEST_WIDTH):
            return "bad"
        return int(digits) if digits else None


def _with_type(value: Any) -> str:
    return "<nil>" if value is None or value is MISSING else f"{type_of(value)}={text_of(value)}"


def _formatted(value: Any, verb: Verb, depth: int = 0) -> str:
    """One operand by one verb; `depth` above 0 within another."""
    letter = verb.letter
    if letter == "T":
        return verb.pad(type_of(value))
    if value is MISSING:
        return verb.pad("<no value>" if letter == "v" else f"%!{letter}(<nil>)")
    if value is None or (isinstance(value, Nil) and letter in "vs"):
        shown = "<nil>" if letter == "v" or depth else f"%!{letter}(<nil>)"
        return verb.pad(shown if value is None or letter == "v" else f"%!{letter}({value.go_type}=<nil>)")
    if letter == "p" or (depth and is_pointer(value) and not _has_text(value)):
        return verb.pad(_address(value))
    if isinstance(value, Nil):
        return verb.pad(_address(value))
    if isinstance(value, Struct):
        return _struct(value, verb, depth)
    if isinstance(value, Pointer):
        return verb.pad(_address(value))
    if isinstance(value, dict):
        return _map(value, verb, depth)
    if isinstance(value, list):
        return _list(value, verb, depth)
    return _scalar(value, verb)


def _has_text(value: Any) -> bool:
    return isinstance(value, Struct) and value.text is not None


def _address(value: Any) -> str:
    return "0" if isinstance(value, Nil) else f"0xc{id(value) & 0xFFFFFFFFF:09x}"


def _struct(value: Struct, verb: Verb, depth: int) -> str:
    if value.text is not None and verb.letter in "vs" and "#" not in verb.flags:
        return verb.pad(value.text)
    named = "+" in verb.flags or "#" in verb.flags
    pieces = (
        (f"{name}:" if named else "") + _formatted(field, verb, depth + 1) for name, field in value.fields.items()
    )
    star = value.go_type.startswith("*")
    if "#" in verb.flags:
        return ("&" if star else "") + value.go_type.lstrip("*") + "{" + ", ".join(pieces) + "}"
    return ("&" if star else "") + "{" + " ".join(pieces) + "}"


def _map(value: dict[str, Any], verb: Verb, depth: int) -> str:
    pairs = [
        f"{_formatted(key, verb, depth + 1)}:{_formatted(value[key], verb, depth + 1)}"
        for key in sorted(value, key=as_bytes)
    ]
    if "#" in verb.flags and verb.letter == "v":
        return type_of(value) + ("(nil)" if getattr(value, "is_nil", False) else "{" + ", ".join(pairs) + "}")
    return "map[" + " ".join(pairs) + "]"


def _list(value: list[Any], verb: Verb, depth: int) -> str:
    items = [_formatted(item, verb, depth + 1) for item in value]
    if "#" in verb.flags and verb.letter == "v":
        return type_of(value) + ("(nil)" if getattr(value, "is_nil", False) else "{" + ", ".join(items) + "}")
    return "[" + " ".join(items) + "]"


def _scalar(value: Any, verb: Verb) -> str:
    letter = verb.letter
    shown: str | None = None
    is_number = False
    if isinstance(value, bool):
        shown = ("true" if value else "false") if letter in "vt" else None
    elif isinstance(value, str):
        shown = _string(value, verb)
    elif isinstance(value, float):
        shown, is_number = _float(value, verb), value - value == 0
    elif isinstance(value, int):
        if type_of(value) == "time.Duration" and letter in "vs":
            shown = duration(value)
        else:
            shown, is_number = _integer(value, verb), letter not in "cqU"
    if shown is None:
        return f"%!{letter}({_with_type(value)})"
    return verb.pad(shown, is_number)


def _string(value: str, verb: Verb) -> str | None:
    letter = verb.letter
    if letter in "xX":
        shown = as_bytes(value).hex(" ") if " " in verb.flags else as_bytes(value).hex()
        return shown.upper() if letter == "X" else shown
    if letter not in "vsq":
        return None
    value = str(value) if verb.precision is None else value[: verb.precision]
    if letter == "q" or (letter == "v" and "#" in verb.flags):
        from engine.cli.formats import quoted

        if "#" in verb.flags and letter == "q" and "`" not in value and value.isprintable():
            return f"`{value}`"
        return quoted(value)
    return value


def _integer(value: int, verb: Verb) -> str | None:
    letter = verb.letter
    if letter in "cqU":
        if not 0 <= value <= 0x10FFFF or 0xD800 <= value < 0xE000:
            value = 0xFFFD
        if letter == "U":
            return f"U+{value:04X}" + (f" '{chr(value)}'" if "#" in verb.flags and chr(value).isprintable() else "")
        if letter == "c":
            return chr(value)
        from engine.cli.formats import quoted

        inside = quoted(chr(value))[1:-1]
        return "'" + {'\\"': '"', "'": "\\'"}.get(inside, inside) + "'"
    kind = "d" if letter == "v" else "o" if letter == "O" else _NUMBER_VERBS.get(letter)
    if kind is None:
        return None
    digits = format(abs(int(value)), kind)
    if verb.precision is not None:
        digits = digits.rjust(verb.precision, "0") if verb.precision or value else ""
    prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(kind, "") if "#" in verb.flags else ""
    return _sign(value < 0, verb) + ("0o" if letter == "O" else prefix) + digits


def _sign(negative: bool, verb: Verb) -> str:
    return "-" if negative else "+" if "+" in verb.flags else " " if " " in verb.flags else ""


def _float(value: float, verb: Verb) -> str | None:
    letter = "g" if verb.letter == "v" else verb.letter
    if letter not in _FLOAT_VERBS:
        return None
    if value - value != 0:
        name = "NaN" if value != value else "Inf"
        return ("-" if value < 0 else "+" if "+" in verb.flags or name == "Inf" else "") + name
    magnitude = abs(value)
    if letter in "gG" and verb.precision is None:
        shown = _shortest(magnitude)
    elif letter in "gG":
        shown = f"{magnitude:.{verb.precision or 1}g}"
    else:
        shown = f"{magnitude:.{6 if verb.precision is None else verb.precision}{letter.lower()}}"
    negative = value < 0 or str(value).startswith("-")
    return _sign(negative, verb) + (shown.upper() if letter in "EG" else shown)


def _shortest(value: float) -> str:
    """The fewest digits that read as the same number: strconv's 'g' with precision -1."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0").rstrip("0") or "0"
    leading = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    point = len(whole) - leading + int(exponent or 0) if digits != "0" else 1
    power = point - 1
    if -4 <= power < _SHORTEST_EXPONENT:
        if point <= 0:
            return "0." + "0" * -point + digits
        padded = digits.ljust(point, "0")
        return padded[:point] + ("." + padded[point:] if len(padded) > point else "")
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"


def duration(nanoseconds: int) -> str:
    """time.Duration's String: `1m30s`, `1.5s`, `0s`."""
    left = abs(int(nanoseconds))
    sign = "-" if nanoseconds < 0 else ""
    if left < _SMALL_UNITS[0][0]:
        for size, unit in _SMALL_UNITS[1:]:
            if left >= size:
                return f"{sign}{_decimal(left, size)}{unit}"
        return f"{sign}{left}{'ns' if left else 's'}"
    out = ""
    for size, unit in _UNITS:
        if left >= size or out or abs(nanoseconds) >= size:
            out += f"{left // size}{unit}"
            left %= size
    return f"{sign}{out}{_decimal(left, 1_000_000_000)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
