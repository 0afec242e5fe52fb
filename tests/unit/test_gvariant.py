"""GVariant's text format, read; and that whatever is read can go over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.cgroups import dbus, gvariant


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("5", "i", 5),
        (" -5 ", "i", -5),
        ("0x10", "i", 16),
        ("010", "i", 8),
        ("1.5", "d", 1.5),
        ("1e3", "d", 1000.0),
        ("double 3", "d", 3),
        ("byte 255", "y", 255),
        ("int16 -32768", "n", -32768),
        ("uint64 18446744073709551615", "t", (1 << 64) - 1),
        ("@t 5", "t", 5),
        ("true", "b", True),
        ("boolean false", "b", False),
        ("'it''", None, "left over"),
        ('"it\'s"', "s", "it's"),
        (r"'a\n\t\\\'\u00e9\U0001F600'", "s", "a\n\t\\'é😀"),
        ("objectpath '/org/a_1'", "o", "/org/a_1"),
        ("signature 'a{sv}'", "g", "a{sv}"),
        (r"b'a\101\n'", "ay", [97, 65, 10, 0]),
        ("[1, uint64 2]", "at", [1, 2]),
        ("[1, 2.5]", "ad", [1, 2.5]),
        ("@as []", "as", []),
        ("[[], [int64 1]]", "aax", [[], [1]]),
        ("[('a', uint32 1), ('b', 2)]", "a(su)", [["a", 1], ["b", 2]]),
        ("(1,)", "(i)", [1]),
        ("{'a': <1>, 'b': <'x'>}", "a{sv}", [["a", ("i", 1)], ["b", ("s", "x")]]),
        ("@a{sv} {}", "a{sv}", []),
        ("[{'a': 1}, {}]", "aa{si}", [[["a", 1]], []]),
        ("", None, "a value is expected, not 'the end'"),
        ("foo", None, "a value is expected, not 'foo'"),
        ("++1", None, "a value is expected"),
        ("1_0", None, "a value is expected"),
        ("09", None, "invalid literal"),
        ("nothing", None, "a value is expected"),
        ("just 5", None, "a value is expected"),
        ("5 6", None, "'6' is left over"),
        ("'abc", None, "a string without an end"),
        (r"'\u00", None, "a string without an end"),
        (r"'\ud800'", None, "surrogates"),
        (r"'\u0000'", None, "null character"),
        ("byte 256", None, "out of range"),
        ("uint16 -1", None, "out of range"),
        ("2147483648", None, "out of range"),
        ("1e400", None, "out of range"),
        ("[1, 'a']", None, "a number and a string are no one type"),
        ("uint32 true", None, "u and b are no one type"),
        ("int32 1.5", None, "i and d are no one type"),
        ("[]", None, "needs its type"),
        ("{}", None, "needs its type"),
        ("()", None, "no empty tuples"),
        ("[1", None, ", is expected, not 'the end'"),
        ("{'a' 1}", None, ": is expected"),
        ("{<1>: 2}", None, "a key is a number or a string"),
        ("<5", None, "> is expected"),
        ("@ms 'a'", None, "no type of D-Bus"),
        ("@a{vs} {}", None, "no type of D-Bus"),
        ("@( 5", None, "no type of D-Bus"),
        ("@ah []", None, "a descriptor cannot be given"),
        ("objectpath 'a'", None, "not an object path"),
        ("objectpath '/a/'", None, "not an object path"),
        ("signature 'z'", None, "no type of D-Bus"),
        ("[" * 1000, None, "too deep"),
        (f"@{'a' * 1000}i []", None, "no type of D-Bus"),
        (f"({'1, ' * 300})", None, "too long a type"),
    ],
)
def test_text(text: str, signature: str | None, value: Any) -> None:
    if signature is None:
        with pytest.raises(ValueError, match=value):
            gvariant.parse(text)
    else:
        assert gvariant.parse(text) == (signature, value)


def _through(signature: str, value: Any) -> Any:
    raw = bytearray(8)
    dbus.marshal(signature, [value], raw)
    reader = dbus._Reader(b"l" + bytes(raw[1:]))
    reader.at = 8
    (found,) = reader.values(signature)
    return found


_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0'\\")
_STRINGS = st.text(_CHARACTERS).map(lambda text: (f"'{text}'", "s", text))
_NUMBERS = st.integers(0, (1 << 64) - 1).map(lambda number: (f"uint64 {number}", "t", number))
_BOOLEANS = st.booleans().map(lambda flag: (str(flag).lower(), "b", flag))


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.tuples(inner, st.integers(1, 3)).map(
        lambda pair: (f"[{', '.join([pair[0][0]] * pair[1])}]", f"a{pair[0][1]}", [pair[0][2]] * pair[1])
    )
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda items: (
            f"({''.join(f'{i[0]},' for i in items)})",
            f"({''.join(i[1] for i in items)})",
            [i[2] for i in items],
        )
    )
    entries = st.tuples(_STRINGS, inner).map(
        lambda pair: (f"{{{pair[0][0]}: {pair[1][0]}}}", f"a{{s{pair[1][1]}}}", [[pair[0][2], pair[1][2]]])
    )
    return arrays | tuples | entries | inner.map(lambda item: (f"<{item[0]}>", "v", (item[1], item[2])))


@given(st.recursive(_STRINGS | _NUMBERS | _BOOLEANS, _containers, max_leaves=8))
def test_what_is_read_goes_over_the_wire(made: tuple[str, str, Any]) -> None:
    text, signature, value = made
    assert gvariant.parse(text) == (signature, value)
    assert _through(signature, value) == value


@given(st.text("[](){}<>:,@'\"\\abistunx0123 -.é") | st.text())
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    try:
        signature, value = gvariant.parse(text)
    except ValueError:
        return
    _through(signature, value)
