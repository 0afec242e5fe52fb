"""The C modules under json do what json does, on this interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import lean

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_the_same_text_and_the_same_value_as_json(value: object) -> None:
    text = lean.dumps(value)
    assert text == json.dumps(value, separators=(",", ":")).encode()
    assert lean.loads(text) == value
    assert lean.loads(json.dumps(value, indent=2, ensure_ascii=False)) == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \n\\u', max_size=30))
def test_what_json_refuses_is_refused(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            lean.loads(text)
    else:
        assert repr(lean.loads(text)) == repr(wanted)


@pytest.mark.parametrize("text", ["", " ", "{", "1 2", '{"a":1}}', "\ufeff1", b"\xff"])
def test_damaged(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        lean.loads(text)


_DAMAGED = """
import sys; sys.path.insert(0, '.'); import engine.lean
for text in ("", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,}', "[", "[1,", '"', '"a', '"' + chr(92), "nul", "-", "1 2"):
    try:
        print("taken:", text, engine.lean.loads(text))
    except ValueError:
        pass
print("json.decoder" in sys.modules)
"""


def test_damaged_where_json_is_not_imported() -> None:
    """As in mini itself: the C module has no exception of json.decoder to raise."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", _DAMAGED], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_what_is_not_json() -> None:
    for value in (object(), {1, 2}, b"x", float("nan")):
        with pytest.raises((TypeError, ValueError)):
            lean.dumps(value)


def test_neither_re_nor_enum_is_imported() -> None:
    code = "import sys; sys.path.insert(0, '.'); import engine.lean; print({'re', 'enum', 'json'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
