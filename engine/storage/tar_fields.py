"""The fields of tar headers: numbers, pax records, pax times."""

from __future__ import annotations

from engine.errors import LayerError


def number(field: bytes) -> int:
    """A header's number: octal digits between blanks and NULs, or base-256 where the first bit is set.

    Base-256 is star's and GNU's way to sizes over 8 GiB, large ids and negative times: two's complement, big-endian, in
    all bits but the first. Raises LayerError.
    """
    digits = field[:-1]
    if not digits.isdigit() or field[-1] not in b"\0 ":
        if field[0] & 0x80:
            span = 0x80 << 8 * (len(field) - 1)
            value = int.from_bytes(field, "big") - span
            return value - span if field[0] & 0x40 else value
        digits = field.strip(b"\0 ").partition(b"\0")[0].rstrip()
        if not digits:
            return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise LayerError(f"the tar is damaged: {field!r} is not a number")


def decimal(text: bytes) -> int:
    """An unsigned decimal number of at most 20 digits, as pax has them. Raises LayerError."""
    if not text.isdigit() or len(text) > 20:
        raise LayerError(f"the tar is damaged: {text[:40]!r} is not a number")
    return int(text)


def seconds(text: bytes) -> int:
    """A pax time, decimal seconds with a fraction, in nanoseconds; what is finer is cut off. Raises LayerError."""
    whole, _, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    value = decimal(whole[negative:]) * 1_000_000_000
    if fraction:
        if not fraction.isdigit():
            raise LayerError(f"the tar is damaged: {text[:40]!r} is not a time")
        value += int(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header, in order; LENGTH counts the whole record. Raises LayerError."""
    records = []
    position = 0
    while position < len(data):
        length = data[position : position + 20].partition(b" ")[0]
        end = position + decimal(length)
        record = data[position + len(length) + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(data) or record[-1:] != b"\n" or not equals or not key:
            raise LayerError(f"the tar is damaged: {data[position : position + 40]!r} is not a pax record")
        records.append((key, value))
        position = end
    return records
