"""DNS messages: what is read of a question, and the bytes of an answer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.network import dnsmessage
from engine.runtime.network.dnsmessage import Query


def question(name: str, kind: int = dnsmessage.A, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", 0x1234, flags, 1, 0, 0, 0) + dnsmessage.encode_name(name) + struct.pack("!HH", kind, 1)


def test_a_question_is_read() -> None:
    query = Query(question("Web.MyNet"))
    assert (query.id, query.name, query.kind, query.plain) == (0x1234, "web.mynet", dnsmessage.A, True)


def test_what_follows_the_question_is_not_minded() -> None:
    """EDNS's OPT record, which dig sends."""
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    assert Query(question("web") + opt).name == "web"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        question("web")[:11],
        question("web")[:-1],
        question("web", flags=0x8100),
        struct.pack("!6H", 1, 0, 2, 0, 0, 0) + question("web")[12:] * 2,
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c" + struct.pack("!HH", 1, 1),
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x3f" + b"x" * 20,
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + (b"\x3f" + b"x" * 63) * 5 + b"\0" + struct.pack("!HH", 1, 1),
        question("web")[:-2] + struct.pack("!H", 3),
    ],
    ids="empty,header,cut,answer,two,pointer,label,long,class".split(","),
)
def test_no_question(data: bytes) -> None:
    with pytest.raises(ValueError):
        Query(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_question_or_refused(data: bytes) -> None:
    try:
        Query(data)
    except ValueError:
        pass


def test_an_answer_repeats_the_question_as_it_was_asked() -> None:
    data = question("wEb")
    answer = dnsmessage.answer(Query(data), [bytes((172, 29, 0, 2))])
    assert answer[12 : len(data)] == data[12:], "0x20 encoding: resolvers check the letters' case"
    assert struct.unpack_from("!6H", answer) == (0x1234, 0x8580, 1, 1, 0, 0)
    assert answer[len(data) :] == b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 600, 4) + bytes((172, 29, 0, 2))


def test_a_long_answer_says_that_it_is_cut() -> None:
    query = Query(question("many"))
    records = [bytes((10, 0, 0, n)) for n in range(40)]
    cut = dnsmessage.answer(query, records, dnsmessage.PLAIN_UDP)
    assert struct.unpack_from("!6H", cut)[1] & 0x0200
    assert struct.unpack_from("!6H", cut)[3] == 0
    assert struct.unpack_from("!6H", dnsmessage.answer(query, records))[3] == 40


def test_a_failure_has_its_code() -> None:
    answer = dnsmessage.failure(Query(question("web")), dnsmessage.NXDOMAIN)
    assert struct.unpack_from("!6H", answer)[1] & 0xF == 3


@pytest.mark.parametrize(
    "name, address",
    [
        ("2.0.29.172.in-addr.arpa", "172.29.0.2"),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa", "fd01::1"),
        ("2.0.29.in-addr.arpa", None),
        ("300.0.29.172.in-addr.arpa", None),
        ("x.0.29.172.in-addr.arpa", None),
        ("10.ip6.arpa", None),
        ("web", None),
    ],
)
def test_reversed_addresses(name: str, address: str | None) -> None:
    assert dnsmessage.reversed_address(name) == address


@pytest.mark.parametrize("name", ["a..b", "x" * 64])
def test_names_that_cannot_be_encoded(name: str) -> None:
    with pytest.raises(ValueError):
        dnsmessage.encode_name(name)
