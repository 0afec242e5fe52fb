"""`mini attach`."""

from __future__ import annotations

import sys

from engine.containers.attach import attach_to
from engine.containers.terminal import DETACH_KEYS, parse_detach_keys
from engine.context import Context


def main(context: Context, container: str, detach_keys: str | None, no_stdin: bool, sig_proxy: bool) -> int:
    keys = parse_detach_keys(detach_keys) if detach_keys is not None else DETACH_KEYS
    code = attach_to(context, container, not no_stdin, sig_proxy, keys)
    return detached() if code is None else code


def detached() -> int:
    """What `attach` and `exec` say and return after the detach keys, as Docker's do; `run` and `start` return 0."""
    print("read escape sequence", file=sys.stderr)
    return 1
