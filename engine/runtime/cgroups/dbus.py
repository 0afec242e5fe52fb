"""D-Bus over a unix socket, as much of it as calling a method and waiting for a signal takes.

    client                                   bus, or a peer such as systemd's private socket
      │── \\0AUTH EXTERNAL, DATA, BEGIN ──────>│  who we are the kernel tells it (SO_PEERCRED)
      │── method call, serial 1 ────────────>│
      │<── method return, reply to 1 ────────│  or an error; signals may come between

D-Bus specification, "Authentication Protocol", "Message Protocol" and "Marshaling": every value is aligned to its size from
the start of the message; strings and arrays carry their length.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from engine.errors import RuntimeFault, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)

_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_FIELDS = {PATH: "o", INTERFACE: "s", MEMBER: "s", ERROR_NAME: "s", REPLY_SERIAL: "u", DESTINATION: "s", SIGNATURE: "g"}
_LONGEST = 1 << 27  # bytes of a message
_TIMEOUT = 30  # seconds, runc's


class CallFailed(RuntimeFault):
    """An error instead of an answer; `name` is the D-Bus error's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__("cgroup", message)
        self.name = name


class Message:
    """`fields` by the numbers above; `body` its values, as `marshal` takes them."""

    __slots__ = ("body", "fields", "kind", "serial")

    def __init__(self, kind: int, fields: dict[int, Any], body: list[Any], serial: int = 0) -> None:
        self.kind, self.fields, self.body, self.serial = kind, fields, body, serial


def marshal(signature: str, values: list[Any], into: bytearray) -> None:
    """Appends the values: numbers, strings, lists for arrays and structs, (signature, value) for variants."""
    for kind, value in zip(_types(signature), values, strict=True):
        _put(kind, value, into)


def _types(signature: str) -> Iterator[str]:
    """The complete types in a signature, one by one: "sa{sv}u" is "s", "a{sv}", "u"."""
    start = 0
    while start < len(signature):
        end = start
        while signature[end] == "a":
            end += 1
        depth = int(signature[end] in "({")
        while depth:
            end += 1
            depth += (signature[end] in "({") - (signature[end] in ")}")
        yield signature[start : end + 1]
        start = end + 1


def _alignment(kind: str) -> int:
    if kind[0] in "({":
        return 8
    return 1 if kind[0] in "gv" else 4 if kind[0] in "soa" else struct.calcsize(_FIXED[kind])


def _put(kind: str, value: Any, into: bytearray) -> None:
    into += bytes(-len(into) % _alignment(kind))
    if kind in ("s", "o", "g"):
        raw = os.fsencode(value)
        into += struct.pack("<B" if kind == "g" else "<I", len(raw)) + raw + b"\0"
    elif kind == "v":
        marshal("g", [value[0]], into)
        marshal(value[0], [value[1]], into)
    elif kind[0] == "a":
        position = len(into)
        into += bytes(4)
        into += bytes(-len(into) % _alignment(kind[1:]))
        start = len(into)
        for item in value:
            _put(kind[1:], item, into)
        struct.pack_into("<I", into, position, len(into) - start)
    elif kind[0] in "({":
        marshal(kind[1:-1], value, into)
    else:
        into += struct.pack(f"<{_FIXED[kind]}", value)


