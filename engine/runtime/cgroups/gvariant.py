"""GVariant's text format, as annotations write a systemd property: what it says, as (D-Bus type, value) for `dbus.marshal`.

    uint64 5      ("t", 5)            ['a', 'b']         ("as", ["a", "b"])
    'text'        ("s", "text")       [('a', uint32 1)]  ("a(su)", [["a", 1]])
    true          ("b", True)         {'a': <1>}         ("a{sv}", [["a", ("i", 1)]])
    b'text'       ("ay", [116, …, 0]) @ay []             ("ay", [])

Types that are not written follow from their neighbours, or are int32 and string. While that is open a number's type is `N`, a
string's `S`, that of an empty array's elements `*`. Maybe types are GLib's alone, and no D-Bus message has them.
https://docs.gtk.org/glib/gvariant-text-format.html
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Node = tuple[str, Any]  # a type, maybe open, and the value that it is of: nodes again in containers

_KEYWORDS = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "handle": "h", "uint32": "u", "int64": "x",
    "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
_BITS = {"y": (0, 8), "n": (1, 16), "q": (0, 16), "i": (1, 32), "u": (0, 32), "x": (1, 64), "t": (0, 64)}
_NUMBERS, _STRINGS, _BASIC = frozenset("ynqiuxtd"), frozenset("sog"), frozenset("ybnqiuxtdsogNS")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}
_GREATEST = float.fromhex("0x1.fffffffffffffp+1023")
_DEEPEST = 32  # containers in one another (D-Bus specification, "Valid Signatures")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def parse(text: str) -> tuple[str, Any]:
    """Raises ValueError, with the reason, for what is not one whole value that D-Bus can carry."""
    parser = _Parser(text)
    node = parser.value()
    if parser.peek():
        raise ValueError(f"{parser.rest()!r} is left over")
    signature = _settled(node[0])
    if len(signature) > 255:
        raise ValueError("too long a type")
    return signature, _built(node, signature)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def rest(self) -> str:
        return self.text[self.at : self.at + 20] or "the end"

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> bool:
        found = self.peek() == wanted
        self.at += found
        return found

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            raise ValueError(f"{wanted} is expected, not {self.rest()!r}")

    def value(self) -> Node:
        first = self.peek()
        if first and first in "[({<":
            self.depth += 1
            if self.depth > _DEEPEST:
                raise ValueError("too deep")
            node = {"[": self.array, "(": self.tuple, "{": self.dictionary, "<": self.variant}[first]()
            self.depth -= 1
            return node
        if first == "@":
            self.at += 1
            return self.of_type(self.signature())
        if first and first in "'\"":
            return "S", self.string()
        if first == "b" and self.text[self.at + 1 : self.at + 2] in ("'", '"'):
            self.at += 1
            return "ay", [("y", byte) for byte in (*self.string(octal=True).encode("latin-1"), 0)]
        return self.word()

    def word(self) -> Node:
        """true, false, a number, or a type before its value."""
        start = self.at
        while self.text[self.at : self.at + 1] in _WORD and self.at < len(self.text):
            self.at += 1
        word = self.text[start : self.at]
        if word in ("true", "false"):
            return "b", word == "true"
        if word in _KEYWORDS:
            return self.of_type(_KEYWORDS[word])
        digits = word.lstrip("+-")
        if not digits[:1].isdecimal() or len(word) - len(digits) > 1 or "_" in word:
            self.at = start
            raise ValueError(f"a value is expected, not {self.rest()!r}")
        if digits[:2] not in ("0x", "0X") and not digits.isdecimal():
            return "d", float(word)
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
        return "N", int(word, base)

    def of_type(self, signature: str) -> Node:
        kind, inner = self.value()
        return _united(signature, kind), inner

    def signature(self) -> str:
        """One complete type."""
        end = _end_of_type(self.text, self.at)
        found = self.text[self.at : end]
        self.at = end
        return found

    def array(self) -> Node:
        items = self.items("[", "]", self.value)
        kind = "*"
        for item in items:
            kind = _united(kind, item[0])
        return f"a{kind}", items

    def tuple(self) -> Node:
        items = self.items("(", ")", self.value)
        if not items:
            raise ValueError("D-Bus has no empty tuples")
        return f"({''.join(kind for kind, _ in items)})", items

    def dictionary(self) -> Node:
        keys = values = "*"
        entries = self.items("{", "}", self.entry)
        for _, (key, value) in entries:
            keys, values = _united(keys, key[0]), _united(values, value[0])
        if entries and keys not in _BASIC:
            raise ValueError("a key is a number or a string")
        return f"a{{{keys}{values}}}", entries

    def entry(self) -> Node:
        key = self.value()
        self.expect(":")
        value = self.value()
        return f"{{{key[0]}{value[0]}}}", [key, value]

    def items(self, opening: str, closing: str, item: Callable[[], Node]) -> list[Node]:
        self.expect(opening)
        found: list[Node] = []
        while not self.take(closing):
            if found:
                self.expect(",")
                if opening == "(" and self.take(closing):  # a tuple of one
                    break
            found.append(item())
        return found

    def variant(self) -> Node:
        self.expect("<")
        node = self.value()
        self.expect(">")
        return "v", node

    def string(self, octal: bool = False) -> str:
        """`octal`: of bytes, with \\ooo where text has \\uXXXX."""
        quote, found = self.text[self.at], ""
        self.at += 1
        while (char := self.text[self.at : self.at + 1]) != quote:
            if not char:
                raise ValueError("a string without an end")
            self.at += 1
            found += self.escape(octal) if char == "\\" else char
        self.at += 1
        if "\0" in found:
            raise ValueError("D-Bus strings have no null character")
        found.encode("latin-1" if octal else "utf-8")
        return found

    def escape(self, octal: bool) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if octal and char in tuple("01234567"):
            start, self.at = self.at - 1, self.at - 1
            while self.at < start + 3 and self.text[self.at : self.at + 1] in tuple("01234567"):
                self.at += 1
            return chr(int(self.text[start : self.at], 8))
        if char in ("u", "U") and not octal:
            digits = self.text[self.at : self.at + (4 if char == "u" else 8)]
            self.at += len(digits)
            return chr(int(digits, 16))
        return _ESCAPES.get(char, char)


def _end_of_type(text: str, at: int, depth: int = 0) -> int:
    """Where the complete type at `at` ends. Raises ValueError."""
    char = text[at : at + 1]
    if char and char in "ybnqiuxtdsogvh":
        return at + 1
    if depth <= _DEEPEST and char == "a":
        if text[at + 1 : at + 2] != "{":
            return _end_of_type(text, at + 1, depth + 1)
        if text[at + 2 : at + 3] in _BASIC:
            end = _end_of_type(text, at + 3, depth + 1)
            if text[end : end + 1] == "}":
                return end + 1
    if depth <= _DEEPEST and char == "(":
        end = _end_of_type(text, at + 1, depth + 1)
        while text[end : end + 1] != ")":
            end = _end_of_type(text, end, depth + 1)
        return end + 1
    raise ValueError(f"no type of D-Bus: {text[at : at + 20]!r}")


def _parts(signature: str) -> list[str]:
    """The types in a tuple's or an entry's type, of which some may be open."""
    found, start, depth = [], 1, 0
    for at, char in enumerate(signature[1:-1], 1):
        depth += (char in "({") - (char in ")}")
        if not depth and char != "a":
            found.append(signature[start : at + 1])
            start = at + 1
    return found


def _united(one: str, other: str) -> str:
    """The type that two are alike, as far as they say. Raises ValueError where they contradict each other."""
    if one == other or other == "*":
        return one
    if one == "*" or (one == "N" and other in _NUMBERS) or (one == "S" and other in _STRINGS):
        return other
    if other in ("N", "S"):
        return _united(other, one) if one not in ("N", "S") else _differ(one, other)
    if one[0] == other[0] == "a":
        return "a" + _united(one[1:], other[1:])
    if one[0] == other[0] and one[0] in "({":
        parts = list(zip(_parts(one), _parts(other), strict=False))
        if len(parts) == len(_parts(one)) == len(_parts(other)):
            return one[0] + "".join(_united(a, b) for a, b in parts) + one[-1]
    return _differ(one, other)


def _differ(one: str, other: str) -> str:
    names = {"N": "a number", "S": "a string"}
    raise ValueError(f"{names.get(one, one)} and {names.get(other, other)} are no one type")


def _settled(signature: str) -> str:
    if "*" in signature:
        raise ValueError("what is empty needs its type before it, such as @as []")
    if "h" in signature:
        raise ValueError("a descriptor cannot be given in an annotation")
    return signature.replace("N", "i").replace("S", "s")


def _built(node: Node, signature: str) -> Any:
    """The node's value as `dbus.marshal` takes it. Raises ValueError for what the type cannot hold."""
    value = node[1]
    if signature == "v":
        kind = _settled(value[0])
        return kind, _built(value, kind)
    if signature[0] == "a":
        return [_built(item, signature[1:]) for item in value]
    if signature[0] in "({":
        return [_built(item, kind) for item, kind in zip(value, _parts(signature), strict=True)]
    if signature == "d" and abs(value) > _GREATEST:
        raise ValueError("a number out of range")
    if signature in _BITS:
        signed, bits = _BITS[signature]
        if not -signed << (bits - signed) <= value < 1 << (bits - signed):
            raise ValueError("a number out of range")
    if signature == "o" and not _is_path(value):
        raise ValueError(f"not an object path: {value!r}")
    if signature == "g":
        at = 0
        while at < len(value):
            at = _end_of_type(value, at)
    return value


def _is_path(value: str) -> bool:
    parts = value.split("/")
    names = frozenset(_WORD) - frozenset("+-.")
    return value == "/" or (parts[0] == "" and len(parts) > 1 and all(p and names.issuperset(p) for p in parts[1:]))
