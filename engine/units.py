"""Sizes and durations as Go's programs read them."""

from __future__ import annotations

_SIZES = "kmgtp"
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def size(text: str) -> int:
    """Bytes of "512m", "1.5g", "64MiB", "1 KB", "1024": powers of 1024, as go-units' RAMInBytes. ValueError in its words."""
    end = max(text.rfind(c) for c in "0123456789. ") + 1
    number, suffix = text[:end].removesuffix(" "), text[end:].lower()
    if not end:
        raise ValueError(f"invalid size: '{text}'")
    if number.lstrip("+-").strip("0123456789.") or number.count(".") > 1 or not number.strip("+-."):
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax')
    if number.startswith("-"):
        raise ValueError(f"invalid size: '{text}'")
    unit, rest = suffix[:1], suffix[1:]
    if suffix not in ("", "b") and (unit not in _SIZES or rest not in ("", "b", "ib")):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(float(number) * 1024 ** (_SIZES.find(unit) + 1 if unit else 0))


def duration(text: str) -> float:
    """Seconds of "10s", "1h30m", "500ms", "-1m", as time.ParseDuration. Raises ValueError."""
    import re

    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0.0
    parts = re.findall(r"([0-9.]+)([a-zµ]+)", body)
    if (
        not parts
        or "".join(number + unit for number, unit in parts) != body
        or any(u not in _SECONDS for _, u in parts)
    ):
        raise ValueError(f'invalid duration "{text}"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) * (-1 if text[0] == "-" else 1)
