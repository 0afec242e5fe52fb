"""A client of Kubernetes' Container Runtime Interface, as small as can be: gRPC is a message in a POST of HTTP/2.

Messages are protocol buffers by their fields' numbers (kubernetes/cri-api, pkg/apis/runtime/v1/api.proto): pairs of number and
value, the value a number, a text, or a message.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

Message = list[tuple[int, Any]]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6  # RFC 9113, section 6
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4


class Refused(AssertionError):
    """The call was answered with an error."""


def call(path: str, method: str, message: Message) -> dict[int, list[Any]]:
    """The answer of the service at a unix socket. Raises Refused; why is in the server's log."""
    body = encode(message)
    headers = {
        ":method": "POST", ":scheme": "http", ":path": f"/runtime.v1.{method}", ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(path)
        peer.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0)
            + _frame(_HEADERS, _END_HEADERS, 1, b"".join(_header(*pair) for pair in headers.items()))
            + _frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(body)) + body)
        )
        answer = _answer(peer)
    if not answer:
        raise Refused(f"{method} {message}")
    return decode(answer[5:])


def _answer(peer: socket.socket) -> bytes:
    """All data of the stream; none where it has ended with a status that is an error."""
    data = b""
    with peer.makefile("rb") as file:
        while True:
            high, low, kind, flags, _ = struct.unpack(">BHBBI", file.read(9))
            payload = file.read(high << 16 | low)
            if kind == _DATA:
                data += payload
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                peer.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return data


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BHBBI", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """HPACK's plainest form: a literal that nobody need remember (RFC 7541, section 6.2.2)."""
    return b"\0" + b"".join(bytes([len(word)]) + word.encode() for word in (name, value))


def encode(message: Message) -> bytes:
    out = b""
    for number, value in message:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else encode(value)
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def decode(data: bytes) -> dict[int, list[Any]]:
    """Every value by its field's number: numbers, or bytes, which are a text or a message."""
    found: dict[int, list[Any]] = {}
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        value: Any
        value, place = _read_varint(data, place)
        if key & 7 == 2:
            value, place = data[place : place + value], place + value
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        shift, place = shift + 7, place + 1
        if byte < 0x80:
            return value, place
