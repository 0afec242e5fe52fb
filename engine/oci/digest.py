"""Content digests: `sha256:` and 64 lower-case hex digits. Nothing else is ever taken as one (CVE-2024-3727)."""

from __future__ import annotations

HEX_DIGITS = "0123456789abcdef"


def is_digest(text: str) -> bool:
    """Whether `text` is a complete sha256 digest."""
    return text.startswith("sha256:") and is_hex_id(text[7:])


def is_hex_id(text: str) -> bool:
    """Whether `text` is the hex half of a digest, which is also a complete object ID."""
    return len(text) == 64 and not text.strip(HEX_DIGITS)
