"""`mini pull`, and the pull that `run` and `create` make of an image that is not there."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import NotFound, UsageError
from engine.images.reference import Reference
from engine.storage.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from engine.storage.images import Image

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
    """Makes sure that the image of `run NAME` is there, by `--pull`. An unknown image is left to whoever uses it."""
    if policy not in POLICIES:
        raise UsageError(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    if policy != "always":
        image = ImageStore(context.paths).find(name)
        mismatch = _mismatch(image, platform) if image and platform else None
        if image and not mismatch:
            return
        if policy == "never":
            if mismatch:
                raise NotFound(f"image with reference {name} was found but {mismatch}")
            return
    reference = Reference.parse(name)
    if policy == "missing" and not quiet:
        print(f"Unable to find image '{reference.familiar()}' locally", file=sys.stderr, flush=True)
    _pull(context, reference, platform, quiet, sys.stderr)


def _mismatch(image: Image, platform: str) -> str | None:
    """Why the image is not one of the platform asked for, in Docker's words."""
    from engine.oci.image import Platform

    wanted, found = Platform.parse(platform), Platform.from_json(image.config, image.id)
    if found in wanted.candidates():
        return None
    return f"its platform ({found}) does not match the specified platform ({wanted})"
