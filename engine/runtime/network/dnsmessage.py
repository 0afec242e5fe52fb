"""DNS messages, as far as a resolver needs them that answers from a table: one question in, one answer out (RFC 1035, section 4).

header     id, flags, then how many questions, answers, authorities, additionals: 12 bytes, big endian
question   name as labels (length, bytes, …, 0), type, class
answer     name (a pointer 0xC00C to the question's), type, class, seconds to live, length, data
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA = 1, 12, 28
SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 2, 3, 4, 5
TIME_TO_LIVE = 600  # seconds, as Docker's embedded DNS has it
PLAIN_UDP = 512  # bytes of an answer that every client takes (section 4.2.1)

_HEADER = struct.Struct("!6H")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_CLASS_IN = 1
_QUESTION_NAME = b"\xc0\x0c"
_ANSWER_LIMIT = 65535  # what fits over TCP, and into no answer of ours


class Query:
    """One question. `name` is in lower case, without the final dot; `question` are its bytes, to be repeated in the answer."""

    __slots__ = ("flags", "id", "kind", "name", "question")

    def __init__(self, data: bytes) -> None:
        """ValueError for what is not a query with one question of class IN: nobody is owed an answer to that."""
        try:
            self.id, self.flags, questions, answers, authorities, _ = _HEADER.unpack_from(data)
            labels, at = _labels(data, _HEADER.size)
            self.kind, kind_of_class = struct.unpack_from("!HH", data, at)
        except (struct.error, IndexError):
            raise ValueError("a DNS message that ends too early") from None
        if self.flags & _RESPONSE or questions != 1 or answers or authorities or kind_of_class != _CLASS_IN:
            raise ValueError("not a query with one question")
        self.name = b".".join(labels).decode("latin-1").lower()
        self.question = data[_HEADER.size : at + 4]

    @property
    def plain(self) -> bool:
        """Whether it is an ordinary query (opcode QUERY), not an update or a notification."""
        return not self.flags & _OPCODE


def answer(query: Query, records: Sequence[bytes], limit: int = _ANSWER_LIMIT) -> bytes:
    """The answer with these data (4 bytes, 16, or a name) as its records of the query's type; none: there are none of that type.

    Where it takes more than `limit` bytes it says so (TC), and the client asks again over TCP.
    """
    form = _QUESTION_NAME + struct.pack("!HHI", query.kind, _CLASS_IN, TIME_TO_LIVE)
    body = b"".join(form + struct.pack("!H", len(data)) + data for data in records)
    if _HEADER.size + len(query.question) + len(body) > limit:
        return _header(query, _TRUNCATED, 0) + query.question
    return _header(query, _AUTHORITATIVE, len(records)) + query.question + body


def failure(query: Query, code: int) -> bytes:
    return _header(query, code, 0) + query.question


def encode_name(name: str) -> bytes:
    """A name as the labels that DNS has: of 1 to 63 bytes each. ValueError where one is not."""
    labels = name.rstrip(".").encode("latin-1").split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"not a domain name: {name!r}")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def reversed_address(name: str) -> str | None:
    """The address that a name asks for in reverse: of 2.0.29.172.in-addr.arpa and ….ip6.arpa (RFC 3596); else None."""
    import _socket

    try:
        if name.endswith(".in-addr.arpa"):
            numbers = name.removesuffix(".in-addr.arpa").split(".")
            return _socket.inet_ntop(_socket.AF_INET, bytes(int(n) for n in reversed(numbers)))
        if name.endswith(".ip6.arpa"):
            digits = name.removesuffix(".ip6.arpa").split(".")
            if all(len(digit) == 1 for digit in digits):
                return _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex("".join(reversed(digits))))
    except ValueError:
        pass
    return None


def _header(query: Query, flags: int, answers: int) -> bytes:
    flags |= _RESPONSE | _RECURSION_AVAILABLE | query.flags & (_OPCODE | _RECURSION_DESIRED)
    return _HEADER.pack(query.id, flags, 1, answers, 0, 0)


def _labels(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The labels from `at` on, and where they end. A question has no pointers: there is nothing before it to point to."""
    labels: list[bytes] = []
    start = at
    while length := data[at]:
        end = at + 1 + length
        if length > 63 or end - start > 254 or end >= len(data):
            raise ValueError("a DNS name that is none")
        labels.append(data[at + 1 : end])
        at = end
    return labels, at + 1
