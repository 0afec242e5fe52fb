"""Go's literals: strings, characters and numbers (strconv)."""

from __future__ import annotations

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_HEXADECIMAL = {"x": 2, "u": 4, "U": 8}
LARGEST = (1 << 63) - 1  # of int; a literal up to twice that is an uint, which nothing takes


def unquote(literal: str) -> str:
    """The text of a quoted or raw string. ValueError in strconv's words."""
    if literal.startswith("`"):
        return literal[1:-1].replace("\r", "")
    quote, data, at = literal[0], bytearray(), 1
    while at < len(literal) - 1:
        if literal[at] != "\\":
            data += literal[at].encode("utf-8", "surrogateescape")
            at += 1
        else:
            piece, at = _escape(literal, at + 1, quote)
            data += piece
    return data.decode("utf-8", "surrogateescape")


def _escape(literal: str, at: int, quote: str) -> tuple[bytes, int]:
    """(the bytes of the escape whose letter is at `at`, what comes behind it)."""
    letter = literal[at]
    if letter == quote:
        return quote.encode(), at + 1
    if letter in _SIMPLE:
        return bytes([_SIMPLE[letter]]), at + 1
    base, first, length = (16, at + 1, _HEXADECIMAL[letter]) if letter in _HEXADECIMAL else (8, at, 3)
    digits = literal[first : first + length]
    try:
        if len(digits) < length or not digits.isalnum():
            raise ValueError
        value = int(digits, base)
        if letter in "uU":
            return chr(value).encode(), first + length
        return bytes([value]), first + length
    except (ValueError, OverflowError):
        raise ValueError("invalid syntax") from None


def character(literal: str) -> int:
    """The number of the one character in quotes. ValueError in the parser's words."""
    if literal == "''":
        raise ValueError("invalid syntax")
    try:
        text = unquote(literal)
        if len(text) != 1:
            raise ValueError
    except ValueError:
        raise ValueError(f"malformed character constant: {literal}") from None
    # A byte that is no character of its own ('\xff') has its number.
    return ord(text) & 0xFF if "\udc80" <= text <= "\udcff" else ord(text)


def number(text: str) -> int | float:
    """An int or, with a point or exponent, a float. ValueError in the parser's words."""
    unsigned = text.lstrip("+-").lower()
    try:
        is_hexadecimal = unsigned.startswith("0x")
        if any(c in unsigned for c in (".p" if is_hexadecimal else ".e")):
            return float.fromhex(text.replace("_", "")) if is_hexadecimal else float(text)
        is_octal = unsigned[:1] == "0" and unsigned[1:2].isdigit()
        if is_octal and set(unsigned) & set("89"):
            raise ValueError(f'integer overflow: "{text}"')
        value = int(text, 8 if is_octal else 0)
    except OverflowError:
        raise ValueError(f'illegal number syntax: "{text}"') from None
    except ValueError as e:
        raise ValueError(str(e) if "overflow" in str(e) else f'illegal number syntax: "{text}"') from None
    if not -LARGEST - 1 <= value <= 2 * LARGEST + 1:
        raise ValueError(f'integer overflow: "{text}"')
    return value
