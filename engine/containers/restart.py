"""Restart policies: whether a container that ended is started again, and after how long (moby, restartmanager).

    no                 never
    on-failure[:n]     after an exit code other than 0, n times at most
    always             always, and at `mini system start`
    unless-stopped     always, unless a user stopped it; at `mini system start`, too

`stop` and `kill` end the policy until the next start. The delay is 0.1 s, doubled each time up to a minute, and back to 0.1 s
after a life of 10 s.
"""

from __future__ import annotations

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_DELAY, LONGEST_DELAY, LONG_LIFE = 0.1, 60.0, 10.0
POLICIES = ("no", "on-failure", "always", "unless-stopped")


def parse(text: str) -> dict[str, Any]:
    """`--restart` as Docker's RestartPolicy object. UsageError in Docker's words."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise UsageError("invalid restart policy format: no policy provided before colon")
    if count and not count.removeprefix("-").isdecimal():
        raise UsageError("invalid restart policy format: maximum retry count must be an integer")
    if name not in POLICIES:
        raise UsageError(f"invalid restart policy '{name}'", f"the policies are {', '.join(POLICIES)}")
    if count and name != "on-failure":
        raise UsageError(f"maximum retry count cannot be used with restart policy '{name}'")
    if count.startswith("-"):
        raise UsageError("maximum retry count cannot be negative")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def again(policy: dict[str, Any], exit_code: int, restarts: int) -> bool:
    """Whether a container that ended by itself with `exit_code`, after so many restarts, is started again."""
    if policy["Name"] == "on-failure":
        maximum = policy["MaximumRetryCount"]
        return exit_code != 0 and (maximum == 0 or restarts < maximum)
    return policy["Name"] in ("always", "unless-stopped")


def at_boot(policy: dict[str, Any], exit_code: int, stopped_by_user: bool) -> bool:
    """Whether `mini system start` starts it."""
    name = policy["Name"]
    if name == "on-failure":
        return exit_code != 0 and not stopped_by_user
    return name == "always" or (name == "unless-stopped" and not stopped_by_user)


def next_delay(delay: float, lived: float) -> float:
    """Seconds to wait before the next start: `delay` is the last one (0: none yet), `lived` how long it ran."""
    if delay == 0 or lived >= LONG_LIFE:
        return FIRST_DELAY
    return min(2 * delay, LONGEST_DELAY)
