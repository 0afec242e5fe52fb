"""`mini pull`, and the pull that `run` and `create` make of an image that is not there."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import UsageError
from engine.images.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

POLICIES = ("always", "missing", "never")


def main(context: Context, name: str, platform: str | None, quiet: bool) -> None:
    reference = Reference.parse(name)
    if not quiet and not reference.digest and ":" not in name.rpartition("/")[2]:
        print(f"Using default tag: {reference.tag}", flush=True)
    _pull(context, reference, platform, quiet, sys.stdout)
    print(reference.canonical())


def _pull(context: Context, reference: Reference, platform: str | None, quiet: bool, stream: TextIO) -> None:
    from engine.cli.progress import choose_progress
    from engine.images.pull import pull

    pull(context, reference, platform=platform, progress=choose_progress(quiet, stream))


def ensure(context: Context, name: str, policy: str, platform: str | None, quiet: bool) -> None:
    """Makes sure that the image of `run NAME` is there, by `--pull`. NotFound is left to whoever uses the image."""
    if policy not in POLICIES:
        words = ", ".join(f'"{p}"' for p in POLICIES[:2])
        raise UsageError(f"invalid pull option: '{policy}': must be one of {words} or \"never\"")
    if policy == "never":
        return
    if policy == "missing":
        from engine.storage.images import ImageStore

        if ImageStore(context.paths).find(name):
            return
    reference = Reference.parse(name)
    if policy == "missing" and not quiet:
        print(f"Unable to find image '{reference.familiar()}' locally", file=sys.stderr, flush=True)
    _pull(context, reference, platform, quiet, sys.stderr)