class _Reader:
    """Values out of a message, in the byte order that its first byte tells."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at, self.order = raw, 0, "<" if raw[:1] == b"l" else ">"

    def values(self, signature: str) -> list[Any]:
        return [self._get(kind) for kind in _types(signature)]

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def _get(self, kind: str) -> Any:
        self.align(_alignment(kind))
        if kind in ("s", "o", "g"):
            length = self._number("B" if kind == "g" else "I")
            text = self.raw[self.at : self.at + length]
            self.at += length + 1
            return os.fsdecode(text)
        if kind == "v":
            signature = self._get("g")
            return (signature, self._get(signature))
        if kind[0] == "a":
            length = self._number("I")
            self.align(_alignment(kind[1:]))
            end, found = self.at + length, []
            while self.at < end:
                found.append(self._get(kind[1:]))
            return found
        if kind[0] in "({":
            return self.values(kind[1:-1])
        return self._number(_FIXED[kind])

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(self.order + code, self.raw, self.at)
        self.at += struct.calcsize(code)
        return value


class Connection:
    """Raises Unsupported where nobody listens at `address`, RuntimeFault for everything else that goes wrong."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._serial = 0
        self._signals: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT)
        try:
            self._socket.connect(_socket_name(address))
            self._authenticate()
        except OSError as e:
            self._socket.close()
            raise Unsupported(
                f"cannot reach D-Bus at {address}: {os.strerror(e.errno or errno.ETIMEDOUT).lower()}"
            ) from e

    def close(self) -> None:
        self._socket.close()

    def _authenticate(self) -> None:
        """Without a number of ours: in a user namespace it is another one than the bus sees."""
        self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
        answer = b""
        while b"OK " not in answer or not answer.endswith(b"\r\n"):
            part = self._socket.recv(1024)
            answer += part
            if not part or b"REJECTED" in answer:
                raise RuntimeFault("cgroup", f"D-Bus at {self._address} does not let us in: {answer!r}", errno.EACCES)
        self._socket.sendall(b"BEGIN\r\n")

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        """Calls a method, and returns what it returns. CallFailed for an error."""
        fields = {PATH: path, INTERFACE: interface, MEMBER: member, DESTINATION: destination}
        serial = self.send(CALL, fields, signature, list(body))
        while True:
            message = self.receive()
            if message.kind == SIGNAL:
                self._signals.append(message)
            elif message.fields.get(REPLY_SERIAL) == serial:
                break
        if message.kind == ERROR:
            name = message.fields[ERROR_NAME]
            raise CallFailed(name, f"{member}: {message.body[0] if message.body else name}")
        return message.body

    def signals(self, member: str) -> Iterator[list[Any]]:
        """What signals of that name say, those that came already first; waits for more."""
        while True:
            message = self._signals.pop(0) if self._signals else self.receive()
            if message.kind == SIGNAL and message.fields.get(MEMBER) == member:
                yield message.body

    def send(self, kind: int, fields: dict[int, Any], signature: str, body: list[Any]) -> int:
        """Sends a message, and returns its serial number."""
        self._serial += 1
        raw = bytearray()
        marshal(signature, body, raw)
        if signature:
            fields = fields | {SIGNATURE: signature}
        header = bytearray()
        variants = [[number, (_FIELDS[number], value)] for number, value in fields.items()]
        marshal("yyyyuua(yv)", [ord("l"), kind, 0, 1, len(raw), self._serial, variants], header)
        header += bytes(-len(header) % 8)
        try:
            self._socket.sendall(header + raw)
        except OSError as e:
            raise self._lost(e) from e
        return self._serial

    def receive(self) -> Message:
        raw = self._exactly(16)
        reader = _Reader(raw)
        _, kind, _, _, length, serial, of_fields = reader.values("yyyyuuu")
        header = -(-(16 + of_fields) // 8) * 8
        if header + length > _LONGEST:
            raise RuntimeFault("cgroup", f"D-Bus at {self._address} sent a message of {header + length} bytes")
        reader = _Reader(raw + self._exactly(header - 16 + length))
        *_, pairs = reader.values("yyyyuua(yv)")
        fields = {number: value for number, (_, value) in pairs}
        reader.align(8)
        return Message(kind, fields, reader.values(fields.get(SIGNATURE, "")), serial)

    def _exactly(self, length: int) -> bytes:
        raw = b""
        while len(raw) < length:
            try:
                part = self._socket.recv(length - len(raw))
            except OSError as e:
                raise self._lost(e) from e
            if not part:
                raise self._lost(OSError(errno.EPIPE, "closed"))
            raw += part
        return raw

    def _lost(self, e: OSError) -> RuntimeFault:
        number = e.errno or errno.ETIMEDOUT  # a time-out has no number
        return RuntimeFault("cgroup", f"D-Bus at {self._address}: {os.strerror(number).lower()}", number)


def _socket_name(address: str) -> str:
    """The first unix socket of a list of addresses (D-Bus specification, "Server Addresses"). OSError where there is none."""
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        values = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if transport == "unix" and "path" in values:
            return values["path"]
        if transport == "unix" and "abstract" in values:
            return "\0" + values["abstract"]
    raise OSError(errno.EAFNOSUPPORT, "no unix socket")
