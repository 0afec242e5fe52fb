"""Valid bytes with mistakes in them, which reach further into a parser than noise does; and how many examples there are."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("MINI_FUZZ_EXAMPLES") or 0)
FUZZ = settings(
    max_examples=EXAMPLES or 800,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

# Bytes at which parsers take other ways.
TELLING = st.sampled_from(
    [b"\0", b"\xff", b"\x80", b" ", b"\n", b"=", b"0", b"9", b"-", b"7777777", b"99999999999999999999"]
)


@st.composite
def mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes], changes: int = 4) -> bytes:
    """Some bytes replaced, inserted, taken out, doubled, or the end cut off."""
    data = draw(valid)
    for _ in range(draw(st.integers(0, changes))):
        change = draw(st.sampled_from(["replace", "insert", "remove", "double", "cut"]))
        data = _changed(data, change, draw(st.integers(0, len(data))), draw(st.one_of(TELLING, st.binary(max_size=16))))
    return data


def _changed(data: bytes, change: str, at: int, piece: bytes) -> bytes:
    before, here, behind = data[:at], data[at : at + len(piece)], data[at + len(piece) :]
    middle = {"replace": piece, "insert": piece + here, "remove": b"", "double": here + here}
    return before if change == "cut" else before + middle[change] + behind
