"""What `fsck` says of one thing that is not as it must be."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DAMAGED, MISSING, RUBBISH = "damaged", "missing", "rubbish"


class Finding:
    """`what` is not as it must be, and `why` says what is wrong with it.

    `kind`: DAMAGED, content that is lost or wrong; MISSING, something derived that can be made again; RUBBISH, left by a process
    that was killed. `action` is the method of the repair that mends it, with its arguments; empty where only a pull does. `lost`:
    the digest of content that only a pull brings back.
    """

    __slots__ = ("action", "arguments", "kind", "lost", "what", "why")

    def __init__(self, kind: str, what: str, why: str, action: str, *arguments: Any, lost: str = "") -> None:
        self.kind = kind
        self.what = what
        self.why = why
        self.action = action
        self.arguments = arguments
        self.lost = lost

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}: {self.why}"

    __repr__ = __str__
